//! What the box remembers about its services: which number each has, and whether it is to run.
//!
//! A service keeps its number for ever, as its address and its user ids on data come from it.
//! Every change is on the disk before it is acted on.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::durable;

/// The services that the box knows, kept in one file.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    services: BTreeMap<String, Entry>,
}

/// What is remembered of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1 to [`MAX_INDEX`].
    pub index: u16,
    /// Whether it is to run.
    pub desired: Desired,
}

/// Whether a service is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// Always.
    #[default]
    Run,
    /// Not until its owner says so.
    Stopped,
}

/// Why the registry can't be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The disk said no.
    #[error("the list of services {path} can't be {what}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Read or written.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is damaged.
    #[error(
        "the list of services {path} is damaged ({why}); restore it from a backup, or remove it \
         and the services get new addresses"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// All numbers are taken.
    #[error("the box has {MAX_INDEX} services already and can have no more")]
    Full,
    /// There is no such service.
    #[error("there is no service called {0:?}")]
    Unknown(String),
}

impl Registry {
    /// Reads the registry; a file that is not there is an empty one.
    pub fn load(path: &Path) -> Result<Self, RegistryError> {
        let services = match fs::read(path) {
            Ok(bytes) => parse(path, &bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(error(path, "read", source)),
        };
        Ok(Self {
            path: path.to_owned(),
            services,
        })
    }

    /// What is remembered of the service, which is made known, to be run, if it was not.
    pub fn enter(&mut self, id: &str) -> Result<Entry, RegistryError> {
        if let Some(entry) = self.services.get(id) {
            return Ok(*entry);
        }
        let taken = |index: &u16| self.services.values().any(|entry| entry.index == *index);
        let index = (1..=MAX_INDEX)
            .find(|index| !taken(index))
            .ok_or(RegistryError::Full)?;
        let entry = Entry {
            index,
            desired: Desired::Run,
        };
        self.change(id, entry)?;
        Ok(entry)
    }

    /// What is remembered of the service, if anything.
    pub fn get(&self, id: &str) -> Option<Entry> {
        self.services.get(id).copied()
    }

    /// Says whether the service is to run, from now on and after every boot.
    pub fn set_desired(&mut self, id: &str, desired: Desired) -> Result<(), RegistryError> {
        let entry = self
            .get(id)
            .ok_or_else(|| RegistryError::Unknown(id.to_owned()))?;
        if entry.desired == desired {
            return Ok(());
        }
        self.change(id, Entry { desired, ..entry })
    }

    fn change(&mut self, id: &str, entry: Entry) -> Result<(), RegistryError> {
        let mut changed = self.services.clone();
        changed.insert(id.to_owned(), entry);
        let bytes = serde_json::to_vec_pretty(&changed)
            .map_err(|e| error(&self.path, "written", e.into()))?;
        durable::replace(&self.path, &bytes).map_err(|e| error(&self.path, "written", e))?;
        self.services = changed;
        Ok(())
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Entry>, RegistryError> {
    let damaged = |why: String| RegistryError::Damaged {
        path: path.to_owned(),
        why,
    };
    let services: BTreeMap<String, Entry> =
        serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    let mut numbers: Vec<u16> = services.values().map(|entry| entry.index).collect();
    numbers.sort_unstable();
    if numbers.iter().any(|index| !(1..=MAX_INDEX).contains(index)) {
        return Err(damaged("a service has an impossible number".to_owned()));
    }
    if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(damaged("two services have the same number".to_owned()));
    }
    Ok(services)
}

fn error(path: &Path, what: &'static str, source: io::Error) -> RegistryError {
    RegistryError::Io {
        path: path.to_owned(),
        what,
        source,
    }
}

/// Far more than a box can run, and well within its addresses and the kernel's user ids.
pub const MAX_INDEX: u16 = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn numbers_and_wishes_outlive_the_process() {
        let folder = Folder::new("registry-kept");
        let path = folder.0.join("services.json");
        let mut registry = Registry::load(&path).unwrap();
        assert_eq!(registry.enter("a").unwrap().index, 1);
        assert_eq!(registry.enter("b").unwrap().index, 2);
        registry.set_desired("a", Desired::Stopped).unwrap();
        let mut again = Registry::load(&path).unwrap();
        assert_eq!(again.enter("b").unwrap().index, 2);
        assert_eq!(
            again.get("a"),
            Some(Entry {
                index: 1,
                desired: Desired::Stopped
            })
        );
        assert!(matches!(
            again.set_desired("x", Desired::Run),
            Err(RegistryError::Unknown(_))
        ));
    }

    #[test]
    fn damage_is_told_and_nothing_is_forgotten_silently() {
        let folder = Folder::new("registry-damaged");
        let path = folder.0.join("services.json");
        for damage in [
            "",
            "{",
            "[]",
            r#"{"a":{"index":0,"desired":"run"}}"#,
            r#"{"a":{"index":7,"desired":"run"},"b":{"index":7,"desired":"run"}}"#,
        ] {
            fs::write(&path, damage).unwrap();
            let error = Registry::load(&path).unwrap_err();
            assert!(
                matches!(error, RegistryError::Damaged { .. }),
                "{damage}: {error}"
            );
        }
    }

    #[test]
    fn what_could_not_be_written_did_not_happen() {
        let folder = Folder::new("registry-readonly");
        let mut registry = Registry::load(&folder.0.join("missing/services.json")).unwrap();
        assert!(registry.enter("a").is_err());
        assert_eq!(registry.get("a"), None);
    }
}
