//! The box's disk, as a sparse file: the table, the root in slot A, and nothing else. Data and
//! `keep` are left empty: the box formats them itself.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::gpt::{self, Extent, Partition};

/// A disk in a file of the builder's.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The raw file.
    pub path: PathBuf,
    extents: Vec<Extent>,
}

impl Disk {
    /// A new disk at `path` with `root` in slot A; what was there is gone.
    ///
    /// # Errors
    /// When the root is too large for its slot, or the file can't be written.
    pub fn create(path: &Path, root: &Path, size: u64) -> Result<Self> {
        let table = gpt::lay_out(size, &LAYOUT).context("the disk is too small for the box")?;
        fs::remove_file(path).ok();
        let file = File::create_new(path).with_context(|| path.display().to_string())?;
        file.set_len(size)?;
        write_table(&file, &table, size)?;
        let disk = Self {
            path: path.into(),
            extents: table.extents,
        };
        disk.write_root(root)?;
        Ok(disk)
    }

    /// The disk at `path` as an earlier run left it, with `root` in slot A; its data stays.
    ///
    /// # Errors
    /// As [`Disk::create`]; and when there is no such disk.
    pub fn reuse(path: &Path, root: &Path) -> Result<Self> {
        let size = fs::metadata(path)
            .with_context(|| path.display().to_string())?
            .len();
        let table = gpt::lay_out(size, &LAYOUT).context("the disk is too small for the box")?;
        let mut head = vec![0; table.head.len()];
        File::open(path)?.read_exact_at(&mut head, 0)?;
        if head != table.head {
            bail!(
                "{} has another partition table: start over with --fresh",
                path.display()
            );
        }
        let disk = Self {
            path: path.into(),
            extents: table.extents,
        };
        disk.write_root(root)?;
        Ok(disk)
    }

    /// Where the partition of this label lies on the disk.
    ///
    /// # Errors
    /// When the box's disks have none of this label.
    pub fn partition(&self, label: &str) -> Result<Extent> {
        let position = LAYOUT.iter().position(|partition| partition.label == label);
        let extent = position.and_then(|position| self.extents.get(position));
        extent
            .copied()
            .with_context(|| format!("the box's disk has no partition {label}"))
    }

    /// Overwrites bytes of a partition, from `offset` within it: for tests that damage things.
    ///
    /// # Errors
    /// When they don't fit, or can't be written.
    pub fn overwrite(&self, label: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let extent = self.partition(label)?;
        if offset + bytes.len() as u64 > extent.length {
            bail!("{label} has no room for {} bytes at {offset}", bytes.len());
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        Ok(file.write_all_at(bytes, extent.start + offset)?)
    }

    /// Reads bytes of a partition, from `offset` within it.
    ///
    /// # Errors
    /// When there are not so many, or they can't be read.
    pub fn read(&self, label: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        let extent = self.partition(label)?;
        if offset + length as u64 > extent.length {
            bail!("{label} has no {length} bytes at {offset}");
        }
        let mut bytes = vec![0; length];
        File::open(&self.path)?.read_exact_at(&mut bytes, extent.start + offset)?;
        Ok(bytes)
    }

    /// Takes the last partition out of the table, for tests of a box that lacks it: data.
    ///
    /// # Errors
    /// When the table can't be written.
    pub fn forget_data(&self) -> Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        let size = file.metadata()?.len();
        let table = gpt::lay_out(size, &LAYOUT[..LAYOUT.len() - 1])
            .context("the disk is too small for the box")?;
        write_table(&file, &table, size)
    }

    /// Puts the root in slot A, unless it is there already.
    fn write_root(&self, root: &Path) -> Result<()> {
        let extent = self.partition("pilot-root-a")?;
        let length = fs::metadata(root)?.len();
        if length > extent.length {
            bail!("the root has {length} bytes, its slot {}", extent.length);
        }
        let disk = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let mut image = File::open(root)?;
        let mut new = vec![0; BLOCK];
        let mut old = vec![0; BLOCK];
        let mut at = extent.start;
        loop {
            let read = read_full(&mut image, &mut new)?;
            if read == 0 {
                return Ok((&disk).flush()?);
            }
            disk.read_exact_at(&mut old[..read], at)?;
            if old[..read] != new[..read] {
                disk.write_all_at(&new[..read], at)?;
            }
            at += read as u64;
        }
    }
}

