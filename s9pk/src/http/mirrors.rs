//! Several servers with one file: which to ask, when to ask again, when to give up. No I/O.

use std::time::Duration;

use crate::http::{
    address::Url,
    client::{LONGEST_PAUSE, Settings},
    error::FetchError,
    range::Version,
};

/// Servers in the order in which they are preferred.
#[derive(Debug)]
pub(crate) struct Mirrors {
    list: Vec<Mirror>,
    at: usize,
    /// Failures in a row, of all of them.
    failures: u32,
    /// Whether anything ever came.
    met: bool,
    tries: u32,
    pause: Duration,
}

/// One server's copy of the file.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) url: Url,
    /// Which state of the file it has.
    pub(crate) version: Option<Version>,
    /// Whether its copy begins with the header of the package.
    pub(crate) identified: bool,
    failures: u32,
    last: Option<FetchError>,
    barred: bool,
}

impl Mirrors {
    pub(crate) fn new(urls: &[Url], settings: &Settings) -> Result<Self, FetchError> {
        let mirror = |url: &Url| Mirror {
            url: url.clone(),
            version: None,
            identified: false,
            failures: 0,
            last: None,
            barred: false,
        };
        if urls.is_empty() {
            return Err(FetchError::NoUrl);
        }
        Ok(Self {
            list: urls.iter().map(mirror).collect(),
            at: 0,
            failures: 0,
            met: false,
            tries: settings.tries.max(1),
            pause: settings.pause,
        })
    }

    /// The one to ask.
    pub(crate) fn now(&mut self) -> &mut Mirror {
        &mut self.list[self.at]
    }

    /// Its place among the URLs given.
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    /// Something came from the one that was asked.
    pub(crate) fn progressed(&mut self) {
        self.met = true;
        self.failures = 0;
        self.now().failures = 0;
    }

    /// The one that was asked failed: how long to pause before asking the one that is now to be
    /// asked.
    ///
    /// # Errors
    /// What went wrong, when there is none left to ask.
    pub(crate) fn failed(&mut self, error: FetchError) -> Result<Duration, FetchError> {
        if error.is_ours() {
            return Err(error);
        }
        let lasting = !error.is_temporary();
        let after = match &error {
            FetchError::Refused { after, .. } => *after,
            _ => None,
        };
        self.failures += 1;
        let mirror = self.now();
        mirror.failures += 1;
        mirror.barred |= lasting;
        mirror.last = Some(error);
        let move_on = lasting || mirror.failures.is_multiple_of(IN_A_ROW);
        let usable = self.list.iter().filter(|mirror| !mirror.barred).count() as u32;
        let tries = if self.met {
            self.tries
        } else {
            self.tries.min(IN_A_ROW)
        };
        if usable == 0 || self.failures >= tries.saturating_mul(self.list.len() as u32) {
            return Err(self.all());
        }
        if move_on {
            self.next();
        }
        let doublings = self.now().failures;
        if doublings == 0 {
            return Ok(Duration::ZERO);
        }
        let pause = self.pause.saturating_mul(1 << (doublings - 1).min(16));
        Ok(pause.max(after.unwrap_or_default()).min(LONGEST_PAUSE))
    }

    fn next(&mut self) {
        let count = self.list.len();
        let following = (1..=count).map(|step| (self.at + step) % count);
        let usable = |at: &usize| !self.list[*at].barred;
        if let Some(next) = following.into_iter().find(usable) {
            self.at = next;
        }
    }

    fn all(&mut self) -> FetchError {
        let mut all: Vec<_> = self
            .list
            .iter_mut()
            .filter_map(|mirror| mirror.last.take())
            .collect();
        match all.len() {
            1 => all.remove(0),
            _ => FetchError::All { all },
        }
    }
}

/// Failures in a row of one server before another is asked.
const IN_A_ROW: u32 = 2;

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    fn mirrors(hosts: &[&str], tries: u32) -> Mirrors {
        let urls: Vec<_> = hosts
            .iter()
            .map(|host| Url::parse(&format!("http://{host}/")).unwrap())
            .collect();
        let settings = Settings {
            tries,
            ..Settings::default()
        };
        Mirrors::new(&urls, &settings).unwrap()
    }

    fn broken() -> FetchError {
        FetchError::Broken {
            host: "x".to_owned(),
            source: ErrorKind::ConnectionReset.into(),
        }
    }

    fn lasting() -> FetchError {
        FetchError::Changed {
            url: "x".to_owned(),
        }
    }

    fn host(mirrors: &mut Mirrors) -> String {
        mirrors.now().url.host().to_owned()
    }

    #[test]
    fn a_server_that_breaks_is_asked_once_more_and_then_the_next() {
        let mut mirrors = mirrors(&["a", "b"], 8);
        mirrors.progressed();
        assert_eq!(
            mirrors.failed(broken()).unwrap(),
            Duration::from_millis(250)
        );
        assert_eq!(host(&mut mirrors), "a");
        assert_eq!(mirrors.failed(broken()).unwrap(), Duration::ZERO);
        assert_eq!(host(&mut mirrors), "b");
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_end() {
        let mut mirrors = mirrors(&["a"], 8);
        mirrors.progressed();
        let pauses: Vec<_> = (0..7)
            .map(|_| mirrors.failed(broken()).unwrap().as_millis())
            .collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 8000]);
        assert!(matches!(
            mirrors.failed(broken()),
            Err(FetchError::Broken { .. })
        ));
    }

    #[test]
    fn progress_forgives() {
        let mut mirrors = mirrors(&["a"], 2);
        for _ in 0..100 {
            mirrors.progressed();
            assert!(mirrors.failed(broken()).is_ok());
        }
    }

    #[test]
    fn a_server_with_another_file_is_never_asked_again() {
        let mut mirrors = mirrors(&["a", "b"], 8);
        mirrors.progressed();
        assert_eq!(mirrors.failed(lasting()).unwrap(), Duration::ZERO);
        for _ in 0..5 {
            assert_eq!(host(&mut mirrors), "b");
            mirrors.failed(broken()).unwrap();
        }
        let error = mirrors.failed(lasting()).unwrap_err();
        assert!(matches!(&error, FetchError::All { all } if all.len() == 2));
        assert!(error.is_change());
    }

    #[test]
    fn a_server_never_met_is_given_up_soon_and_a_cancelled_transfer_at_once() {
        let mut mirrors = mirrors(&["a"], 8);
        assert!(mirrors.failed(broken()).is_ok());
        assert!(mirrors.failed(broken()).is_err());
        mirrors.progressed();
        assert!(mirrors.failed(FetchError::Cancelled).is_err());
    }
}
