//! How the calling thread stands with the scheduler (sched(7)).
#![allow(unsafe_code)]

use std::time::Duration;

use rustix::io::Errno;

/// A place among the processes that want a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// -20 (the largest part) to 19. Only root may go below what it has.
    pub nice: i8,
    /// For how long it runs at a stretch when others wait, 0.1 to 100 ms; none is the kernel's own
    /// measure, 0.7 to 2.8 ms. One that wakes breaks in at once on one whose slice is longer, and
    /// may wait for a tick otherwise. Linux 6.12 and later; without effect before.
    pub slice: Option<Duration>,
}

impl Schedule {
    /// Takes this place with the calling thread, and with all threads and processes that it makes
    /// from now on. Allocates nothing.
    ///
    /// # Errors
    /// As `sched_setattr(2)`.
    pub fn take(self) -> Result<(), Errno> {
        let slice = self.slice.unwrap_or_default().as_nanos();
        let wanted = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: self.nice.into(),
            sched_priority: 0,
            sched_runtime: u64::try_from(slice).unwrap_or(u64::MAX),
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the kernel reads a structure that says its size and lives through the call.
        let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &wanted, 0) };
        outcome(done)
    }
}

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
    outcome(unsafe { libc::sched_setscheduler(0, policy, &parameters) }.into())
}

/// Gives the calling thread the ordinary policy and niceness again.
///
/// # Errors
/// What sched_setscheduler(2) says; giving up a privilege is always allowed.
pub fn normal() -> Result<(), Errno> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel only reads the parameters, which live through the call; 0 is the caller.
    outcome(unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &parameters) }.into())
}

fn outcome(result: libc::c_long) -> Result<(), Errno> {
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_takes_its_place() {
        let nice = std::thread::spawn(|| {
            let place = Schedule {
                nice: 19,
                slice: Some(Duration::from_millis(6)),
            };
            place.take().unwrap();
            rustix::process::getpriority_process(None).unwrap()
        });
        assert_eq!(nice.join().unwrap(), 19);
    }
}
