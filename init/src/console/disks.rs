//! Disks and partitions as the kernel knows them, read from /sys and /proc only: no disk is
//! touched, so one that hangs is listed too.

use std::{fs, path::Path};

use drivers::block;

use super::views;

/// All disks, each followed by its partitions, as text.
pub(crate) fn show() -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    list(Path::new("/sys"), &mounts)
}

fn list(sys: &Path, mounts: &str) -> String {
    let disks = match block::disks(sys) {
        Ok(disks) => disks,
        Err(error) => return format!("The disks can't be listed: {error}\n"),
    };
    if disks.is_empty() {
        return "No disk is known. Is its driver there? See `dmesg`.\n".to_owned();
    }
    let mut text = String::new();
    for disk in disks {
        text += &line(
            &disk.name,
            disk.bytes,
            &disk.model,
            &mounted(sys, &disk.name, mounts),
        );
        for part in &disk.partitions {
            let label = part.label.as_deref().unwrap_or_default();
            let points = mounted(sys, &part.name, mounts);
            text += &line(&format!("  {}", part.name), part.bytes, label, &points);
        }
    }
    text
}

fn line(name: &str, bytes: u64, label: &str, points: &[String]) -> String {
    let mounted = match points {
        [] => String::new(),
        points => format!("on {}", points.join(", ")),
    };
    let line = format!(
        "{name:<16} {:>10}  {label:<20} {mounted}",
        views::bytes(bytes)
    );
    line.trim_end().to_owned() + "\n"
}

/// Where it is mounted, itself or what the device mapper put on top of it. Found by the source's
/// name, as btrfs shows device numbers of its own.
fn mounted(sys: &Path, name: &str, mounts: &str) -> Vec<String> {
    let mut sources = vec![format!("/dev/{name}")];
    let holders = fs::read_dir(sys.join("class/block").join(name).join("holders"));
    for holder in holders.into_iter().flatten().flatten() {
        let mapped = fs::read_to_string(holder.path().join("dm/name")).unwrap_or_default();
        sources.push(format!("/dev/mapper/{}", mapped.trim()));
        sources.push(format!("/dev/{}", holder.file_name().to_string_lossy()));
    }
    let mut points: Vec<String> = mounts
        .lines()
        .filter_map(|line| point(line, &sources))
        .map(str::to_owned)
        .collect();
    points.dedup();
    points
}

/// The mount point of a line of /proc/self/mountinfo if one of `sources` is mounted there.
fn point<'a>(line: &'a str, sources: &[String]) -> Option<&'a str> {
    let (before, after) = line.split_once(" - ")?;
    let source = after.split(' ').nth(1)?;
    sources
        .iter()
        .any(|known| known == source)
        .then(|| before.split(' ').nth(4))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(sys: &Path, path: &str, files: &[(&str, &str)]) {
        let dir = sys.join("block").join(path);
        for (name, text) in files {
            let file = dir.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let class = sys.join("class/block");
        fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink(&dir, class.join(dir.file_name().unwrap())).unwrap();
    }

    #[test]
    fn disks_come_with_their_partitions_and_where_they_are_mounted() {
        let sys = std::env::temp_dir().join(format!("pilot-disks-{}", std::process::id()));
        let _ = fs::remove_dir_all(&sys);
        device(
            &sys,
            "vda",
            &[("size", "8388608\n"), ("device/model", "Disk\n")],
        );
        let part = [
            ("partition", "5\n"),
            ("size", "4194304\n"),
            ("start", "2048\n"),
            ("uevent", "DEVTYPE=partition\nPARTNAME=pilot-data\n"),
            ("holders/dm-0/dm/name", "pilot-data\n"),
        ];
        device(&sys, "vda/vda5", &part);
        let mapped = "40 1 0:31 / /data rw - btrfs /dev/mapper/pilot-data rw\n";
        let plain = "40 1 0:31 / /data rw - btrfs /dev/vda5 rw\n";
        let texts = [mapped, plain, "40 1 0:31 / /proc rw - proc proc rw\n"].map(|m| list(&sys, m));
        fs::remove_dir_all(&sys).unwrap();
        assert!(
            texts[0].starts_with("vda                 4.0 GiB  Disk\n"),
            "{}",
            texts[0]
        );
        let row = "  vda5              2.0 GiB  pilot-data";
        assert_eq!(
            texts[0].lines().nth(1).unwrap(),
            format!("{row}           on /data")
        );
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[2].lines().nth(1), Some(row));
    }
}
