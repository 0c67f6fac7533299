//! Heartbeats through the manager's pool. Each is a task injected from outside, so it also wakes a
//! worker that parked without handing the I/O driver on: the nudge.

use std::{os::fd::OwnedFd, time::Duration};

use super::verdict::{Part, Silence};
use crate::manager::{WORKERS, Worker};

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
    /// None: the thread that takes the beats answers with what the workers do.
    Workers = 3,
}

/// One heartbeat: sent by the guard, given back by the part of the pool that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which part answers.
    pub kind: Kind,
    /// Counts the beats.
    pub number: u64,
    /// What the workers do, in an answer to [`Kind::Workers`].
    pub workers: [Worker; WORKERS],
}

impl Kind {
    const ALL: [Self; 4] = [Self::Spawn, Self::Driver, Self::Blocking, Self::Workers];

    fn part(self) -> Part {
        match self {
            Self::Blocking => Part::Blocking,
            Self::Driver => Part::Driver,
            Self::Spawn => Part::Spawn,
            Self::Workers => Part::Heartbeat,
        }
    }
}

impl Beat {
    /// Its length in bytes.
    pub const LEN: usize = 9 + WORKERS * 12;

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [self.kind as u8; Self::LEN];
        bytes[1..9].copy_from_slice(&self.number.to_ne_bytes());
        for (place, worker) in bytes[9..].chunks_exact_mut(12).zip(self.workers) {
            place[..4].copy_from_slice(&worker.tid.to_ne_bytes());
            place[4..].copy_from_slice(&worker.turns.to_ne_bytes());
        }
        bytes
    }

    /// Reads it, if it is one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let (kind, rest) = bytes.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let mut workers = rest.chunks_exact(12).filter_map(|bytes| {
            let (tid, turns) = bytes.split_first_chunk()?;
            Some(Worker {
                tid: u32::from_ne_bytes(*tid),
                turns: u64::from_ne_bytes(turns.try_into().ok()?),
            })
        });
        Some(Self {
            kind: Kind::ALL.into_iter().find(|known| *known as u8 == *kind)?,
            number: u64::from_ne_bytes(*number),
            workers: std::array::from_fn(|_| workers.next().unwrap_or_default()),
        })
    }
}

/// The guard's side.
#[derive(Debug)]
pub(super) struct Heartbeat {
    socket: OwnedFd,
    number: u64,
    /// The first beat of this run: earlier ones do not count.
    first: u64,
    /// Since when a beat of each kind is unanswered.
    pending: [Option<Pending>; 4],
    /// When the next beat through the blocking pool is due.
    slow_at: Duration,
    /// Each worker, and since when it is the same.
    workers: [(Worker, Duration); WORKERS],
    /// When that was told last, and the present turn.
    told_at: Duration,
    now: Duration,
    heard: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    since: Duration,
    oldest: u64,
    newest: u64,
    /// Since when the oldest is known to have been handed to the pool: the thread that takes the
    /// beats has answered a later one. Before, a starved one may still have it, and the pool sleep
    /// with good reason.
    handed: Option<Duration>,
}

