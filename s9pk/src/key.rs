//! Ed25519 keys: the publisher's secret one (PKCS#8 in PEM) and the public one that names them.

use std::{fmt, str::FromStr};

use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey,
        spki::der::pem::LineEnding,
    },
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{error::Error, hex};

/// A secret signing key. Wiped from memory when dropped.
#[derive(Clone)]
pub struct Key(SigningKey);

impl Key {
    /// The key made from 32 random bytes; equal seeds make equal keys.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads PKCS#8 in PEM: v2 as the packers write it, or v1 as openssl does.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|error| {
            Error::Key(format!(
                "it is not an Ed25519 private key in PEM ({error}); make one with `pilot s9pk keygen`"
            ))
        })
    }

    /// PKCS#8 v2 in PEM, with the public key attached. Keep it to its owner (mode 0600).
    pub fn to_pem(&self) -> Result<String, Error> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF);
        pem.map(|pem| pem.to_string())
            .map_err(|error| Error::Key(error.to_string()))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key(of {})", self.public())
    }
}

/// A public key; shown as the hexadecimal of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key with these bytes, if they are a point of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        VerifyingKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| Error::BadSigner)
    }

    /// The key's bytes, as in a package's header.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Reads a SubjectPublicKeyInfo in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        VerifyingKey::from_public_key_pem(pem)
            .map(Self)
            .map_err(|error| {
                Error::Key(format!("it is not an Ed25519 public key in PEM ({error})"))
            })
    }

    /// SubjectPublicKeyInfo in PEM, ending with a line feed.
    pub fn to_pem(&self) -> Result<String, Error> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Error::Key(error.to_string()))
    }

    /// Half of the key's BLAKE3 hash in groups of four digits: what people compare by eye.
    pub fn fingerprint(&self) -> String {
        let hash = blake3::hash(self.as_bytes());
        let groups = hash.as_bytes()[..16].chunks_exact(2);
        let groups: Vec<String> = groups
            .map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]))
            .collect();
        groups.join("-")
    }

    pub(crate) fn verifying(&self) -> &VerifyingKey {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    /// Reads the hexadecimal that a key is shown as.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wanted = "a public key has 64 hexadecimal digits";
        let bytes = hex::parse(text).ok_or_else(|| Error::Key(wanted.to_owned()))?;
        Self::from_bytes(&bytes).map_err(|_| Error::Key(format!("{text} is no Ed25519 key")))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = include_str!("../tests/fixtures/keys/a.pem");

    #[test]
    fn the_packers_pem_is_read_and_written_alike() {
        let key = Key::from_pem(A).unwrap();
        assert_eq!(
            key.public().to_string(),
            "d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737"
        );
        assert_eq!(key.to_pem().unwrap(), A);
        assert_eq!(Key::from_seed(&[0x11; 32]).public(), key.public());
    }

    #[test]
    fn openssls_v1_form_is_read() {
        let v1 = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEIBERERERERERERERERERERERERERERERERERERERERER\n\
            -----END PRIVATE KEY-----\n";
        assert_eq!(
            Key::from_pem(v1).unwrap().public(),
            Key::from_seed(&[0x11; 32]).public()
        );
    }

    #[test]
    fn a_public_key_passes_through_pem() {
        let public = Key::from_seed(&[7; 32]).public();
        assert_eq!(
            PublicKey::from_pem(&public.to_pem().unwrap()).unwrap(),
            public
        );
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        assert!("d04ab232".parse::<PublicKey>().is_err());
        assert_eq!(public.fingerprint().len(), 8 * 4 + 7);
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_remedy() {
        let error = Key::from_pem("hello").unwrap_err().to_string();
        assert!(error.contains("keygen"), "{error}");
    }
}
