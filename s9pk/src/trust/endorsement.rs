//! Endorsements: statements by which a publisher moves a package to a new key.
//!
//! They lie beside a package, in a file named like it with `.endorsements` behind, a JSON list:
//!
//! ```json
//! [{ "package": "hello", "old": "d04a…", "new": "a09a…", "signature": "31c8…" }]
//! ```
//!
//! Keys and signature are hexadecimal. `signature` is Ed25519ph by the old key, with the context
//! `pilotlight-endorsement`, over: the length of the package's id (64 bits, big-endian), the id,
//! the 32 bytes of the old key, the 32 bytes of the new one.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use super::TrustError;
use crate::{
    error::Error,
    hex,
    key::{Key, PublicKey},
    limits,
    manifest::Id,
    sign,
};

/// A publisher's word that packages of one id may be signed with another key. Values of this type
/// carry a valid signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Statement", into = "Statement")]
pub struct Endorsement {
    package: Id,
    old: PublicKey,
    new: PublicKey,
    signature: Signature,
}

impl Endorsement {
    /// States with the key `old` that `package` may be signed with `new`.
    pub fn sign(package: &Id, old: &Key, new: PublicKey) -> Result<Self, Error> {
        let digest = digest(package, &old.public(), &new);
        Ok(Self {
            package: package.clone(),
            old: old.public(),
            new,
            signature: Signature(sign::sign(old, digest, CONTEXT)?),
        })
    }

    /// The package it is about.
    pub fn package(&self) -> &Id {
        &self.package
    }

    /// The key that vouches.
    pub fn old(&self) -> &PublicKey {
        &self.old
    }

    /// The key it vouches for.
    pub fn successor(&self) -> &PublicKey {
        &self.new
    }
}

/// Where the endorsements of the package at `path` lie.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".endorsements");
    PathBuf::from(name)
}

/// The endorsements beside the package at `path`; none if there is no such file.
pub fn read_beside(path: &Path) -> Result<Vec<Endorsement>, TrustError> {
    let path = beside(path);
    let refuse = |problem: String| TrustError::Endorsement {
        path: path.clone(),
        problem,
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refuse(error.to_string())),
    };
    let mut text = Vec::new();
    let read = file
        .take(limits::ENDORSEMENTS_SIZE + 1)
        .read_to_end(&mut text);
    read.map_err(|error| refuse(error.to_string()))?;
    parse(&text).map_err(refuse)
}

/// Reads and checks a file of endorsements. The error is a sentence.
pub fn parse(text: &[u8]) -> Result<Vec<Endorsement>, String> {
    if text.len() as u64 > limits::ENDORSEMENTS_SIZE {
        let most = limits::ENDORSEMENTS_SIZE;
        return Err(format!("they have more than {most} bytes"));
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// The file of these endorsements.
pub fn encode(endorsements: &[Endorsement]) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(endorsements)?;
    text.push(b'\n');
    Ok(text)
}

/// An endorsement as it is written, not yet checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    package: Id,
    old: PublicKey,
    new: PublicKey,
    signature: String,
}

impl TryFrom<Statement> for Endorsement {
    type Error = String;

    fn try_from(statement: Statement) -> Result<Self, String> {
        let Statement {
            package,
            old,
            new,
            signature,
        } = statement;
        let signature =
            hex::parse(&signature).ok_or("a signature has 128 hexadecimal digits".to_owned())?;
        match sign::verify(&old, digest(&package, &old, &new), CONTEXT, &signature) {
            true => Ok(Self {
                package,
                old,
                new,
                signature: Signature(signature),
            }),
            false => Err(format!(
                "the key {} did not sign that {package} may be signed with {}",
                old.fingerprint(),
                new.fingerprint()
            )),
        }
    }
}

impl From<Endorsement> for Statement {
    fn from(endorsement: Endorsement) -> Self {
        Self {
            signature: endorsement.signature.to_string(),
            package: endorsement.package,
            old: endorsement.old,
            new: endorsement.new,
        }
    }
}

/// Ed25519ph; shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Signature([u8; 64]);

impl fmt::Display for Signature {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

fn digest(package: &Id, old: &PublicKey, new: &PublicKey) -> Sha512 {
    let id = package.as_str();
    Sha512::new()
        .chain_update((id.len() as u64).to_be_bytes())
        .chain_update(id)
        .chain_update(old.as_bytes())
        .chain_update(new.as_bytes())
}

/// Keeps these signatures apart from those over packages.
const CONTEXT: &[u8] = b"pilotlight-endorsement";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> Key {
        Key::from_seed(&[seed; 32])
    }

    #[test]
    fn an_endorsement_is_read_back_and_any_change_of_it_is_refused() {
        let id: Id = "hello".parse().unwrap();
        let endorsement = Endorsement::sign(&id, &key(1), key(2).public()).unwrap();
        let text = encode(std::slice::from_ref(&endorsement)).unwrap();
        assert_eq!(parse(&text).unwrap(), [endorsement]);
        let text = String::from_utf8(text).unwrap();
        let (old, new) = (key(1).public().to_string(), key(2).public().to_string());
        for (from, to) in [
            ("hello", "other".to_owned()),
            (old.as_str(), key(3).public().to_string()),
            (new.as_str(), key(3).public().to_string()),
        ] {
            let forged = text.replace(from, &to);
            let refused = parse(forged.as_bytes()).unwrap_err();
            assert!(refused.contains("did not sign"), "{refused}");
        }
        assert!(parse(&vec![b' '; 1 << 20]).unwrap_err().contains("bytes"));
        assert!(parse(br#"[{"package":"x"}]"#).is_err());
    }

    #[test]
    fn a_package_signature_is_no_endorsement() {
        // Same key and digest, but the format's own context.
        let id: Id = "hello".parse().unwrap();
        let (old, new) = (key(1), key(2).public());
        let signature = sign::sign(&old, digest(&id, &old.public(), &new), b"s9pk").unwrap();
        let statement = Statement {
            package: id,
            old: old.public(),
            new,
            signature: Signature(signature).to_string(),
        };
        assert!(Endorsement::try_from(statement).is_err());
    }
}
