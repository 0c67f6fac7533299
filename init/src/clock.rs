//! The clock that PID 1 goes by.

use std::time::Duration;

use rustix::time::ClockId;

/// Since the kernel started, time asleep included; never jumps.
pub fn boottime() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}
