//! Which clocks agree (Marzullo's algorithm; RFC 5905, 11.2.1).
//!
//! Each server's claim is an interval in which the right time must be, if the server is right. The
//! right time is where most intervals overlap; who is not there is a false ticker.

/// Where the right time can be, by one server's word: offsets in nanoseconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

impl Interval {
    /// So far on both sides of `middle`.
    pub(crate) fn around(middle: i64, radius: i64) -> Self {
        Self {
            low: middle.saturating_sub(radius),
            high: middle.saturating_add(radius),
        }
    }

    /// Whether the two have a point in common.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }

    /// The nearest point of it.
    pub(crate) fn nearest(&self, point: i64) -> i64 {
        point.max(self.low).min(self.high)
    }
}

/// The part that the most intervals share, with their number; the first such part if there are
/// several. None without intervals.
pub(crate) fn most_shared(intervals: &[Interval]) -> Option<(Interval, usize)> {
    // A part with the most owners begins where an interval begins.
    let parts = intervals.iter().map(|begin| {
        let owners = intervals
            .iter()
            .filter(|other| other.low <= begin.low && begin.low <= other.high);
        let (mut high, mut count) = (i64::MAX, 0);
        for owner in owners {
            high = high.min(owner.high);
            count += 1;
        }
        let low = begin.low;
        (Interval { low, high }, count)
    });
    let key = |(part, count): &(Interval, usize)| (*count, std::cmp::Reverse(part.low));
    parts.max_by_key(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::Random;

    #[test]
    fn the_part_that_most_share_is_found() {
        let interval = |low, high| Interval { low, high };
        // Marzullo's own examples.
        let one = [interval(8, 12), interval(11, 13), interval(10, 12)];
        assert_eq!(most_shared(&one), Some((interval(11, 12), 3)));
        let two = [interval(8, 12), interval(11, 13), interval(14, 15)];
        assert_eq!(most_shared(&two), Some((interval(11, 12), 2)));
        assert_eq!(most_shared(&[]), None);
    }

    #[test]
    fn intervals_meet_at_their_ends_and_saturate() {
        let whole = Interval::around(i64::MAX, i64::MAX);
        assert_eq!(
            whole,
            Interval {
                low: 0,
                high: i64::MAX
            }
        );
        assert!(whole.meets(&Interval { low: -5, high: 0 }));
        assert!(!whole.meets(&Interval { low: -5, high: -1 }));
        assert_eq!(whole.nearest(-7), 0);
    }

    #[test]
    fn a_majority_around_the_truth_always_has_it_in_its_part() {
        let mut random = Random::new(1);
        for _ in 0..10_000 {
            let good = 2 + random.below(4) as usize;
            let bad = random.below(good as u64) as usize;
            let mut intervals = Vec::new();
            for _ in 0..good {
                let radius = 1 + random.below(1000) as i64;
                let error = random.below(2 * radius as u64 + 1) as i64 - radius;
                intervals.push(Interval::around(error, radius));
            }
            for _ in 0..bad {
                let far = 5000 + random.below(1000) as i64;
                intervals.push(Interval::around(far, random.below(1000) as i64));
            }
            let (part, count) = most_shared(&intervals).expect("there are some");
            assert_eq!(count, good);
            assert!(part.low <= 0 && 0 <= part.high, "{intervals:?}");
        }
    }
}
