//! What a partition holds, told from its bytes before anything is mounted or, worse, made.
//!
//! A data partition is formatted only when it is blank beyond doubt. A disk whose first bytes were
//! lost is not blank: btrfs keeps copies of its superblock far inside, and pieces from all over the
//! partition are looked at. What is neither is left alone.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

/// What is on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing.
    Blank,
    /// A btrfs that was still being made when the power went.
    Unfinished,
    /// A btrfs.
    Btrfs(Superblock),
    /// A btrfs whose first superblock is damaged: what is wrong.
    DamagedBtrfs(String),
    /// A read-only image: the kernel's name of its file system.
    Image(&'static str),
    /// Another file system or container: its name.
    Foreign(&'static str),
    /// Something, at this byte.
    Unknown(u64),
}

/// What a btrfs superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// The file system's identifier, as in /sys/fs/btrfs.
    pub(super) id: String,
    /// Bytes it uses of its device.
    pub(super) bytes: u64,
}

/// Looks at a partition of `bytes` bytes.
///
/// # Errors
/// When it can't be read.
pub(super) fn identify(device: &mut (impl Read + Seek), bytes: u64) -> io::Result<Content> {
    let head = read_at(device, 0, HEAD, bytes)?;
    let first = BTRFS_SUPERBLOCKS[0] as usize;
    match head.get(first..first + SUPERBLOCK).map(superblock) {
        Some(Found::Good(superblock)) => return Ok(Content::Btrfs(superblock)),
        Some(Found::Unfinished) => return Ok(Content::Unfinished),
        Some(Found::Damaged(why)) => return Ok(Content::DamagedBtrfs(why)),
        Some(Found::None) | None => {}
    }
    for place in &BTRFS_SUPERBLOCKS[1..] {
        let copy = read_at(device, *place, SUPERBLOCK, bytes)?;
        if !matches!(superblock(&copy), Found::None) {
            let why = format!("its first superblock is lost, the copy at byte {place} is there");
            return Ok(Content::DamagedBtrfs(why));
        }
    }
    if let Some(known) = signature(&head, &IMAGES).map(Content::Image) {
        return Ok(known);
    }
    if let Some(known) = signature(&head, &OTHERS).map(Content::Foreign) {
        return Ok(known);
    }
    Ok(first_byte_in_use(device, &head, bytes)?.map_or(Content::Blank, Content::Unknown))
}

/// The size of a device or file in bytes.
///
/// # Errors
/// When it can't be asked.
pub(super) fn size_of(device: &mut File) -> io::Result<u64> {
    device.seek(SeekFrom::End(0))
}

enum Found {
    None,
    Good(Superblock),
    Unfinished,
    Damaged(String),
}

