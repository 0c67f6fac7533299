//! Tables behind a valid signature, which anyone can make: the fuzzer writes the root's table and
//! what follows, hash and signature are made for it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::{Archive, Commitment, Extent, Key, Profile, header::Header, toc};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, body)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let size = usize::from(u16::from_be_bytes(*size)).min(body.len());
    let Ok(entries) = toc::parse(&body[..size], POSITION, &mut Profile::lenient()) else {
        return;
    };
    let commitment = Commitment {
        root_sighash: toc::sighash(&entries),
        root_max_size: size as u64,
    };
    let key = Key::from_seed(&[1; 32]);
    let header = Header {
        signer: key.public(),
        signature: commitment.sign(&key).expect("a context of four bytes is short enough"),
        commitment,
        root_toc: Extent {
            position: POSITION,
            size: size as u64,
        },
    };
    let mut file = header.encode();
    file.extend_from_slice(body);
    for profile in [Profile::strict(), Profile::lenient()] {
        if let Ok(archive) = Archive::open_with(&file[..], profile) {
            let _ = archive.verify();
            let _ = archive.validate(Some("x86_64"));
        }
    }
});

/// Right behind the header.
const POSITION: u64 = 155;
