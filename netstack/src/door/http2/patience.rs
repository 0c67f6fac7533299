//! What a client may do that costs us something and brings it nothing: resets, pings, settings,
//! empty frames.
//!
//! The floods of CVE-2019-9511 to -9518, the rapid reset of CVE-2023-44487 and the resets that we
//! are made to send (CVE-2025-8671) are such things in great number. Each costs a token; tokens come back with time and with requests that were served.

use std::time::Instant;

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct Patience {
    tokens: u32,
    filled: Instant,
}

impl Patience {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: FULL,
            filled: now,
        }
    }

    /// Takes `cost` tokens; false when there are no more.
    pub(super) fn spend(&mut self, cost: u32, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        let earned = since.as_millis() * u128::from(A_SECOND) / 1000;
        if earned > 0 {
            self.earn(u32::try_from(earned).unwrap_or(FULL));
            self.filled = now;
        }
        let left = self.tokens.checked_sub(cost);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }

    /// Gives some back: a request was served.
    pub(super) fn earn(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(FULL);
    }
}

/// A page with hundreds of pictures that the reader leaves at once stays within this.
const FULL: u32 = 2000;
/// A ping or a settled window now and then, with much to spare.
const A_SECOND: u32 = 100;
/// A frame that only had to be read, or a setting.
pub(super) const FRAME: u32 = 1;
/// A request taken back, or broken, before it was answered: a connection to a place may have been made for it.
pub(super) const RESET: u32 = 10;
/// What a request that was served gives back.
pub(super) const SERVED: u32 = 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_ends_and_a_calm_client_never_runs_out() {
        let mut now = Instant::now();
        let mut flood = Patience::new(now);
        let resets = (0..).take_while(|_| flood.spend(RESET, now)).count();
        assert_eq!(resets, 200);
        let mut calm = Patience::new(now);
        for _ in 0..100_000 {
            now += Duration::from_millis(15);
            assert!(calm.spend(FRAME, now));
        }
        for _ in 0..100_000 {
            assert!(calm.spend(RESET, now));
            calm.earn(SERVED);
        }
    }
}
