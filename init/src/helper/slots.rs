//! Two checksummed copies of a few kilobytes, such that power may be cut at any moment of a write.
//!
//! A write goes to the copy that is older or damaged, as one run of bytes whose hash is among them,
//! and never touches the other. So whatever part of it reaches the disk, in whatever order, a read
//! finds what was written before or what was written now. Pure: it knows no disk.

/// A copy that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Counts the writes; the copy with the higher one is newer.
    pub(super) generation: u64,
    /// What was written.
    pub(super) payload: Vec<u8>,
}

/// What is in the place of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Zeroes: nothing was ever written.
    Empty,
    /// Neither nothing nor a whole copy: why.
    Damaged(&'static str),
    /// A copy.
    Whole(Whole),
}

/// What to write, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// The number of the copy, 0 or 1.
    pub(super) slot: usize,
    /// Its new generation.
    pub(super) generation: u64,
    /// Its bytes, whole blocks.
    pub(super) bytes: Vec<u8>,
}

/// Reads a copy from the first bytes of its place ([`SLOT_BYTES`] suffice).
pub(super) fn read(bytes: &[u8]) -> Slot {
    if bytes.iter().all(|byte| *byte == 0) {
        return Slot::Empty;
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Slot::Damaged("is cut short");
    };
    if header[..8] != MAGIC {
        return Slot::Damaged("is not this box's");
    }
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    if number(8) != VERSION {
        return Slot::Damaged("was written by another version");
    }
    let length = usize::try_from(number(24)).unwrap_or(usize::MAX);
    let Some(payload) = rest.get(..length) else {
        return Slot::Damaged("has an impossible length");
    };
    if header[HASHED..] != *hash(&header[..HASHED], payload).as_bytes() {
        return Slot::Damaged("has a wrong checksum");
    }
    Slot::Whole(Whole {
        generation: number(16),
        payload: payload.to_vec(),
    })
}

/// The newer of the whole copies.
pub(super) fn newest(slots: [Slot; 2]) -> Option<Whole> {
    let whole = slots.into_iter().filter_map(|slot| match slot {
        Slot::Whole(whole) => Some(whole),
        Slot::Empty | Slot::Damaged(_) => None,
    });
    whole.max_by_key(|whole| whole.generation)
}

/// What to write to keep `payload`, at most [`MAX_PAYLOAD`] bytes, given what is there.
pub(super) fn write(slots: &[Slot; 2], payload: &[u8]) -> Write {
    let generations = slots.each_ref().map(|slot| match slot {
        Slot::Whole(whole) => Some(whole.generation),
        Slot::Empty | Slot::Damaged(_) => None,
    });
    let slot = usize::from(generations[1] < generations[0]);
    let generation = generations
        .iter()
        .flatten()
        .max()
        .map_or(1, |newest| newest + 1);
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend_from_slice(&MAGIC);
    for number in [VERSION, generation, payload.len() as u64] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let hash = hash(&bytes, payload);
    bytes.extend_from_slice(hash.as_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    Write {
        slot,
        generation,
        bytes,
    }
}

fn hash(header: &[u8], payload: &[u8]) -> blake3::Hash {
    blake3::Hasher::new()
        .update(header)
        .update(payload)
        .finalize()
}

const MAGIC: [u8; 8] = *b"PilotKep";

const VERSION: u64 = 1;

/// Magic, version, generation, length: what the hash is taken of, before the payload.
const HASHED: usize = 32;

const HEADER: usize = HASHED + blake3::OUT_LEN;

/// Whole blocks of any disk are written, so that nothing has to be read for it.
const BLOCK: usize = 4096;

/// A payload in hexadecimal digits must fit in a pipe.
pub(super) const MAX_PAYLOAD: usize = 28 * 1024;

/// The longest copy.
pub(super) const SLOT_BYTES: usize = (HEADER + MAX_PAYLOAD).next_multiple_of(BLOCK);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A disk of two places.
    type Disk = [Vec<u8>; 2];

    fn blank() -> Disk {
        [vec![0; SLOT_BYTES], vec![0; SLOT_BYTES]]
    }

    fn slots(disk: &Disk) -> [Slot; 2] {
        disk.each_ref().map(|bytes| read(bytes))
    }

    fn apply(disk: &mut Disk, payload: &[u8]) {
        let write = write(&slots(disk), payload);
        disk[write.slot][..write.bytes.len()].copy_from_slice(&write.bytes);
    }

    fn payload(disk: &Disk) -> Option<Vec<u8>> {
        newest(slots(disk)).map(|whole| whole.payload)
    }

    #[test]
    fn the_last_write_is_read_and_the_one_before_is_still_there() {
        let mut disk = blank();
        assert_eq!(payload(&disk), None);
        for round in 1..6_u8 {
            apply(&mut disk, &[round; 100]);
            assert_eq!(payload(&disk), Some(vec![round; 100]));
            let newest = newest(slots(&disk)).unwrap();
            assert_eq!(newest.generation, u64::from(round));
        }
        let newer = usize::from(matches!(&slots(&disk)[1], Slot::Whole(w) if w.generation == 5));
        disk[newer][HEADER + 3] ^= 1;
        assert_eq!(payload(&disk), Some(vec![4; 100]));
        apply(&mut disk, b"again");
        assert_eq!(payload(&disk), Some(b"again".to_vec()));
    }

    #[test]
    fn a_write_cut_at_any_byte_leaves_the_old_or_the_new() {
        let (old, new) = (
            b"what was known".to_vec(),
            b"what is known now, and longer".to_vec(),
        );
        let mut disk = blank();
        apply(&mut disk, b"long before");
        apply(&mut disk, &old);
        let write = write(&slots(&disk), &new);
        for cut in 0..=write.bytes.len() {
            let mut torn = disk.clone();
            torn[write.slot][..cut].copy_from_slice(&write.bytes[..cut]);
            let complete = cut >= HEADER + new.len();
            assert_eq!(
                payload(&torn),
                Some(if complete { &new } else { &old }.clone()),
                "{cut}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_write_of_which_any_sectors_arrive_leaves_the_old_or_the_new(
            payloads in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..6000), 1..5),
            arrives in proptest::collection::vec(any::<bool>(), 64),
        ) {
            let mut disk = blank();
            let (new, before) = payloads.split_last().unwrap();
            before.iter().for_each(|payload| apply(&mut disk, payload));
            let old = payload(&disk);
            let write = write(&slots(&disk), new);
            for (at, sector) in write.bytes.chunks(512).enumerate() {
                if arrives[at % arrives.len()] {
                    disk[write.slot][at * 512..][..sector.len()].copy_from_slice(sector);
                }
            }
            let found = payload(&disk);
            prop_assert!(found == old || found.as_ref() == Some(new));
        }

        #[test]
        fn hostile_bytes_are_never_a_copy(mut bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            prop_assert!(!matches!(read(&bytes), Slot::Whole(_)));
            for (byte, magic) in bytes.iter_mut().zip(MAGIC) {
                *byte = magic;
            }
            prop_assert!(!matches!(read(&bytes), Slot::Whole(_)));
        }
    }
}
