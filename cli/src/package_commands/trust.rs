//! `pilot s9pk trust …`: whose packages these are, as this user knows them.
//!
//! The store is one file, by default `pilot/keys.json` in the folder for configuration; a box has
//! its own. Endorsements lie beside packages: `hello.s9pk.endorsements` (format: [`Endorsement`]).

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use s9pk::{
    Archive, Id, PublicKey, durable,
    trust::{self, Endorsement, Origin, Trust, TrustStore},
};

use super::{PackageError, error::at, key, open, show};

/// Commands about keys and publishers.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// List the publishers known and their keys
    List {
        #[command(flatten)]
        store: Store,
    },
    /// Check whose key a package is signed with; the first one of a package is remembered
    Check {
        /// The package
        package: PathBuf,
        /// Do not remember a key that is the first of its package, but refuse it
        #[arg(long)]
        known: bool,
        #[command(flatten)]
        store: Store,
    },
    /// Trust the key that a package is signed with
    Add {
        /// The package
        package: PathBuf,
        /// Even if another key is known for it, which is forgotten
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        store: Store,
    },
    /// As a publisher: vouch with the old key for the one that a package is signed with
    Endorse {
        /// The package, signed with the new key
        package: PathBuf,
        /// The old key
        #[arg(short, long)]
        key: PathBuf,
    },
    /// Stop trusting a publisher's keys, or one of them
    Remove {
        /// The package's id
        id: Id,
        /// The fingerprint of the one key
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        store: Store,
    },
}

/// Which store.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// The file of trusted keys [default: pilot/keys.json in the folder for configuration]
    #[arg(long)]
    store: Option<PathBuf>,
}

/// Does it. Returns what came of it.
pub(crate) fn run(command: &TrustCommand) -> Result<String, PackageError> {
    match command {
        TrustCommand::List { store } => Ok(list(&store.open()?)),
        TrustCommand::Check {
            package,
            known,
            store,
        } => check(package, *known, &mut store.open()?),
        TrustCommand::Add {
            package,
            replace,
            store,
        } => {
            let (id, signer) = claims(package)?;
            let mut store = store.open()?;
            let added = match replace {
                true => store.replace(&id, &signer),
                false => store.add(&id, &signer),
            };
            added.map_err(PackageError::trust(package))?;
            Ok(show::trusted(&id, &signer))
        }
        TrustCommand::Endorse { package, key } => endorse(package, key),
        TrustCommand::Remove { id, key, store } => {
            let mut store = store.open()?;
            let path = store.path().to_owned();
            let removed = match key {
                Some(fingerprint) => {
                    let key = find(&store, id, fingerprint);
                    key.and_then(|key| store.remove(id, &key))
                }
                None => store.forget(id),
            };
            removed.map_err(PackageError::trust(&path))?;
            Ok(String::new())
        }
    }
}

fn check(package: &Path, known: bool, store: &mut TrustStore) -> Result<String, PackageError> {
    let archive = open(package)?;
    archive.verify().map_err(at(package))?;
    let (id, signer) = (&archive.manifest().id, archive.signer());
    let first = if known {
        Trust::PinnedOnly
    } else {
        Trust::OnFirstSight
    };
    let refused = PackageError::trust(package);
    let endorsements = trust::read_beside(package).map_err(PackageError::trust(package))?;
    store
        .check(id, &signer, &endorsements, first)
        .map_err(refused)?;
    Ok(show::trusted(id, &signer))
}

/// Adds to what lies beside the package, so that boxes that missed a step learn of all.
fn endorse(package: &Path, old: &Path) -> Result<String, PackageError> {
    let (id, signer) = claims(package)?;
    let endorsement = Endorsement::sign(&id, &key(old)?, signer).map_err(at(old))?;
    let mut endorsements = trust::read_beside(package).map_err(PackageError::trust(package))?;
    if !endorsements.contains(&endorsement) {
        endorsements.push(endorsement);
    }
    let path = trust::beside(package);
    let text = trust::encode(&endorsements)?;
    durable::replace(&path, &text).map_err(PackageError::io(&path))?;
    Ok(show::endorsed(&path))
}

/// What a package says of itself: its id, and the key it is signed with.
fn claims(package: &Path) -> Result<(Id, PublicKey), PackageError> {
    let archive: Archive<File> = open(package)?;
    Ok((archive.manifest().id.clone(), archive.signer()))
}

fn find(store: &TrustStore, id: &Id, fingerprint: &str) -> Result<PublicKey, trust::TrustError> {
    let publisher = store.publishers().get(id);
    let keys = publisher.into_iter().flat_map(|known| known.keys());
    let mut keys = keys.map(|trusted| trusted.key);
    keys.find(|key| key.fingerprint() == fingerprint)
        .ok_or_else(|| trust::TrustError::Absent {
            id: id.clone(),
            wanted: fingerprint.to_owned(),
        })
}

fn list(store: &TrustStore) -> String {
    let mut lines = Vec::new();
    for (id, publisher) in store.publishers() {
        for trusted in publisher.keys() {
            let why = match trusted.origin {
                Origin::Endorsed { by } => format!("endorsed by {}", by.fingerprint()),
                Origin::FirstSight => "the first seen".to_owned(),
                Origin::Owner => "added by hand".to_owned(),
            };
            lines.push(format!("{id}: {} ({why})\n", trusted.key.fingerprint()));
        }
    }
    lines.concat()
}

impl Store {
    fn open(&self) -> Result<TrustStore, PackageError> {
        let path = match &self.store {
            Some(path) => path.clone(),
            None => default_store()?,
        };
        TrustStore::load(&path).map_err(PackageError::trust(&path))
    }
}

/// Makes the folder, as the first thing that is remembered needs it.
fn default_store() -> Result<PathBuf, PackageError> {
    let from = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty());
    let folder = from("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| from("HOME").map(|home| Path::new(&home).join(".config")));
    let folder = folder.ok_or(PackageError::NoStore)?.join("pilot");
    fs::create_dir_all(&folder).map_err(PackageError::io(&folder))?;
    Ok(folder.join("keys.json"))
}