fn write_table(file: &File, table: &gpt::Table, size: u64) -> Result<()> {
    file.write_all_at(&table.head, 0)?;
    Ok(file.write_all_at(&table.tail, size - table.tail.len() as u64)?)
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// The box's partitions. Types: EFI system; two of our own; root x86-64 as the discoverable
/// partitions specification has it.
const LAYOUT: [Partition; 5] = [
    Partition {
        label: "pilot-esp",
        kind: ESP,
        size: Some(256 * MIB),
    },
    Partition {
        label: "pilot-keep",
        kind: KEEP,
        size: Some(32 * MIB),
    },
    Partition {
        label: "pilot-root-a",
        kind: ROOT,
        size: Some(512 * MIB),
    },
    Partition {
        label: "pilot-root-b",
        kind: ROOT,
        size: Some(512 * MIB),
    },
    Partition {
        label: "pilot-data",
        kind: DATA,
        size: None,
    },
];

const ESP: u128 = 0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b;
const ROOT: u128 = 0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709;
const KEEP: u128 = 0x7069_6c6f_744b_4565_b000_706c_6967_6874;
const DATA: u128 = 0x7069_6c6f_7464_4174_a000_706c_6967_6874;

const MIB: u64 = 1 << 20;
/// Bytes compared at a time: whether a block of the root is there already.
const BLOCK: usize = 1 << 20;
/// Room for the slots and 6 GiB of data; the file is sparse, so only what is written takes space.
pub const SIZE: u64 = 8 << 30;

#[cfg(test)]
mod tests {
    use super::{Disk, SIZE};
    use std::fs;
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("boards-disk-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("root"), b"hsqs, more or less").unwrap();
        folder
    }

    #[test]
    fn data_survives_a_new_root() {
        let folder = folder("survives");
        let path = folder.join("disk");
        let disk = Disk::create(&path, &folder.join("root"), SIZE).unwrap();
        disk.overwrite("pilot-data", 0, b"kept").unwrap();
        fs::write(folder.join("root"), b"another root").unwrap();
        let disk = Disk::reuse(&path, &folder.join("root")).unwrap();
        assert_eq!(disk.read("pilot-data", 0, 4).unwrap(), b"kept");
        let root = disk.read("pilot-root-a", 0, 12).unwrap();
        assert_eq!(root, b"another root");
    }

    #[test]
    fn a_table_without_data_leaves_the_others_where_they_were() {
        let folder = folder("forgotten");
        let path = folder.join("disk");
        let disk = Disk::create(&path, &folder.join("root"), SIZE).unwrap();
        let entries = || {
            let mut bytes = [0; 5 * 128];
            let file = fs::File::open(&path).unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 1024).unwrap();
            bytes
        };
        let before = entries();
        disk.forget_data().unwrap();
        let after = entries();
        assert_eq!(after[..4 * 128], before[..4 * 128]);
        assert_ne!(before[4 * 128..], [0; 128]);
        assert_eq!(after[4 * 128..], [0; 128]);
    }

    #[test]
    fn a_disk_of_another_layout_is_not_touched() {
        let folder = folder("other");
        let path = folder.join("disk");
        fs::write(&path, vec![7; 1 << 20]).unwrap();
        assert!(Disk::reuse(&path, &folder.join("root")).is_err());
        assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_write_past_a_partition_is_refused() {
        let folder = folder("past");
        let disk = Disk::create(&folder.join("disk"), &folder.join("root"), SIZE).unwrap();
        assert!(disk.overwrite("pilot-keep", 32 << 20, b"x").is_err());
    }
}
