//! What a re-executed PID 1 gets from its predecessor: one memfd that is always up to date, as the
//! crash handler has no time to write it.
//!
//! Written by `pwrite` and never mapped, so that a wild pointer can't reach it. Each section has
//! two slots with a checksum: the one under way when the crash came is torn, the other is whole.
//! The successor treats all of it as hostile: a section that does not check is as if it were not
//! there, every descriptor is looked at, and what the kernel knows is asked of the kernel.
//!
//! | module | concept |
//! |---|---|
//! | [`layout`] | where in the memfd what is |
//! | [`records`] | the content of a section: tagged, versioned, skippable |
//! | [`descriptors`] | open files that outlive the crash |
//! | [`probation`] | which binary has to prove itself, and which is gone back to |

pub mod descriptors;
pub mod layout;
pub mod probation;
pub mod records;

use std::{os::fd::OwnedFd, time::Duration};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::Errno,
};

use self::probation::Probation;
use crate::crash::{
    budget,
    epitaph::{self, Cause, Epitaph},
};

/// The memfd.
#[derive(Debug)]
pub struct Handover {
    memfd: OwnedFd,
    /// How often PID 1 was executed anew since the box booted.
    generation: u64,
    /// The number of what was written last.
    sequence: u64,
    last: Vec<u8>,
}

impl Handover {
    /// The predecessor's, or a new one.
    ///
    /// # Errors
    /// When the kernel gives no memory or no descriptor at [`layout::FD`].
    pub fn open() -> Result<Self, Errno> {
        match crate::inherited::take_if_open(layout::FD).filter(is_ours) {
            Some(memfd) => {
                let mut handover = Self::of(memfd);
                handover.generation = handover.word(layout::GENERATION_AT).saturating_add(1);
                handover.set_word(layout::GENERATION_AT, handover.generation);
                Ok(handover)
            }
            None => Self::create(),
        }
    }

