//! A GUID partition table, written the same way every time: the identifiers are derived from the
//! labels, so that an image can be compared byte for byte.

/// One partition to be.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    /// Its label; the kernel shows it as `PARTNAME`. At most 36 characters.
    pub label: &'static str,
    /// Its type, in the usual textual order.
    pub kind: u128,
    /// Bytes; rounded up to a whole MiB. `None` takes what is left, and only the last may.
    pub size: Option<u64>,
}

/// Where a partition came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// A whole table: what to write at which byte of the disk.
#[derive(Debug)]
pub struct Table {
    /// Protective MBR, header and entries, from byte 0.
    pub head: Vec<u8>,
    /// The copy of entries and header, for the last bytes of the disk.
    pub tail: Vec<u8>,
    /// Where the partitions lie, in the order given.
    pub extents: Vec<Extent>,
}

/// Lays `partitions` out on a disk of `disk` bytes. `None` when they don't fit.
pub fn lay_out(disk: u64, partitions: &[Partition]) -> Option<Table> {
    let sectors = disk / SECTOR;
    let end = (sectors.checked_sub(RESERVED)? * SECTOR) / ALIGN * ALIGN;
    let mut extents = Vec::new();
    let mut start = ALIGN;
    for partition in partitions {
        let length = match partition.size {
            Some(size) => size.next_multiple_of(ALIGN),
            None => end.checked_sub(start)?,
        };
        if length == 0 || start + length > end {
            return None;
        }
        extents.push(Extent { start, length });
        start += length;
    }
    let entries = entries(partitions, &extents);
    let mut head = protective_mbr(sectors);
    head.extend(header(1, sectors - 1, 2, sectors, &entries));
    head.extend(&entries);
    let mut tail = entries.clone();
    tail.extend(header(
        sectors - 1,
        1,
        sectors - RESERVED,
        sectors,
        &entries,
    ));
    Some(Table {
        head,
        tail,
        extents,
    })
}

fn entries(partitions: &[Partition], extents: &[Extent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRIES * ENTRY);
    for (partition, extent) in partitions.iter().zip(extents) {
        let start = bytes.len();
        bytes.extend(guid(partition.kind));
        bytes.extend(guid(derived(partition.label)));
        bytes.extend((extent.start / SECTOR).to_le_bytes());
        bytes.extend(((extent.start + extent.length) / SECTOR - 1).to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(
            partition
                .label
                .encode_utf16()
                .take(36)
                .flat_map(u16::to_le_bytes),
        );
        bytes.resize(start + ENTRY, 0);
    }
    bytes.resize(ENTRIES * ENTRY, 0);
    bytes
}

fn header(at: u64, other: u64, table: u64, sectors: u64, entries: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR as usize);
    bytes.extend(b"EFI PART");
    bytes.extend([0, 0, 1, 0]);
    bytes.extend(HEADER.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(at.to_le_bytes());
    bytes.extend(other.to_le_bytes());
    bytes.extend((RESERVED + 1).to_le_bytes());
    bytes.extend((sectors - RESERVED - 1).to_le_bytes());
    bytes.extend(guid(derived("pilotlight")));
    bytes.extend(table.to_le_bytes());
    bytes.extend((ENTRIES as u32).to_le_bytes());
    bytes.extend((ENTRY as u32).to_le_bytes());
    bytes.extend(crc32fast::hash(entries).to_le_bytes());
    let sum = crc32fast::hash(&bytes);
    bytes[16..20].copy_from_slice(&sum.to_le_bytes());
    bytes.resize(SECTOR as usize, 0);
    bytes
}

/// What tells tools that know nothing of GPT that the disk is not empty.
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let covered = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    let mut bytes = vec![0; 446];
    bytes.extend([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(covered.to_le_bytes());
    bytes.resize(510, 0);
    bytes.extend([0x55, 0xaa]);
    bytes
}

/// A GUID's bytes on disk: its first three fields are little-endian.
fn guid(value: u128) -> [u8; 16] {
    let mut bytes = value.to_be_bytes();
    bytes[0..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

/// An identifier (version 8, "custom") that follows from a name.
fn derived(name: &str) -> u128 {
    let hash = blake3::hash(name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    u128::from_be_bytes(bytes)
}

const SECTOR: u64 = 512;
/// Partitions begin at whole MiB: a multiple of every erase block and RAID stripe in use.
const ALIGN: u64 = 1 << 20;
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
const HEADER: u32 = 92;
/// Sectors of one copy of the table: 32 of entries, one of header.
const RESERVED: u64 = 33;

#[cfg(test)]
mod tests {
    use super::{ALIGN, Partition, lay_out};

    const DISK: u64 = 64 << 20;

    fn two() -> [Partition; 2] {
        let kind = 0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709;
        [
            Partition {
                label: "first",
                kind,
                size: Some(5 << 20),
            },
            Partition {
                label: "rest",
                kind,
                size: None,
            },
        ]
    }

    #[test]
    fn the_last_takes_what_is_left_and_nothing_overlaps_the_copy() {
        let table = lay_out(DISK, &two()).unwrap();
        let [first, rest] = table.extents[..] else {
            panic!("{table:?}")
        };
        assert_eq!(first.start, ALIGN);
        assert_eq!(rest.start, first.start + first.length);
        assert!(rest.start + rest.length <= DISK - table.tail.len() as u64);
    }

    #[test]
    fn both_headers_check_out() {
        let table = lay_out(DISK, &two()).unwrap();
        let backup = &table.tail[table.tail.len() - 512..];
        for header in [&table.head[512..1024], backup] {
            let stored = u32::from_le_bytes(header[16..20].try_into().unwrap());
            let mut zeroed = header[..92].to_vec();
            zeroed[16..20].fill(0);
            assert_eq!(stored, crc32fast::hash(&zeroed));
        }
    }

    #[test]
    fn a_type_is_stored_in_mixed_order() {
        let table = lay_out(DISK, &two()).unwrap();
        assert_eq!(table.head[1024..1030], [0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(lay_out(4 << 20, &two()).is_none());
        assert!(lay_out(0, &two()).is_none());
    }
}