impl Heartbeat {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            number: 0,
            first: 1,
            pending: [None; 4],
            slow_at: Duration::ZERO,
            workers: [(Worker::default(), Duration::ZERO); WORKERS],
            told_at: Duration::ZERO,
            now: Duration::ZERO,
            heard: false,
        }
    }

    /// A new manager: beats sent before do not count.
    pub(super) fn begin_anew(&mut self, now: Duration) {
        self.first = self.number + 1;
        self.pending = [None; 4];
        self.workers = [(Worker::default(), now); WORKERS];
        self.heard = false;
    }

    /// Sends what is due and takes answers. Returns whether the pool has ever run a task.
    pub(super) fn turn(&mut self, now: Duration) -> bool {
        self.now = now;
        self.take_answers(now);
        self.send(Kind::Spawn, now);
        self.send(Kind::Driver, now);
        self.send(Kind::Workers, now);
        if now >= self.slow_at {
            self.slow_at = now + SLOW_PERIOD;
            self.send(Kind::Blocking, now);
        }
        self.heard
    }

    /// What is silent, and since when.
    pub(super) fn silences(&self) -> impl Iterator<Item = Silence> + '_ {
        let pending = Kind::ALL.into_iter().filter_map(|kind| {
            let pending = self.pending[kind as usize]?;
            let since = match kind {
                Kind::Workers => pending.since,
                Kind::Blocking | Kind::Driver | Kind::Spawn => pending.handed?,
            };
            Some(Silence {
                part: kind.part(),
                since,
                thread: None,
            })
        });
        pending.chain(self.stuck_workers())
    }

    /// Workers that have been in the same task for long: neither idle nor back from it. Of what was
    /// told a while ago nothing follows: one that has gone to sleep since looks the same.
    fn stuck_workers(&self) -> impl Iterator<Item = Silence> + '_ {
        let fresh = self.now.saturating_sub(self.told_at) <= FRESH;
        let busy =
            |(worker, _): &&(Worker, Duration)| worker.tid != 0 && worker.turns.is_multiple_of(2);
        self.workers
            .iter()
            .filter(move |worker| fresh && busy(worker))
            .map(|(worker, since)| Silence {
                part: Part::Worker,
                since: *since,
                thread: Some(worker.tid),
            })
    }

    fn take_answers(&mut self, now: Duration) {
        let mut bytes = [0; Beat::LEN + 1];
        for _ in 0..ANSWERS_A_TURN {
            let Ok(n @ 1..) = rustix::io::read(&self.socket, &mut bytes) else {
                return;
            };
            let Some(beat) = Beat::from_bytes(&bytes[..n]) else {
                continue;
            };
            if !(self.first..=self.number).contains(&beat.number) {
                continue;
            }
            self.heard |= beat.kind == Kind::Spawn;
            let pending = &mut self.pending[beat.kind as usize];
            *pending = pending
                .filter(|pending| pending.newest > beat.number)
                .map(|pending| Pending {
                    since: now,
                    oldest: beat.number + 1,
                    newest: pending.newest,
                    handed: None,
                });
            if beat.kind == Kind::Workers {
                self.told_at = now;
                for pending in self.pending.iter_mut().flatten() {
                    if pending.oldest < beat.number {
                        pending.handed.get_or_insert(now);
                    }
                }
                for (known, worker) in self.workers.iter_mut().zip(beat.workers) {
                    if known.0 != worker {
                        *known = (worker, now);
                    }
                }
            }
        }
    }

    fn send(&mut self, kind: Kind, now: Duration) {
        self.number += 1;
        let beat = Beat {
            kind,
            number: self.number,
            workers: [Worker::default(); WORKERS],
        };
        let pending = &mut self.pending[kind as usize];
        // A full socket: nobody reads there, which shows in the answers that don't come.
        let sent = rustix::io::write(&self.socket, &beat.to_bytes()).is_ok();
        match pending {
            Some(pending) if sent => pending.newest = self.number,
            Some(_) => {}
            None => {
                *pending = Some(Pending {
                    since: now,
                    oldest: self.number,
                    newest: self.number,
                    handed: None,
                });
            }
        }
    }
}

/// A blocking thread stays cached for longer than this.
const SLOW_PERIOD: Duration = Duration::from_secs(1);

/// An answer comes at the next turn, unless the thread that gives it is starved; well below the time
/// for which a thread must have slept to count as asleep.
const FRESH: Duration = Duration::from_millis(200);

