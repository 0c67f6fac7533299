//! The monitor's own mount namespace: what it mounts is seen by nobody else and goes with it.
#![allow(unsafe_code)]

use rustix::{io, mount::MountPropagationFlags, thread::UnshareFlags};

/// Leaves the host's mount namespace for a copy. What the host unmounts later is unmounted here
/// too, so that a container never keeps a disk busy; nothing mounted here reaches the host.
pub(crate) fn own_mounts() -> io::Result<()> {
    // SAFETY: a mount namespace of its own takes no memory or descriptor away from other threads
    // (only CLONE_FILES would), and the monitor has but one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
}
