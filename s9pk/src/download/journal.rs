//! The record of a download: what of the file is there, what is verified, and what of that has
//! reached the disk. Lines of JSON, each behind its checksum; no I/O but reading them.
//!
//! Records are appended as things happen. [`Record::Synced`] follows once all before it, and the
//! bytes that it speaks of, are durable. After the death of a process everything counts, as the
//! kernel still has it; after a power loss, which shows in another boot's id, only what comes
//! before the last `Synced`.

use std::io::{self, BufRead, Read as _};

use serde::{Deserialize, Serialize};

use crate::{coverage::Coverage, hash::Hash};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Record {
    /// A download began, into the file with this inode number.
    Begin {
        format: u32,
        length: u64,
        inode: u64,
    },
    /// A process took it on, in this boot of the machine.
    Session { boot: String },
    /// Bytes were written.
    Present(u64, u64),
    /// Bytes are what was signed.
    Verified(u64, u64),
    /// Bytes turned out wrong.
    Dropped(u64, u64),
    /// All of the above is durable.
    Synced,
}

/// What a journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) length: u64,
    pub(super) inode: u64,
    pub(super) present: Coverage,
    pub(super) verified: Coverage,
}

impl State {
    pub(super) fn apply(&mut self, record: &Record) {
        match *record {
            Record::Present(start, end) => self.present.add(start..end),
            Record::Verified(start, end) => self.verified.add(start..end),
            Record::Dropped(start, end) => {
                self.present.remove(start..end);
                self.verified.remove(start..end);
            }
            Record::Begin { .. } | Record::Session { .. } | Record::Synced => {}
        }
    }
}

/// The line for a record.
pub(super) fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{} {json}\n", checksum(json.as_bytes())).into_bytes())
}

/// Reads a journal in boot `boot`: what it says, and how many bytes of it count. None if it is of
/// no download.
pub(super) fn replay(input: &mut impl BufRead, boot: &str) -> io::Result<Option<(State, u64)>> {
    let mut line = Vec::new();
    let mut end = 0;
    let Some(Record::Begin {
        format: FORMAT,
        length,
        inode,
    }) = next(input, &mut line, &mut end)?
    else {
        return Ok(None);
    };
    let mut state = State {
        length,
        inode,
        ..State::default()
    };
    let mut durable = (state.clone(), end);
    let mut session = String::new();
    while let Some(record) = next(input, &mut line, &mut end)? {
        state.apply(&record);
        match record {
            Record::Synced => durable = (state.clone(), end),
            Record::Session { boot } => session = boot,
            _ => {}
        }
    }
    let survived = !boot.is_empty() && session == boot;
    Ok(Some(if survived { (state, end) } else { durable }))
}

/// The next record; none at the end or where the journal is torn. `end` moves behind it.
fn next(input: &mut impl BufRead, line: &mut Vec<u8>, end: &mut u64) -> io::Result<Option<Record>> {
    line.clear();
    input.take(LINE_SIZE).read_until(b'\n', line)?;
    let record = decode(line);
    if record.is_some() {
        *end += line.len() as u64;
    }
    Ok(record)
}

fn decode(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = line.split_at_checked(CHECKSUM_SIZE)?;
    let json = json.strip_prefix(b" ")?;
    if sum != checksum(json).as_bytes() {
        return None;
    }
    let record = serde_json::from_slice(json).ok()?;
    let sound = match record {
        Record::Present(start, end)
        | Record::Verified(start, end)
        | Record::Dropped(start, end) => start <= end,
        _ => true,
    };
    sound.then_some(record)
}

fn checksum(json: &[u8]) -> String {
    let mut sum = Hash::of(json).to_string();
    sum.truncate(CHECKSUM_SIZE);
    sum
}

/// This layout of the journal.
pub(super) const FORMAT: u32 = 1;
/// Hexadecimal digits of a line's checksum.
const CHECKSUM_SIZE: usize = 16;
/// Bytes of a line, at most: a record takes a hundred.
const LINE_SIZE: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(records: &[Record]) -> Vec<u8> {
        records.iter().flat_map(|it| encode(it).unwrap()).collect()
    }

    fn begin() -> Record {
        Record::Begin {
            format: FORMAT,
            length: 1000,
            inode: 7,
        }
    }

    fn session(boot: &str) -> Record {
        Record::Session {
            boot: boot.to_owned(),
        }
    }

    fn read(bytes: &[u8], boot: &str) -> Option<(State, u64)> {
        replay(&mut &bytes[..], boot).unwrap()
    }

    #[test]
    fn after_a_killed_process_all_counts_and_after_a_power_loss_what_was_synced() {
        let synced = [
            begin(),
            session("a"),
            Record::Present(0, 100),
            Record::Verified(0, 50),
            Record::Synced,
        ];
        let later = [Record::Present(100, 300), Record::Verified(50, 100)];
        let bytes = journal(&[&synced[..], &later[..]].concat());
        let (same, end) = read(&bytes, "a").unwrap();
        assert_eq!((same.length, same.inode), (1000, 7));
        assert_eq!((same.present.size(), same.verified.size()), (300, 100));
        assert_eq!(end, bytes.len() as u64);
        for boot in ["b", ""] {
            let (other, end) = read(&bytes, boot).unwrap();
            assert_eq!((other.present.size(), other.verified.size()), (100, 50));
            assert_eq!(end, journal(&synced).len() as u64);
        }
    }

    #[test]
    fn a_journal_torn_anywhere_says_what_it_said_before() {
        let records = [
            begin(),
            session("a"),
            Record::Present(0, 100),
            Record::Synced,
            Record::Verified(0, 50),
            Record::Dropped(0, 10),
            Record::Synced,
        ];
        let bytes = journal(&records);
        for end in 0..=bytes.len() {
            let whole = (0..=records.len())
                .rev()
                .find(|count| journal(&records[..*count]).len() <= end)
                .unwrap();
            let torn = read(&bytes[..end], "a");
            assert_eq!(torn, read(&journal(&records[..whole]), "a"), "{end}");
            // What a disk has of the last sector may be anything.
            let mut garbled = bytes[..end].to_vec();
            garbled.extend([0; 100]);
            assert_eq!(read(&garbled, "a"), torn);
        }
    }

    #[test]
    fn a_changed_byte_ends_the_journal_before_it() {
        let bytes = journal(&[begin(), session("a"), Record::Present(0, 100)]);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let state = read(&changed, "a");
            assert!(state.is_none_or(|(state, _)| state.present.size() == 0));
        }
    }

    #[test]
    fn what_is_no_journal_is_none() {
        assert_eq!(read(b"", "a"), None);
        assert_eq!(read(&[b'x'; 10_000], "a"), None);
        assert_eq!(read(&journal(&[Record::Synced]), "a"), None);
        let backwards = journal(&[begin(), session("a"), Record::Present(9, 1)]);
        assert_eq!(read(&backwards, "a").unwrap().0.present.size(), 0);
    }
}
