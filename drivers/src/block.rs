//! Disks and partitions as the kernel knows them, found by label.
//!
//! Reads /sys only, so it never waits for a disk. A partition's label is what its GPT entry says
//! (`PARTNAME`); device names change from boot to boot and identify nothing.

use std::path::{Path, PathBuf};

use crate::{Error, sysfs};

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The kernel's name of it, good until the next boot: `nvme0n1`.
    pub name: String,
    /// What its maker calls it; empty for virtual ones.
    pub model: String,
    /// How it is attached.
    pub transport: Transport,
    /// Size in bytes.
    pub bytes: u64,
    /// Size of its logical blocks in bytes.
    pub block_size: u32,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether it may be pulled out.
    pub removable: bool,
    /// Its partitions by number.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's name of it, good until the next boot: `nvme0n1p5`.
    pub name: String,
    /// Its number in the table, from 1.
    pub number: u32,
    /// Its label in the GPT.
    pub label: Option<String>,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether it refuses writes.
    pub read_only: bool,
}

impl Partition {
    /// Its device node.
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

impl Disk {
    /// Its device node.
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// NVM Express.
    Nvme,
    /// SATA or IDE.
    Ata,
    /// USB.
    Usb,
    /// SD card or eMMC.
    Mmc,
    /// A virtual machine's.
    Virtio,
    /// Anything else.
    Other,
}

/// All disks with something in them, by name. Loop, RAM and mapped devices are none.
///
/// # Errors
/// When `sys` can't be read.
pub fn disks(sys: &Path) -> Result<Vec<Disk>, Error> {
    let folder = sys.join("block");
    let mut disks = Vec::new();
    for name in sysfs::names(&folder)? {
        let path = folder.join(&name);
        let bytes = bytes_of(&path);
        // What has no device behind it is made of something else: loop, dm, ram, zram.
        if bytes > 0 && path.join("device").exists() {
            disks.push(disk(&path, name, bytes)?);
        }
    }
    Ok(disks)
}

/// The one partition with this label.
///
/// # Errors
/// When there is none (yet), or more than one: then nothing tells which is this box's.
pub fn partition_by_label(sys: &Path, label: &str) -> Result<Partition, Error> {
    let mut found: Vec<_> = disks(sys)?
        .into_iter()
        .flat_map(|disk| disk.partitions)
        .filter(|partition| partition.label.as_deref() == Some(label))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(partition), true) => Ok(partition),
        (None, _) => Err(Error::NoPartition {
            label: label.to_owned(),
        }),
        (Some(last), false) => {
            found.push(last);
            let names = found.into_iter().map(|partition| partition.name).collect();
            Err(Error::AmbiguousPartition {
                label: label.to_owned(),
                names,
            })
        }
    }
}

fn disk(path: &Path, name: String, bytes: u64) -> Result<Disk, Error> {
    let mut partitions = Vec::new();
    for entry in sysfs::names(path)? {
        let number = sysfs::number(&path.join(&entry).join("partition"));
        if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
            partitions.push(partition(&path.join(&entry), entry, number));
        }
    }
    partitions.sort_by_key(|partition| partition.number);
    Ok(Disk {
        model: sysfs::optional(&path.join("device/model")).unwrap_or_default(),
        transport: transport(path, &name),
        bytes,
        block_size: sysfs::number(&path.join("queue/logical_block_size"))
            .and_then(|size| u32::try_from(size).ok())
            .unwrap_or(512),
        read_only: sysfs::number(&path.join("ro")) == Some(1),
        removable: sysfs::number(&path.join("removable")) == Some(1),
        partitions,
        name,
    })
}

fn partition(path: &Path, name: String, number: u32) -> Partition {
    let label = sysfs::optional(&path.join("uevent")).and_then(|uevent| {
        uevent
            .lines()
            .find_map(|line| line.strip_prefix("PARTNAME="))
            .map(str::to_owned)
    });
    Partition {
        name,
        number,
        label,
        start: sysfs::number(&path.join("start"))
            .unwrap_or(0)
            .saturating_mul(SECTOR),
        bytes: bytes_of(path),
        read_only: sysfs::number(&path.join("ro")) == Some(1),
    }
}

