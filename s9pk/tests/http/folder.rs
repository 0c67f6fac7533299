//! A folder for one test, and the packages in it.

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process,
};

use s9pk::{Archive, Content, Draft, Key, pack};

/// A folder that is removed in the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder of the test `name`.
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("s9pk-http-{name}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a package at `path` with two large files of `large` bytes each, one among the root's and
/// one in a folder, of noise from `seed`, or of zeros that take no place on the disk.
pub(crate) fn package(path: &Path, large: u64, seed: Option<u64>) {
    let body = path.with_extension("body");
    let file = File::create(&body).unwrap();
    match seed {
        Some(seed) => noise(&file, large, seed),
        None => file.set_len(large).unwrap(),
    }
    let sample: &[u8] = include_bytes!("../fixtures/two-arch.s9pk");
    let sample = Archive::open(sample).unwrap();
    let mut draft = Draft::default();
    for (name, _) in sample
        .tree()
        .walk()
        .filter(|(name, _)| sample.has_file(name))
    {
        let content = match name.as_str() {
            "javascript.squashfs" | "images/x86_64/main.squashfs" => Content::File(body.clone()),
            _ => Content::Bytes(sample.read(&name, 1 << 20).unwrap()),
        };
        draft.add(&name, content).unwrap();
    }
    let mut out = Holes(File::create(path).unwrap());
    pack(&draft, &Key::from_seed(&[7; 32]), &mut out).unwrap();
    let length = out.0.stream_position().unwrap();
    out.0.set_len(length).unwrap();
    fs::remove_file(body).unwrap();
}

/// Whether two files hold the same bytes.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = one.read(&mut left).unwrap();
        if count == 0 {
            return other.read(&mut right).unwrap() == 0;
        }
        let matched = other.read_exact(&mut right[..count]).is_ok();
        if !matched || left[..count] != right[..count] {
            return false;
        }
    }
}

/// A sequence of numbers that is the same each time.
pub(crate) struct Random(u64);

impl Random {
    /// Begins the sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// `count` numbers below `end`, in order.
    pub(crate) fn places(&mut self, count: usize, end: u64) -> Vec<u64> {
        let mut places: Vec<_> = (0..count).map(|_| self.next() % end).collect();
        places.sort_unstable();
        places
    }
}

fn noise(file: &File, length: u64, seed: u64) {
    let mut random = Random::new(seed);
    let block: Vec<u8> = (0..1 << 17)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    let mut at = 0;
    while at < length {
        let part = &block[..(length - at).min(block.len() as u64) as usize];
        file.write_all_at(part, at).unwrap();
        // Each block is another, so that none can stand for another.
        file.write_all_at(&at.to_le_bytes(), at).unwrap();
        at += part.len() as u64;
    }
}

/// Leaves out what is nothing but zeros.
struct Holes(File);

impl Write for Holes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() < 4096 || bytes.iter().any(|byte| *byte != 0) {
            return self.0.write(bytes);
        }
        self.0.seek_relative(bytes.len() as i64)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Holes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}
