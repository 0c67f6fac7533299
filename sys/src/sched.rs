//! Real-time scheduling of the calling thread (sched(7)).
#![allow(unsafe_code)]

use rustix::io::Errno;

/// Gives the calling thread `SCHED_FIFO` at `priority` (1 to 99). Its children and the threads it
/// makes start at normal priority.
///
/// # Errors
/// `EPERM` without the privilege (in a user namespace, say).
pub fn real_time(priority: u8) -> Result<(), Errno> {
    let parameters = libc::sched_param {
        sched_priority: i32::from(priority),
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel only reads the parameters, which live through the call; 0 is the caller.
    let result = unsafe { libc::sched_setscheduler(0, policy, &parameters) };
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// Gives the calling thread the ordinary policy and niceness again.
///
/// # Errors
/// What sched_setscheduler(2) says; giving up a privilege is always allowed.
pub fn normal() -> Result<(), Errno> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel only reads the parameters, which live through the call; 0 is the caller.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &parameters) };
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}
