//! A disk's partition table (GPT, UEFI specification 2.10, section 5.3), for the partition types
//! that /sys does not tell.
//!
//! Reads the disk, which may hang: for a helper process. The bytes are hostile: a stick from
//! anywhere may be plugged in. Sizes are bounded before anything is allocated, both checksums are
//! checked, and the second copy at the disk's end is used when the first is bad.

use std::{
    fmt,
    io::{Read, Seek, SeekFrom},
};

use crate::Error;

/// A globally unique identifier, shown as people write it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid([u8; 16]);

/// One partition of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u32,
    /// What it is for.
    pub kind: Guid,
    /// Itself, among all partitions of the world.
    pub id: Guid,
    /// Its label.
    pub label: String,
    /// Its first block.
    pub first: u64,
    /// Its last block.
    pub last: u64,
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The disk's identifier.
    pub disk: Guid,
    /// The partitions in use, by number.
    pub entries: Vec<Entry>,
    /// Why the first copy was not used, if it was not.
    pub damaged_first_copy: Option<String>,
}

/// Reads the table of a disk of `bytes` bytes with logical blocks of `block_size`.
///
/// # Errors
/// [`Error::NoPartitionTable`] when neither copy is valid; `name` is for the message.
pub fn read(
    disk: &mut (impl Read + Seek),
    name: &str,
    bytes: u64,
    block_size: u32,
) -> Result<Table, Error> {
    let block = u64::from(block_size.clamp(MIN_BLOCK, MAX_BLOCK));
    let last = (bytes / block).saturating_sub(1);
    let first_copy = match read_copy(disk, 1, block, last) {
        Ok(table) => return Ok(table),
        Err(why) => why,
    };
    match read_copy(disk, last, block, last) {
        Ok(table) => Ok(Table {
            damaged_first_copy: Some(first_copy),
            ..table
        }),
        Err(second) => Err(Error::NoPartitionTable {
            disk: name.to_owned(),
            why: format!("{first_copy}; and the copy at its end: {second}"),
        }),
    }
}

