//! The clock of `net`: time since boot, suspension included, so that a lease ends when the server
//! says, and no step of the wall clock moves a deadline.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since boot. The protocols take it as an argument, which makes a week a unit test.
pub(crate) type Now = Duration;

/// The time now.
pub(crate) fn now() -> Now {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
