//! The fixed 155 bytes a package begins with: who signed it, what, and where the root's table is.

use crate::{
    bytes::Cursor, error::Error, hash::Hash, key::PublicKey, limits, sign::Commitment,
    source::Extent,
};

/// A package's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The key that the package says it is signed with. Anyone can sign: whose key it is, others
    /// must know.
    pub signer: PublicKey,
    /// The signature over the commitment.
    pub signature: [u8; 64],
    /// What is signed.
    pub commitment: Commitment,
    /// Where the root's table lies. Not signed.
    pub root_toc: Extent,
}

impl Header {
    /// Parses the first bytes of a file, all of [`limits::HEADER_SIZE`] if it has as many. Says
    /// what the file is if it is something else. Does not check the signature.
    pub fn parse(start: &[u8]) -> Result<Self, Error> {
        check_magic(start)?;
        let size = limits::HEADER_SIZE;
        let length = start.len() as u64;
        Extent { position: 0, size }.within(length, "the header")?;
        let mut cursor = Cursor::new(&start[MAGIC.len()..], MAGIC.len() as u64);
        Ok(Self {
            signer: PublicKey::from_bytes(&cursor.array()?)?,
            signature: cursor.array()?,
            commitment: Commitment {
                root_sighash: Hash::from(cursor.array()?),
                root_max_size: cursor.number()?,
            },
            root_toc: Extent {
                position: cursor.number()?,
                size: cursor.number()?,
            },
        })
    }

    /// Checks the signature, and the signed size of the root's table.
    pub fn verify(&self) -> Result<(), Error> {
        self.commitment.verify(&self.signer, &self.signature)?;
        let size = self.commitment.root_max_size;
        if size > limits::ROOT_MAX_SIZE {
            return Err(Error::TocTooLarge {
                path: "the root".to_owned(),
                position: self.root_toc.position,
                size,
                limit: limits::ROOT_MAX_SIZE,
                reason: "the format's own limit",
            });
        }
        Ok(())
    }

    /// The bytes to begin the file with.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(limits::HEADER_SIZE as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(self.signer.as_bytes());
        bytes.extend_from_slice(&self.signature);
        bytes.extend_from_slice(self.commitment.root_sighash.as_bytes());
        bytes.extend_from_slice(&self.commitment.root_max_size.to_be_bytes());
        bytes.extend_from_slice(&self.root_toc.position.to_be_bytes());
        bytes.extend_from_slice(&self.root_toc.size.to_be_bytes());
        bytes
    }
}

fn check_magic(start: &[u8]) -> Result<(), Error> {
    if start.starts_with(&MAGIC) {
        return Ok(());
    }
    match start {
        [b';', b';', 1, ..] => Err(Error::OldFormat),
        [b';', b';', version, ..] => Err(Error::UnknownFormat(*version)),
        _ => {
            let known = FOREIGN
                .iter()
                .find(|(magic, _, _)| start.starts_with(magic));
            let (what, remedy) = match known {
                Some((_, what, remedy)) => (*what, *remedy),
                None if start.len() < MAGIC.len() => {
                    ("an empty or nearly empty file", "fetch it again")
                }
                None => ("something else", "check that it is the right file"),
            };
            Err(Error::NotAPackage { what, remedy })
        }
    }
}

/// Two semicolons and the format's version.
const MAGIC: [u8; 3] = [b';', b';', 2];

/// What people upload by mistake, by its first bytes.
const FOREIGN: [(&[u8], &str, &str); 6] = [
    (
        b"PK\x03\x04",
        "a zip archive",
        "unpack it first, the package is inside",
    ),
    (b"\x1f\x8b", "a gzip file", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first"),
    (b"\xfd7zXZ", "an xz file", "unpack it first"),
    (
        b"hsqs",
        "a squashfs image",
        "pack it with `pilot s9pk pack`",
    ),
    (
        b"<",
        "a web page",
        "the download failed or needs a login, fetch it again",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &[u8] = include_bytes!("../tests/fixtures/minimal.s9pk");

    #[test]
    fn a_header_is_written_as_it_was_read() {
        let header = Header::parse(&MINIMAL[..155]).unwrap();
        assert_eq!(
            header.root_toc,
            Extent {
                position: 155,
                size: 316
            }
        );
        header.verify().unwrap();
        assert_eq!(header.encode(), &MINIMAL[..155]);
    }

    #[test]
    fn what_is_no_package_is_named_with_the_remedy() {
        let zip = Header::parse(b"PK\x03\x04rest").unwrap_err().to_string();
        assert!(
            zip.contains("zip archive") && zip.contains("unpack"),
            "{zip}"
        );
        assert!(matches!(
            Header::parse(b";;\x01...."),
            Err(Error::OldFormat)
        ));
        assert!(matches!(
            Header::parse(b";;\x03...."),
            Err(Error::UnknownFormat(3))
        ));
        assert!(matches!(Header::parse(b""), Err(Error::NotAPackage { .. })));
        assert!(matches!(
            Header::parse(&MINIMAL[..100]),
            Err(Error::Truncated { .. })
        ));
    }
}