fn bytes_of(path: &Path) -> u64 {
    sysfs::number(&path.join("size"))
        .unwrap_or(0)
        .saturating_mul(SECTOR)
}

fn transport(path: &Path, name: &str) -> Transport {
    // /sys/block/sda is a link into the tree of devices, whose path names the buses on the way.
    let real = path.canonicalize().unwrap_or_default();
    let passes = |bus: &str| {
        real.components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with(bus))
    };
    match name {
        name if name.starts_with("nvme") => Transport::Nvme,
        name if name.starts_with("mmcblk") => Transport::Mmc,
        name if name.starts_with("vd") => Transport::Virtio,
        _ if passes("usb") => Transport::Usb,
        _ if passes("ata") => Transport::Ata,
        _ if passes("virtio") => Transport::Virtio,
        _ => Transport::Other,
    }
}

/// /sys counts in these whatever the disk's blocks are.
const SECTOR: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::tests::TestDir;

    fn sys_with(name: &str, second_disk_label: &str) -> TestDir {
        let sys = TestDir::new(name);
        let usb = "devices/pci0000:00/usb1/1-1/host0/block/sda";
        for (disk, size) in [
            ("block/nvme0n1", "2000"),
            (usb, "500"),
            ("block/loop0", "8"),
        ] {
            sys.write(&format!("{disk}/size"), size);
        }
        std::os::unix::fs::symlink(sys.path().join(usb), sys.path().join("block/sda")).unwrap();
        sys.write("block/nvme0n1/device/model", "Fast 1000   \n");
        sys.write("block/nvme0n1/queue/logical_block_size", "4096");
        sys.write("block/sda/device/model", "Stick");
        sys.write("block/sda/removable", "1");
        let partitions = [
            ("nvme0n1/nvme0n1p10", "10", "pilot-data"),
            ("nvme0n1/nvme0n1p2", "2", "pilot-keep"),
            ("sda/sda1", "1", second_disk_label),
        ];
        for (path, number, label) in partitions {
            sys.write(&format!("block/{path}/partition"), number);
            sys.write(&format!("block/{path}/start"), "8");
            sys.write(&format!("block/{path}/size"), "16");
            sys.write(
                &format!("block/{path}/uevent"),
                &format!("MAJOR=8\nPARTNAME={label}\n"),
            );
        }
        sys
    }

    #[test]
    fn disks_are_told_with_their_partitions_in_order() {
        let sys = sys_with("block-disks", "music");
        let disks = disks(sys.path()).unwrap();
        let [nvme, usb] = disks.as_slice() else {
            panic!("{disks:?}")
        };
        assert_eq!(
            (nvme.model.as_str(), nvme.bytes, nvme.block_size),
            ("Fast 1000", 1_024_000, 4096)
        );
        assert_eq!(
            (nvme.transport, usb.transport),
            (Transport::Nvme, Transport::Usb)
        );
        assert!(usb.removable && !nvme.removable);
        let numbers: Vec<_> = nvme
            .partitions
            .iter()
            .map(|p| (p.number, p.start, p.bytes))
            .collect();
        assert_eq!(numbers, [(2, 4096, 8192), (10, 4096, 8192)]);
    }

    #[test]
    fn a_partition_is_found_by_label_or_it_is_said_why_not() {
        let sys = sys_with("block-label", "music");
        let data = partition_by_label(sys.path(), "pilot-data").unwrap();
        assert_eq!(data.node(), Path::new("/dev/nvme0n1p10"));
        let missing = partition_by_label(sys.path(), "pilot-esp").unwrap_err();
        assert!(matches!(missing, Error::NoPartition { .. }));
        let twice = sys_with("block-twice", "pilot-data");
        let error = partition_by_label(twice.path(), "pilot-data").unwrap_err();
        assert!(error.to_string().contains("nvme0n1p10, sda1"), "{error}");
    }
}
