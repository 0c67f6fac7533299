//! Signed requests to a registry: the header `X-StartOS-Auth-Sig`.
//!
//! Signed are time, nonce, and size and hash of the body, for one registry by its host name. URL,
//! method and other headers are not covered.

use base64ct::{Base64Unpadded, Encoding as _};
use ed25519_dalek::pkcs8::spki::der::pem::{self, LineEnding};
use sha2::{Digest, Sha512};

use crate::{
    error::Error,
    hash::Hash,
    key::{Key, PublicKey},
    sign,
};

/// The header's name.
pub const HEADER: &str = "X-StartOS-Auth-Sig";

/// What is signed of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Seconds since 1970; a registry takes 30 s more or less than its own.
    pub timestamp: i64,
    /// Never the same twice within that time.
    pub nonce: u64,
    /// The body's length in bytes.
    pub size: u64,
    /// The body's hash.
    pub hash: Hash,
}

impl Request {
    /// What is to be signed of a request with this body.
    pub fn of(body: &[u8], timestamp: i64, nonce: u64) -> Self {
        Self {
            timestamp,
            nonce,
            size: body.len() as u64,
            hash: Hash::of(body),
        }
    }

    /// Signs it for the registry with this host name.
    pub fn sign(&self, key: &Key, host: &str) -> Result<[u8; 64], Error> {
        sign::sign(key, self.digest(), host.as_bytes())
    }

    /// Whether `signer` signed it for the registry with this host name.
    pub fn is_signed_by(&self, signer: &PublicKey, host: &str, signature: &[u8; 64]) -> bool {
        sign::verify(signer, self.digest(), host.as_bytes(), signature)
    }

    /// The header's value, signed.
    pub fn header(&self, key: &Key, host: &str) -> Result<String, Error> {
        let signature = signature_pem(&self.sign(key, host)?)?;
        let (signer, hash) = (
            key.public().to_pem()?,
            Base64Unpadded::encode_string(self.hash.as_bytes()),
        );
        let Self {
            timestamp,
            nonce,
            size,
            ..
        } = self;
        Ok(format!(
            "timestamp={timestamp}&nonce={nonce}&size={size}&blake3={}&signer={}&signature={}",
            form(&hash),
            form(&signer),
            form(&signature)
        ))
    }

    fn digest(&self) -> Sha512 {
        Sha512::new()
            .chain_update(self.timestamp.to_be_bytes())
            .chain_update(self.nonce.to_be_bytes())
            .chain_update(self.size.to_be_bytes())
            .chain_update(self.hash.as_bytes())
    }
}

/// A signature as the registry writes it: Ed25519's identifier and the bytes, in DER, in PEM.
pub fn signature_pem(signature: &[u8; 64]) -> Result<String, Error> {
    const DER: [u8; 11] = *b"\x30\x49\x30\x05\x06\x03\x2b\x65\x70\x04\x40";
    let der = [&DER[..], signature].concat();
    pem::encode_string("SIGNATURE", LineEnding::LF, &der)
        .map_err(|error| Error::Key(error.to_string()))
}

/// As forms write it: spaces become `+`, all that is not plain is escaped.
fn form(text: &str) -> String {
    let escaped = text.bytes().map(|byte| match byte {
        b' ' => "+".to_owned(),
        b'*' | b'-' | b'.' | b'_' => (byte as char).to_string(),
        _ if byte.is_ascii_alphanumeric() => (byte as char).to_string(),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = include_bytes!("../tests/fixtures/auth-body-example.json");
    const HEADER: &str = include_str!("../tests/fixtures/auth-header-example.txt");
    const HOST: &str = "registry.example.com";

    #[test]
    fn the_header_is_the_one_that_the_registrys_own_client_sends() {
        let key = Key::from_seed(&[0x11; 32]);
        let request = Request::of(BODY, 1_767_225_600, 42);
        assert_eq!(request.size, 59);
        let signature = request.sign(&key, HOST).unwrap();
        let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "e9f00bd056f1602737aa0a1891da9d2d10816086c74a4626a0086e7fbfc34223\
             d1d51c5e34fe1a790106db19bc52ea5ea1949ef9da9a01dae6306c435e367f08"
        );
        assert_eq!(request.header(&key, HOST).unwrap(), HEADER.trim_end());
    }

    #[test]
    fn another_time_body_or_registry_is_not_what_was_signed() {
        let key = Key::from_seed(&[0x11; 32]);
        let request = Request::of(BODY, 1_767_225_600, 42);
        let signature = request.sign(&key, HOST).unwrap();
        let signed = |request: Request, host| request.is_signed_by(&key.public(), host, &signature);
        assert!(signed(request, HOST));
        assert!(!signed(request, "other.example.com"));
        for other in [
            Request::of(BODY, 1_767_225_601, 42),
            Request::of(BODY, 1_767_225_600, 43),
            Request::of(b"{}", 1_767_225_600, 42),
        ] {
            assert!(!signed(other, HOST));
        }
    }
}
