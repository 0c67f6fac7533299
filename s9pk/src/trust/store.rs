//! The keys that a box or a developer trusts, kept in one file that survives a power cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io, iter,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{Endorsement, Origin, Publisher, Trust, TrustError};
use crate::{durable, key::PublicKey, manifest::Id};

/// The trusted keys by package, kept in one file. What is changed is on the disk when the call
/// returns.
#[derive(Debug)]
pub struct TrustStore {
    path: PathBuf,
    /// Read where there is no file yet.
    former: Option<PathBuf>,
    known: Known,
}

impl TrustStore {
    /// Reads the keys; a file that is not there holds none.
    ///
    /// # Errors
    /// When it can't be read or is damaged: then no package can be told from a forged one.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        Self::open(path.to_owned(), None)
    }

    /// As [`load`](Self::load); a file that is not there holds what the one at `former` does,
    /// where earlier versions keep the keys. That one stays as it is, for they may run again.
    ///
    /// # Errors
    /// When the one that counts can't be read or is damaged.
    pub fn load_or_adopt(path: &Path, former: &Path) -> Result<Self, TrustError> {
        Self::open(path.to_owned(), Some(former.to_owned()))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who is known.
    pub fn publishers(&self) -> &BTreeMap<Id, Publisher> {
        &self.known.publishers
    }

    /// Fingerprints of the publishers whose keys themselves are still to be seen.
    pub fn pinned(&self) -> &BTreeMap<Id, String> {
        &self.known.pinned
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
        let known = self.known.publishers.get(id);
        if known.is_some_and(|publisher| publisher.trusts(signer)) {
            return Ok(());
        }
        // Somebody else may have changed the file since; nothing is refused by old knowledge.
        self.change(|known| {
            known.refuse_removed(id, signer)?;
            let about = endorsements.iter().filter(|e| e.package() == id);
            let about: Vec<_> = about
                .filter(|e| !known.is_removed(id, e.successor()))
                .collect();
            known.meet(id, about.iter().map(|e| e.old()).chain([signer]));
            if let Some(publisher) = known.publishers.get_mut(id)
                && (publisher.trusts(signer) || publisher.learn_until(&about, signer))
            {
                return Ok(());
            }
            known.refuse_other(id, signer)?;
            if trust == Trust::PinnedOnly {
                let (id, found) = (id.clone(), signer.fingerprint());
                return Err(TrustError::Unknown { id, found });
            }
            known.trust_alone(id, signer, Origin::FirstSight);
            Ok(())
        })
    }

    /// Trusts `key` for a package, as its owner says. Refused if another key is known.
    pub fn add(&mut self, id: &Id, key: &PublicKey) -> Result<(), TrustError> {
        self.change(|known| {
            known.meet(id, [key]);
            let publisher = known.publishers.get(id);
            if publisher.is_some_and(|publisher| publisher.trusts(key)) {
                return Ok(());
            }
            known.refuse_other(id, key)?;
            known.trust_alone(id, key, Origin::Owner);
            Ok(())
        })
    }

    /// Trusts `key` alone for a package, whatever was trusted before: the owner's explicit word.
    pub fn replace(&mut self, id: &Id, key: &PublicKey) -> Result<(), TrustError> {
        self.change(|known| {
            known.trust_alone(id, key, Origin::Owner);
            Ok(())
        })
    }

    /// Trusts the new key of an endorsement whose old key is trusted.
    pub fn endorse(&mut self, endorsement: &Endorsement) -> Result<(), TrustError> {
        let (id, old) = (endorsement.package(), endorsement.old());
        self.change(|known| {
            known.refuse_removed(id, endorsement.successor())?;
            known.trusting(id, old)?.learn(endorsement);
            Ok(())
        })
    }

    /// Takes the trust in one key of a package away, until the owner gives it again: the
    /// endorsements that once led to it still come with every package. With its last key, the
    /// package is forgotten but for that.
    pub fn remove(&mut self, id: &Id, key: &PublicKey) -> Result<(), TrustError> {
        self.change(|known| {
            let publisher = known.trusting(id, key)?;
            publisher.0.retain(|trusted| trusted.key != *key);
            if publisher.0.is_empty() {
                known.publishers.remove(id);
            }
            let removed = known.removed.entry(id.clone()).or_default();
            removed.insert(key.to_string());
            Ok(())
        })
    }

    /// Forgets all keys of a package: the next one is the first again.
    pub fn forget(&mut self, id: &Id) -> Result<(), TrustError> {
        self.change(|known| match known.forget(id) {
            true => Ok(()),
            false => Err(TrustError::Absent {
                id: id.clone(),
                wanted: "at all".to_owned(),
            }),
        })
    }

    fn open(path: PathBuf, former: Option<PathBuf>) -> Result<Self, TrustError> {
        let mut store = Self {
            path,
            former,
            known: Known::default(),
        };
        store.known = store.read()?;
        Ok(store)
    }

    /// Changes what is on the disk now, and keeps the result only once it is there. `change` is
    /// done once more if it comes to something.
    fn change(
        &mut self,
        change: impl Fn(&mut Known) -> Result<(), TrustError>,
    ) -> Result<(), TrustError> {
        let mut locked = None;
        loop {
            let before = self.read()?;
            let mut known = before.clone();
            let outcome = change(&mut known);
            if outcome.is_err() || known == before {
                self.known = before;
                return outcome;
            }
            let failed = failed(&self.path, "written");
            if locked.is_none() {
                // What was read until now, another process may be about to replace.
                locked = Some(lock(&self.path).map_err(failed)?);
                continue;
            }
            let bytes = known.encode().map_err(&failed)?;
            durable::replace(&self.path, &bytes).map_err(failed)?;
            self.known = known;
            return Ok(());
        }
    }

    fn read(&self) -> Result<Known, TrustError> {
        for path in iter::once(&self.path).chain(&self.former) {
            match fs::read(path) {
                Ok(bytes) => return Known::parse(&bytes).map_err(failed(path, "read")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(path, "read")(error)),
            }
        }
        Ok(Known::default())
    }
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    #[serde(rename = "packages")]
    publishers: BTreeMap<Id, Publisher>,
    /// For packages whose publisher an earlier version knew, by the fingerprint alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pinned: BTreeMap<Id, String>,
    /// Keys that the owner does not trust any more, in hexadecimal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removed: BTreeMap<Id, BTreeSet<String>>,
}

