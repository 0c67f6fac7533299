//! A coarse timer wheel: thousands of deadlines for the price of a few.
//!
//! Deadlines of connections move with every byte, and nearly never come. So nothing is cancelled
//! here: a connection notes when its entry will ring, looks at its real deadline then, and sets a
//! new entry if that has moved.

use std::time::{Duration, Instant};

/// Deadlines, each with the key to ring for.
#[derive(Debug)]
pub(super) struct Wheel {
    began: Instant,
    /// The tick that was rung last.
    now: u64,
    slots: Vec<Vec<(u64, usize)>>,
    count: usize,
}

impl Wheel {
    /// An empty wheel.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            now: 0,
            slots: vec![Vec::new(); SLOTS],
            count: 0,
        }
    }

    /// Rings for `key` at `at` or up to one tick later.
    pub(super) fn set(&mut self, at: Instant, key: usize) {
        let tick = self.tick_after(at).max(self.now + 1);
        self.slots[slot(tick)].push((tick, key));
        self.count += 1;
    }

    /// Takes the keys of all deadlines that have come by `now`.
    pub(super) fn due(&mut self, now: Instant, keys: &mut Vec<usize>) {
        let until = self.tick_before(now);
        // After a long sleep one round over all slots finds everything.
        let first = (self.now + 1).max((until + 1).saturating_sub(SLOTS as u64));
        for tick in first..=until {
            let (count, entries) = (&mut self.count, &mut self.slots[slot(tick)]);
            entries.retain(|&(at, key)| {
                if at <= until {
                    keys.push(key);
                    *count -= 1;
                }
                at > until
            });
        }
        self.now = self.now.max(until);
    }

    /// How long to sleep from `now` until something may be due; `None` when nothing is set.
    pub(super) fn sleep(&self, now: Instant) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let ahead = (1..=SLOTS as u64).find(|ahead| !self.slots[slot(self.now + ahead)].is_empty());
        let tick = u32::try_from(self.now + ahead.unwrap_or(SLOTS as u64)).unwrap_or(u32::MAX);
        let at = self.began + TICK * tick;
        Some(at.saturating_duration_since(now))
    }

    fn tick_after(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began).as_millis();
        (since as u64).div_ceil(TICK.as_millis() as u64)
    }

    fn tick_before(&self, at: Instant) -> u64 {
        (at.saturating_duration_since(self.began).as_millis() / TICK.as_millis()) as u64
    }
}

fn slot(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

/// No deadline of the door is worth more exactness, and at rest ten wake-ups a second are nothing.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// One round is 102.4 s: nearly every deadline is within one.
const SLOTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now: Instant) -> Vec<usize> {
        let mut keys = Vec::new();
        wheel.due(now, &mut keys);
        keys
    }

    #[test]
    fn rings_never_early_and_at_most_a_tick_late() {
        let began = Instant::now();
        let mut wheel = Wheel::new(began);
        for key in 0..3000_usize {
            wheel.set(began + Duration::from_millis(key as u64 * 77), key);
        }
        let (mut now, mut rung) = (began, vec![None; 3000]);
        while wheel.count > 0 {
            now += Duration::from_millis(33);
            for key in due(&mut wheel, now) {
                rung[key] = Some(now);
            }
        }
        for (key, at) in rung.iter().enumerate() {
            let wanted = began + Duration::from_millis(key as u64 * 77);
            let late = at.unwrap().checked_duration_since(wanted).unwrap();
            assert!(late <= TICK + Duration::from_millis(67), "{key}: {late:?}");
        }
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let began = Instant::now();
        let mut wheel = Wheel::new(began);
        (0..5000_usize).for_each(|key| wheel.set(began + TICK * key as u32, key));
        let mut keys = due(&mut wheel, began + TICK * 6000);
        keys.sort_unstable();
        assert!(keys.iter().copied().eq(0..5000));
        assert_eq!(wheel.sleep(began), None);
    }

    #[test]
    fn sleeps_until_the_next_deadline() {
        let began = Instant::now();
        let mut wheel = Wheel::new(began);
        wheel.set(began + Duration::from_secs(3), 7);
        assert_eq!(wheel.sleep(began), Some(Duration::from_secs(3)));
        assert_eq!(
            wheel.sleep(began + Duration::from_secs(9)),
            Some(Duration::ZERO)
        );
        assert!(due(&mut wheel, began + Duration::from_millis(2999)).is_empty());
        assert_eq!(due(&mut wheel, began + Duration::from_secs(3)), [7]);
    }
}
