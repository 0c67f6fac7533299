//! No input, however made, makes the reader panic, or allocate beyond what the file holds.
//!
//! Seeded and bounded: a failure names the sample and the round, and comes back every time.

use std::{fs, path::PathBuf};

use s9pk::{Archive, Key, Profile, header::Header, limits, toc};

#[test]
fn mutated_packages_never_panic() {
    let mut random = Random(0x5339_504b);
    for (name, original) in samples() {
        for _ in 0..ROUNDS {
            let mut bytes = original.clone();
            for _ in 0..=random.below(4) {
                mutate(&mut bytes, &mut random);
            }
            drive(&name, bytes);
        }
    }
}

/// The signature stops most mutations at once; with a signature made for them, they go further.
#[test]
fn mutated_and_signed_packages_never_panic() {
    let key = Key::from_seed(&[3; 32]);
    let mut random = Random(0x7369_676e);
    for (name, original) in samples() {
        let Ok(header) = Header::parse(&original[..original.len().min(155)]) else {
            continue;
        };
        let (begin, size) = (header.root_toc.position, header.root_toc.size);
        let Some(end) = begin
            .checked_add(size)
            .filter(|end| *end <= original.len() as u64)
        else {
            continue;
        };
        let table = begin as usize..end as usize;
        for _ in 0..ROUNDS {
            let mut bytes = original.clone();
            for _ in 0..=random.below(3) {
                let at = table.start + random.below(table.len().max(1) as u64) as usize;
                bytes[at] = random.interesting();
            }
            let window = &bytes[table.clone()];
            let Ok(entries) = toc::parse(window, begin, &mut Profile::lenient()) else {
                continue;
            };
            let mut header = header.clone();
            header.signer = key.public();
            header.commitment.root_sighash = toc::sighash(&entries);
            header.signature = header.commitment.sign(&key).unwrap();
            bytes[..limits::HEADER_SIZE as usize].copy_from_slice(&header.encode());
            drive(&name, bytes);
        }
    }
}

/// Everything a reader does with a file of a stranger.
fn drive(name: &str, bytes: Vec<u8>) {
    for profile in [Profile::strict(), Profile::lenient()] {
        let Ok(archive) = Archive::open_with(&bytes[..], profile) else {
            continue;
        };
        let verified = archive.verify();
        let _ = archive.validate(Some("x86_64"));
        let _ = archive.validate(None);
        for (path, entry) in archive.tree().walk() {
            let read = archive.read(&path, limits::SMALL_FILE_SIZE);
            assert!(
                read.is_err() || entry.size <= bytes.len() as u64,
                "{name}: {path}"
            );
            assert!(
                verified.is_err() || archive.extent(&path).is_err() || read.is_ok(),
                "{name}"
            );
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let length = bytes.len() as u64;
    match random.below(4) {
        0 => bytes.truncate(random.below(length + 1) as usize),
        1 => bytes.push(random.interesting()),
        _ if length > 0 => {
            // Most of what can be damaged lies at the front.
            let at = if random.below(2) == 0 {
                random.below(length.min(600))
            } else {
                random.below(length)
            };
            bytes[at as usize] = random.interesting();
        }
        _ => {}
    }
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut samples: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "s9pk")
        })
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    samples.sort();
    assert!(samples.len() > 50);
    samples
}

/// A small generator (xorshift), so that every run is the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn interesting(&mut self) -> u8 {
        match self.below(6) {
            0 => 0,
            1 => 0xff,
            2 => 0x80,
            3 => 1,
            _ => self.next() as u8,
        }
    }
}

/// Mutations of each sample: unoptimised curve arithmetic makes each cost milliseconds.
const ROUNDS: u64 = 12;
