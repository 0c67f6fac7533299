//! The reserve: a file that holds some room of the data file system, to be given back when nothing
//! else is left, as a full btrfs needs room even to delete.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use rustix::fs::FallocateFlags;

use super::HelperError;

/// Takes the reserve's room below `at`, unless it is taken. Whether it is.
///
/// # Errors
/// When the disk refuses for another reason than being full.
pub(super) fn take(at: &Path) -> Result<bool, HelperError> {
    let path = at.join(RESERVE);
    if is_whole(&path) {
        return Ok(true);
    }
    match fill(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::StorageFull => give(at).map(|()| false),
        Err(error) => Err(HelperError::file(path, "filled")(error)),
    }
}

/// Gives its room back.
///
/// # Errors
/// When the disk refuses even that.
pub(super) fn give(at: &Path) -> Result<(), HelperError> {
    let path = at.join(RESERVE);
    let gone = match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        // Room is free only once the removal is on the disk.
        _ => File::open(at).and_then(|root| Ok(rustix::fs::syncfs(&root)?)),
    };
    gone.map_err(HelperError::file(path, "removed"))
}

/// Whether it is there below `at`.
pub(super) fn is_taken(at: &Path) -> bool {
    at.join(RESERVE).exists()
}

/// One that a power cut left half made is not.
fn is_whole(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.blocks() * 512 >= BYTES)
}

fn fill(path: &Path) -> io::Result<()> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    chown(
        path,
        Some(super::layout::MANAGER),
        Some(super::layout::MANAGER),
    )?;
    Ok(rustix::fs::fallocate(
        &file,
        FallocateFlags::empty(),
        0,
        BYTES,
    )?)
}

const RESERVE: &str = "pilot/reserve";

/// In bytes. Enough for btrfs to delete with.
pub(super) const BYTES: u64 = 16 * 1024 * 1024;
