//! The descriptors that a role gets from PID 1 at known numbers.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd as _, OwnedFd};

/// Takes descriptor `number`, which PID 1 put there when it started this process, and keeps it
/// from the process's own children.
///
/// To be called once for each number, at the start of the role.
pub fn take(number: i32) -> OwnedFd {
    // SAFETY: PID 1 opened this number for this role (see `pid1::start`), and no other code of the
    // role has taken it. A role started by hand without it gets EBADF at its first use.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
    fd
}
