//! The seal: a fixed number of bytes after a program, which the kernel does not look at when it
//! executes the file. So a sealed program is one file that runs as it is, and the bytes that are
//! verified are those that run.
//!
//! {program} {magic: 16} {signer: 32} {signature: 64}, the signature by Ed25519ph over the program
//! with a context of its own: no package's signature is ever one of a program.

use s9pk::{Key, PublicKey, sign};
use sha2::{Digest as _, Sha512};

/// A program whose seal is right.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// The program without its seal.
    pub program: &'a [u8],
    /// Who sealed it: one of the trusted.
    pub signer: PublicKey,
}

/// Why a file is not believed, as a sentence.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    /// Nobody is trusted.
    #[error(
        "this box trusts no release key, so it takes no program; its root should list one in {}",
        crate::TRUSTED
    )]
    NoKeys,
    /// There is no seal.
    #[error("it is not signed; `pilot init sign` does that")]
    Unsigned,
    /// A seal by somebody else.
    #[error("it is signed with the key {signer}, which this box does not trust")]
    Stranger {
        /// The key it names.
        signer: String,
    },
    /// The signature is not one of this program.
    #[error("its signature is wrong: it was changed after it was signed")]
    Wrong,
    /// A line of the list is no key.
    #[error("the list of release keys has a line that is no key: {line:?}")]
    Key {
        /// The line.
        line: String,
    },
    /// The key can't sign.
    #[error("it can't be signed: {why}")]
    Signing {
        /// Why.
        why: String,
    },
}

/// The program with a seal by `key`, in place of the seal that it may have.
///
/// # Errors
/// When the key can't sign.
pub fn seal(file: &[u8], key: &Key) -> Result<Vec<u8>, SealError> {
    let program = split(file).map_or(file, |(program, ..)| program);
    let signature = sign::sign(key, Sha512::new_with_prefix(program), CONTEXT);
    let signature = signature.map_err(|e| SealError::Signing { why: e.to_string() })?;
    let signer = key.public();
    let parts: [&[u8]; 4] = [program, MAGIC, signer.as_bytes(), &signature];
    Ok(parts.concat())
}

/// Checks a file's seal, strictly.
///
/// # Errors
/// When it has none, or not one of a key that is `trusted`.
pub fn open<'a>(file: &'a [u8], trusted: &[PublicKey]) -> Result<Sealed<'a>, SealError> {
    if trusted.is_empty() {
        return Err(SealError::NoKeys);
    }
    let (program, signer, signature) = split(file).ok_or(SealError::Unsigned)?;
    let known = trusted.iter().find(|key| key.as_bytes() == signer);
    let Some(signer) = known else {
        let signer = signer.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(SealError::Stranger { signer });
    };
    match sign::verify(signer, Sha512::new_with_prefix(program), CONTEXT, signature) {
        true => Ok(Sealed {
            program,
            signer: *signer,
        }),
        false => Err(SealError::Wrong),
    }
}

/// Reads a list of keys: one a line; empty lines and what follows `#` say nothing.
///
/// # Errors
/// When a line is none: a list that is half understood is not believed.
pub fn keys(list: &str) -> Result<Vec<PublicKey>, SealError> {
    let lines = list
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            line.parse().map_err(|_| SealError::Key {
                line: line.chars().take(80).collect(),
            })
        })
        .collect()
}

type Split<'a> = (&'a [u8], &'a [u8; 32], &'a [u8; 64]);

fn split(file: &[u8]) -> Option<Split<'_>> {
    let (rest, signature) = file.split_last_chunk::<64>()?;
    let (rest, signer) = rest.split_last_chunk::<32>()?;
    let program = rest.strip_suffix(MAGIC)?;
    Some((program, signer, signature))
}

const MAGIC: &[u8; 16] = b"pilotlight-seal1";
const CONTEXT: &[u8] = b"pilotlight-init";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> Key {
        Key::from_seed(&[seed; 32])
    }

    #[test]
    fn a_sealed_program_is_opened_and_may_be_sealed_anew() {
        let once = seal(b"program", &key(1)).unwrap();
        assert!(once.starts_with(b"program"));
        let opened = open(&once, &[key(2).public(), key(1).public()]).unwrap();
        assert_eq!(
            (opened.program, opened.signer),
            (&b"program"[..], key(1).public())
        );
        let again = seal(&once, &key(2)).unwrap();
        assert_eq!(again.len(), once.len());
        assert_eq!(
            open(&again, &[key(2).public()]).unwrap().program,
            b"program"
        );
    }

    #[test]
    fn what_is_not_sealed_by_a_trusted_key_is_refused() {
        let sealed = seal(b"program", &key(1)).unwrap();
        let trusted = [key(1).public()];
        assert_eq!(open(&sealed, &[]).unwrap_err(), SealError::NoKeys);
        assert_eq!(open(b"program", &trusted).unwrap_err(), SealError::Unsigned);
        assert_eq!(open(b"", &trusted).unwrap_err(), SealError::Unsigned);
        assert!(matches!(
            open(&sealed, &[key(2).public()]).unwrap_err(),
            SealError::Stranger { .. }
        ));
    }

    #[test]
    fn no_byte_of_it_may_be_changed_added_or_left_out() {
        let sealed = seal(b"program", &key(1)).unwrap();
        let trusted = [key(1).public()];
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(&changed, &trusted).is_err(), "byte {at}");
            assert!(
                open(&sealed[at..], &trusted).is_err() || at == 0,
                "from {at}"
            );
            assert!(open(&sealed[..at], &trusted).is_err(), "up to {at}");
        }
        let longer = [b"x", &sealed[..]].concat();
        assert_eq!(open(&longer, &trusted).unwrap_err(), SealError::Wrong);
    }

    #[test]
    fn a_signature_for_something_else_is_none() {
        let signature = sign::sign(&key(1), Sha512::new_with_prefix(b"program"), b"s9pk").unwrap();
        let signer = key(1).public();
        let parts: [&[u8]; 4] = [b"program", MAGIC, signer.as_bytes(), &signature];
        let wrong = open(&parts.concat(), &[signer]).unwrap_err();
        assert_eq!(wrong, SealError::Wrong);
    }

    #[test]
    fn a_list_of_keys_is_read_whole_or_not_at_all() {
        let list = format!(
            "# ours\n{}\n\n{} # next\n",
            key(1).public(),
            key(2).public()
        );
        assert_eq!(keys(&list).unwrap(), [key(1).public(), key(2).public()]);
        assert!(keys("").unwrap().is_empty());
        assert!(matches!(keys("hello"), Err(SealError::Key { .. })));
    }
}
