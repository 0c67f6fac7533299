//! The folders of the data file system, and the file that is given back when it is full.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
    path::Path,
};

use rustix::fs::FallocateFlags;

use super::{HelperError, btrfs};

/// Makes what is missing below `at`, and gives the folders to their owners.
///
/// # Errors
/// When something can't be made; what there is stays as it is.
pub(super) fn complete(at: &Path) -> Result<(), HelperError> {
    for (name, owner, mode) in FOLDERS {
        let path = at.join(name);
        if !path.is_dir() {
            btrfs::make_subvolume(&path)?;
        }
        chown(&path, Some(owner), Some(owner)).map_err(HelperError::file(&path, "given away"))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(HelperError::file(&path, "protected"))?;
    }
    reserve(&at.join(RESERVE))
}

/// Takes the reserve's room. A full disk that can't give it has already had it back.
fn reserve(path: &Path) -> Result<(), HelperError> {
    if path.exists() {
        return Ok(());
    }
    let file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(HelperError::file(path, "made"))?;
    let taken = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)
        .map_err(std::io::Error::from)
        .and_then(|()| chown(path, Some(MANAGER), Some(MANAGER)));
    match taken {
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            fs::remove_file(path).map_err(HelperError::file(path, "removed"))
        }
        other => other.map_err(HelperError::file(path, "filled")),
    }
}

const ROOT: u32 = 0;
const MANAGER: u32 = 501;
const LOGD: u32 = 502;

/// Name, owner and permissions. Services' folders are made by their monitors, which trust what is
/// there, and passed through by the ids of containers.
const FOLDERS: [(&str, u32, u32); 4] = [
    ("packages", MANAGER, 0o755),
    ("services", ROOT, 0o711),
    ("logs", LOGD, 0o750),
    ("pilot", MANAGER, 0o700),
];

const RESERVE: &str = "pilot/reserve";

/// Enough for btrfs to delete with, when nothing else is left.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
