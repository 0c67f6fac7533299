//! The folders of the data file system.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use super::{HelperError, btrfs, reserve};

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
    // On a full disk it has been given back already.
    reserve::take(at).map(drop)
}

const ROOT: u32 = 0;
pub(super) const MANAGER: u32 = 501;
const LOGD: u32 = 502;

/// Name, owner and permissions. Services' folders are made by their monitors, which trust what is
/// there, and passed through by the ids of containers.
const FOLDERS: [(&str, u32, u32); 4] = [
    ("packages", MANAGER, 0o755),
    ("services", ROOT, 0o711),
    ("logs", LOGD, 0o750),
    ("pilot", MANAGER, 0o700),
];