/// Reads a btrfs superblock (the kernel's `struct btrfs_super_block`).
fn superblock(block: &[u8]) -> Found {
    let Some(magic) = block.get(64..72).filter(|_| block.len() == SUPERBLOCK) else {
        return Found::None;
    };
    match magic {
        b"!BHRfS_M" => Found::Unfinished,
        b"_BHRfS_M" => {
            let number = |at: usize| block[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
            let is_crc32c = block[196..198] == [0, 0];
            if is_crc32c && block[..4] != crc32c(&block[32..]).to_le_bytes() {
                return Found::Damaged("the checksum of its superblock is wrong".into());
            }
            Found::Good(Superblock {
                id: uuid(&block[32..48]),
                bytes: number(112),
            })
        }
        _ => Found::None,
    }
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// CRC-32C bit by bit: four kilobytes once a boot need no table.
fn crc32c(bytes: &[u8]) -> u32 {
    let rest = bytes.iter().fold(u32::MAX, |rest, byte| {
        (0..8).fold(rest ^ u32::from(*byte), |rest, _| {
            if rest & 1 == 1 {
                rest >> 1 ^ CRC32C_POLYNOMIAL
            } else {
                rest >> 1
            }
        })
    });
    !rest
}

fn signature(head: &[u8], known: &[Signature]) -> Option<&'static str> {
    known
        .iter()
        .find(|(at, signature, _)| {
            head.get(*at..)
                .is_some_and(|rest| rest.starts_with(signature))
        })
        .map(|(_, _, name)| *name)
}

/// Looks at the head, the tail, and evenly spread pieces between.
fn first_byte_in_use(
    device: &mut (impl Read + Seek),
    head: &[u8],
    bytes: u64,
) -> io::Result<Option<u64>> {
    if let Some(at) = head.iter().position(|byte| *byte != 0) {
        return Ok(Some(at as u64));
    }
    let tail = bytes.saturating_sub(HEAD as u64);
    let between = (1..SAMPLES).map(|n| (bytes / SAMPLES * n, SAMPLE));
    for (place, length) in between.chain([(tail, HEAD)]) {
        let piece = read_at(device, place, length, bytes)?;
        if let Some(at) = piece.iter().position(|byte| *byte != 0) {
            return Ok(Some(place + at as u64));
        }
    }
    Ok(None)
}

/// Up to `length` bytes at `place`; fewer at the partition's end.
fn read_at(
    device: &mut (impl Read + Seek),
    place: u64,
    length: usize,
    bytes: u64,
) -> io::Result<Vec<u8>> {
    let there = usize::try_from(bytes.saturating_sub(place)).unwrap_or(usize::MAX);
    let mut piece = vec![0; length.min(there)];
    if piece.is_empty() {
        // Beyond its end a device, unlike a file, can't even be sought to.
        return Ok(piece);
    }
    device.seek(SeekFrom::Start(place))?;
    device.read_exact(&mut piece)?;
    Ok(piece)
}

/// Holds every signature below and the first superblock.
const HEAD: usize = 1024 * 1024;

/// Where btrfs keeps its superblock and its copies.
const BTRFS_SUPERBLOCKS: [u64; 3] = [64 * 1024, 64 * 1024 * 1024, 256 * 1024 * 1024 * 1024];

const SUPERBLOCK: usize = 4096;

/// Reflected.
const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;

/// Sixty-four seeks of a slow disk take less than a second, on the first boot only.
const SAMPLES: u64 = 64;

const SAMPLE: usize = 64 * 1024;

/// Where it is, what it is, and whose.
type Signature = (usize, &'static [u8], &'static str);

const IMAGES: [Signature; 2] = [
    (0, b"hsqs", "squashfs"),
    (1024, b"\xe2\xe1\xf5\xe0", "erofs"),
];

const OTHERS: [Signature; 11] = [
    (0, b"XFSB", "an XFS file system"),
    (0, b"LUKS\xba\xbe", "a LUKS container"),
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (54, b"FAT1", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (512, b"LABELONE", "an LVM volume"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (1080, b"\x53\xef", "an ext4 file system"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4096, b"\xfc\x4e\x2b\xa9", "a part of a software RAID"),
];

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const SIZE: usize = 80 * 1024 * 1024;

    fn content_with(at: usize, bytes: &[u8]) -> Content {
        let mut disk = vec![0; SIZE];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        identify(&mut Cursor::new(disk), SIZE as u64).unwrap()
    }

    fn good_superblock() -> Vec<u8> {
        let mut block = vec![0; SUPERBLOCK];
        block[32..48].copy_from_slice(&[0xab; 16]);
        block[64..72].copy_from_slice(b"_BHRfS_M");
        block[112..120].copy_from_slice(&123_456_u64.to_le_bytes());
        let crc = crc32c(&block[32..]).to_le_bytes();
        block[..4].copy_from_slice(&crc);
        block
    }

    #[test]
    fn only_a_partition_of_zeroes_is_blank() {
        assert_eq!(content_with(0, &[]), Content::Blank);
        assert_eq!(content_with(700_000, &[1]), Content::Unknown(700_000));
        assert_eq!(
            content_with(SIZE - 1, &[1]),
            Content::Unknown(SIZE as u64 - 1)
        );
        let deep = SIZE / 64 * 20 + 5;
        assert_eq!(content_with(deep, &[1]), Content::Unknown(deep as u64));
        assert_eq!(identify(&mut Cursor::new([]), 0).unwrap(), Content::Blank);
    }

    #[test]
    fn a_btrfs_is_known_with_its_size_and_id() {
        let Content::Btrfs(found) = content_with(65_536, &good_superblock()) else {
            panic!()
        };
        assert_eq!(found.bytes, 123_456);
        assert_eq!(found.id, "abababab-abab-abab-abab-abababababab");
    }

    #[test]
    fn a_btrfs_that_lost_its_head_is_not_blank() {
        let copy = content_with(64 * 1024 * 1024, &good_superblock());
        assert!(matches!(copy, Content::DamagedBtrfs(_)));
        let mut flipped = good_superblock();
        flipped[200] ^= 1;
        assert!(matches!(
            content_with(65_536, &flipped),
            Content::DamagedBtrfs(_)
        ));
    }

    #[test]
    fn a_format_cut_short_is_told_from_data() {
        let mut unfinished = good_superblock();
        unfinished[64] = b'!';
        assert_eq!(content_with(65_536, &unfinished), Content::Unfinished);
    }

    #[test]
    fn others_are_called_by_their_names() {
        assert_eq!(
            content_with(1080, b"\x53\xef"),
            Content::Foreign("an ext4 file system")
        );
        assert_eq!(content_with(0, b"hsqs"), Content::Image("squashfs"));
    }

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
