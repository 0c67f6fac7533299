//! The last time that was certainly right, kept over reboots for boards whose clock stops with the
//! power.
//!
//! The clock itself is `net`'s to set. A clock that no server has confirmed may show anything (a
//! hardware clock years ahead, say), so it is not kept: what is kept would hold the box in that
//! future at every boot. What has passed since the last time known has passed whatever it shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netstack::net::TimeStatus;

use super::Pid1;

/// What `main` knows of the time of the day.
#[derive(Clone, Debug)]
pub(super) struct Timekeeping {
    latest: TimeStatus,
    /// When the floor in `keep` was brought up to date, since boot.
    floor_at: Duration,
}

impl Timekeeping {
    /// Nothing is known but that the floor, once it is read, holds now.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            latest: TimeStatus::default(),
            floor_at: now,
        }
    }
}

impl Pid1 {
    /// `net` tells of the time.
    pub(super) fn time_is(&mut self, time: &TimeStatus) {
        let before = std::mem::replace(&mut self.timekeeping.latest, time.clone());
        if let Some(step) = time
            .last_step
            .filter(|_| time.last_step != before.last_step)
        {
            let seconds = step.by / 1_000_000;
            supervise::info!("the clock was moved by {seconds} s, to the time servers' time");
        }
        match (before.synchronised, time.synchronised) {
            (false, true) => {
                supervise::info!("the time is right, by {}", spell(time));
                self.write_keep();
            }
            (true, false) => supervise::warning!("the time is no longer confirmed by any server"),
            (true, true) | (false, false) => {}
        }
    }

    /// Once a day, what is kept of the time is brought up to date.
    pub(super) fn keep_time(&mut self, now: Duration) {
        let is_due = now.saturating_sub(self.timekeeping.floor_at) >= KEEP_EVERY;
        if is_due && self.timekeeping.latest.synchronised {
            // Also if it can't be written: then in a day again.
            self.raise_floor(now);
            self.write_keep();
        }
    }

    /// Brings the floor in what will be written to `keep` up to date.
    pub(super) fn raise_floor(&mut self, now: Duration) {
        let is_right = self.timekeeping.latest.synchronised;
        let passed = now.saturating_sub(self.timekeeping.floor_at);
        self.keep.clock_floor = floor(
            self.keep.clock_floor,
            passed,
            is_right.then(SystemTime::now),
        );
        self.timekeeping.floor_at = now;
    }
}

/// The floor after so much time: what the clock says, if it is known to be right.
fn floor(former: u64, passed: Duration, right: Option<SystemTime>) -> u64 {
    match right {
        Some(right) => right
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        None => former.saturating_add(passed.as_secs()),
    }
}

/// Whose word it is.
fn spell(time: &TimeStatus) -> String {
    let servers = time.servers.iter().filter(|server| server.agrees);
    let names: Vec<String> = servers.map(|server| server.address.to_string()).collect();
    names.join(", ")
}

const KEEP_EVERY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_right_moves_the_floor_to_what_it_shows() {
        let (former, hour) = (1_795_953_600, Duration::from_secs(3600));
        assert_eq!(floor(former, hour, None), former + 3600);
        assert_eq!(floor(0, hour, None), 3600);
        let right = UNIX_EPOCH + Duration::from_secs(former) + 5 * hour;
        assert_eq!(floor(former, hour, Some(right)), former + 5 * 3600);
        // Kept by a version that believed a clock ten years ahead.
        let ahead = former + 10 * 365 * 86_400;
        assert_eq!(floor(ahead, hour, Some(right)), former + 5 * 3600);
    }
}
