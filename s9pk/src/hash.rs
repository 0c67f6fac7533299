//! BLAKE3 hashes of files, and the sighash that stands for a whole directory.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::hex;

/// A BLAKE3 hash of 32 bytes; shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Thirty-two zero bytes: a place holder, the hash of nothing known.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash that `text` spells in 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::parse(text).map(Self)
    }

    /// The hash's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::parse(&text);
        bytes
            .map(Self)
            .ok_or_else(|| D::Error::custom("a hash has 64 hexadecimal digits"))
    }
}

/// The sighash of a directory whose entries are `(name, hash, size)`, sorted by name.
///
/// It covers names, contents and sizes. Positions, order, and what an entry is (file, directory,
/// left out) are not covered, so that a package can be filtered without the signing key.
pub fn sighash<'a>(entries: impl ExactSizeIterator<Item = (&'a str, Hash, u64)>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    let mut line = Vec::with_capacity(128);
    crate::varint::encode(entries.len() as u64, &mut line);
    for (name, hash, size) in entries {
        crate::varint::encode(name.len() as u64, &mut line);
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(&hash.0);
        line.extend_from_slice(&size.to_be_bytes());
        line.push(MISSING);
        hasher.update(&line);
        line.clear();
    }
    hasher.update(&line);
    hasher.finalize().into()
}

/// The type byte of an entry that was left out; in the sighash every entry has it.
const MISSING: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(hex: &str) -> Hash {
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap();
        }
        Hash(bytes)
    }

    #[test]
    fn the_sighash_of_the_minimal_sample_is_the_one_its_packer_wrote() {
        let entries = [
            (
                "LICENSE.md",
                "eb4e92664b5c38ecc7ce08b3a4a7cd6aabd3ab8a925acf6075607f4f20f9277f",
                27,
            ),
            (
                "icon.png",
                "888db08ac49858c5518b3d76baa4c172318c7db4244d334d293787a41eb2983a",
                79,
            ),
            (
                "instructions.md",
                "563366215d6c9734ed1d1cd964df04a3be0c13882654e01ea4afaddcea3f095a",
                36,
            ),
            (
                "javascript.squashfs",
                "d55a16c8faee2529cc233acc863563106945a9e866880a30c66fbce370342ee5",
                4096,
            ),
            (
                "manifest.json",
                "c8df1f808efe1add933f0112a1ceabaf123319a301a2b1aa6b8a0348bdedccec",
                699,
            ),
        ];
        let got = sighash(
            entries
                .iter()
                .map(|&(name, hex, size)| (name, hash(hex), size)),
        );
        assert_eq!(
            got.to_string(),
            "29ed3323da1bb7185035a21f49de911da3521834cd406bc54b9cf49a76653318"
        );
    }

    #[test]
    fn an_empty_directory_has_a_sighash() {
        assert_eq!(sighash(std::iter::empty()), Hash::of(&[0]));
    }
}
