//! When silence is death: the rule by which a role is judged. Time and evidence in, verdict out.
//!
//! A silence counts only with the right threads behind it: asleep without having been given a CPU
//! for a while, or burning CPU all the time. A thread that wants a CPU and gets none proves nothing:
//! that is a loaded box, and is waited for.

use std::{fmt, time::Duration};

use super::evidence::{MAX_THREADS, Thread, Threads};

/// What of a role is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// The pool's threads for what blocks.
    Blocking = 0,
    /// The front's door.
    Door = 1,
    /// The pool's I/O driver.
    Driver = 2,
    /// Its first thread, which has ended though others go on.
    First = 8,
    /// The thread that takes the guard's beats.
    Heartbeat = 3,
    /// `logd`'s reading.
    Reading = 4,
    /// Tasks given to the pool.
    Spawn = 5,
    /// The first answer of a new run.
    Start = 6,
    /// One of the pool's workers, while others still work.
    Worker = 7,
}

/// What its threads do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Finding {
    /// They wait for something that does not come.
    Blocked = 0,
    /// They burn CPU and come to no end.
    Busy = 1,
    /// Nobody knows, but it has lasted too long.
    Unknown = 2,
}

/// What was wrong with a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What of it was silent.
    pub part: Part,
    /// What its threads did.
    pub finding: Finding,
    /// For how long it was silent.
    pub silence: Duration,
}

/// A silence that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) part: Part,
    pub(super) since: Duration,
    /// The thread behind it, if it is known; else all of the part's.
    pub(super) thread: Option<u32>,
}

/// How long a part may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From when on its threads are looked at.
    pub(super) suspicious: Duration,
    /// When it is dead if its threads are asleep.
    pub(super) blocked: Duration,
    /// When it is dead if they burn CPU; never, if that may be honest work.
    pub(super) busy: Option<Duration>,
    /// When it is dead whatever they do.
    pub(super) hopeless: Duration,
}

impl Part {
    /// The facts' thresholds: honest answers of a loaded box took up to 3.6 s, but never while the
    /// threads slept.
    pub(super) fn limits(self) -> Limits {
        let (suspicious, blocked, busy, hopeless) = match self {
            Self::Driver | Self::Spawn => (250, 500, Some(3000), 60_000),
            Self::Worker => (1000, 1500, Some(4000), 120_000),
            // All of its threads may be busy with honest work that takes long.
            Self::Blocking => (500, 1200, None, 300_000),
            Self::Heartbeat => (500, 1000, Some(4000), 60_000),
            Self::Door => (1000, 1500, Some(3000), 30_000),
            // Behind is its ordinary state while much is logged; only standing still is not.
            Self::Reading => (3000, 3500, None, 60_000),
            Self::Start => (START_MS, START_MS, None, START_MS),
            // A process that is ending as a whole is gone by then.
            Self::First => (0, FIRST_MS, None, FIRST_MS),
        };
        let millis = Duration::from_millis;
        Limits {
            suspicious: millis(suspicious),
            blocked: millis(blocked),
            busy: busy.map(millis),
            hopeless: millis(hopeless),
        }
    }

    /// Whether a thread's doings tell of this part.
    fn is_of(self, thread: &Thread) -> bool {
        match self {
            Self::Blocking => thread.is_called("blocking"),
            Self::Door => thread.is_called("door"),
            Self::Driver | Self::Spawn | Self::Worker => thread.is_called("worker"),
            Self::First | Self::Heartbeat | Self::Reading | Self::Start => true,
        }
    }

    /// Its number in the ring.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        const ALL: [Part; 9] = [
            Part::Blocking,
            Part::Door,
            Part::Driver,
            Part::First,
            Part::Heartbeat,
            Part::Reading,
            Part::Spawn,
            Part::Start,
            Part::Worker,
        ];
        ALL.into_iter().find(|part| *part as u64 == number)
    }
}

impl Finding {
    /// Its number in the ring.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        [Self::Blocked, Self::Busy, Self::Unknown]
            .into_iter()
            .find(|finding| *finding as u64 == number)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Blocking => "its threads for slow work took none",
            Part::Door => "the door did not answer",
            Part::Driver => "its I/O driver did not turn",
            Part::First => "its first thread had ended and others went on",
            Part::Heartbeat => "it answered no heartbeat",
            Part::Reading => "it took no lines",
            Part::Spawn => "its pool ran no task",
            Part::Start => "it did not come up",
            Part::Worker => "a worker came to no end",
        };
        let threads = match self.finding {
            Finding::Blocked => "its threads were asleep",
            Finding::Busy => "its threads burnt CPU",
            Finding::Unknown => "its threads told nothing",
        };
        write!(f, "{part} for {} ms; {threads}", self.silence.as_millis())
    }
}

