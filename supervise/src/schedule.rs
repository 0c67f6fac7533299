//! How a process stands with the kernel's scheduler: the unsafe part is one system call.
//!
//! Weights of control groups share out the CPU among groups; these order the processes where the
//! kernel has no such weights, and say who may break in on whom everywhere.
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
        if done == 0 {
            return Ok(());
        }
        // SAFETY: reads the calling thread's own errno.
        Err(Errno::from_raw_os_error(unsafe {
            *libc::__errno_location()
        }))
    }
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
