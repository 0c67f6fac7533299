//! Which binary has to prove itself, and which is gone back to if it does not. A few words of the
//! hand-over, as the crash handler reads them too.

use std::time::Duration;

use super::layout;

/// A new binary's time to prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probation {
    /// The new binary.
    pub candidate: Identity,
    /// The descriptor of the one before.
    pub fallback: i32,
    /// What that descriptor is.
    pub fallback_is: Identity,
    /// When the time is up, since the kernel started.
    pub until: Duration,
}

/// What the kernel calls an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The device.
    pub device: u64,
    /// The inode on it.
    pub inode: u64,
}

impl Probation {
    /// Reads it, if there is one, from words by their place.
    pub fn read(word: impl Fn(u64) -> Option<u64>) -> Option<Self> {
        let word = |n: u64| word(layout::PROBATION_AT + n * 8);
        if word(0)? != UNDER_WAY {
            return None;
        }
        Some(Self {
            candidate: Identity {
                device: word(1)?,
                inode: word(2)?,
            },
            fallback: i32::try_from(word(3)?).ok()?,
            fallback_is: Identity {
                device: word(4)?,
                inode: word(5)?,
            },
            until: Duration::from_millis(word(6)?),
        })
    }

    /// Its words and their places, the one that makes them valid last.
    pub fn words(&self) -> impl Iterator<Item = (u64, u64)> {
        let words = [
            UNDER_WAY,
            self.candidate.device,
            self.candidate.inode,
            u64::from(self.fallback.unsigned_abs()),
            self.fallback_is.device,
            self.fallback_is.inode,
            u64::try_from(self.until.as_millis()).unwrap_or(u64::MAX),
        ];
        let places = (0_u64..).map(|n| layout::PROBATION_AT + n * 8);
        let mut placed: Vec<_> = places.zip(words).collect();
        placed.reverse();
        placed.into_iter()
    }
}

/// Far from zero, so that a page that was never written says nothing.
const UNDER_WAY: u64 = 0x5052_4f42_4154_4531;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_probation_is_read_as_it_was_written_and_only_when_whole() {
        let probation = Probation {
            candidate: Identity {
                device: 1,
                inode: 2,
            },
            fallback: 3,
            fallback_is: Identity {
                device: 4,
                inode: 5,
            },
            until: Duration::from_secs(6),
        };
        let mut words = BTreeMap::new();
        for (at, word) in probation.words() {
            assert_eq!(Probation::read(|at| words.get(&at).copied()), None);
            words.insert(at, word);
        }
        let read = Probation::read(|at| words.get(&at).copied());
        assert_eq!(read, Some(probation));
        assert!(words.keys().all(|at| at + 8 <= layout::epitaph_at(0)));
    }
}