    fn create() -> Result<Self, Errno> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let anywhere = rustix::fs::memfd_create("handover", flags)?;
        rustix::fs::ftruncate(&anywhere, layout::SIZE)?;
        rustix::fs::fcntl_add_seals(&anywhere, SEALS | SealFlags::SEAL)?;
        let memfd = rustix::io::fcntl_dupfd_cloexec(&anywhere, layout::FD)?;
        if std::os::fd::AsRawFd::as_raw_fd(&memfd) != layout::FD {
            return Err(Errno::BUSY);
        }
        let handover = Self::of(memfd);
        handover.set_word(layout::MAGIC_AT, layout::MAGIC);
        Ok(handover)
    }

    fn of(memfd: OwnedFd) -> Self {
        Self {
            memfd,
            generation: 0,
            sequence: 0,
            last: Vec::new(),
        }
    }

    /// How often PID 1 was executed anew since the box booted.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What the predecessor published last, if it is whole. Predecessors that came so far and no
    /// further have shown that it is poison: then there is none.
    pub fn predecessor(&mut self) -> Option<Vec<u8>> {
        if self.generation == 0 {
            return None;
        }
        let attempts = self.word(layout::ATTEMPTS_AT).saturating_add(1);
        self.set_word(layout::ATTEMPTS_AT, attempts);
        if attempts > MOST_ATTEMPTS || self.brought_panics(crate::clock::boottime()) {
            // Numbered from the start again, what is published next must not count as the older.
            for slot in 0..layout::SLOTS {
                let _ = self.write(layout::slot_at(slot), &[0; layout::SLOT_HEADER as usize]);
            }
            return None;
        }
        let (sequence, state) = self.newest()?;
        self.sequence = sequence;
        Some(state)
    }

    /// The state published last, read without leaving a trace.
    pub fn state(&self) -> Option<Vec<u8>> {
        Some(self.newest()?.1)
    }

    fn newest(&self) -> Option<(u64, Vec<u8>)> {
        (0..layout::SLOTS)
            .filter_map(|slot| self.read_slot(slot))
            .max_by_key(|(sequence, _)| *sequence)
    }

    /// Publishes the state, unless it is what was published last.
    ///
    /// # Errors
    /// When it is too long, or memory is short: then the last one stays.
    pub fn publish(&mut self, state: &[u8]) -> Result<(), Errno> {
        if self.last == state {
            return Ok(());
        }
        if state.len() > layout::MAX_STATE {
            return Err(Errno::FBIG);
        }
        let sequence = self.sequence + 1;
        let at = layout::slot_at(sequence % layout::SLOTS);
        let header = layout::SlotHeader::of(sequence, state);
        self.write(at + layout::SLOT_HEADER, state)?;
        self.write(at, &header.to_bytes())?;
        self.sequence = sequence;
        self.last.clear();
        self.last.extend_from_slice(state);
        Ok(())
    }

    /// The successor has taken over whole: it no longer counts as an attempt.
    pub fn taken_over(&self) {
        self.set_word(layout::ATTEMPTS_AT, 0);
    }

    /// The binary that has to prove itself, if one has.
    pub fn probation(&self) -> Option<Probation> {
        Probation::read(|at| Some(self.word(at)))
    }

    /// From the next execution on, `probation` holds.
    pub fn begin_probation(&self, probation: &Probation) {
        for (at, word) in probation.words() {
            self.set_word(at, word);
        }
    }

    /// No binary has to prove itself any more.
    pub fn end_probation(&self) {
        self.set_word(layout::PROBATION_AT, 0);
    }

    /// The memfd.
    pub fn memfd(&self) -> &OwnedFd {
        &self.memfd
    }

    /// A copy, which a trial may do with as it likes.
    ///
    /// # Errors
    /// When the kernel gives no memory.
    pub fn copy_of(memfd: &OwnedFd) -> Result<Self, Errno> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let copy = Self::of(rustix::fs::memfd_create("handover", flags)?);
        rustix::fs::ftruncate(&copy.memfd, layout::SIZE)?;
        rustix::fs::fcntl_add_seals(&copy.memfd, SEALS | SealFlags::SEAL)?;
        let mut piece = vec![0; 64 * 1024];
        let mut at = 0;
        while let n @ 1.. = rustix::io::pread(memfd, &mut piece, at)? {
            copy.write(at, &piece[..n])?;
            at += n as u64;
        }
        Ok(copy)
    }

    /// Crashes so far, and the last of them, oldest first.
    pub fn epitaphs(&self) -> (u64, Vec<Epitaph>) {
        let count = self.word(layout::CRASHES_AT);
        let first = count.saturating_sub(layout::EPITAPHS);
        let read = |n| {
            let mut bytes = [0; epitaph::WORDS * 8];
            self.read(layout::epitaph_at(n), &mut bytes)?;
            let mut words = [0; epitaph::WORDS];
            for (word, piece) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = piece.try_into().map(u64::from_ne_bytes).unwrap_or_default();
            }
            Epitaph::from_words(&words)
        };
        (count, (first..count).filter_map(read).collect())
    }

    /// Whether `main` panicked again and again, in each of the last generations, shortly before
    /// `now`.
    fn brought_panics(&self, now: Duration) -> bool {
        let (_, epitaphs) = self.epitaphs();
        let last = epitaphs.iter().rev().take(MOST_ATTEMPTS as usize);
        epitaphs.len() >= MOST_ATTEMPTS as usize
            && last.into_iter().all(|epitaph| {
                let ago = now.saturating_sub(epitaph.at);
                epitaph.cause == Cause::Panics && ago < budget::REFILLED_AFTER
            })
    }

    fn read_slot(&self, slot: u64) -> Option<(u64, Vec<u8>)> {
        let at = layout::slot_at(slot);
        let mut header = [0; layout::SLOT_HEADER as usize];
        self.read(at, &mut header)?;
        let header = layout::SlotHeader::from_bytes(&header)?;
        let mut state = vec![0; header.length()?];
        self.read(at + layout::SLOT_HEADER, &mut state)?;
        header.fits(&state).then_some((header.sequence, state))
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn set_word(&self, at: u64, word: u64) {
        // Without memory for one page nothing works, and nothing here depends on it.
        let _ = self.write(at, &word.to_ne_bytes());
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Option<()> {
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pread(&self.memfd, &mut bytes[done..], at + done as u64) {
                Ok(n @ 1..) => done += n,
                Ok(0) | Err(_) => return None,
            }
        }
        Some(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < bytes.len() {
            done += rustix::io::pwrite(&self.memfd, &bytes[done..], at + done as u64)?;
        }
        Ok(())
    }
}

#[cfg(any(test, fuzzing))]
impl Handover {
    /// A new one of its own, on no particular descriptor.
    ///
    /// # Panics
    /// Without memory or descriptors.
    pub(crate) fn sample() -> Self {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = rustix::fs::memfd_create("test", flags).expect("a memfd");
        rustix::fs::ftruncate(&memfd, layout::SIZE).expect("room");
        rustix::fs::fcntl_add_seals(&memfd, SEALS).expect("seals");
        let handover = Self::of(memfd);
        handover.set_word(layout::MAGIC_AT, layout::MAGIC);
        handover
    }

    /// What the next generation gets.
    pub(crate) fn successor(&self) -> Self {
        let mut next = Self::of(self.memfd.try_clone().expect("a descriptor"));
        next.generation = 1;
        next
    }

    /// Writes anything anywhere.
    pub(crate) fn scribble(&self, at: u64, bytes: &[u8]) {
        let room = layout::SIZE - at.min(layout::SIZE);
        let bytes = &bytes[..bytes.len().min(room as usize)];
        let _ = self.write(at, bytes);
    }
}

/// Times of the crashes among the epitaphs.
pub fn failures(epitaphs: &[Epitaph]) -> Vec<Duration> {
    let failures = epitaphs.iter().filter(|epitaph| epitaph.cause.is_failure());
    failures.map(|epitaph| epitaph.at).collect()
}

fn is_ours(memfd: &OwnedFd) -> bool {
    let sealed = rustix::fs::fcntl_get_seals(memfd).is_ok_and(|seals| seals.contains(SEALS));
    let size = rustix::fs::fstat(memfd).is_ok_and(|stat| stat.st_size == layout::SIZE as i64);
    let mut magic = [0; 8];
    let read = rustix::io::pread(memfd, &mut magic, layout::MAGIC_AT);
    sealed && size && read == Ok(8) && u64::from_ne_bytes(magic) == layout::MAGIC
}

/// Nobody may cut it under a reader.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);
/// Successors that may crash before they have taken over whole, until one begins without.
const MOST_ATTEMPTS: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn handover() -> Handover {
        Handover::sample()
    }

    fn successor(of: &Handover) -> Handover {
        of.successor()
    }

    #[test]
    fn the_last_state_published_is_handed_over() {
        let mut handover = handover();
        for state in [&b"one"[..], b"two", b"three"] {
            handover.publish(state).unwrap();
        }
        assert_eq!(successor(&handover).predecessor().unwrap(), b"three");
    }

    #[test]
    fn a_torn_write_leaves_the_state_before() {
        let mut handover = handover();
        handover.publish(b"whole").unwrap();
        handover.publish(b"torn!").unwrap();
        let at = layout::slot_at(2 % layout::SLOTS) + layout::SLOT_HEADER;
        handover.write(at, b"x").unwrap();
        assert_eq!(successor(&handover).predecessor().unwrap(), b"whole");
    }

    #[test]
    fn a_successor_goes_on_where_its_predecessor_stopped() {
        let mut first = handover();
        first.publish(b"first").unwrap();
        let mut second = successor(&first);
        second.predecessor().unwrap();
        second.publish(b"second").unwrap();
        assert_eq!(successor(&second).predecessor().unwrap(), b"second");
    }

    #[test]
    fn what_crashes_its_readers_is_read_no_more() {
        let mut handover = handover();
        handover.publish(b"poison").unwrap();
        let mut next = successor(&handover);
        next.set_word(layout::ATTEMPTS_AT, MOST_ATTEMPTS + 1);
        assert_eq!(next.predecessor(), None);
        next.taken_over();
        assert_eq!(successor(&next).predecessor(), None);
        next.publish(b"wholesome").unwrap();
        assert_eq!(successor(&next).predecessor().unwrap(), b"wholesome");
    }

    #[test]
    fn an_overlong_state_leaves_the_one_before() {
        let mut handover = handover();
        handover.publish(b"short").unwrap();
        let long = vec![0; layout::MAX_STATE + 1];
        assert_eq!(handover.publish(&long), Err(Errno::FBIG));
        assert_eq!(successor(&handover).predecessor().unwrap(), b"short");
    }

    proptest::proptest! {
        #[test]
        fn rubbish_never_panics(seed in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), at in 0..layout::SIZE - 400) {
            let mut handover = handover();
            handover.publish(b"state").unwrap();
            handover.write(at, &seed).unwrap();
            let mut next = successor(&handover);
            let _ = next.predecessor();
            let _ = next.epitaphs();
        }
    }
}
