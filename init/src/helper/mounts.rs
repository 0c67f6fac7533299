//! What is mounted where (`/proc/thread-self/mountinfo`), and how much room there is.

use std::path::{Path, PathBuf};

use super::HelperError;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Its file system's kind.
    pub(super) kind: String,
    /// Its device.
    pub(super) device: PathBuf,
    /// Whether the file system itself refuses writes.
    pub(super) read_only: bool,
}

/// What is mounted at `at`, the topmost.
pub(super) fn at(at: &Path) -> Result<Option<Mounted>, HelperError> {
    let table = std::fs::read_to_string(TABLE).map_err(HelperError::file(TABLE, "read"))?;
    let found = table
        .lines()
        .filter_map(parse)
        .rfind(|(place, _)| place == at);
    Ok(found.map(|(_, mounted)| mounted))
}

/// Bytes in all and bytes free to use of the file system at `at`.
pub(super) fn room(at: &Path) -> Result<(u64, u64), HelperError> {
    let stat = rustix::fs::statvfs(at)
        .map_err(|errno| HelperError::file(at, "asked for its room")(errno.into()))?;
    Ok((
        stat.f_blocks.saturating_mul(stat.f_frsize),
        stat.f_bavail.saturating_mul(stat.f_frsize),
    ))
}

/// `36 35 98:0 /root /place options [optional...] - kind device super-options`
fn parse(line: &str) -> Option<(PathBuf, Mounted)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut rest = file_system.split(' ');
    let (kind, device, options) = (rest.next()?, rest.next()?, rest.next()?);
    let mounted = Mounted {
        kind: kind.to_owned(),
        device: unescaped(device).into(),
        read_only: options.split(',').any(|option| option == "ro"),
    };
    Some((unescaped(mount.split(' ').nth(4)?).into(), mounted))
}

/// The kernel writes blanks and backslashes as octal numbers.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\134", "\\")
}

const TABLE: &str = "/proc/thread-self/mountinfo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_place_device_and_state() {
        let line = r"40 1 0:30 / /da\040ta rw,noatime shared:5 master:1 - btrfs /dev/vda5 ro,ssd";
        let (place, mounted) = parse(line).unwrap();
        assert_eq!(place, Path::new("/da ta"));
        assert_eq!(mounted.device, Path::new("/dev/vda5"));
        assert!(mounted.read_only && mounted.kind == "btrfs");
        assert_eq!(parse("rubbish"), None);
    }

    #[test]
    fn proc_is_mounted_here() {
        assert_eq!(at(Path::new("/proc")).unwrap().unwrap().kind, "proc");
        assert_eq!(at(Path::new("/proc/self")).unwrap(), None);
        assert!(room(Path::new("/")).unwrap().0 > 0);
    }
}
