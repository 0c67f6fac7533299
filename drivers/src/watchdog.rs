//! Which hardware watchdog to trust.
//!
//! Numbers say nothing: /dev/watchdog0 may be the kernel's own timer, which can't reset a kernel
//! that hangs. A device is chosen by what it calls itself: real hardware first, then Intel's TCO
//! timer (on some machines the firmware has taken its reset line away), the kernel's own last.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use sys::watchdog::Watchdog;

use crate::{Error, sysfs};

/// An armed watchdog and what it is.
#[derive(Debug)]
pub struct Armed {
    /// Feed it.
    pub device: Watchdog,
    /// What it calls itself.
    pub identity: String,
    /// Its node, as `/dev/watchdog1`.
    pub node: PathBuf,
    /// When it resets the box after the last feeding.
    pub timeout: Duration,
    /// Whether it is hardware, and not a timer of the kernel it should watch.
    pub hardware: bool,
    /// Whether it says it caused the last start.
    pub caused_last_boot: bool,
}

/// A watchdog the kernel knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The kernel's name of it, as `watchdog1`.
    pub name: String,
    /// What it calls itself.
    pub identity: String,
}

/// All watchdogs, the most trustworthy first.
///
/// # Errors
/// When /sys can't be read.
pub fn candidates(sys: &Path) -> Result<Vec<Candidate>, Error> {
    let class = sys.join("class/watchdog");
    let mut found: Vec<_> = sysfs::names(&class)?
        .into_iter()
        .filter_map(|name| {
            let identity = sysfs::optional(&class.join(&name).join("identity"))?;
            Some(Candidate { name, identity })
        })
        .collect();
    found.sort_by_key(|candidate| trust(&candidate.identity));
    Ok(found)
}

/// Arms the most trustworthy watchdog that can be opened, with the time-out nearest to `timeout`.
/// Never waits.
///
/// # Errors
/// [`Error::NoWatchdog`] when there is none, [`Error::Watchdog`] when the last candidate refused.
pub fn arm(sys: &Path, timeout: Duration) -> Result<Armed, Error> {
    let mut last = Error::NoWatchdog;
    for candidate in candidates(sys)? {
        let node = Path::new("/dev").join(&candidate.name);
        match Watchdog::arm(&node) {
            Ok(device) => return Ok(armed(device, candidate.identity, node, timeout)),
            Err(error) => last = Error::Watchdog(error),
        }
    }
    Err(last)
}

fn armed(device: Watchdog, identity: String, node: PathBuf, wanted: Duration) -> Armed {
    // Some devices have a fixed time-out, or do not tell it: then it must be fed as if it were
    // the shortest any of them has.
    let timeout = device
        .set_timeout(wanted)
        .or_else(|_| device.timeout())
        .unwrap_or(SHORTEST_TIMEOUT);
    Armed {
        hardware: trust(&identity) < Trust::Software,
        caused_last_boot: device.caused_last_boot().unwrap_or(false),
        device,
        identity,
        node,
        timeout,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Hardware,
    MayBeDisconnected,
    Software,
}

fn trust(identity: &str) -> Trust {
    match identity {
        "Software Watchdog" => Trust::Software,
        "iTCO_wdt" => Trust::MayBeDisconnected,
        _ => Trust::Hardware,
    }
}

/// The module of the kernel's own.
pub const SOFTWARE: &str = "softdog";

/// Of the drivers in the kernel; Raspberry Pi's can do 15 seconds at most, others start at 10.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::tests::TestDir;

    #[test]
    fn hardware_comes_before_what_may_not_reset_the_box() {
        let sys = TestDir::new("watchdog-order");
        let identities = ["Software Watchdog", "iTCO_wdt", "i6300ESB timer"];
        for (number, identity) in identities.iter().enumerate() {
            sys.write(
                &format!("class/watchdog/watchdog{number}/identity"),
                &format!("{identity}\n"),
            );
        }
        sys.write("class/watchdog/watchdog9/timeout", "5");
        let order: Vec<_> = candidates(sys.path())
            .unwrap()
            .into_iter()
            .map(|candidate| candidate.name)
            .collect();
        assert_eq!(order, ["watchdog2", "watchdog1", "watchdog0"]);
    }

    #[test]
    fn none_and_one_that_does_not_open_are_told_apart() {
        let sys = TestDir::new("watchdog-none");
        assert!(matches!(
            arm(sys.path(), Duration::from_secs(30)),
            Err(Error::NoWatchdog)
        ));
        sys.write("class/watchdog/watchdog77/identity", "Gone");
        assert!(matches!(
            arm(sys.path(), Duration::from_secs(30)),
            Err(Error::Watchdog(_))
        ));
    }
}
