//! When to start again what ended: exponential back-off with jitter.
//!
//! A process that ran for a while starts again at once; one that keeps ending is held back twice
//! as long each time, so that a broken service costs the box next to nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The waiting time before the next start of one unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backoff {
    policy: Policy,
    failures: u32,
}

/// The numbers of a back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The wait after the first early end.
    pub first: Duration,
    /// No wait is longer.
    pub most: Duration,
    /// A run at least this long counts as healthy and forgets the failures before it.
    pub healthy_after: Duration,
}

impl Policy {
    /// For PID 1's own roles: back within a tenth of a second, as the box must answer. Having run
    /// for long proves nothing of them; the guard says when one is healthy again.
    pub const ROLE: Self = Self {
        first: Duration::from_millis(100),
        most: Duration::from_secs(30),
        healthy_after: Duration::MAX,
    };

    /// For services and the daemons in them.
    pub const SERVICE: Self = Self {
        first: Duration::from_millis(500),
        most: Duration::from_secs(60),
        healthy_after: Duration::from_secs(30),
    };
}

impl Backoff {
    /// A back-off without a failure yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            failures: 0,
        }
    }

    /// How long to wait after a run of length `ran_for`; `random` (any value) spreads restarts by
    /// up to a fifth, so that what failed together does not come back together.
    pub fn after_run(&mut self, ran_for: Duration, random: u32) -> Duration {
        if ran_for >= self.policy.healthy_after {
            self.failures = 0;
            return Duration::ZERO;
        }
        let doublings = self.failures.min(MAX_DOUBLINGS);
        self.failures = self.failures.saturating_add(1);
        let wait = self
            .policy
            .first
            .saturating_mul(1 << doublings)
            .min(self.policy.most);
        wait.saturating_add(wait / 5000 * (random % 1000))
    }

    /// Forgets the failures, for a start that somebody asked for.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Enough to reach any `most`, and far from overflowing.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most() {
        let mut backoff = Backoff::new(Policy::SERVICE);
        let waits: Vec<_> = (0..10)
            .map(|_| backoff.after_run(Duration::ZERO, 0))
            .collect();
        assert_eq!(
            waits[..4],
            [500, 1000, 2000, 4000].map(Duration::from_millis)
        );
        assert_eq!(waits[9], Policy::SERVICE.most);
    }

    #[test]
    fn a_healthy_run_forgets() {
        let mut backoff = Backoff::new(Policy::SERVICE);
        backoff.after_run(Duration::ZERO, 0);
        assert_eq!(
            backoff.after_run(Duration::from_secs(31), 0),
            Duration::ZERO
        );
        assert_eq!(backoff.after_run(Duration::ZERO, 0), Policy::SERVICE.first);
    }

    #[test]
    fn jitter_stays_below_a_fifth_and_never_overflows() {
        let mut backoff = Backoff::new(Policy::ROLE);
        for n in 0..100_000_u32 {
            let wait = backoff.after_run(Duration::ZERO, n.wrapping_mul(2_654_435_761));
            assert!(wait <= Policy::ROLE.most.mul_f64(1.2));
        }
    }
}
