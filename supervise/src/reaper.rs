//! The one reaper: takes every child that ended off the kernel's hands.
//!
//! Only the supervisor's main thread may call this; a second caller of `wait` anywhere in the
//! process would steal exits from it.

use rustix::process::{WaitOptions, WaitStatus};

use crate::unit::Exit;

/// Buries up to `most` ended children, own and adopted, and tells of each by its pid.
/// Never waits. Returns whether there may be more.
pub fn reap(most: usize, mut tell: impl FnMut(u32, Exit)) -> bool {
    for _ in 0..most {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(exit) = exit_of(status) {
                    tell(pid.as_raw_nonzero().get().unsigned_abs(), exit);
                }
            }
            // None has ended, or there is no child at all (ECHILD).
            Ok(None) | Err(_) => return false,
        }
    }
    true
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    if let Some(signal) = status.terminating_signal() {
        return Some(Exit::Signal(signal));
    }
    status.exit_status().map(Exit::Code)
}
