//! Unmounting data so that the next mount has nothing to replay.

use std::{
    fs::{self, File},
    iter,
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

use super::{HelperError, Options, answer::Unmounted, content::Content, data, mapper, mounts};

/// See [`super::run`].
pub(super) fn unmount(options: &Options) -> Result<Unmounted, HelperError> {
    let at = &options.at;
    let Some(mounted) = mounts::at(at)? else {
        mapper::remove()?;
        return Ok(done("nothing was mounted", true));
    };
    write_out(at)?;
    // Read while it is mounted: it says under which name the kernel knows the file system.
    let id = match data::look(&mounted.device) {
        Ok(Content::Btrfs(superblock)) => Some(superblock.id),
        _ => None,
    };
    match detach_when_idle(at) {
        Ok(()) => {
            let clean = id.is_none_or(|id| is_released(&id));
            if clean {
                mapper::remove()?;
                return Ok(done(CLEAN, true));
            }
            Ok(done(
                "unmounted here, but still in use in another mount namespace",
                false,
            ))
        }
        Err(errno) => by_force(at, errno, options.lazy),
    }
}

fn write_out(at: &Path) -> Result<(), HelperError> {
    let root = File::open(at).map_err(HelperError::file(at, "opened"))?;
    rustix::fs::syncfs(&root).map_err(|errno| HelperError::file(at, "written out")(errno.into()))
}

/// Unmounts, waiting for processes that are just ending.
fn detach_when_idle(at: &Path) -> Result<(), Errno> {
    let deadline = Instant::now() + BUSY_PATIENCE;
    loop {
        match rustix::mount::unmount(at, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(PAUSE),
            other => return other,
        }
    }
}

/// Somebody holds it: read-only is as good as unmounted for what is on disk, if it can be had.
fn by_force(at: &Path, errno: Errno, lazy: bool) -> Result<Unmounted, HelperError> {
    let holders = holders(at);
    let read_only = rustix::mount::mount_remount(at, MountFlags::RDONLY, "").is_ok();
    if lazy && rustix::mount::unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {
        let how = if read_only {
            "made read-only and detached"
        } else {
            "detached while in use"
        };
        return Ok(Unmounted {
            holders,
            ..done(how, read_only)
        });
    }
    if read_only {
        return Ok(Unmounted {
            holders,
            ..done("made read-only: it is in use", true)
        });
    }
    Err(HelperError::Busy {
        at: at.to_owned(),
        errno,
        holders,
    })
}

fn done(how: &str, clean: bool) -> Unmounted {
    Unmounted {
        clean,
        how: how.to_owned(),
        holders: Vec::new(),
    }
}

/// Whether the kernel has let go of the file system: other mount namespaces, as of a service that
/// is just ending, may hold it a little longer.
fn is_released(id: &str) -> bool {
    let known = Path::new("/sys/fs/btrfs").join(id);
    let deadline = Instant::now() + BUSY_PATIENCE;
    while known.exists() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// Processes with a folder or an open file on the file system at `at`.
fn holders(at: &Path) -> Vec<String> {
    // Each subvolume of btrfs has a device number of its own.
    let folders = fs::read_dir(at)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let devices: Vec<u64> = iter::once(at.to_owned())
        .chain(folders)
        .filter_map(|folder| Some(fs::metadata(folder).ok()?.dev()))
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .filter(|entry| holds(&entry.path(), &devices))
        .map(|entry| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            format!(
                "{} ({})",
                name.trim_end(),
                entry.file_name().to_string_lossy()
            )
        })
        .take(MOST_HOLDERS)
        .collect()
}

fn holds(process: &Path, devices: &[u64]) -> bool {
    let on_device =
        |path: &Path| fs::metadata(path).is_ok_and(|file| devices.contains(&file.dev()));
    let open = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    ["cwd", "root", "exe"]
        .iter()
        .any(|name| on_device(&process.join(name)))
        || open.into_iter().any(|fd| on_device(&fd.path()))
}

/// How [`Unmounted`] says that all went as it should.
pub const CLEAN: &str = "unmounted";

/// Processes were killed before this is asked for; the kernel takes a moment to end them.
const BUSY_PATIENCE: Duration = Duration::from_secs(3);

const PAUSE: Duration = Duration::from_millis(50);

/// Enough to see the pattern; the answer must fit in a pipe.
const MOST_HOLDERS: usize = 20;
