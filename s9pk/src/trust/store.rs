//! The keys that a box or a developer trusts, kept in one file that survives a power cut.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Endorsement, Origin, Publisher, Trust, TrustError};
use crate::{durable, key::PublicKey, manifest::Id};

/// The trusted keys by package, kept in one file. What is changed is on the disk when the call
/// returns.
#[derive(Debug)]
pub struct TrustStore {
    path: PathBuf,
    publishers: BTreeMap<Id, Publisher>,
}

impl TrustStore {
    /// Reads the keys; a file that is not there holds none.
    ///
    /// # Errors
    /// When it can't be read or is damaged: then no package can be told from a forged one.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        Ok(Self {
            path: path.to_owned(),
            publishers: read(path)?,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who is known.
    pub fn publishers(&self) -> &BTreeMap<Id, Publisher> {
        &self.publishers
    }

    /// Checks the key that signed a package, and remembers it if it may. `endorsements` are those
    /// that came with the package; they count only where they begin with a trusted key.
    pub fn check(
        &mut self,
        id: &Id,
        signer: &PublicKey,
        endorsements: &[Endorsement],
        trust: Trust,
    ) -> Result<(), TrustError> {
        let known = self.publishers.get(id);
        if known.is_some_and(|publisher| publisher.trusts(signer)) {
            return Ok(());
        }
        // Somebody else may have changed the file since; nothing is refused by old knowledge.
        self.change(|publishers| {
            let found = signer.fingerprint();
            let id = id.clone();
            let Some(publisher) = publishers.get_mut(&id) else {
                if trust == Trust::PinnedOnly {
                    return Err(TrustError::Unknown { id, found });
                }
                publishers.insert(id, Publisher::new(*signer, Origin::FirstSight));
                return Ok(());
            };
            if publisher.trusts(signer) || publisher.learn_until(&id, endorsements, signer) {
                return Ok(());
            }
            let pinned = publisher.fingerprints();
            Err(TrustError::Changed { id, found, pinned })
        })
    }

    /// Trusts `key` for a package, as its owner says. Refused if another key is known.
    pub fn add(&mut self, id: &Id, key: &PublicKey) -> Result<(), TrustError> {
        self.change(|publishers| match publishers.get(id) {
            Some(publisher) if publisher.trusts(key) => Ok(()),
            Some(publisher) => Err(TrustError::Changed {
                id: id.clone(),
                found: key.fingerprint(),
                pinned: publisher.fingerprints(),
            }),
            None => {
                publishers.insert(id.clone(), Publisher::new(*key, Origin::Owner));
                Ok(())
            }
        })
    }

    /// Trusts `key` alone for a package, whatever was trusted before: the owner's explicit word.
    pub fn replace(&mut self, id: &Id, key: &PublicKey) -> Result<(), TrustError> {
        self.change(|publishers| {
            publishers.insert(id.clone(), Publisher::new(*key, Origin::Owner));
            Ok(())
        })
    }

    /// Trusts the new key of an endorsement whose old key is trusted.
    pub fn endorse(&mut self, endorsement: &Endorsement) -> Result<(), TrustError> {
        let id = endorsement.package();
        self.change(|publishers| {
            let publisher = publishers.get_mut(id);
            let Some(publisher) = publisher.filter(|known| known.trusts(endorsement.old())) else {
                return Err(absent(id, endorsement.old()));
            };
            publisher.learn(endorsement);
            Ok(())
        })
    }

    /// Forgets one key of a package; with its last key, the package.
    pub fn remove(&mut self, id: &Id, key: &PublicKey) -> Result<(), TrustError> {
        self.change(|publishers| {
            let publisher = publishers.get_mut(id);
            let Some(publisher) = publisher.filter(|known| known.trusts(key)) else {
                return Err(absent(id, key));
            };
            publisher.0.retain(|trusted| trusted.key != *key);
            if publisher.0.is_empty() {
                publishers.remove(id);
            }
            Ok(())
        })
    }

    /// Forgets all keys of a package: the next one is the first again.
    pub fn forget(&mut self, id: &Id) -> Result<(), TrustError> {
        self.change(|publishers| match publishers.remove(id) {
            Some(_) => Ok(()),
            None => Err(TrustError::Absent {
                id: id.clone(),
                wanted: "at all".to_owned(),
            }),
        })
    }

    /// Changes what is on the disk now, and keeps the result only once it is there.
    fn change(
        &mut self,
        change: impl FnOnce(&mut BTreeMap<Id, Publisher>) -> Result<(), TrustError>,
    ) -> Result<(), TrustError> {
        let before = read(&self.path)?;
        let mut publishers = before.clone();
        let outcome = change(&mut publishers);
        if outcome.is_err() {
            self.publishers = before;
            return outcome;
        }
        if publishers != before {
            let failed = |source| TrustError::Io {
                path: self.path.clone(),
                what: "written",
                source,
            };
            let file = Stored {
                format: FORMAT,
                packages: publishers.clone(),
            };
            let bytes = serde_json::to_vec_pretty(&file).map_err(|e| failed(e.into()))?;
            durable::replace(&self.path, &bytes).map_err(failed)?;
        }
        self.publishers = publishers;
        Ok(())
    }
}

fn read(path: &Path) -> Result<BTreeMap<Id, Publisher>, TrustError> {
    let failed = |source| TrustError::Io {
        path: path.to_owned(),
        what: "read",
        source,
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(failed(error)),
    };
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
    match stored.format {
        FORMAT => Ok(stored.packages),
        _ => Err(failed(io::Error::other("a newer version wrote it"))),
    }
}

