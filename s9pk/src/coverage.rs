//! Which bytes of a file are there.

use std::{collections::BTreeMap, ops::Range};

/// Ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Ends by beginnings.
    ranges: BTreeMap<u64, u64>,
}

impl Coverage {
    /// Adds a range, joined with those that it touches.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&before, &until)) = self.ranges.range(..=end).next_back() {
            if until < start {
                break;
            }
            self.ranges.remove(&before);
            (start, end) = (start.min(before), end.max(until));
        }
        self.ranges.insert(start, end);
    }

    /// Takes a range out.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&before, &until)) = self.ranges.range(..range.end).next_back() {
            if until <= range.start {
                break;
            }
            self.ranges.remove(&before);
            if until > range.end {
                self.ranges.insert(range.end, until);
            }
            if before < range.start {
                self.ranges.insert(before, range.start);
            }
        }
    }

    /// Where the bytes that are there from `position` on end: at `position` if it is not there.
    pub(crate) fn until(&self, position: u64) -> u64 {
        match self.ranges.range(..=position).next_back() {
            Some((_, &end)) => end.max(position),
            None => position,
        }
    }

    /// How many bytes are there.
    pub(crate) fn size(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether all of a range is there.
    pub(crate) fn holds(&self, range: Range<u64>) -> bool {
        self.until(range.start) >= range.end
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_a_list_of_bytes() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut coverage = Coverage::default();
        let mut bytes = [false; 64];
        for _ in 0..2000 {
            let start = random(64);
            let end = start + random(65 - start);
            let add = random(2) == 0;
            if add {
                coverage.add(start..end);
            } else {
                coverage.remove(start..end);
            }
            bytes[start as usize..end as usize].fill(add);
            let mut rebuilt = [false; 64];
            let mut last = None;
            for range in coverage.iter() {
                assert!(last.is_none_or(|last| last < range.start), "joined");
                last = Some(range.end);
                rebuilt[range.start as usize..range.end as usize].fill(true);
            }
            assert_eq!(rebuilt, bytes);
            let there = bytes[start as usize..].iter().take_while(|there| **there);
            assert_eq!(coverage.until(start), start + there.count() as u64);
        }
    }
}
