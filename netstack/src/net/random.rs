//! Jitter and transaction numbers: SplitMix64, seeded from the kernel or, in tests, by hand.
//!
//! The stream is not for secrets: whoever is on the LAN sees its numbers anyway. [`secret`] is.

/// A stream of numbers that its seed determines.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream that differs on every box and boot. Falls back on the clock while the kernel has
    /// no entropy, rather than wait for it.
    pub(crate) fn seeded() -> Self {
        Self(secret().unwrap_or_else(|| super::clock::now().as_nanos() as u64))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A time from `low` to `high`.
    pub(crate) fn between(
        &mut self,
        low: std::time::Duration,
        high: std::time::Duration,
    ) -> std::time::Duration {
        let span = high.saturating_sub(low).as_millis() as u64;
        low + std::time::Duration::from_millis(self.below(span + 1))
    }
}

/// A number that nobody can guess; none while the kernel has no entropy.
pub(crate) fn secret() -> Option<u64> {
    let mut bytes = [0; 8];
    let flags = rustix::rand::GetRandomFlags::NONBLOCK;
    match rustix::rand::getrandom(&mut bytes, flags) {
        Ok(8) => Some(u64::from_ne_bytes(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_stay_in_their_bounds_and_differ() {
        let mut random = Random::new(1);
        let (low, high) = (Duration::from_secs(1), Duration::from_secs(2));
        let times: Vec<_> = (0..1000).map(|_| random.between(low, high)).collect();
        assert!(times.iter().all(|t| (low..=high).contains(t)));
        assert!(times.windows(2).filter(|w| w[0] == w[1]).count() < 20);
        assert_eq!(random.below(0), 0);
    }
}
