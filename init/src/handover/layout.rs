//! Where in the memfd what is. Words are native: writer and reader are the same machine.

use crate::crash::epitaph;

/// On which descriptor the memfd is, so that a successor finds it without being told.
pub const FD: i32 = 100;

/// Says that it is one, and in which layout. Another layout gets another number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"pilotHO1");
/// Where [`MAGIC`] is.
pub const MAGIC_AT: u64 = 0;
/// Epitaphs ever written.
pub const CRASHES_AT: u64 = 8;
/// How often PID 1 was executed anew.
pub const GENERATION_AT: u64 = 16;
/// Successors since one took over whole.
pub const ATTEMPTS_AT: u64 = 24;
/// The words of a [`Probation`](super::probation::Probation).
pub const PROBATION_AT: u64 = 32;

/// Epitaphs that are kept.
pub const EPITAPHS: u64 = 16;
/// Where epitaph number `n` is.
pub fn epitaph_at(n: u64) -> u64 {
    EPITAPHS_AT + n % EPITAPHS * (epitaph::WORDS as u64 * 8)
}
const EPITAPHS_AT: u64 = 4096;

/// Slots of the state.
pub const SLOTS: u64 = 2;
/// Where slot `n` is.
pub fn slot_at(n: u64) -> u64 {
    SLOTS_AT + n * SLOT
}
const SLOTS_AT: u64 = 16 * 1024;
const SLOT: u64 = 1024 * 1024;
/// Bytes of the header before a slot's state.
pub const SLOT_HEADER: u64 = 24;
/// The longest state, in bytes: far more than hundreds of services take.
pub const MAX_STATE: usize = (SLOT - SLOT_HEADER) as usize;
/// The whole, in bytes. Memory is taken only for what is written.
pub const SIZE: u64 = SLOTS_AT + SLOTS * SLOT;

/// What is before the state in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotHeader {
    /// Counts what was published.
    pub sequence: u64,
    length: u64,
    checksum: u64,
}

impl SlotHeader {
    /// Of this state.
    pub fn of(sequence: u64, state: &[u8]) -> Self {
        let length = state.len() as u64;
        Self {
            sequence,
            length,
            checksum: checksum(sequence, length, state),
        }
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; SLOT_HEADER as usize] {
        let mut bytes = [0; SLOT_HEADER as usize];
        for (place, word) in
            bytes
                .chunks_exact_mut(8)
                .zip([self.sequence, self.length, self.checksum])
        {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Reads one that may be anything.
    pub fn from_bytes(bytes: &[u8; SLOT_HEADER as usize]) -> Option<Self> {
        let word = |n: usize| -> Option<u64> {
            Some(u64::from_ne_bytes(
                bytes.get(n * 8..n * 8 + 8)?.try_into().ok()?,
            ))
        };
        // Zero was never published.
        let sequence = word(0).filter(|sequence| *sequence != 0)?;
        Some(Self {
            sequence,
            length: word(1)?,
            checksum: word(2)?,
        })
    }

    /// The state's length, if it is a possible one.
    pub fn length(&self) -> Option<usize> {
        usize::try_from(self.length)
            .ok()
            .filter(|n| *n <= MAX_STATE)
    }

    /// Whether it is this state's.
    pub fn fits(&self, state: &[u8]) -> bool {
        state.len() as u64 == self.length
            && checksum(self.sequence, self.length, state) == self.checksum
    }
}

fn checksum(sequence: u64, length: u64, state: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_ne_bytes());
    hasher.update(&length.to_ne_bytes());
    hasher.update(state);
    // Not zero for a slot of zeros.
    u64::from(hasher.finalize()) | 1 << 32
}
