//! The table of contents of one directory: parsing, checking names, writing.

use crate::{
    bytes::Cursor,
    error::Error,
    hash::{self, Hash},
    limits,
    profile::{Deviation, Profile},
    source::Extent,
    varint,
};

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One path segment.
    pub name: String,
    /// A file's hash, a directory's sighash.
    pub hash: Hash,
    /// A file's length, the signed size of a directory's table; in bytes.
    pub size: u64,
    /// What it is. Not covered by the signature.
    pub kind: Kind,
}

/// What an entry is, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Left out of this file; whether it was a file or a directory is not recorded.
    Missing,
    /// A file, whose content begins at `position`.
    File {
        /// Offset from the file's start.
        position: u64,
    },
    /// A directory.
    Directory {
        /// Where its table lies.
        toc: Extent,
    },
}

impl Entry {
    /// How many bytes its line in the table takes.
    pub fn line_size(&self) -> u64 {
        let name = self.name.len() as u64;
        let tail = match self.kind {
            Kind::Missing => 0,
            Kind::File { .. } => 8,
            Kind::Directory { .. } => 16,
        };
        varint::size(name) + name + 41 + tail
    }
}

/// Parses the table in `window`, which lies at byte `offset`. The entries come sorted by name.
pub fn parse(window: &[u8], offset: u64, profile: &mut Profile) -> Result<Vec<Entry>, Error> {
    let mut cursor = Cursor::new(window, offset);
    let count = varint::decode(&mut cursor, profile)?;
    if count > cursor.left() / limits::SMALLEST_ENTRY {
        let problem = "it claims more entries than fit into it";
        return Err(Error::Toc { offset, problem });
    }
    let mut entries = Vec::with_capacity(count as usize);
    for _ in 0..count {
        entries.push(parse_entry(&mut cursor, profile)?);
    }
    if cursor.left() > 0 {
        let (offset, count) = (cursor.offset(), cursor.left());
        profile.deviates(Deviation::TocRest { offset, count })?;
    }
    sort(&mut entries, offset, profile)?;
    Ok(entries)
}

/// The sighash of a directory with these entries, sorted by name.
pub fn sighash(entries: &[Entry]) -> Hash {
    let lines = entries.iter();
    hash::sighash(lines.map(|entry| (entry.name.as_str(), entry.hash, entry.size)))
}

/// The size in bytes of a table with these entries.
pub fn size<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>) -> u64 {
    varint::size(entries.len() as u64) + entries.map(Entry::line_size).sum::<u64>()
}

/// Writes the table with the entries in the order given.
pub fn encode<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    varint::encode(entries.len() as u64, &mut out);
    for entry in entries {
        varint::encode(entry.name.len() as u64, &mut out);
        out.extend_from_slice(entry.name.as_bytes());
        out.extend_from_slice(entry.hash.as_bytes());
        out.extend_from_slice(&entry.size.to_be_bytes());
        match entry.kind {
            Kind::Missing => out.push(MISSING),
            Kind::File { position } => {
                out.push(FILE);
                out.extend_from_slice(&position.to_be_bytes());
            }
            Kind::Directory { toc } => {
                out.push(DIRECTORY);
                out.extend_from_slice(&toc.position.to_be_bytes());
                out.extend_from_slice(&toc.size.to_be_bytes());
            }
        }
    }
    out
}

/// What is wrong with `name` as one path segment, if anything.
pub fn name_problem(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("a name can't be empty"),
        "." | ".." => Some("a name can't mean a directory"),
        _ if name.contains('/') => Some("a name can't hold a slash"),
        // NUL ends names in the kernel, escape sequences steer the terminal they are shown on.
        _ if name.contains(char::is_control) => Some("a name can't hold control characters"),
        _ if name.len() > limits::NAME_SIZE => Some("a name can't have more than 255 bytes"),
        _ => None,
    }
}

fn parse_entry(cursor: &mut Cursor<'_>, profile: &mut Profile) -> Result<Entry, Error> {
    let name = parse_name(cursor, profile)?;
    let hash = cursor.hash()?;
    let size = cursor.number()?;
    let offset = cursor.offset();
    let kind = match cursor.byte()? {
        MISSING => Kind::Missing,
        FILE => Kind::File {
            position: cursor.number()?,
        },
        DIRECTORY => Kind::Directory {
            toc: Extent {
                position: cursor.number()?,
                size: cursor.number()?,
            },
        },
        _ => {
            let problem = "an entry is neither file nor directory nor missing";
            return Err(Error::Toc { offset, problem });
        }
    };
    Ok(Entry {
        name,
        hash,
        size,
        kind,
    })
}

