//! The memory that bytes on their way take, over all connections together.
//!
//! Each connection alone is bounded, but a thousand slow ones at their bounds are more than the
//! process may use. Past half of what is allowed all are given less room; past all of it those that
//! hold the most are closed, rather than that the kernel ends the whole door.

use super::limits::{INPUT_HIGH, INPUT_LOW};

/// A sum of weights, in bytes.
#[derive(Debug)]
pub(super) struct Ballast {
    total: usize,
    most: usize,
}

impl Ballast {
    /// No weight yet, of at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { total: 0, most }
    }

    /// One weight changes.
    pub(super) fn change(&mut self, from: usize, to: usize) {
        self.total = (self.total + to).saturating_sub(from);
    }

    /// How many bytes may wait unused at one place.
    pub(super) fn high(&self) -> usize {
        if self.total > self.most / 2 {
            INPUT_LOW
        } else {
            INPUT_HIGH
        }
    }

    /// How much must go, if it is too much: enough not to be here again at once.
    pub(super) fn excess(&self) -> Option<usize> {
        (self.total > self.most).then(|| self.total - self.most / 8 * 7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_shrinks_before_anyone_has_to_go() {
        let mut ballast = Ballast::new(1000);
        assert_eq!((ballast.high(), ballast.excess()), (INPUT_HIGH, None));
        ballast.change(0, 700);
        assert_eq!((ballast.high(), ballast.excess()), (INPUT_LOW, None));
        ballast.change(0, 400);
        assert_eq!(ballast.excess(), Some(225));
        ballast.change(700, 0);
        assert_eq!((ballast.high(), ballast.excess()), (INPUT_HIGH, None));
    }
}
