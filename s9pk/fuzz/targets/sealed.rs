//! Tables behind a valid signature, which anyone can make: the fuzzer writes the tables and what
//! follows; hashes and signature are made for them, so that no check of those ends it early.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::{
    Archive, Commitment, Extent, Hash, Key, Profile,
    header::Header,
    toc::{self, Kind},
};
use s9pk_fuzz::bounded;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, body)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let size = usize::from(u16::from_be_bytes(*size)).min(body.len());
    let mut file = vec![0; POSITION];
    file.extend_from_slice(body);
    let root_toc = Extent {
        position: POSITION as u64,
        size: size as u64,
    };
    let Some(root_sighash) = seal(&mut file, root_toc, 0) else {
        return;
    };
    sign(&mut file, root_toc, root_sighash);
    for profile in [Profile::strict(), Profile::lenient()] {
        bounded(file.len(), || {
            if let Ok(archive) = Archive::open_with(&file[..], profile) {
                let _ = archive.verify();
                let _ = archive.validate(Some("x86_64"));
            }
        });
    }
});

/// Puts the right hashes into the table at `place` and those below it; the table's own sighash.
fn seal(file: &mut [u8], place: Extent, depth: usize) -> Option<Hash> {
    let end = place.end().filter(|end| *end <= file.len() as u64)?;
    let window = place.position as usize..end as usize;
    let mut profile = Profile::lenient();
    let mut entries = toc::parse(&file[window.clone()], place.position, &mut profile).ok()?;
    for entry in entries.iter_mut().take(WIDTH) {
        let hash = match entry.kind {
            Kind::Missing => None,
            Kind::File { position } => {
                let bytes = file.get(position.try_into().ok()?..);
                let bytes = bytes.and_then(|bytes| bytes.get(..entry.size.try_into().ok()?));
                bytes.map(Hash::of)
            }
            Kind::Directory { toc } if depth < DEPTH => seal(file, toc, depth + 1),
            Kind::Directory { .. } => None,
        };
        entry.hash = hash.unwrap_or(entry.hash);
    }
    let table = toc::encode(entries.iter());
    // Duplicates and odd numbers make it shorter: then it stays as the fuzzer wrote it.
    if table.len() == window.len() {
        file[window].copy_from_slice(&table);
        return Some(toc::sighash(&entries));
    }
    let entries = toc::parse(&file[window], place.position, &mut profile).ok()?;
    Some(toc::sighash(&entries))
}

fn sign(file: &mut [u8], root_toc: Extent, root_sighash: Hash) {
    let commitment = Commitment {
        root_sighash,
        root_max_size: root_toc.size,
    };
    let key = Key::from_seed(&[1; 32]);
    let header = Header {
        signer: key.public(),
        signature: commitment
            .sign(&key)
            .expect("a context of four bytes is short enough"),
        commitment,
        root_toc,
    };
    file[..POSITION].copy_from_slice(&header.encode());
}

/// Right behind the header.
const POSITION: usize = 155;
/// Levels of tables that are sealed, at most: one more than a package may have.
const DEPTH: usize = 9;
/// Entries of a table that are sealed, at most: the fuzzer's time is for tables, not for hashing.
const WIDTH: usize = 24;
