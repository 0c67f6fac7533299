//! The btrfs programs: making the file system, its subvolumes, and growing it.

use std::{path::Path, time::Duration};

use super::{HelperError, tool};

/// Makes the data file system on `device`, with what can't be changed later: two copies of the
/// metadata even on one disk, and simple quotas where the program knows them.
pub(super) fn make(device: &Path) -> Result<(), HelperError> {
    let device = device.to_string_lossy();
    let common = [
        "--force",
        "--metadata",
        "dup",
        "--data",
        "single",
        "--label",
        LABEL,
    ];
    let known = tool::run("mkfs.btrfs", &["-O", "list-all"], MAKING)?;
    let features: &[&str] = if known.contains("squota") {
        &["-O", "squota"]
    } else {
        &[]
    };
    let args = [&common, features, &[&*device]].concat();
    tool::run("mkfs.btrfs", &args, MAKING).map(drop)
}

/// Lets the file system at `at` use its whole device.
pub(super) fn grow(at: &Path) -> Result<(), HelperError> {
    let at = at.to_string_lossy();
    tool::run("btrfs", &["filesystem", "resize", "max", &at], QUICK).map(drop)
}

/// Makes a subvolume.
pub(super) fn make_subvolume(path: &Path) -> Result<(), HelperError> {
    let path = path.to_string_lossy();
    tool::run("btrfs", &["subvolume", "create", &path], QUICK).map(drop)
}

/// The label of the data file system, as of its partition.
const LABEL: &str = "pilot-data";

/// mkfs writes little, but discards the whole disk first, which slow cards take long for. A starved
/// box was seen to take half a minute to start it at all, and without data it runs no service.
const MAKING: Duration = Duration::from_secs(120);

/// These write a few blocks; a disk that takes longer is failing.
const QUICK: Duration = Duration::from_secs(30);
