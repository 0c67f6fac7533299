//! How much one source may write: a token bucket that counts what it turns away.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(crate) struct Quota {
    tokens: u64,
    refilled: Instant,
    dropped: u64,
}

impl Quota {
    /// A full bucket.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            refilled: now,
            dropped: 0,
        }
    }

    /// Whether a line of `bytes` may pass; if not, it is counted.
    pub(crate) fn admits(&mut self, bytes: usize, now: Instant) -> bool {
        self.refill(now);
        let cost = 1 + (bytes / BYTES_A_TOKEN) as u64;
        // While lines are being dropped the bucket must fill a bit, or every other line would be
        // one that tells of a dropped one.
        let needed = if self.dropped > 0 {
            cost.max(RESUME)
        } else {
            cost
        };
        if self.tokens < needed {
            self.dropped += 1;
            return false;
        }
        self.tokens -= cost;
        true
    }

    /// How many lines were dropped, once there is room again to tell of it; counts anew then.
    pub(crate) fn settle(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        (self.dropped > 0 && self.tokens >= RESUME).then(|| std::mem::take(&mut self.dropped))
    }

    /// The count that has not been told, when nothing more can come.
    pub(crate) fn give_up(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.dropped)).filter(|&dropped| dropped > 0)
    }

    /// Whether there is something to tell.
    pub(crate) fn is_behind(&self) -> bool {
        self.dropped > 0
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.refilled).as_micros() as u64
            / PERIOD.as_micros() as u64;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.refilled = now;
        }
    }
}

/// A kernel's whole boot, or a service's stack traces, pass at once.
pub(crate) const BURST: u64 = 10_000;
/// For good, a thousand lines a second: more is read by nobody and wears out the disk.
const PERIOD: Duration = Duration::from_millis(1);
const BYTES_A_TOKEN: usize = 256;
/// Half a second's worth, so that a flood is told of twice a second and no more.
const RESUME: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_to_the_rate_and_every_line_is_passed_or_counted() {
        let began = Instant::now();
        let mut quota = Quota::new(began);
        let (mut passed, mut told) = (0, 0);
        for line in 0..100_000_u64 {
            let now = began + Duration::from_micros(line * 100);
            told += quota.settle(now).unwrap_or(0);
            passed += u64::from(quota.admits(10, now));
        }
        told += quota.give_up().unwrap_or(0);
        assert_eq!(passed + told, 100_000);
        assert!(
            (BURST + 9_000..=BURST + 10_000).contains(&passed),
            "{passed}"
        );
    }

    #[test]
    fn long_lines_count_for_many() {
        let now = Instant::now();
        let mut quota = Quota::new(now);
        let passed = (0..BURST).filter(|_| quota.admits(4000, now)).count() as u64;
        assert_eq!(passed, BURST / 16);
    }
}
