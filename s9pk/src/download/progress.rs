//! How a download is getting on: bytes, rate, time left. No clock of its own.

use std::time::{Duration, Instant};

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the package that are there.
    pub done: u64,
    /// Its length in bytes.
    pub total: u64,
    /// Bytes received by this process.
    pub received: u64,
    /// Bytes a second, over the last few seconds.
    pub rate: u64,
    /// The time left at this rate, once one is known.
    pub left: Option<Duration>,
}

/// Turns counts into rates.
#[derive(Debug)]
pub(super) struct Meter {
    total: u64,
    at: Instant,
    received: u64,
    rate: Option<f64>,
}

impl Meter {
    pub(super) fn new(total: u64, now: Instant) -> Self {
        Self {
            total,
            at: now,
            received: 0,
            rate: None,
        }
    }

    /// Whether it is time to tell.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= INTERVAL
    }

    /// The state at `now`.
    pub(super) fn read(&mut self, now: Instant, done: u64, received: u64) -> Progress {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        if passed > 0.0 {
            let rate = received.saturating_sub(self.received) as f64 / passed;
            // A mean in which a sample's weight falls to 1/e within `MEMORY`.
            let weight = 1.0 - (-passed / MEMORY.as_secs_f64()).exp();
            let mean = self.rate.unwrap_or(rate);
            self.rate = Some(mean + weight * (rate - mean));
            (self.at, self.received) = (now, received);
        }
        let rate = self.rate.unwrap_or_default() as u64;
        let missing = self.total.saturating_sub(done);
        Progress {
            done,
            total: self.total,
            received,
            rate,
            left: missing.checked_div(rate).map(Duration::from_secs),
        }
    }
}

/// As often as a reader's eye follows.
const INTERVAL: Duration = Duration::from_millis(200);
/// Long enough to even out the bursts of a network, short enough to follow a change.
const MEMORY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_shown_and_gives_the_time_left() {
        let begin = Instant::now();
        let mut meter = Meter::new(10_000, begin);
        assert_eq!(meter.read(begin, 0, 0).left, None);
        let mut progress = None;
        for second in 1..=5 {
            let now = begin + Duration::from_secs(second);
            assert!(meter.is_due(now));
            progress = Some(meter.read(now, second * 1000, second * 1000));
        }
        let progress = progress.unwrap();
        assert_eq!((progress.rate, progress.received), (1000, 5000));
        assert_eq!(progress.left, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_change_is_followed_and_a_standstill_has_no_time_left() {
        let begin = Instant::now();
        let mut meter = Meter::new(1 << 30, begin);
        meter.read(begin + Duration::from_secs(1), 1 << 20, 1 << 20);
        let after = |seconds| begin + Duration::from_secs(seconds);
        let slower = meter.read(after(6), 1 << 20, 1 << 20).rate;
        assert!(slower < 500_000, "{slower}");
        let stopped = meter.read(after(200), 1 << 20, 1 << 20);
        assert_eq!((stopped.rate, stopped.left), (0, None));
    }
}
