//! The writer: places tables and bodies as the format's own packer does, byte for byte.
//!
//! Sizes are known before contents are read, so places are too: bodies are hashed while they are
//! copied to theirs, tables and header are written over the gap in front of them at the end.

mod plan;

use std::io::{Read, Seek, SeekFrom, Write};

pub(crate) use self::plan::Order;
use self::plan::Plan;
use crate::{
    draft::{Content, Draft},
    error::Error,
    hash::Hash,
    header::Header,
    key::{Key, PublicKey},
    sign::Commitment,
    toc::Kind,
};

/// Writes the package of `draft` to `out` from its start, signed with `key`.
///
/// Equal drafts and keys give equal bytes. Says what was signed.
///
/// # Errors
/// When something can't be read or written, changes meanwhile, or breaks a limit of the format.
pub fn pack<W: Write + Seek>(
    draft: &Draft<'_>,
    key: &Key,
    out: &mut W,
) -> Result<Commitment, Error> {
    let sign = |commitment: &Commitment| Ok((key.public(), commitment.sign(key)?));
    write(draft, sign, out)
}

/// As [`pack`], for any source of the signature.
pub(crate) fn write<W: Write + Seek>(
    draft: &Draft<'_>,
    sign: impl FnOnce(&Commitment) -> Result<(PublicKey, [u8; 64]), Error>,
    out: &mut W,
) -> Result<Commitment, Error> {
    let mut plan = Plan::new(draft)?;
    plan.copy_bodies(out)?;
    plan.seal();
    let root = plan.root();
    let Kind::Directory { toc: root_toc } = root.kind else {
        unreachable!("a plan's first place is the root directory");
    };
    let commitment = Commitment {
        root_sighash: root.hash,
        root_max_size: root.size,
    };
    let (signer, signature) = sign(&commitment)?;
    let header = Header {
        signer,
        signature,
        commitment,
        root_toc,
    };
    put(out, 0, &header.encode())?;
    plan.write_tables(out)?;
    out.seek(SeekFrom::Start(plan.end()))
        .map_err(Error::io(WRITING))?;
    out.flush().map_err(Error::io(WRITING))?;
    Ok(commitment)
}

fn copy(
    path: &str,
    content: &Content<'_>,
    size: u64,
    out: &mut impl Write,
    buffer: &mut [u8],
) -> Result<Hash, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut input = content.open()?;
    let mut copied = 0;
    loop {
        let count = input
            .read(buffer)
            .map_err(Error::io(format!("reading {path}")))?;
        copied += count as u64;
        if copied > size || (count == 0 && copied < size) {
            let path = path.to_owned();
            return Err(Error::Changed {
                path,
                expected: size,
            });
        }
        if count == 0 {
            let hash = hasher.finalize().into();
            return content.expect(path, hash).map(|()| hash);
        }
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count])
            .map_err(Error::io(WRITING))?;
    }
}

fn put<W: Write + Seek>(out: &mut W, position: u64, bytes: &[u8]) -> Result<(), Error> {
    out.seek(SeekFrom::Start(position))
        .and_then(|_| out.write_all(bytes))
        .map_err(Error::io(WRITING))
}

const WRITING: &str = "writing the package";
