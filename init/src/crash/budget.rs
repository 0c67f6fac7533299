//! How many crashes of PID 1 are borne before it does less. Times in, decision out.

use std::time::Duration;

/// What the successor of a crash does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Everything, at once.
    Normal,
    /// After a pause, so that a crash that comes back at once does not burn the CPU; and no more
    /// than keeps the box answering: roles, services, console, network. It executes itself anew
    /// for no other reason than a crash.
    Safe {
        /// How long to wait first. Short enough for the hardware watchdog.
        pause: Duration,
    },
}

/// Judges by the times of the last crashes, in any order, at `now`.
pub fn course(crashes: &[Duration], now: Duration) -> Course {
    let recent = crashes
        .iter()
        .filter(|at| now.saturating_sub(**at) < REFILLED_AFTER)
        .count();
    let in_a_burst = crashes
        .iter()
        .filter(|at| now.saturating_sub(**at) < BURST)
        .count();
    if in_a_burst <= MOST_IN_A_BURST && recent <= MOST {
        return Course::Normal;
    }
    let doublings = u32::try_from(in_a_burst.saturating_sub(MOST_IN_A_BURST + 1)).unwrap_or(0);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings.min(8));
    Course::Safe {
        pause: pause.min(LONGEST_PAUSE),
    }
}

/// Crashes within [`BURST`] that are borne.
pub const MOST_IN_A_BURST: usize = 5;
/// The time in which so many are too many.
pub const BURST: Duration = Duration::from_secs(60);
/// Crashes that are borne within [`REFILLED_AFTER`].
const MOST: usize = 12;
/// A crash so long ago no longer counts.
pub const REFILLED_AFTER: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The hardware watchdog waits for 30 s.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    fn every(gap: Duration, n: u32) -> Vec<Duration> {
        (0..n).map(|k| gap * k).collect()
    }

    #[test]
    fn a_few_crashes_change_nothing() {
        let crashes = every(Duration::from_millis(10), 5);
        assert_eq!(course(&crashes, Duration::from_secs(1)), Course::Normal);
        assert_eq!(course(&[], Duration::ZERO), Course::Normal);
    }

    #[test]
    fn a_burst_ends_in_pauses_that_grow_to_a_limit() {
        let pause = |n| match course(&every(Duration::from_millis(10), n), Duration::from_secs(1)) {
            Course::Normal => Duration::ZERO,
            Course::Safe { pause } => pause,
        };
        assert_eq!(pause(5), Duration::ZERO);
        assert_eq!(pause(6), FIRST_PAUSE);
        assert_eq!(pause(7), FIRST_PAUSE * 2);
        assert_eq!(pause(16), LONGEST_PAUSE);
    }

    #[test]
    fn a_crash_now_and_then_is_borne_for_ever_and_one_a_minute_is_not() {
        let seldom = every(Duration::from_secs(120), 5000);
        assert_eq!(course(&seldom, *seldom.last().unwrap()), Course::Normal);
        let often = every(Duration::from_secs(30), 30);
        assert!(matches!(
            course(&often, *often.last().unwrap()),
            Course::Safe { .. }
        ));
    }

    #[test]
    fn health_refills_the_budget() {
        let crashes = every(Duration::from_millis(10), 16);
        assert_eq!(
            course(&crashes, REFILLED_AFTER + Duration::from_secs(1)),
            Course::Normal
        );
    }
}
