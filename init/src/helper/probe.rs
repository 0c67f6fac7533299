//! Whether data still takes writes: a small one, forced to the disk.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::Path,
    time::Instant,
};

use super::{HelperError, answer::Probe, mounts, reserve};

/// See [`super::run`].
pub(super) fn probe(at: &Path) -> Result<Probe, HelperError> {
    // Without this, the root's read-only folder would be told of.
    mounts::at(at)?.ok_or_else(|| HelperError::NotMounted { at: at.to_owned() })?;
    let path = at.join(FILE);
    let began = Instant::now();
    match write(&path) {
        // A full disk has answered; that it is full is told below.
        Err(error) if error.kind() == ErrorKind::StorageFull => reserve::give(at)?,
        other => other.map_err(HelperError::file(&path, "written"))?,
    }
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _ = fs::remove_file(&path);
    let reserve_is_given = settle_reserve(at)?;
    let (total, free) = mounts::room(at)?;
    Ok(Probe {
        total,
        free,
        millis,
        reserve_is_given,
    })
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&[b'.'; 512])?;
    file.sync_all()
}

/// Gives the reserve back when next to nothing is free, and takes it again when much is. Whether
/// it is given back. The small write says nothing about that: btrfs keeps it among its metadata.
fn settle_reserve(at: &Path) -> Result<bool, HelperError> {
    let (_, free) = mounts::room(at)?;
    if reserve::is_taken(at) {
        if free < FULL {
            reserve::give(at)?;
        }
    } else if free > ROOMY {
        reserve::take(at)?;
    }
    Ok(!reserve::is_taken(at))
}

const FILE: &str = "pilot/.probe";

/// Bytes free that are as good as none: btrfs says a little more than can be written.
const FULL: u64 = 4 * 1024 * 1024;
/// Bytes free that leave enough beside the reserve, so that it is not given and taken in turns.
const ROOMY: u64 = 4 * reserve::BYTES;
