//! The guard's memory of what it saw: a ring of records that is all there from the start, written
//! without a lock by one thread and read by any other at any time.

use std::{
    sync::atomic::{AtomicU64, Ordering, fence},
    time::Duration,
};

use super::evidence::{MAX_SHOWN, Shown};
use crate::{guard::Cause, pid1::roles::Role};

/// The ring.
#[derive(Debug)]
pub struct Ring {
    slots: Box<[Slot]>,
    /// How many records were ever written.
    written: AtomicU64,
}

/// Something that the guard did, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, since the kernel started.
    pub at: Duration,
    /// To whom.
    pub role: Role,
    /// To which run of it.
    pub generation: u64,
    /// Whether the run was condemned; else it was only looked at.
    pub condemned: bool,
    /// What was wrong.
    pub cause: Cause,
    /// Its threads then, as many as there is room for.
    pub threads: Vec<Shown>,
}

#[derive(Debug)]
struct Slot {
    /// Odd while it is being written.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Default for Ring {
    fn default() -> Self {
        let slot = |_| Slot {
            version: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
        };
        Self {
            slots: (0..SLOTS).map(slot).collect(),
            written: AtomicU64::new(0),
        }
    }
}

impl Ring {
    /// Writes a record over the oldest. For the guard alone; allocates nothing.
    pub(super) fn write(&self, head: Head, threads: &[Shown]) {
        let number = self.written.load(Ordering::Relaxed);
        let slot = &self.slots[(number % SLOTS as u64) as usize];
        slot.version.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::Release);
        let threads = &threads[..threads.len().min(MAX_SHOWN)];
        let head = head.to_words(threads.len());
        let words = head
            .into_iter()
            .chain(threads.iter().flat_map(|thread| thread.to_words()));
        for (place, word) in slot.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        slot.version.fetch_add(1, Ordering::Release);
        self.written.store(number + 1, Ordering::Release);
    }

    /// How many records were ever written: a cheap way to see whether there are new ones.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The last records, oldest first; one that is being written over is left out.
    pub fn read(&self, most: usize) -> Vec<Record> {
        let written = self.written();
        let first = written.saturating_sub(most.min(SLOTS) as u64);
        (first..written)
            .filter_map(|number| self.slots[(number % SLOTS as u64) as usize].read())
            .collect()
    }
}

impl Slot {
    fn read(&self) -> Option<Record> {
        let before = self.version.load(Ordering::Acquire);
        let words: [u64; WORDS] = std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let same = self.version.load(Ordering::Relaxed) == before && before.is_multiple_of(2);
        same.then(|| Record::from_words(&words)).flatten()
    }
}

/// A record without its threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) at: Duration,
    pub(super) role: Role,
    pub(super) generation: u64,
    pub(super) condemned: bool,
    pub(super) cause: Cause,
}

impl Head {
    fn to_words(self, threads: usize) -> [u64; HEAD] {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        [
            millis(self.at),
            self.role.index() as u64,
            self.generation,
            u64::from(self.condemned),
            self.cause.part as u64,
            self.cause.finding as u64,
            millis(self.cause.silence),
            threads as u64,
        ]
    }
}

impl Record {
    fn from_words(words: &[u64; WORDS]) -> Option<Self> {
        let (head, rest) = words.split_at(HEAD);
        let role = |index: &u64| Role::ALL.into_iter().find(|r| r.index() as u64 == *index);
        let threads = (head[7] as usize).min(MAX_SHOWN);
        Some(Self {
            at: Duration::from_millis(head[0]),
            role: role(&head[1])?,
            generation: head[2],
            condemned: head[3] != 0,
            cause: Cause {
                part: super::Part::from_number(head[4])?,
                finding: super::Finding::from_number(head[5])?,
                silence: Duration::from_millis(head[6]),
            },
            threads: rest
                .chunks_exact(Shown::WORDS)
                .take(threads)
                .map(Shown::from_words)
                .collect(),
        })
    }
}

/// Enough for a night's trouble: one that repeats is held back long before it fills this.
const SLOTS: usize = 16;
const HEAD: usize = 8;
const WORDS: usize = HEAD + MAX_SHOWN * Shown::WORDS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Finding, Part};

    fn head(generation: u64) -> Head {
        Head {
            at: Duration::from_millis(77),
            role: Role::Manager,
            generation,
            condemned: true,
            cause: Cause {
                part: Part::Spawn,
                finding: Finding::Blocked,
                silence: Duration::from_millis(612),
            },
        }
    }

    #[test]
    fn the_last_records_are_read_as_they_were_written() {
        let ring = Ring::default();
        assert!(ring.read(4).is_empty());
        let thread = Shown::test("worker-0", "futex_do_wait");
        for generation in 1..=40 {
            ring.write(head(generation), &[thread, thread]);
        }
        let read = ring.read(3);
        let generations: Vec<_> = read.iter().map(|record| record.generation).collect();
        assert_eq!(generations, [38, 39, 40]);
        assert_eq!(read[2].threads, [thread, thread]);
        assert_eq!(read[2].cause, head(1).cause);
        assert_eq!(ring.read(100).len(), SLOTS);
    }

    #[test]
    fn a_reader_never_sees_half_a_record() {
        let ring = Ring::default();
        let many = vec![Shown::test("worker-0", "futex_do_wait"); MAX_SHOWN];
        std::thread::scope(|scope| {
            scope
                .spawn(|| (0..20_000).for_each(|n| ring.write(head(n), &many[..(n % 3) as usize])));
            for _ in 0..2000 {
                for record in ring.read(SLOTS) {
                    assert_eq!(record.threads.len() as u64, record.generation % 3);
                }
            }
        });
    }
}
