//! A clock that never shows what is known to be past.
//!
//! A board without a battery starts in 1970. Certificates and logs are better off with the last
//! time the box knew, or with the time its software was built, until the network tells the right
//! one. The kernel itself sets the clock from a hardware clock, where there is one.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, Timespec};

use crate::Error;

/// Sets the clock to `floor` if it is earlier, and returns by how much it was moved.
///
/// # Errors
/// When the kernel does not let it be set.
pub fn raise_to(floor: SystemTime) -> Result<Option<Duration>, Error> {
    let Some(step) = step_needed(SystemTime::now(), floor) else {
        return Ok(None);
    };
    let since_epoch = floor
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let time = Timespec {
        tv_sec: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: since_epoch.subsec_nanos().into(),
    };
    rustix::time::clock_settime(ClockId::Realtime, time).map_err(Error::Clock)?;
    Ok(Some(step))
}

fn step_needed(now: SystemTime, floor: SystemTime) -> Option<Duration> {
    floor
        .duration_since(now)
        .ok()
        .filter(|step| !step.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_past_the_floor_is_left_alone() {
        let floor = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(raise_to(floor).unwrap(), None);
        assert_eq!(step_needed(floor, floor), None);
    }

    #[test]
    fn an_earlier_clock_is_moved_by_what_it_lacks() {
        let floor = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let lacking = step_needed(SystemTime::UNIX_EPOCH + Duration::from_secs(400), floor);
        assert_eq!(lacking, Some(Duration::from_secs(600)));
    }
}