/// The threads of a silent role, watched for as long as it is silent.
#[derive(Clone, Debug)]
pub(super) struct Case {
    seen: [Seen; MAX_THREADS],
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    now: Thread,
    /// CPU time when the case was opened.
    cpu_at_first: u64,
    /// Since when it was given no CPU.
    still_since: Duration,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            seen: [Seen::default(); MAX_THREADS],
            len: 0,
        }
    }
}

impl Case {
    /// Begins anew: what was seen so far is of another silence.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a look at its threads.
    pub(super) fn look(&mut self, now: Duration, threads: &Threads) {
        let before = self.seen;
        let before = &before[..self.len];
        self.len = 0;
        for (place, thread) in self.seen.iter_mut().zip(threads.all()) {
            let known = before.iter().find(|seen| seen.now.tid == thread.tid);
            *place = match known {
                Some(seen) if seen.now == *thread && thread.state != b'R' => *seen,
                other => Seen {
                    now: *thread,
                    cpu_at_first: other.map_or(thread.cpu, |seen| seen.cpu_at_first),
                    still_since: now,
                },
            };
            self.len += 1;
        }
    }

    /// Whether a silence is death.
    pub(super) fn verdict(&self, now: Duration, silence: &Silence) -> Option<Cause> {
        let limits = silence.part.limits();
        let lasted = now.saturating_sub(silence.since);
        let cause = |finding| Cause {
            part: silence.part,
            finding,
            silence: lasted,
        };
        let of_it = || {
            let seen = self.seen[..self.len].iter();
            seen.filter(|seen| match silence.thread {
                Some(tid) => seen.now.tid == tid,
                None => silence.part.is_of(&seen.now),
            })
        };
        let wanted = of_it().count();
        let still = of_it().filter(|s| s.is_still(now, silence.part)).count();
        let burning = of_it().filter(|s| s.burns(silence.part)).count();
        if wanted > 0 && still == wanted && lasted >= limits.blocked {
            return Some(cause(Finding::Blocked));
        }
        let comes_to_no_end = burning > 0 && still + burning == wanted;
        if comes_to_no_end && limits.busy.is_some_and(|busy| lasted >= busy) {
            return Some(cause(Finding::Busy));
        }
        (lasted >= limits.hopeless).then(|| cause(Finding::Unknown))
    }
}

impl Seen {
    fn is_still(&self, now: Duration, part: Part) -> bool {
        // Slow work that waits for a slow disk is honest; another manager would wait as well.
        let honest = part == Part::Blocking && self.now.state == b'D';
        let enough = if self.now.state == b'D' {
            STILL_ON_DISK
        } else {
            STILL
        };
        self.now.state != b'R' && !honest && now.saturating_sub(self.still_since) >= enough
    }

    fn burns(&self, part: Part) -> bool {
        let enough = match part {
            Part::Door => BURNT_BY_DOOR_NS,
            // One that is asked, and others that work beside it.
            Part::Heartbeat => BURNT_BESIDE_NS,
            _ => BURNT_NS,
        };
        self.now.state == b'R' && self.now.cpu.saturating_sub(self.cpu_at_first) >= enough
    }
}

