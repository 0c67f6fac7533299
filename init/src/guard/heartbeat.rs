//! Heartbeats through the manager's pool. Each is a task injected from outside, so it also wakes a
//! worker that parked without handing the I/O driver on.

use std::{os::fd::OwnedFd, time::Duration};

/// Which part of the pool a heartbeat goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A spawned task.
    Spawn = 0,
    /// The I/O driver, by a timer.
    Driver = 1,
    /// The blocking pool.
    Blocking = 2,
}

/// One heartbeat: sent by the guard, given back as it is by the part of the pool that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which part answers.
    pub kind: Kind,
    /// Counts the beats.
    pub number: u64,
}

impl Beat {
    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 9] {
        let mut bytes = [self.kind as u8; 9];
        bytes[1..].copy_from_slice(&self.number.to_ne_bytes());
        bytes
    }

    /// Reads it, if it is one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, number) = bytes.split_first()?;
        let kind = match kind {
            0 => Kind::Spawn,
            1 => Kind::Driver,
            2 => Kind::Blocking,
            _ => return None,
        };
        Some(Self {
            kind,
            number: u64::from_ne_bytes(number.try_into().ok()?),
        })
    }
}

/// The guard's side.
#[derive(Debug)]
pub(super) struct Heartbeat {
    socket: OwnedFd,
    number: u64,
    first: u64,
    /// The newest beat given back, of each kind.
    answered: [u64; 3],
    slow_at: Duration,
}

impl Heartbeat {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            number: 0,
            first: 1,
            answered: [0; 3],
            slow_at: Duration::ZERO,
        }
    }

    /// A new manager: beats sent before do not count.
    pub(super) fn begin_anew(&mut self) {
        self.first = self.number + 1;
        self.answered = [self.number; 3];
    }

    /// Sends what is due and takes answers. Returns whether the pool shows that it works: every
    /// part of it that ever answered has given back a beat that is not old.
    pub(super) fn turn(&mut self, now: Duration) -> bool {
        self.send(Kind::Spawn);
        if now >= self.slow_at {
            self.slow_at = now + SLOW_PERIOD;
            self.send(Kind::Driver);
            self.send(Kind::Blocking);
        }
        let mut heard = false;
        let mut bytes = [0; 16];
        for _ in 0..ANSWERS_A_TURN {
            let Ok(n @ 1..) = rustix::io::read(&self.socket, &mut bytes) else {
                break;
            };
            if let Some(beat) = Beat::from_bytes(&bytes[..n])
                && (self.first..=self.number).contains(&beat.number)
            {
                let answered = &mut self.answered[beat.kind as usize];
                *answered = beat.number.max(*answered);
                heard |= beat.kind == Kind::Spawn;
            }
        }
        heard
            && self
                .answered
                .iter()
                .all(|answered| self.number - answered <= MAX_BEHIND)
    }

    fn send(&mut self, kind: Kind) {
        self.number += 1;
        // A full socket: nobody reads there, which shows in the answers.
        let _ = rustix::io::write(
            &self.socket,
            &Beat {
                kind,
                number: self.number,
            }
            .to_bytes(),
        );
    }
}

/// The slow parts need no more: a task a second costs nothing, a blocking thread stays cached.
const SLOW_PERIOD: Duration = Duration::from_secs(1);

/// Beats of all kinds in five seconds: so far behind may the slowest part be.
const MAX_BEHIND: u64 = 5 * 12;

const ANSWERS_A_TURN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pid1::table::seqpacket_pair;

    #[test]
    fn a_beat_survives_its_journey() {
        for kind in [Kind::Spawn, Kind::Driver, Kind::Blocking] {
            let beat = Beat { kind, number: 77 };
            assert_eq!(Beat::from_bytes(&beat.to_bytes()), Some(beat));
        }
        assert_eq!(Beat::from_bytes(&[9; 9]), None);
        assert_eq!(Beat::from_bytes(&[]), None);
    }

    /// Ten seconds with a pool of which only `parts` answer; returns when life was last seen.
    fn last_life(parts: &[Kind]) -> u64 {
        let (guard, pool) = seqpacket_pair().unwrap();
        let mut heartbeat = Heartbeat::new(guard);
        let mut last = 0;
        for ms in (0..10_000).step_by(100) {
            if heartbeat.turn(Duration::from_millis(ms)) {
                last = ms;
            }
            let mut bytes = [0; 16];
            while let Ok(n) = rustix::io::read(&pool, &mut bytes) {
                if parts.contains(&Beat::from_bytes(&bytes[..n]).unwrap().kind) {
                    rustix::io::write(&pool, &bytes[..n]).unwrap();
                }
            }
        }
        last
    }

    #[test]
    fn a_pool_lives_while_all_its_parts_answer() {
        assert_eq!(
            last_life(&[Kind::Spawn, Kind::Driver, Kind::Blocking]),
            9900
        );
        assert!(last_life(&[Kind::Spawn, Kind::Driver]) <= 5000);
        assert!(last_life(&[Kind::Spawn, Kind::Blocking]) <= 5000);
        assert_eq!(last_life(&[Kind::Driver, Kind::Blocking]), 0);
    }

    #[test]
    fn a_full_socket_never_holds_the_guard() {
        let (guard, _pool) = seqpacket_pair().unwrap();
        let mut heartbeat = Heartbeat::new(guard);
        for n in 0..100_000 {
            heartbeat.turn(Duration::from_millis(n));
        }
    }
}
