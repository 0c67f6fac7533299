//! Mounts whose files appear with shifted owners, and other attributes of a mount.
//!
//! Ids on disk stay as they are; the mount shows them through a user namespace's mapping. Which
//! file systems allow it depends on the kernel: 6.12 does for erofs, squashfs, ext4 and btrfs, older
//! ones refuse squashfs. The mapping of a mount can be set once, before it is attached anywhere.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use linux_raw_sys::general::mount_attr;
use rustix::mount::MountAttrFlags;

use crate::{Error, raw};

/// Gives the detached mount `mount` (of `open_tree` with OPEN_TREE_CLONE, or `fsmount`) the id
/// mapping of `namespace`, and sets `attributes` as well, all or nothing.
///
/// # Errors
/// EINVAL when the file system can't, the mount is attached already or has a mapping.
pub fn apply(
    mount: BorrowedFd<'_>,
    namespace: impl AsFd,
    attributes: MountAttrFlags,
) -> Result<(), Error> {
    let namespace = u64::from(namespace.as_fd().as_raw_fd().cast_unsigned());
    let set = attributes | MountAttrFlags::MOUNT_ATTR_IDMAP;
    set_attributes(mount, false, set, MountAttrFlags::empty(), namespace)
}

/// Sets and clears attributes (read-only, nosuid, nodev, noexec, ...) of `mount`, with all mounts
/// below it if `recursive`.
///
/// # Errors
/// When the kernel refuses: EBUSY for files open for writing on what is to be read-only.
pub fn change(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: MountAttrFlags,
    clear: MountAttrFlags,
) -> Result<(), Error> {
    set_attributes(
        mount,
        recursive,
        set & !MountAttrFlags::MOUNT_ATTR_IDMAP,
        clear,
        0,
    )
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: MountAttrFlags,
    clear: MountAttrFlags,
    userns_fd: u64,
) -> Result<(), Error> {
    let attributes = mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: u64::from(clear.bits()),
        propagation: 0,
        userns_fd,
    };
    raw::mount_setattr(mount, recursive, &attributes).map_err(Error::call(
        "mount_setattr",
        format!("a mount (set {set:?}, clear {clear:?})"),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::{
        fs::{AtFlags, Mode, OFlags},
        io::Errno,
        mount::{FsMountFlags, FsOpenFlags, fsconfig_create, fsmount, fsopen},
    };

    use super::*;
    use crate::userns::{IdRange, with_mappings};

    /// A file system of this kind in memory, mounted nowhere.
    fn detached_tmpfs() -> OwnedFd {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_create(context.as_fd()).unwrap();
        fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
        .unwrap()
    }

    fn is_root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            eprintln!("SKIPPED: needs root to mount");
        }
        root
    }

    fn owner(tree: &OwnedFd, name: &str) -> u32 {
        rustix::fs::statat(tree, name, AtFlags::empty())
            .unwrap()
            .st_uid
    }

    #[test]
    fn files_appear_shifted() {
        if !is_root() {
            return;
        }
        let tree = detached_tmpfs();
        let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&tree, "f", create, Mode::RUSR).unwrap();
        assert_eq!(owner(&tree, "f"), 0);
        let range = IdRange {
            inside: 0,
            outside: 1_000_000,
            count: 65_536,
        };
        let namespace = with_mappings(&[range], &[range]).unwrap();
        apply(tree.as_fd(), &namespace, MountAttrFlags::MOUNT_ATTR_NOSUID).unwrap();
        assert_eq!(owner(&tree, "f"), 1_000_000);
        let again = apply(tree.as_fd(), &namespace, MountAttrFlags::empty()).unwrap_err();
        assert!(again.errno().is_some(), "a mapping is set once: {again}");
    }

    #[test]
    fn a_mount_becomes_read_only() {
        if !is_root() {
            return;
        }
        let tree = detached_tmpfs();
        change(
            tree.as_fd(),
            true,
            MountAttrFlags::MOUNT_ATTR_RDONLY,
            MountAttrFlags::empty(),
        )
        .unwrap();
        let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let refused = rustix::fs::openat(&tree, "f", create, Mode::RUSR).unwrap_err();
        assert_eq!(refused, Errno::ROFS);
    }
}