/// For how long a new run of a role may not have answered yet.
pub const START_PATIENCE: Duration = Duration::from_millis(START_MS);
const START_MS: u64 = 60_000;
const FIRST_MS: u64 = 2000;
/// So long must a thread have been given no CPU to count as asleep: three looks after the first.
const STILL: Duration = Duration::from_millis(300);
/// The same while it waits for a disk: one page of the program from a slow one that is loaded takes
/// its time.
const STILL_ON_DISK: Duration = Duration::from_secs(5);
/// So much CPU must one have used during the silence to count as burning.
const BURNT_NS: u64 = 300_000_000;
/// The same of the door. It answers within two turns of its loop, which an emulated processor takes
/// some hundred milliseconds for when all is handshakes; on a starved box those take seconds, and a
/// door that is replaced for it breaks all that it was about to answer.
const BURNT_BY_DOOR_NS: u64 = 1_500_000_000;
/// The same of a manager that takes no beats: a starved one burns as much over its honest start.
const BURNT_BESIDE_NS: u64 = 1_500_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tid: u32, name: &str, state: u8, cpu_ms: u64) -> Thread {
        let mut thread = Thread {
            tid,
            state,
            cpu: cpu_ms * 1_000_000,
            slices: cpu_ms,
            ..Thread::default()
        };
        thread.name[..name.len()].copy_from_slice(name.as_bytes());
        thread
    }

    /// When and how a pool that is silent from 0 on is found dead, looked at each 100 ms.
    fn judge(
        part: Part,
        thread: Option<u32>,
        each: impl Fn(u64) -> Vec<Thread>,
    ) -> Option<(u64, Finding)> {
        let (mut case, since) = (Case::default(), Duration::ZERO);
        let silence = Silence {
            part,
            since,
            thread,
        };
        (0..4000).map(|n| n * 100).find_map(|ms| {
            let now = Duration::from_millis(ms);
            if now >= part.limits().suspicious {
                case.look(now, &Threads::test(&each(ms)));
            }
            let cause = case.verdict(now, &silence)?;
            Some((ms, cause.finding))
        })
    }

    #[test]
    fn silence_with_sleeping_workers_is_death_within_a_second() {
        let asleep = |ms| {
            vec![
                thread(1, "worker-0", b'S', 7),
                thread(2, "worker-1", b'S', 7),
                // Whatever the others do.
                thread(3, "heartbeat", b'S', ms),
            ]
        };
        assert_eq!(
            judge(Part::Spawn, None, asleep),
            Some((600, Finding::Blocked))
        );
    }

    #[test]
    fn a_worker_that_wants_a_cpu_is_no_evidence() {
        let starved = |_| {
            vec![
                thread(1, "worker-0", b'R', 7),
                thread(2, "worker-1", b'S', 7),
            ]
        };
        assert_eq!(
            judge(Part::Spawn, None, starved),
            Some((60_000, Finding::Unknown))
        );
    }

    #[test]
    fn burning_workers_are_given_three_seconds() {
        let burning = |ms: u64| {
            vec![
                thread(1, "worker-0", b'R', ms),
                thread(2, "worker-1", b'S', 7),
            ]
        };
        assert_eq!(
            judge(Part::Spawn, None, burning),
            Some((3000, Finding::Busy))
        );
    }

    #[test]
    fn a_door_that_spins_is_found_and_one_with_a_tenth_of_a_cpu_is_left_alone() {
        let spins = |ms| vec![thread(1, "door", b'R', ms)];
        assert_eq!(judge(Part::Door, None, spins), Some((3000, Finding::Busy)));
        let starved = |ms: u64| vec![thread(1, "door", b'R', ms / 10)];
        let found = judge(Part::Door, None, starved);
        assert_eq!(found.map(|(ms, _)| ms > 15_000), Some(true), "{found:?}");
    }

    #[test]
    fn one_stuck_worker_is_found_beside_one_that_works_but_not_when_it_is_starved() {
        let two = |state| {
            move |ms| {
                vec![
                    thread(1, "worker-0", b'R', ms),
                    thread(2, "worker-1", state, 7),
                ]
            }
        };
        assert_eq!(
            judge(Part::Worker, Some(2), two(b'S')),
            Some((1500, Finding::Blocked))
        );
        assert_eq!(
            judge(Part::Worker, Some(2), two(b'R')),
            Some((120_000, Finding::Unknown))
        );
        assert_eq!(
            judge(Part::Worker, Some(1), two(b'S')),
            Some((4000, Finding::Busy))
        );
    }

    #[test]
    fn slow_work_that_waits_for_the_disk_or_computes_is_left_alone() {
        let disk = |_| vec![thread(1, "blocking-2", b'D', 7)];
        assert_eq!(
            judge(Part::Blocking, None, disk),
            Some((300_000, Finding::Unknown))
        );
        let hashing = |ms| vec![thread(1, "blocking-2", b'R', ms)];
        assert_eq!(
            judge(Part::Blocking, None, hashing),
            Some((300_000, Finding::Unknown))
        );
        let waiting = |_| vec![thread(1, "blocking-2", b'S', 7)];
        assert_eq!(
            judge(Part::Blocking, None, waiting),
            Some((1200, Finding::Blocked))
        );
    }
}
