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

/// Takes descriptor `number` if it is open, and keeps it from a successor.
///
/// To be called at PID 1's start, before anything else can have got that number.
pub fn take_if_open(number: i32) -> Option<OwnedFd> {
    is_open(number).then(|| take(number))
}

/// Takes descriptor `number` if it was left open for a successor (it lacks close-on-exec, which all
/// that this process opens has). It stays so.
///
/// To be called at PID 1's start, while there is one thread.
pub fn take_if_left_open(number: i32) -> Option<OwnedFd> {
    // SAFETY: asks for a flag of a number, whatever it is.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return None;
    }
    // SAFETY: it is open, and nobody here opened it, so nobody here owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Keeps descriptor `number` from a successor.
pub fn close_on_exec(number: i32) {
    // SAFETY: sets a flag that all descriptors of this process are to have.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

fn is_open(number: i32) -> bool {
    // SAFETY: asks for a flag of a number, whatever it is.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}