impl Known {
    fn parse(bytes: &[u8]) -> io::Result<Self> {
        // The first form of the file: fingerprints by package, and nothing else.
        if let Ok(pins) = serde_json::from_slice::<BTreeMap<Id, String>>(bytes)
            && !pins.is_empty()
        {
            return Ok(Self {
                pinned: pins,
                ..Self::default()
            });
        }
        let stored: Stored = serde_json::from_slice(bytes)?;
        match stored.format {
            FORMAT => Ok(stored.known),
            _ => Err(io::Error::other("a newer version wrote it")),
        }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let stored = Stored {
            format: FORMAT,
            known: self.clone(),
        };
        Ok(serde_json::to_vec_pretty(&stored)?)
    }

    /// Learns the key of a package of which only the fingerprint is known, if it is one of these.
    fn meet<'k>(&mut self, id: &Id, keys: impl IntoIterator<Item = &'k PublicKey>) {
        let pin = self.pinned.get(id);
        let is_pinned = |key: &&PublicKey| pin.is_some_and(|pin| key.fingerprint() == *pin);
        if let Some(key) = keys.into_iter().find(is_pinned) {
            self.trust_alone(id, key, Origin::FirstSight);
        }
    }

    /// Keys that were removed stay so, but for this one.
    fn trust_alone(&mut self, id: &Id, key: &PublicKey, origin: Origin) {
        self.pinned.remove(id);
        let publisher = Publisher::new(*key, origin);
        self.publishers.insert(id.clone(), publisher);
        if let Some(removed) = self.removed.get_mut(id) {
            removed.remove(&key.to_string());
            if removed.is_empty() {
                self.removed.remove(id);
            }
        }
    }

    fn is_removed(&self, id: &Id, key: &PublicKey) -> bool {
        let removed = self.removed.get(id);
        removed.is_some_and(|removed| removed.contains(&key.to_string()))
    }

    fn refuse_removed(&self, id: &Id, key: &PublicKey) -> Result<(), TrustError> {
        if !self.is_removed(id, key) {
            return Ok(());
        }
        let (id, found) = (id.clone(), key.fingerprint());
        Err(TrustError::Removed { id, found })
    }

    /// The publisher of a package, if it is known by `key`.
    fn trusting(&mut self, id: &Id, key: &PublicKey) -> Result<&mut Publisher, TrustError> {
        self.meet(id, [key]);
        let publisher = self.publishers.get_mut(id);
        let publisher = publisher.filter(|publisher| publisher.trusts(key));
        publisher.ok_or_else(|| TrustError::Absent {
            id: id.clone(),
            wanted: key.fingerprint(),
        })
    }

    /// Refuses `key`, which is not trusted, if others are known for the package.
    fn refuse_other(&self, id: &Id, key: &PublicKey) -> Result<(), TrustError> {
        let publisher = self.publishers.get(id).map(Publisher::fingerprints);
        let Some(pinned) = publisher.or_else(|| self.pinned.get(id).cloned()) else {
            return Ok(());
        };
        Err(TrustError::Changed {
            id: id.clone(),
            found: key.fingerprint(),
            pinned,
        })
    }

    /// Whether there was anything to forget.
    fn forget(&mut self, id: &Id) -> bool {
        let pinned = self.pinned.remove(id).is_some();
        let removed = self.removed.remove(id).is_some();
        self.publishers.remove(id).is_some() || pinned || removed
    }
}

