//! What a publisher signs: root sighash and root size, by Ed25519ph with the format's own context.

use ed25519_dalek::Signature;
use serde::Serialize;
use sha2::{Digest, Sha512};

use crate::{
    error::Error,
    hash::Hash,
    key::{Key, PublicKey},
};

/// What identifies a package's content: any change of it changes the commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Commitment {
    /// The sighash of the root directory.
    pub root_sighash: Hash,
    /// The size in bytes of the root's table when it was signed.
    pub root_max_size: u64,
}

impl Commitment {
    /// Signs it; the same key always makes the same signature.
    pub fn sign(&self, key: &Key) -> Result<[u8; 64], Error> {
        self::sign(key, self.digest(), CONTEXT)
    }

    /// Checks a signature strictly: one valid form of it, no weak keys.
    pub fn verify(&self, signer: &PublicKey, signature: &[u8; 64]) -> Result<(), Error> {
        match self::verify(signer, self.digest(), CONTEXT, signature) {
            true => Ok(()),
            false => Err(Error::BadSignature {
                signer: signer.to_string(),
            }),
        }
    }

    fn digest(&self) -> Sha512 {
        Sha512::new()
            .chain_update(self.root_sighash.as_bytes())
            .chain_update(self.root_max_size.to_be_bytes())
    }
}

/// Signs what was fed to `digest` by Ed25519ph; `context` keeps kinds of statements apart.
///
/// # Errors
/// When the context is longer than the scheme allows.
pub fn sign(key: &Key, digest: Sha512, context: &[u8]) -> Result<[u8; 64], Error> {
    let signature = key.signing().sign_prehashed(digest, Some(context));
    signature
        .map(|signature| signature.to_bytes())
        .map_err(|error| Error::Key(error.to_string()))
}

/// Whether a signature by [`sign`] is right, strictly.
pub fn verify(signer: &PublicKey, digest: Sha512, context: &[u8], signature: &[u8; 64]) -> bool {
    let signature = Signature::from_bytes(signature);
    let verified = signer
        .verifying()
        .verify_prehashed_strict(digest, Some(context), &signature);
    verified.is_ok()
}

/// Ed25519ph's context string, which keeps these signatures apart from all others of the key.
const CONTEXT: &[u8] = b"s9pk";

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap())
    }

    fn minimal() -> Commitment {
        Commitment {
            root_sighash: Hash::from(unhex(
                "29ed3323da1bb7185035a21f49de911da3521834cd406bc54b9cf49a76653318",
            )),
            root_max_size: 316,
        }
    }

    #[test]
    fn the_signature_of_the_minimal_sample_is_the_one_its_packer_wrote() {
        let key = Key::from_seed(&[0x11; 32]);
        let signature = minimal().sign(&key).unwrap();
        let expected = unhex(
            "c1707dc75ee59fc375ee09ce4d7c9a80556be7ff1492c352bd181fa91caffe90\
             faf683a525047599ae64c1ff4fb828ad7f355ed8d90491092926946697642302",
        );
        assert_eq!(signature, expected);
        minimal().verify(&key.public(), &signature).unwrap();
    }

    #[test]
    fn another_size_key_or_signature_is_refused() {
        let key = Key::from_seed(&[0x11; 32]);
        let mut signature = minimal().sign(&key).unwrap();
        let other_size = Commitment {
            root_max_size: 317,
            ..minimal()
        };
        assert!(other_size.verify(&key.public(), &signature).is_err());
        let other_key = Key::from_seed(&[0x22; 32]).public();
        assert!(minimal().verify(&other_key, &signature).is_err());
        signature[40] ^= 1;
        assert!(minimal().verify(&key.public(), &signature).is_err());
    }

    #[test]
    fn a_weak_key_is_refused() {
        // The neutral point: any message verifies against it unless the check is strict.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let weak = PublicKey::from_bytes(&neutral).unwrap();
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(minimal().verify(&weak, &signature).is_err());
    }
}