fn absent(id: &Id, key: &PublicKey) -> TrustError {
    TrustError::Absent {
        id: id.clone(),
        wanted: key.fingerprint(),
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    packages: BTreeMap<Id, Publisher>,
}

/// Of [`Stored`].
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    /// A store of a test, in a folder that is gone when the test passes.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("trust-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn file(&self) -> PathBuf {
            self.0.join("keys.json")
        }

        fn open(&self) -> TrustStore {
            TrustStore::load(&self.file()).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                fs::remove_dir_all(&self.0).unwrap();
            }
        }
    }

    fn key(seed: u8) -> Key {
        Key::from_seed(&[seed; 32])
    }

    fn public(seed: u8) -> PublicKey {
        key(seed).public()
    }

    fn id() -> Id {
        "hello".parse().unwrap()
    }

    fn word(old: u8, new: u8) -> Endorsement {
        Endorsement::sign(&id(), &key(old), public(new)).unwrap()
    }

    #[test]
    fn the_first_key_is_the_publishers_and_another_is_refused_with_both_fingerprints() {
        let place = Place::new("first");
        let mut store = place.open();
        let unknown = store.check(&id(), &public(1), &[], Trust::PinnedOnly);
        assert!(matches!(unknown, Err(TrustError::Unknown { .. })));
        assert!(!place.file().exists(), "what is refused is not remembered");
        store
            .check(&id(), &public(1), &[], Trust::OnFirstSight)
            .unwrap();
        let mut store = place.open();
        store
            .check(&id(), &public(1), &[], Trust::PinnedOnly)
            .unwrap();
        for trust in [Trust::OnFirstSight, Trust::PinnedOnly] {
            let refused = store.check(&id(), &public(2), &[], trust).unwrap_err();
            let said = refused.to_string();
            assert!(
                said.contains(&public(1).fingerprint()) && said.contains(&public(2).fingerprint()),
                "{said}"
            );
        }
        assert!(store.add(&id(), &public(2)).is_err());
        store.replace(&id(), &public(2)).unwrap();
        let mut store = place.open();
        store
            .check(&id(), &public(2), &[], Trust::PinnedOnly)
            .unwrap();
        assert!(
            store
                .check(&id(), &public(1), &[], Trust::PinnedOnly)
                .is_err()
        );
    }

    #[test]
    fn endorsed_keys_are_trusted_over_any_number_of_steps_and_old_ones_stay() {
        let place = Place::new("endorsed");
        let mut store = place.open();
        store.add(&id(), &public(1)).unwrap();
        // In no order, with steps that lead nowhere.
        let words = [word(3, 4), word(9, 4), word(2, 3), word(1, 2), word(4, 2)];
        let partly = [word(3, 4), word(2, 3)];
        for (words, trusted) in [(&words[..0], false), (&partly, false), (&words, true)] {
            let checked = store.check(&id(), &public(4), words, Trust::PinnedOnly);
            assert_eq!(checked.is_ok(), trusted);
        }
        let mut store = place.open();
        for seed in [1, 2, 3, 4] {
            store
                .check(&id(), &public(seed), &[], Trust::PinnedOnly)
                .unwrap();
        }
        assert!(
            store
                .check(&id(), &public(9), &words, Trust::PinnedOnly)
                .is_err()
        );
        let keys = store.publishers()[&id()].keys();
        assert_eq!(keys[3].origin, Origin::Endorsed { by: public(3) });
    }

    #[test]
    fn a_word_about_another_package_counts_for_nothing() {
        let place = Place::new("other");
        let mut store = place.open();
        store.add(&id(), &public(1)).unwrap();
        let other = Endorsement::sign(&"other".parse().unwrap(), &key(1), public(2)).unwrap();
        let refused = store.check(
            &id(),
            &public(2),
            std::slice::from_ref(&other),
            Trust::PinnedOnly,
        );
        assert!(matches!(refused, Err(TrustError::Changed { .. })));
        assert!(matches!(
            store.endorse(&other),
            Err(TrustError::Absent { .. })
        ));
        store.endorse(&word(1, 2)).unwrap();
        store
            .check(&id(), &public(2), &[], Trust::PinnedOnly)
            .unwrap();
    }

    #[test]
    fn the_owner_takes_trust_away() {
        let place = Place::new("remove");
        let mut store = place.open();
        store.add(&id(), &public(1)).unwrap();
        store.endorse(&word(1, 2)).unwrap();
        store.remove(&id(), &public(1)).unwrap();
        assert!(
            store
                .check(&id(), &public(1), &[], Trust::OnFirstSight)
                .is_err()
        );
        assert!(store.remove(&id(), &public(1)).is_err());
        store.remove(&id(), &public(2)).unwrap();
        assert!(store.publishers().is_empty());
        assert!(store.forget(&id()).is_err());
        store.add(&id(), &public(3)).unwrap();
        store.forget(&id()).unwrap();
        assert!(place.open().publishers().is_empty());
    }

    #[test]
    fn two_holders_of_a_store_do_not_undo_each_others_changes() {
        let place = Place::new("two");
        let (mut one, mut other) = (place.open(), place.open());
        one.add(&id(), &public(1)).unwrap();
        other.add(&"other".parse().unwrap(), &public(2)).unwrap();
        assert_eq!(place.open().publishers().len(), 2);
        other
            .check(&id(), &public(1), &[], Trust::PinnedOnly)
            .unwrap();
    }

    #[test]
    fn a_damaged_or_newer_file_is_not_taken_for_an_empty_one() {
        let place = Place::new("damaged");
        for text in [
            "{ damaged",
            r#"{"format":2,"packages":{}}"#,
            r#"{"format":1,"packages":{"a":[]}}"#,
            "{}",
            "",
        ] {
            fs::write(place.file(), text).unwrap();
            assert!(TrustStore::load(&place.file()).is_err(), "{text}");
        }
    }
}