impl Guid {
    /// From its text, as `4f68bce3-e8cd-4db1-96e7-fbcaf984b709`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        if digits.len() != 32 || text.len() != 36 {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(swapped(bytes)))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in swapped(self.0).iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// On disk the first three groups are little-endian, in text they are not.
fn swapped(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

struct Header {
    disk: Guid,
    entries_at: u64,
    entry_count: u32,
    entry_size: u32,
    entries_crc: u32,
}

fn read_copy(
    disk: &mut (impl Read + Seek),
    at: u64,
    block: u64,
    last: u64,
) -> Result<Table, String> {
    let mut bytes = vec![0; usize::try_from(block).map_err(|_| "huge blocks")?];
    read_at(disk, at * block, &mut bytes)?;
    let header = parse_header(&bytes, at)?;
    let size = u64::from(header.entry_count) * u64::from(header.entry_size);
    if size > MAX_ENTRIES_BYTES || header.entries_at > last {
        return Err("its list of partitions is too long or not on the disk".into());
    }
    let mut entries = vec![0; usize::try_from(size).map_err(|_| "huge list")?];
    read_at(disk, header.entries_at * block, &mut entries)?;
    if crc32fast::hash(&entries) != header.entries_crc {
        return Err("the checksum of its list of partitions is wrong".into());
    }
    let entry_size = usize::try_from(header.entry_size).map_err(|_| "huge entries")?;
    let entries = (1..).zip(entries.chunks_exact(entry_size));
    Ok(Table {
        disk: header.disk,
        entries: entries
            .filter_map(|(number, bytes)| parse_entry(number, bytes))
            .collect(),
        damaged_first_copy: None,
    })
}

fn read_at(disk: &mut (impl Read + Seek), at: u64, bytes: &mut [u8]) -> Result<(), String> {
    disk.seek(SeekFrom::Start(at))
        .and_then(|_| disk.read_exact(bytes))
        .map_err(|error| format!("byte {at} can't be read: {error}"))
}

fn parse_header(block: &[u8], at: u64) -> Result<Header, String> {
    let missing = || "its header is cut short".to_owned();
    if !block.starts_with(SIGNATURE) {
        return Err("there is no header".into());
    }
    let size = usize::try_from(u32_at(block, 12).ok_or_else(missing)?).unwrap_or(usize::MAX);
    if !(HEADER_BYTES..=block.len()).contains(&size) {
        return Err("its header has an impossible size".into());
    }
    let mut header = block[..size].to_vec();
    let crc = u32_at(&header, 16).ok_or_else(missing)?;
    // The checksum is taken with its own field as zero.
    header[16..20].fill(0);
    if crc32fast::hash(&header) != crc {
        return Err("the checksum of its header is wrong".into());
    }
    if u64_at(&header, 24) != Some(at) {
        return Err("its header belongs elsewhere on the disk".into());
    }
    let entry_size = u32_at(&header, 84).ok_or_else(missing)?;
    if entry_size < ENTRY_BYTES || !entry_size.is_power_of_two() {
        return Err("its entries have an impossible size".into());
    }
    Ok(Header {
        disk: guid_at(&header, 56).ok_or_else(missing)?,
        entries_at: u64_at(&header, 72).ok_or_else(missing)?,
        entry_count: u32_at(&header, 80).ok_or_else(missing)?,
        entry_size,
        entries_crc: u32_at(&header, 88).ok_or_else(missing)?,
    })
}

fn parse_entry(number: u32, bytes: &[u8]) -> Option<Entry> {
    let kind = guid_at(bytes, 0)?;
    if kind.0 == [0; 16] {
        return None;
    }
    let units = bytes
        .get(56..128)?
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let label = char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Some(Entry {
        number,
        kind,
        id: guid_at(bytes, 16)?,
        label,
        first: u64_at(bytes, 32)?,
        last: u64_at(bytes, 40)?,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn guid_at(bytes: &[u8], at: usize) -> Option<Guid> {
    Some(Guid(bytes.get(at..at + 16)?.try_into().ok()?))
}

const SIGNATURE: &[u8] = b"EFI PART";

/// The header's defined part; the rest of its block is reserved.
const HEADER_BYTES: usize = 92;

/// The smallest entry the specification allows.
const ENTRY_BYTES: u32 = 128;

const MIN_BLOCK: u32 = 512;

/// Linux supports no disk with larger logical blocks.
const MAX_BLOCK: u32 = 64 * 1024;

/// 16 KiB hold the usual 128 entries; Linux itself reads no more than this.
const MAX_ENTRIES_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
    const BLOCK: usize = 512;
    const BLOCKS: usize = 200;

    fn header(at: u64, entries_at: u64, entries: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..8].copy_from_slice(SIGNATURE);
        block[8..12].copy_from_slice(&0x1_0000_u32.to_le_bytes());
        block[12..16].copy_from_slice(&92_u32.to_le_bytes());
        block[24..32].copy_from_slice(&at.to_le_bytes());
        block[72..80].copy_from_slice(&entries_at.to_le_bytes());
        block[80..84].copy_from_slice(&128_u32.to_le_bytes());
        block[84..88].copy_from_slice(&128_u32.to_le_bytes());
        block[88..92].copy_from_slice(&crc32fast::hash(entries).to_le_bytes());
        let crc = crc32fast::hash(&block[..92]);
        block[16..20].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// A disk with one partition, the second in the table.
    fn disk() -> Vec<u8> {
        let mut entries = vec![0; 128 * 128];
        entries[128..144].copy_from_slice(&Guid::parse(ROOT).unwrap().0);
        entries[144] = 7;
        entries[160..168].copy_from_slice(&40_u64.to_le_bytes());
        entries[168..176].copy_from_slice(&50_u64.to_le_bytes());
        for (at, unit) in "pilot-root-a".encode_utf16().enumerate() {
            entries[184 + 2 * at..186 + 2 * at].copy_from_slice(&unit.to_le_bytes());
        }
        let mut disk = vec![0; BLOCKS * BLOCK];
        let mut put = |block: usize, bytes: &[u8]| {
            disk[block * BLOCK..block * BLOCK + bytes.len()].copy_from_slice(bytes);
        };
        put(1, &header(1, 2, &entries));
        put(2, &entries);
        put(BLOCKS - 33, &entries);
        put(
            BLOCKS - 1,
            &header(BLOCKS as u64 - 1, BLOCKS as u64 - 33, &entries),
        );
        disk
    }

    fn table(disk: &[u8]) -> Result<Table, Error> {
        read(&mut Cursor::new(disk), "vda", disk.len() as u64, 512)
    }

    #[test]
    fn a_partition_has_its_type_label_and_place() {
        let table = table(&disk()).unwrap();
        let [entry] = table.entries.as_slice() else {
            panic!("{table:?}")
        };
        assert_eq!((entry.number, entry.label.as_str()), (2, "pilot-root-a"));
        assert_eq!((entry.first, entry.last), (40, 50));
        assert_eq!(entry.kind.to_string(), ROOT);
        assert_eq!(table.damaged_first_copy, None);
    }

    #[test]
    fn the_copy_at_the_end_stands_in_for_the_first() {
        for damaged in [BLOCK, BLOCK + 60, 2 * BLOCK + 130] {
            let mut disk = disk();
            disk[damaged] ^= 1;
            let table = table(&disk).unwrap();
            assert_eq!(table.entries.len(), 1);
            assert!(table.damaged_first_copy.is_some());
        }
    }

    #[test]
    fn a_disk_without_a_table_says_what_is_wrong() {
        let error = table(&vec![0; BLOCKS * BLOCK]).unwrap_err().to_string();
        assert!(
            error.contains("vda") && error.contains("there is no header"),
            "{error}"
        );
        assert!(table(&[]).is_err());
    }

    #[test]
    fn guids_are_read_as_they_are_written() {
        assert_eq!(Guid::parse(ROOT).unwrap().to_string(), ROOT);
        for bad in ["", "4f68bce3", "4f68bce3-e8cd-4db1-96e7-fbcaf984b70g", "é"] {
            assert_eq!(Guid::parse(bad), None);
        }
    }

    proptest! {
        #[test]
        fn a_header_with_a_right_checksum_and_any_content_never_panics(
            content in proptest::collection::vec(any::<u8>(), 72..BLOCK - 20),
            size in 0_u32..600,
        ) {
            let mut disk = disk();
            disk[BLOCK + 20..BLOCK + 20 + content.len()].copy_from_slice(&content);
            disk[BLOCK + 24..BLOCK + 32].copy_from_slice(&1_u64.to_le_bytes());
            disk[BLOCK + 12..BLOCK + 16].copy_from_slice(&size.to_le_bytes());
            disk[BLOCK + 16..BLOCK + 20].fill(0);
            let end = BLOCK + (size as usize).min(BLOCK);
            let crc = crc32fast::hash(&disk[BLOCK..end]);
            disk[BLOCK + 16..BLOCK + 20].copy_from_slice(&crc.to_le_bytes());
            prop_assert_eq!(table(&disk).unwrap().entries.len(), 1);
        }
    }
}