/// Keeps other processes from changing the file at `path`, as long as the result lives. It is the
/// folder that is locked: the file is another one after each change.
fn lock(path: &Path) -> io::Result<File> {
    let folder = durable::folder_of(path).ok_or(io::ErrorKind::InvalidInput)?;
    let folder = File::open(folder)?;
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(TICK),
            Err(TryLockError::WouldBlock) => {
                let held = "another process has been changing it for a minute";
                return Err(io::Error::new(io::ErrorKind::TimedOut, held));
            }
        }
    }
}

/// What failed with the file at `path`.
fn failed(path: &Path, what: &'static str) -> impl Fn(io::Error) -> TrustError {
    move |source| TrustError::Io {
        path: path.to_owned(),
        what,
        source,
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    #[serde(flatten)]
    known: Known,
}

/// Of [`Stored`].
const FORMAT: u32 = 1;
/// For others to end their change, which takes as long as their disk does.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a lock that is held.
const TICK: Duration = Duration::from_millis(10);

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
        store.forget(&id()).unwrap();
        assert!(store.forget(&id()).is_err());
        store.add(&id(), &public(3)).unwrap();
        store.forget(&id()).unwrap();
        assert!(place.open().publishers().is_empty());
    }

    #[test]
    fn a_removed_key_comes_back_by_the_owners_word_alone() {
        let place = Place::new("removed");
        let mut store = place.open();
        store.add(&id(), &public(1)).unwrap();
        let words = [word(1, 2), word(2, 3)];
        let check = |seed| {
            place
                .open()
                .check(&id(), &public(seed), &words, Trust::OnFirstSight)
        };
        let first = &words[..1];
        store
            .check(&id(), &public(2), first, Trust::PinnedOnly)
            .unwrap();
        store.remove(&id(), &public(2)).unwrap();
        assert!(matches!(check(2), Err(TrustError::Removed { .. })));
        let led_by_it = check(3);
        assert!(matches!(led_by_it, Err(TrustError::Changed { .. })));
        assert!(store.endorse(&word(1, 2)).is_err());
        check(1).unwrap();

        // Nor is it the first of a package of which no other key is left.
        store.remove(&id(), &public(1)).unwrap();
        assert!(check(1).is_err() && check(2).is_err());
        store.add(&id(), &public(2)).unwrap();
        check(2).unwrap();
        check(3).unwrap();
        assert!(check(1).is_err());
        store.forget(&id()).unwrap();
        check(1).unwrap();
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
    fn changes_at_the_same_time_are_all_kept() {
        let place = Place::new("at-once");
        thread::scope(|scope| {
            for worker in 0..4 {
                let place = &place;
                scope.spawn(move || {
                    for number in 0..8 {
                        let id = format!("p{worker}-{number}").parse().unwrap();
                        place.open().add(&id, &public(1)).unwrap();
                    }
                });
            }
        });
        assert_eq!(place.open().publishers().len(), 32);
    }

    #[test]
    fn fingerprints_that_an_earlier_version_kept_are_what_the_key_must_have() {
        let place = Place::new("former");
        let former = place.0.join("former.json");
        let old = format!(r#"{{ "hello": "{}" }}"#, public(1).fingerprint());
        fs::write(&former, &old).unwrap();
        let open = || TrustStore::load_or_adopt(&place.file(), &former).unwrap();
        for trust in [Trust::OnFirstSight, Trust::PinnedOnly] {
            let refused = open().check(&id(), &public(2), &[word(3, 2)], trust);
            let said = refused.unwrap_err().to_string();
            assert!(said.contains(&public(1).fingerprint()), "{said}");
        }
        assert!(open().add(&id(), &public(2)).is_err());
        assert!(!place.file().exists());

        open()
            .check(&id(), &public(1), &[], Trust::PinnedOnly)
            .unwrap();
        let keys = open().publishers()[&id()].keys().to_vec();
        assert_eq!(keys, Publisher::new(public(1), Origin::FirstSight).keys());
        assert!(open().pinned().is_empty());
        assert_eq!(
            fs::read_to_string(&former).unwrap(),
            old,
            "it may run again"
        );
    }

    #[test]
    fn a_pinned_fingerprint_can_be_endorsed_replaced_and_forgotten() {
        let place = Place::new("pinned");
        let old = format!(
            r#"{{ "hello": "{}", "other": "0000" }}"#,
            public(1).fingerprint()
        );
        let begin = || {
            fs::write(place.file(), &old).unwrap();
            place.open()
        };
        begin()
            .check(
                &id(),
                &public(3),
                &[word(2, 3), word(1, 2)],
                Trust::PinnedOnly,
            )
            .unwrap();
        assert!(place.open().publishers()[&id()].trusts(&public(3)));
        assert_eq!(place.open().pinned().len(), 1, "of the other package");
        begin().endorse(&word(1, 2)).unwrap();
        assert!(place.open().publishers()[&id()].trusts(&public(2)));
        begin().replace(&id(), &public(2)).unwrap();
        assert!(!place.open().publishers()[&id()].trusts(&public(1)));
        begin().forget(&id()).unwrap();
        assert_eq!(place.open().pinned().len(), 1);
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