fn parse_name(cursor: &mut Cursor<'_>, profile: &mut Profile) -> Result<String, Error> {
    let offset = cursor.offset();
    let size = varint::decode(cursor, profile)?.min(cursor.left() + 1);
    let bytes = cursor.take(size as usize)?;
    let Ok(name) = std::str::from_utf8(bytes) else {
        let problem = "an entry's name is not UTF-8";
        return Err(Error::Toc { offset, problem });
    };
    if name.len() > limits::NAME_SIZE {
        let problem = "an entry's name has more than 255 bytes";
        return Err(Error::Toc { offset, problem });
    }
    if let Some(problem) = name_problem(name) {
        profile.deviates(Deviation::Name {
            offset,
            name: name.to_owned(),
            problem,
        })?;
    }
    Ok(name.to_owned())
}

/// Sorts by name. Of two entries with one name the later stays, as the format's own reader has it.
fn sort(entries: &mut Vec<Entry>, offset: u64, profile: &mut Profile) -> Result<(), Error> {
    entries.reverse();
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    let twice = entries.windows(2).find(|pair| pair[0].name == pair[1].name);
    if let Some(pair) = twice {
        let name = pair[0].name.clone();
        profile.deviates(Deviation::Duplicate { offset, name })?;
    }
    entries.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(())
}

const MISSING: u8 = 0;
const FILE: u8 = 1;
const DIRECTORY: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &[u8] = include_bytes!("../tests/fixtures/minimal.s9pk");

    fn entry(name: &str, kind: Kind) -> Entry {
        Entry {
            name: name.to_owned(),
            hash: Hash::of(name.as_bytes()),
            size: 9,
            kind,
        }
    }

    #[test]
    fn the_root_of_the_minimal_sample_is_written_as_it_was_read() {
        let window = &MINIMAL[155..155 + 316];
        let entries = parse(window, 155, &mut Profile::strict()).unwrap();
        assert_eq!(entries.len(), 5);
        assert_eq!(size(entries.iter()), 316);
        assert_eq!(encode(entries.iter()), window);
    }

    #[test]
    fn every_kind_has_the_size_foretold() {
        let toc = Extent {
            position: 1,
            size: 2,
        };
        for kind in [
            Kind::Missing,
            Kind::File { position: 5 },
            Kind::Directory { toc },
        ] {
            let entries = [entry("a", kind)];
            let bytes = encode(entries.iter());
            assert_eq!(bytes.len() as u64, size(entries.iter()));
            assert_eq!(parse(&bytes, 0, &mut Profile::strict()).unwrap(), entries);
        }
    }

    #[test]
    fn the_later_of_two_equal_names_stays_when_lenient() {
        let entries = [
            entry("a", Kind::File { position: 1 }),
            entry("b", Kind::Missing),
            entry("a", Kind::File { position: 2 }),
        ];
        let bytes = encode(entries.iter());
        let mut lenient = Profile::lenient();
        let read = parse(&bytes, 0, &mut lenient).unwrap();
        assert_eq!(read[0].kind, Kind::File { position: 2 });
        assert_eq!((read.len(), lenient.deviations().len()), (2, 1));
        assert!(parse(&bytes, 0, &mut Profile::strict()).is_err());
    }

    #[test]
    fn unsafe_names_are_refused() {
        for name in ["", ".", "..", "a/b", "a\0b", "\x1b[2J", &"x".repeat(256)] {
            let bytes = encode([entry(name, Kind::Missing)].iter());
            assert!(
                parse(&bytes, 0, &mut Profile::strict()).is_err(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn more_entries_claimed_than_fit_are_refused_before_anything_is_allocated() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3];
        assert!(parse(&bytes, 0, &mut Profile::lenient()).is_err());
    }

    #[test]
    fn a_name_longer_than_the_table_is_refused() {
        let mut bytes = vec![1];
        varint::encode(u64::MAX, &mut bytes);
        bytes.resize(100, b'x');
        assert!(parse(&bytes, 0, &mut Profile::lenient()).is_err());
    }
}
