//! Files are verified on several threads, in parts: every size and every damage is seen all the same.

mod crafted;

use std::sync::atomic::{AtomicU64, Ordering};

use crafted::{Node, manifest, package};
use s9pk::{Archive, Error, Hash};

/// Sizes around those of a hash's chunk, of what is read at once, and of what threads are for.
const SIZES: [usize; 12] = [
    0,
    1,
    1024,
    1025,
    (128 << 10) - 1,
    128 << 10,
    (128 << 10) + 1,
    (256 << 10) + 1,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1025,
    (3 << 20) + 12_345,
];

fn content(size: usize) -> Vec<u8> {
    (0..size)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

fn whole() -> Vec<u8> {
    let file = |size| (format!("f{size}"), Node::File(content(size)));
    package(SIZES.map(file).into_iter().chain([manifest()]).collect())
}

#[test]
fn files_of_every_size_are_verified() {
    let archive = Archive::open(whole()).unwrap();
    let told = AtomicU64::new(0);
    archive
        .verify_with(|done| told.store(done, Ordering::Relaxed))
        .unwrap();
    let total: u64 = archive.tree().walk().map(|(_, entry)| entry.size).sum();
    assert_eq!(told.into_inner(), total);
    for size in SIZES {
        let bytes = archive.read(&format!("f{size}"), u64::MAX).unwrap();
        assert_eq!(Hash::of(&bytes), Hash::of(&content(size)));
    }
}

#[test]
fn damage_is_seen_wherever_it_is_and_the_first_is_named() {
    let mut file = whole();
    let archive = Archive::open(file.clone()).unwrap();
    let places = SIZES.into_iter().filter(|size| *size > 0).map(|size| {
        let path = format!("f{size}");
        let position = archive.extent(&path).unwrap().position as usize;
        (path, position, size)
    });
    for (wanted, position, size) in places {
        for at in [0, size / 2, size - 1] {
            file[position + at] ^= 1;
            let refused = Archive::open(&file[..]).unwrap().verify();
            assert!(
                matches!(&refused, Err(Error::FileHash { path, .. }) if *path == wanted),
                "byte {at} of {wanted}: {refused:?}"
            );
            file[position + at] ^= 1;
        }
    }
    Archive::open(&file[..]).unwrap().verify().unwrap();
    let last = archive.extent(&format!("f{}", SIZES[11])).unwrap().position as usize;
    let first = archive.extent(&format!("f{}", SIZES[10])).unwrap().position as usize;
    file[last] ^= 1;
    file[first] ^= 1;
    let refused = Archive::open(&file[..]).unwrap().verify();
    // By name, as the tree is: `f1049601` comes before `f3158073`.
    assert!(matches!(refused, Err(Error::FileHash { path, .. }) if path == "f1049601"));
}

#[test]
fn a_source_that_shrinks_is_an_error() {
    struct Shrunk(Vec<u8>, usize);
    impl s9pk::ReadAt for Shrunk {
        fn size(&self) -> std::io::Result<u64> {
            self.0.size()
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
            match offset as usize + buffer.len() > self.1 && buffer.len() == 128 << 10 {
                true => Err(std::io::ErrorKind::UnexpectedEof.into()),
                false => self.0.read_exact_at(buffer, offset),
            }
        }
    }
    let file = whole();
    let half = file.len() / 2;
    let refused = Archive::open(Shrunk(file, half)).unwrap().verify();
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
}
