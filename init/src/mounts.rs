//! The file systems that the kernel itself provides, and the tmpfs ones.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use rustix::{
    io::Errno,
    mount::{MountFlags, MountPropagationFlags},
};

/// Mounts what is not mounted yet. Returns what could not be, as sentences.
pub fn mount_all(mounts: &[Mount]) -> Vec<String> {
    mounts
        .iter()
        .filter_map(|mount| mount.make().err())
        .collect()
}

/// One mount.
#[derive(Clone, Copy, Debug)]
pub struct Mount {
    fs: &'static str,
    at: &'static str,
    flags: MountFlags,
    options: &'static str,
    /// A kernel without it is a lesser box, not a broken one.
    optional: bool,
}

impl Mount {
    fn make(&self) -> Result<(), String> {
        let at = Path::new(self.at);
        // Below /dev and /sys the place is made by us or the kernel; the root is read-only.
        let _ = fs::create_dir(at);
        // A tmpfs would be mounted a second time and hide the first with the sockets in it.
        if is_mount_point(at) {
            return Ok(());
        }
        let options = (!self.options.is_empty()).then(|| {
            std::ffi::CString::new(self.options).expect("the table below has no NUL bytes")
        });
        match rustix::mount::mount(self.fs, at, self.fs, self.flags, options.as_deref()) {
            // BUSY: mounted by the kernel (devtmpfs) or the stage before.
            Ok(()) | Err(Errno::BUSY) => Ok(()),
            Err(_) if self.optional => Ok(()),
            Err(errno) => Err(format!(
                "{} can't be mounted at {}: {errno}",
                self.fs, self.at
            )),
        }
    }
}

/// Makes all mounts private to this mount namespace, so that a monitor's never show up here.
pub fn make_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", flags)?)
}

/// Whether something is mounted at `path`: it is on another device than its parent.
fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    match (device(path), path.parent().map(device)) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        _ => false,
    }
}

/// Needed by both stages.
pub const KERNEL: &[Mount] = &[
    plain("proc", "/proc", SAFE),
    plain("sysfs", "/sys", SAFE),
    plain("cgroup2", "/sys/fs/cgroup", SAFE),
    Mount {
        options: "mode=0755",
        ..plain("devtmpfs", "/dev", MountFlags::NOSUID)
    },
    Mount {
        options: "mode=0755,size=25%",
        ..plain("tmpfs", "/run", MountFlags::NOSUID)
    },
];

/// Needed by stage 1 alone.
pub const SYSTEM: &[Mount] = &[
    Mount {
        options: "mode=0620,ptmxmode=0666",
        ..plain("devpts", "/dev/pts", MountFlags::NOSUID)
    },
    Mount {
        options: "mode=1777,size=25%",
        ..plain("tmpfs", "/dev/shm", SAFE)
    },
    Mount {
        options: "mode=1777,size=25%",
        ..plain("tmpfs", "/tmp", SAFE)
    },
    Mount {
        optional: true,
        ..plain("pstore", "/sys/fs/pstore", SAFE)
    },
    Mount {
        optional: true,
        ..plain("securityfs", "/sys/kernel/security", SAFE)
    },
];

const SAFE: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

const fn plain(fs: &'static str, at: &'static str, flags: MountFlags) -> Mount {
    Mount {
        fs,
        at,
        flags,
        options: "",
        optional: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_told_from_a_plain_folder() {
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/usr/bin")) && !is_mount_point(Path::new("/nowhere")));
    }
}
