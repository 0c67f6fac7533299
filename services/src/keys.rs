//! The publishers' keys: the first one seen for a service is the only one it ever has.
//!
//! A valid signature says only that somebody signed. What ties an update to the publisher of what
//! is installed is the key remembered here.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::durable;

/// The keys that the box trusts, by service id, kept in one file.
#[derive(Debug)]
pub struct KeyRing {
    path: PathBuf,
    fingerprints: BTreeMap<String, String>,
}

/// Whether a package's key becomes the service's key if it has none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It does: the package is part of the box's own signed root.
    OnFirstSight,
    /// It does not: only a key that its owner agreed to.
    PinnedOnly,
}

/// Why a key is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Another publisher.
    #[error(
        "it is signed with the key {found}, but {id} is known to be from the key {pinned}; \
         only its publisher can say whether the change is genuine"
    )]
    Changed {
        /// The service.
        id: String,
        /// The key that signed.
        found: String,
        /// The key that should have.
        pinned: String,
    },
    /// Nobody agreed to this key yet.
    #[error("it is signed with the key {found}, which nobody has agreed to trust for {id} yet")]
    Unknown {
        /// The service.
        id: String,
        /// The key that signed.
        found: String,
    },
    /// The disk said no.
    #[error("the list of trusted keys {path} can't be {what}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Read or written.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl KeyRing {
    /// Reads the keys; a file that is not there holds none.
    ///
    /// # Errors
    /// When it can't be read or is damaged: then no package can be told from a forged one.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Io {
            path: path.to_owned(),
            what: "read",
            source,
        };
        let fingerprints = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(e.into()))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(failed(e)),
        };
        Ok(Self {
            path: path.to_owned(),
            fingerprints,
        })
    }

    /// Checks the key that signed a package of this service, and remembers it if it may.
    pub fn check(&mut self, id: &str, fingerprint: &str, trust: Trust) -> Result<(), KeyError> {
        let (id, found) = (id.to_owned(), fingerprint.to_owned());
        match (self.fingerprints.get(&id), trust) {
            (Some(pinned), _) if *pinned == found => Ok(()),
            (Some(pinned), _) => {
                let pinned = pinned.clone();
                Err(KeyError::Changed { id, found, pinned })
            }
            (None, Trust::PinnedOnly) => Err(KeyError::Unknown { id, found }),
            (None, Trust::OnFirstSight) => self.pin(id, found),
        }
    }

    fn pin(&mut self, id: String, fingerprint: String) -> Result<(), KeyError> {
        let failed = |source| KeyError::Io {
            path: self.path.clone(),
            what: "written",
            source,
        };
        let mut changed = self.fingerprints.clone();
        changed.insert(id, fingerprint);
        let bytes = serde_json::to_vec_pretty(&changed).map_err(|e| failed(e.into()))?;
        durable::replace(&self.path, &bytes).map_err(failed)?;
        self.fingerprints = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_stays_the_only_one() {
        let folder = std::env::temp_dir().join(format!("keys-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("keys.json");
        let mut keys = KeyRing::load(&path).unwrap();
        let unknown = keys.check("demo", "aa", Trust::PinnedOnly).unwrap_err();
        assert!(matches!(unknown, KeyError::Unknown { .. }));
        keys.check("demo", "aa", Trust::OnFirstSight).unwrap();
        let mut keys = KeyRing::load(&path).unwrap();
        keys.check("demo", "aa", Trust::PinnedOnly).unwrap();
        for trust in [Trust::OnFirstSight, Trust::PinnedOnly] {
            let changed = keys.check("demo", "bb", trust).unwrap_err().to_string();
            assert!(
                changed.contains("key bb") && changed.contains("key aa"),
                "{changed}"
            );
        }
        fs::write(&path, "{ damaged").unwrap();
        assert!(KeyRing::load(&path).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
