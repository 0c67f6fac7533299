//! Whom packages come from: the first key seen for a package is its publisher's, and later ones
//! must be signed with it or with a key that it has endorsed.
//!
//! A valid signature says only that somebody signed. What ties an update to the publisher of what
//! is installed is the key remembered here. Keys that a package was rightly signed with stay
//! trusted after an endorsement, so that an update can be taken back; only the owner takes trust
//! away again.

mod endorsement;
mod store;

use std::{io, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use self::{
    endorsement::{Endorsement, beside, encode, parse, read_beside},
    store::TrustStore,
};
use crate::{key::PublicKey, manifest::Id};

/// The keys that one package may be signed with, oldest first; never none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<TrustedKey>", into = "Vec<TrustedKey>")]
pub struct Publisher(Vec<TrustedKey>);

/// A key, and how it came to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Why it is trusted.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Why a key is trusted for a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "origin", rename_all = "kebab-case")]
pub enum Origin {
    /// Another trusted key vouches for it.
    Endorsed {
        /// That key.
        by: PublicKey,
    },
    /// It signed the first package seen.
    FirstSight,
    /// The owner said so.
    Owner,
}

/// Whether a package's key becomes its publisher's if none is known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It does: something else vouches for the file, such as the box's own signed root.
    OnFirstSight,
    /// It does not: only a key that the owner agreed to.
    PinnedOnly,
}

/// Why a key is not accepted, or the keys can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Another publisher.
    #[error(
        "it is signed with the key {found}, but {id} is known to be from the key {pinned}; only \
         its publisher can say whether the change is genuine, or endorse the new key with the old"
    )]
    Changed {
        /// The package.
        id: Id,
        /// Fingerprint of the key that signed.
        found: String,
        /// Fingerprints of the keys that should have.
        pinned: String,
    },
    /// Nobody agreed to this key yet.
    #[error("it is signed with the key {found}, which nobody has agreed to trust for {id} yet")]
    Unknown {
        /// The package.
        id: Id,
        /// Fingerprint of the key that signed.
        found: String,
    },
    /// There is nothing to take away or to add to.
    #[error("no key {wanted} is trusted for {id}")]
    Absent {
        /// The package.
        id: Id,
        /// The key's fingerprint.
        wanted: String,
    },
    /// An endorsement is not what it seems to be.
    #[error("the endorsements {path} can't be used: {problem}")]
    Endorsement {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The disk said no, or the file is damaged.
    #[error("the list of trusted keys {path} can't be {what}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Read or written.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Publisher {
    /// A publisher known by one key.
    pub fn new(key: PublicKey, origin: Origin) -> Self {
        Self(vec![TrustedKey { key, origin }])
    }

    /// The keys, oldest first.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.0
    }

    /// Whether a package signed with `key` is this publisher's.
    pub fn trusts(&self, key: &PublicKey) -> bool {
        self.0.iter().any(|trusted| trusted.key == *key)
    }

    /// Trusts the new key of an endorsement if the old one is trusted; says whether.
    fn learn(&mut self, endorsement: &Endorsement) -> bool {
        let learns = self.trusts(endorsement.old()) && !self.trusts(endorsement.successor());
        if learns {
            self.0.push(TrustedKey {
                key: *endorsement.successor(),
                origin: Origin::Endorsed {
                    by: *endorsement.old(),
                },
            });
        }
        learns
    }

    /// Learns all these endorsements, in whatever order they come, if that leads to `wanted`.
    fn learn_until(&mut self, id: &Id, endorsements: &[Endorsement], wanted: &PublicKey) -> bool {
        let mut taught = self.clone();
        let about = |e: &&Endorsement| e.package() == id;
        while endorsements.iter().filter(about).any(|e| taught.learn(e)) {}
        let trusts = taught.trusts(wanted);
        if trusts {
            *self = taught;
        }
        trusts
    }

    fn fingerprints(&self) -> String {
        let keys = self.0.iter().map(|trusted| trusted.key.fingerprint());
        keys.collect::<Vec<_>>().join(" or ")
    }
}

impl TryFrom<Vec<TrustedKey>> for Publisher {
    type Error = &'static str;

    fn try_from(keys: Vec<TrustedKey>) -> Result<Self, &'static str> {
        match keys.is_empty() {
            true => Err("a publisher without a key"),
            false => Ok(Self(keys)),
        }
    }
}

impl From<Publisher> for Vec<TrustedKey> {
    fn from(publisher: Publisher) -> Self {
        publisher.0
    }
}
