//! Squashfs images from folders, the same bytes each time, by the host's `mksquashfs`.

use std::{path::Path, process::Command};

use super::{error::PackageError, recipe::Owners};

/// Makes the image `to` of the folder `from`.
pub(crate) fn squash(from: &Path, owners: Owners, to: &Path) -> Result<(), PackageError> {
    let failed = |why: String| PackageError::Image {
        source_path: from.to_owned(),
        why,
    };
    let mut command = Command::new("mksquashfs");
    command.arg(from).arg(to).args(REPRODUCIBLY);
    // It would win over the times given here.
    command.env_remove("SOURCE_DATE_EPOCH");
    if owners == Owners::Root {
        command.arg("-all-root");
    }
    let output = command
        .output()
        .map_err(|error| failed(format!("{error}; install the package squashfs-tools")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, said.trim())))
}

/// Zstandard unpacks several times as fast as the default, gzip.
const REPRODUCIBLY: [&str; 9] = [
    "-quiet",
    "-no-progress",
    "-noappend",
    "-comp",
    "zstd",
    "-all-time",
    "0",
    "-mkfs-time",
    "0",
];