const ANSWERS_A_TURN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pid1::table::seqpacket_pair;

    #[test]
    fn a_beat_survives_its_journey() {
        for kind in Kind::ALL {
            let worker = |tid| Worker {
                tid,
                turns: 1 << 40,
            };
            let beat = Beat {
                kind,
                number: 77,
                workers: [worker(7), worker(8)],
            };
            assert_eq!(Beat::from_bytes(&beat.to_bytes()), Some(beat));
        }
        assert_eq!(Beat::from_bytes(&[9; Beat::LEN]), None);
        assert_eq!(Beat::from_bytes(&[]), None);
    }

    /// Ten seconds with a pool of which only `parts` answer, with these counts of its workers;
    /// returns what is silent at the end, and for how many milliseconds.
    fn silent(parts: &[Kind], turns: impl Fn(u64) -> [u64; WORKERS]) -> Vec<(Part, u64)> {
        let (guard, pool) = seqpacket_pair().unwrap();
        let mut heartbeat = Heartbeat::new(guard);
        for ms in (0..=10_000).step_by(100) {
            heartbeat.turn(Duration::from_millis(ms));
            let mut bytes = [0; Beat::LEN];
            while let Ok(n) = rustix::io::read(&pool, &mut bytes) {
                let mut beat = Beat::from_bytes(&bytes[..n]).unwrap();
                beat.workers = turns(ms).map(|turns| Worker { tid: 7, turns });
                if parts.contains(&beat.kind) {
                    rustix::io::write(&pool, &beat.to_bytes()).unwrap();
                }
            }
        }
        heartbeat.now = Duration::from_millis(10_100);
        heartbeat.take_answers(heartbeat.now);
        let silences = heartbeat.silences();
        let for_ms = |s: Silence| (s.part, 10_100 - u64::try_from(s.since.as_millis()).unwrap());
        silences
            .map(for_ms)
            .filter(|(_, silence)| *silence > 100)
            .collect()
    }

    #[test]
    fn a_pool_that_answers_is_never_silent_and_one_that_does_not_is_in_each_part() {
        let parked = |_| [1; WORKERS];
        assert_eq!(silent(&Kind::ALL, parked), []);
        assert_eq!(
            silent(&[Kind::Spawn, Kind::Workers, Kind::Blocking], parked),
            [(Part::Driver, 10_000)]
        );
        assert_eq!(
            silent(&[Kind::Spawn, Kind::Driver, Kind::Workers], parked),
            // Its beats are the last of a turn.
            [(Part::Blocking, 9900)]
        );
    }

    #[test]
    fn what_nobody_has_handed_to_the_pool_is_no_silence_of_the_pool() {
        let parked = |_| [1; WORKERS];
        assert_eq!(silent(&[], parked), [(Part::Heartbeat, 10_100)]);
    }

    #[test]
    fn a_worker_that_is_not_parked_and_does_not_come_back_is_stuck() {
        let one = |ms: u64| [1 + ms / 100, if ms < 5000 { ms / 100 } else { 60 }];
        let silent = silent(&Kind::ALL, one);
        assert!(
            matches!(silent[..], [(Part::Worker, 4900..=5100)]),
            "{silent:?}"
        );
    }

    #[test]
    fn of_workers_that_nobody_has_told_of_lately_nothing_follows() {
        let (guard, pool) = seqpacket_pair().unwrap();
        let mut heartbeat = Heartbeat::new(guard);
        heartbeat.turn(Duration::ZERO);
        let mut bytes = [0; Beat::LEN];
        while let Ok(n) = rustix::io::read(&pool, &mut bytes) {
            let mut beat = Beat::from_bytes(&bytes[..n]).unwrap();
            beat.workers = [Worker { tid: 7, turns: 2 }; WORKERS];
            rustix::io::write(&pool, &beat.to_bytes()).unwrap();
        }
        let stuck = |heartbeat: &Heartbeat| heartbeat.stuck_workers().count();
        heartbeat.turn(Duration::from_millis(100));
        assert_eq!(stuck(&heartbeat), WORKERS);
        heartbeat.turn(Duration::from_millis(2000));
        assert_eq!(stuck(&heartbeat), 0);
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
