//! Data behind a device-mapper target, so that tests can suspend the disk under it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{HelperError, SYS, modules, tool};

/// Puts `device`, of `bytes` bytes, behind a linear target; returns the target's node. Does
/// nothing when it is there already.
pub(super) fn create(device: &Path, bytes: u64) -> Result<PathBuf, HelperError> {
    // Without the module, dmsetup says what is missing.
    let _ = modules::load(&["dm_mod"]);
    if let Some(node) = node(Path::new(SYS))? {
        return Ok(node);
    }
    let table = format!("0 {} linear {} 0", bytes / SECTOR, device.display());
    let args = [&NO_UDEV[..], &["create", NAME, "--table", &table]].concat();
    tool::run("dmsetup", &args, PATIENCE)?;
    node(Path::new(SYS))?.ok_or_else(|| {
        HelperError::file(format!("/dev/mapper/{NAME}"), "found")(ErrorKind::NotFound.into())
    })
}

/// Takes the target away; whether there was one.
pub(super) fn remove() -> Result<bool, HelperError> {
    if node(Path::new(SYS))?.is_none() {
        return Ok(false);
    }
    let args = [&NO_UDEV[..], &["remove", "--retry", NAME]].concat();
    tool::run("dmsetup", &args, PATIENCE)?;
    Ok(true)
}

/// The target's own node. The kernel makes it; the link in /dev/mapper needs udev or dmsetup.
fn node(sys: &Path) -> Result<Option<PathBuf>, HelperError> {
    let folder = sys.join("block");
    let entries = fs::read_dir(&folder).map_err(HelperError::file(&folder, "read"))?;
    for entry in entries.flatten() {
        let name = fs::read_to_string(entry.path().join("dm/name")).unwrap_or_default();
        if name.trim_end() == NAME {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}

const NAME: &str = "pilot-data";

/// There is no udev to wait for.
const NO_UDEV: [&str; 2] = ["--noudevsync", "--noudevrules"];

/// The device-mapper counts in these whatever the disk's blocks are.
const SECTOR: u64 = 512;

/// Tables are set up in memory; only a target in use is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_found_by_its_name_only() {
        let sys = std::env::temp_dir().join(format!("mapper-{}", std::process::id()));
        for (device, name) in [("dm-0", "other"), ("dm-1", "pilot-data")] {
            fs::create_dir_all(sys.join("block").join(device).join("dm")).unwrap();
            fs::write(
                sys.join("block").join(device).join("dm/name"),
                format!("{name}\n"),
            )
            .unwrap();
        }
        fs::create_dir_all(sys.join("block/vda")).unwrap();
        assert_eq!(node(&sys).unwrap(), Some(PathBuf::from("/dev/dm-1")));
        fs::remove_dir_all(sys.join("block/dm-1")).unwrap();
        assert_eq!(node(&sys).unwrap(), None);
        fs::remove_dir_all(&sys).unwrap();
    }
}
