//! Mounting the data file system; making it when its partition is blank.
//!
//! Never repairs: what does not mount is left as it is, and the reason is told in words.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rustix::{io::Errno, mount::MountFlags};

use super::{
    HelperError, Options, SYS, answer, btrfs,
    content::{self, Content, Superblock},
    kmsg::Messages,
    layout, mapper, modules,
    mounts::{self, Mounted},
};

/// See [`super::run`].
pub(super) fn mount(options: &Options) -> Result<answer::Data, HelperError> {
    let at = &options.at;
    if let Some(mounted) = mounts::at(at)? {
        return already(at, mounted);
    }
    modules::need_file_system("btrfs");
    let device = find(options)?;
    let (superblock, made) = prepare(&device)?;
    attach(&device, at)?;
    let mut notes = Vec::new();
    if let Some(superblock) = superblock
        && let Err(error) = grow_if_smaller(&device, at, &superblock)
    {
        notes.push(format!("Data does not use its whole partition: {error}."));
    }
    layout::complete(at)?;
    answer(at, &device, made, notes)
}

/// It is mounted since before; a file system that met an error went read-only by itself.
fn already(at: &Path, mounted: Mounted) -> Result<answer::Data, HelperError> {
    if mounted.read_only {
        let reason = "after an error, or when the box was about to go down".to_owned();
        return Err(HelperError::ReadOnlyData {
            device: mounted.device,
            reason,
        });
    }
    answer(at, &mounted.device, false, Vec::new())
}

/// The device data is on.
///
/// # Errors
/// When there is none, or several.
pub(super) fn find(options: &Options) -> Result<PathBuf, HelperError> {
    let device = match &options.device {
        Some(device) => device.clone(),
        None => drivers::block::partition_by_label(Path::new(SYS), LABEL)?.node(),
    };
    if !options.mapper {
        return Ok(device);
    }
    let bytes = size(&device)?;
    mapper::create(&device, bytes)
}

/// Makes sure that there is a btrfs, and tells of the one that was there, or that it was made.
fn prepare(device: &Path) -> Result<(Option<Superblock>, bool), HelperError> {
    let foreign = |content: String| HelperError::ForeignData {
        device: device.to_owned(),
        content,
    };
    match look(device)? {
        Content::Btrfs(superblock) => Ok((Some(superblock), false)),
        Content::Blank | Content::Unfinished => {
            supervise::info!("making the data file system on {}", device.display());
            btrfs::make(device)?;
            Ok((None, true))
        }
        Content::DamagedBtrfs(what) => Err(HelperError::DamagedData {
            device: device.to_owned(),
            what,
        }),
        Content::Foreign(name) => Err(foreign(name.to_owned())),
        Content::Image(kind) => Err(foreign(format!("a {kind} image"))),
        Content::Unknown(at) => Err(foreign(format!(
            "something that is no file system (at byte {at})"
        ))),
    }
}

/// What is on the device.
pub(super) fn look(device: &Path) -> Result<Content, HelperError> {
    let read = |source| HelperError::File {
        path: device.to_owned(),
        done: "read",
        source,
    };
    let mut file = File::open(device).map_err(read)?;
    let bytes = content::size_of(&mut file).map_err(read)?;
    content::identify(&mut file, bytes).map_err(read)
}

fn size(device: &Path) -> Result<u64, HelperError> {
    let mut file = File::open(device).map_err(HelperError::file(device, "opened"))?;
    content::size_of(&mut file).map_err(HelperError::file(device, "measured"))
}

fn attach(device: &Path, at: &Path) -> Result<(), HelperError> {
    let mut messages = Messages::from_now();
    let flags = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV;
    if let Err(errno) = rustix::mount::mount(device, at, "btrfs", flags, None) {
        let reason = reason(errno, &messages.about("BTRFS"));
        return Err(HelperError::MountData {
            device: device.to_owned(),
            reason,
            errno,
        });
    }
    match mounts::at(at)? {
        Some(mounted) if !mounted.read_only => Ok(()),
        _ => {
            let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::empty());
            let reason = messages.about("BTRFS").join("; ");
            Err(HelperError::ReadOnlyData {
                device: device.to_owned(),
                reason,
            })
        }
    }
}

/// What the kernel's answer means, and what it said itself.
fn reason(errno: Errno, said: &[String]) -> String {
    let meaning = match errno {
        Errno::NODEV => "the kernel has no btrfs",
        Errno::NOENT => "the folder or the device is missing",
        Errno::NXIO | Errno::NODATA | Errno::IO => "the disk can't read what it should hold",
        Errno::UCLEAN | Errno::BADMSG | Errno::INVAL => "the file system's structure is damaged",
        Errno::NOSPC => "the disk is full",
        Errno::ROFS | Errno::ACCESS => "the disk refuses writes",
        _ => "the kernel refuses",
    };
    if said.is_empty() {
        meaning.to_owned()
    } else {
        format!("{meaning}: {}", said.join("; "))
    }
}

fn grow_if_smaller(device: &Path, at: &Path, superblock: &Superblock) -> Result<(), HelperError> {
    if superblock.bytes.saturating_add(SLACK) < size(device)? {
        btrfs::grow(at)
    } else {
        Ok(())
    }
}

fn answer(
    at: &Path,
    device: &Path,
    made: bool,
    notes: Vec<String>,
) -> Result<answer::Data, HelperError> {
    let (total, free) = mounts::room(at)?;
    Ok(answer::Data {
        device: device.display().to_string(),
        total,
        free,
        made,
        notes,
    })
}

/// The data partition's label.
const LABEL: &str = "pilot-data";

/// btrfs uses whole blocks; a remainder is no reason to grow.
const SLACK: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_mount_says_what_it_means_and_what_the_kernel_said() {
        let said = ["BTRFS error: bad tree block".to_owned()];
        let reason = reason(Errno::UCLEAN, &said);
        assert_eq!(
            reason,
            "the file system's structure is damaged: BTRFS error: bad tree block"
        );
        assert_eq!(super::reason(Errno::NODEV, &[]), "the kernel has no btrfs");
    }
}
