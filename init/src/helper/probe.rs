//! Whether data still takes writes: a small one, forced to the disk.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Instant,
};

use super::{HelperError, answer::Probe, mounts};

/// See [`super::run`].
pub(super) fn probe(at: &Path) -> Result<Probe, HelperError> {
    // Without this, the root's read-only folder would be told of.
    mounts::at(at)?.ok_or_else(|| HelperError::NotMounted { at: at.to_owned() })?;
    let path = at.join(FILE);
    let began = Instant::now();
    File::create(&path)
        .and_then(|mut file| {
            file.write_all(&[b'.'; 512])?;
            file.sync_all()
        })
        .map_err(HelperError::file(&path, "written"))?;
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _ = fs::remove_file(&path);
    let (total, free) = mounts::room(at)?;
    Ok(Probe {
        total,
        free,
        millis,
    })
}

const FILE: &str = "pilot/.probe";
