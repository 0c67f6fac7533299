//! The box's own certificate authority on data, and the door's certificate signed by it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use netstack::{
    ca::{Authority, CaError, LEAF_AHEAD, LEAF_BEHIND},
    door::Identity,
};
use services::durable;

/// The authority with the identity last issued.
pub(super) struct Issuer {
    authority: Authority,
    names: BTreeSet<String>,
    identity: Option<Issued>,
}

/// A leaf with the time for which it is meant.
struct Issued {
    identity: Identity,
    at: SystemTime,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssuerError {
    /// Certificates can't be made.
    #[error("the box's certificate authority: {0}")]
    Ca(#[from] CaError),
    /// Its files can't be read or written.
    #[error("the box's certificate authority: {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Issuer {
    /// Opens the authority in `folder`, or makes a new one if there is none.
    ///
    /// # Errors
    /// When its files are there but unreadable: a new authority would break every owner's trust,
    /// so none is made in its stead.
    pub(super) fn open(folder: &Path, box_name: &str) -> Result<Self, IssuerError> {
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        let authority = match (read(&certificate)?, read(&key)?) {
            (Some(certificate), Some(key)) => Authority::load(&certificate, &key)?,
            (None, _) => {
                let authority = Authority::create(box_name, SystemTime::now())?;
                // The certificate last: it is what says that the pair is whole.
                write(&key, &authority.key_pem())?;
                write(&certificate, authority.pem())?;
                authority
            }
            (Some(_), None) => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                return Err(IssuerError::File { path: key, source });
            }
        };
        Ok(Self {
            authority,
            names: BTreeSet::new(),
            identity: None,
        })
    }

    /// An identity for `names` at `now`: the same as before while names and time allow. A leaf is
    /// renewed once two thirds of its life are over, or when the clock turns out to have been wrong.
    ///
    /// # Errors
    /// When a name is neither a host name nor an address.
    pub(super) fn identity(
        &mut self,
        names: BTreeSet<String>,
        now: SystemTime,
    ) -> Result<&Identity, IssuerError> {
        let fits = self.names == names;
        if !fits
            || self
                .identity
                .as_ref()
                .is_none_or(|issued| !issued.is_fresh(now))
        {
            let list: Vec<String> = names.iter().cloned().collect();
            let identity = self.authority.issue(&list, now)?;
            self.identity = Some(Issued { identity, at: now });
            self.names = names;
        }
        let issued = self.identity.as_ref();
        Ok(&issued.expect("issued above if there was none").identity)
    }

    /// The authority's certificate as PEM.
    pub(super) fn pem(&self) -> &str {
        self.authority.pem()
    }

    /// SHA-256 of the authority's certificate, to compare on the console.
    pub(super) fn fingerprint(&self) -> String {
        self.authority.fingerprint()
    }
}

impl Issued {
    fn is_fresh(&self, now: SystemTime) -> bool {
        let (first, last) = (self.at - LEAF_BEHIND, self.at + LEAF_AHEAD / 3 * 2);
        (first..last).contains(&now)
    }
}

fn read(path: &Path) -> Result<Option<String>, IssuerError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IssuerError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), IssuerError> {
    durable::replace(path, text.as_bytes()).map_err(|source| IssuerError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_leaf_is_kept_until_two_thirds_of_its_life() {
        let folder = std::env::temp_dir().join(format!("issuer-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut issuer = Issuer::open(&folder, "otter").unwrap();
        let names = BTreeSet::from(["otter.local".to_owned()]);
        let mut leaf = |now| issuer.identity(names.clone(), now).unwrap().clone();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let first = leaf(now);
        assert_eq!(leaf(now + LEAF_AHEAD / 2), first);
        let second = leaf(now + LEAF_AHEAD / 4 * 3);
        assert_ne!(second, first);
        // The clock was a year ahead: the leaf would not be valid yet.
        assert_ne!(leaf(now), second);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_step_of_ten_years_either_way_makes_a_new_leaf_at_the_next_look() {
        let folder = std::env::temp_dir().join(format!("issuer-step-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut issuer = Issuer::open(&folder, "otter").unwrap();
        let names = BTreeSet::from(["otter.local".to_owned()]);
        let mut leaf = |now| issuer.identity(names.clone(), now).unwrap().clone();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ten_years = Duration::from_secs(3652 * 86_400);
        let first = leaf(now);
        let ahead = leaf(now + ten_years);
        let back = leaf(now);
        assert!(first != ahead && ahead != back);
        assert_eq!(leaf(now), back, "one is enough");
        fs::remove_dir_all(&folder).unwrap();
    }
}
