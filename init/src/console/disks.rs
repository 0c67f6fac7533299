//! Disks and partitions as the kernel knows them, read from /sys and /proc only: no disk is
//! touched, so one that hangs is listed too.

use std::{fs, path::Path};

use super::views;

/// A disk or partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    name: String,
    /// The disk's name; of a partition that of the disk it is on.
    disk: String,
    /// In bytes.
    size: u64,
    partition: bool,
    /// The partition's name in the partition table, or the disk's model.
    label: String,
    mounted: Vec<String>,
}

/// All disks with media in them, each followed by its partitions, as text.
pub(crate) fn show() -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let blocks = list(Path::new("/sys/class/block"), &mounts);
    if blocks.is_empty() {
        return "No disk is known. Is its driver there? See `dmesg`.\n".to_owned();
    }
    blocks.iter().map(line).collect()
}

fn list(class: &Path, mounts: &str) -> Vec<Block> {
    let Ok(entries) = fs::read_dir(class) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut blocks: Vec<Block> = names
        .filter_map(|name| block(&class.join(&name), name, mounts))
        .collect();
    // A disk's name is shorter than its partitions' names; `vda10` comes after `vda9`.
    blocks.sort_by(|a, b| (&a.disk, a.name.len(), &a.name).cmp(&(&b.disk, b.name.len(), &b.name)));
    blocks
}

fn block(dir: &Path, name: String, mounts: &str) -> Option<Block> {
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    let size = read("size")
        .trim()
        .parse::<u64>()
        .ok()?
        .saturating_mul(SECTOR);
    if size == 0 {
        return None;
    }
    let uevent = read("uevent");
    let partition_name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("PARTNAME="));
    let mapper = read("dm/name");
    let model = read("device/model");
    let partition = uevent.lines().any(|line| line == "DEVTYPE=partition");
    let label = partition_name
        .or_else(|| present(&mapper))
        .or_else(|| present(&model));
    Some(Block {
        disk: if partition { parent(dir) } else { None }.unwrap_or_else(|| name.clone()),
        partition,
        label: label.unwrap_or_default().to_owned(),
        mounted: mounted_at(&name, mapper.trim(), mounts),
        size,
        name,
    })
}

/// Where it is mounted. By the source's name: btrfs shows device numbers of its own.
fn mounted_at(name: &str, mapper: &str, mounts: &str) -> Vec<String> {
    let sources = [format!("/dev/{name}"), format!("/dev/mapper/{mapper}")];
    let mut points: Vec<String> = mounts
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let source = after.split(' ').nth(1)?;
            sources
                .iter()
                .any(|s| s == source)
                .then(|| before.split(' ').nth(4))?
        })
        .map(str::to_owned)
        .collect();
    points.dedup();
    points
}

fn line(block: &Block) -> String {
    let name = if block.partition {
        format!("  {}", block.name)
    } else {
        block.name.clone()
    };
    let mounted = match block.mounted.as_slice() {
        [] => String::new(),
        points => format!("on {}", points.join(", ")),
    };
    format!(
        "{name:<16} {:>10}  {:<20} {mounted}\n",
        views::bytes(block.size),
        block.label
    )
}

/// The kernel's directory of a partition is in that of its disk.
fn parent(dir: &Path) -> Option<String> {
    let real = fs::canonicalize(dir).ok()?;
    Some(real.parent()?.file_name()?.to_string_lossy().into_owned())
}

fn present(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// What /sys counts sizes in, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn device(sys: &Path, path: &str, size: &str, uevent: &str) {
        let dir = sys.join("devices").join(path);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("size"), size).unwrap();
        fs::write(dir.join("uevent"), uevent).unwrap();
        let class = sys.join("class");
        fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink(&dir, class.join(dir.file_name().unwrap())).unwrap();
    }

    #[test]
    fn disks_come_with_their_partitions_and_mounts() {
        let sys = std::env::temp_dir().join(format!("pilot-disks-{}", std::process::id()));
        device(&sys, "nvme0n1", "2048\n", "DEVTYPE=disk\n");
        device(&sys, "vdb", "2048\n", "DEVTYPE=disk\n");
        device(
            &sys,
            "vda/vda5",
            "4194304\n",
            "DEVTYPE=partition\nPARTNAME=pilot-data\n",
        );
        device(&sys, "vda", "8388608\n", "DEVTYPE=disk\n");
        device(&sys, "vda/vda10", "2048\n", "DEVTYPE=partition\n");
        device(&sys, "sr0", "0\n", "DEVTYPE=disk\n");
        let mounts = "40 1 0:31 / /data rw,noatime - btrfs /dev/vda5 rw\n";
        let blocks = list(&sys.join("class"), mounts);
        fs::remove_dir_all(&sys).unwrap();
        let names: Vec<_> = blocks.iter().map(|block| block.name.as_str()).collect();
        assert_eq!(names, ["nvme0n1", "vda", "vda5", "vda10", "vdb"]);
        assert_eq!(
            line(&blocks[2]),
            "  vda5              2.0 GiB  pilot-data           on /data\n"
        );
    }
}
