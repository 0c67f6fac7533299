//! The thread that tells whether the others still work.
//!
//! It judges by what they do, not by what they say: the door must answer on a loopback socket, the
//! manager's pool must pass heartbeats (which are also the nudge that wakes a parked worker),
//! `logd` must take lines. What it sees of a silent role's threads it keeps in a ring; a verdict
//! goes to `main`, which replaces the role.
//!
//! Must never: allocate after its start, take a lock, wait longer than a tick, touch a disk, or
//! write anywhere but to its sockets and its ring.

mod evidence;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod heartbeat;
mod own;
mod probe;
mod report;
mod ring;
mod verdict;

use std::{
    os::fd::{AsFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use self::{
    evidence::{MAX_SHOWN, Shown, Threads, state_of_first},
    heartbeat::Heartbeat,
    own::Own,
    probe::Probe,
    ring::Head,
    verdict::{Case, Silence},
};
use crate::{
    crash::{self, epitaph::Cause as Crash},
    pid1::roles::Role,
    shared::{Message, ToMain},
    spares::Spares,
    vitals::{RoleRun, Step, Vitals},
};

pub use heartbeat::{Beat, Kind};
pub use report::report;
pub use ring::{Record, Ring};
pub use verdict::{Cause, Finding, Part, START_PATIENCE};

/// Starts the thread. A thread of PID 1 that is stuck before `reexecute_from` is left to the hardware
/// watchdog.
///
/// # Errors
/// When the kernel gives no thread.
pub fn spawn(
    vitals: Arc<Vitals>,
    to_main: ToMain,
    heartbeat: OwnedFd,
    own_log: Arc<OwnedFd>,
    reexecute_from: Duration,
) -> std::io::Result<()> {
    let guard = Guard {
        vitals,
        to_main,
        heartbeat: Heartbeat::new(heartbeat),
        probe: Probe::default(),
        spares: Spares::new(SPARES),
        spares_at: Duration::ZERO,
        own_log,
        watches: [None; Role::ALL.len()],
        cases: std::array::from_fn(|_| Case::default()),
        threads: Threads::default(),
        own: Own::new(crate::clock::boottime()),
        reexecute_from,
    };
    let guard = Box::new(guard);
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(move || guard.run())?;
    Ok(())
}

struct Guard {
    vitals: Arc<Vitals>,
    to_main: ToMain,
    heartbeat: Heartbeat,
    probe: Probe,
    spares: Spares,
    spares_at: Duration,
    own_log: Arc<OwnedFd>,
    watches: [Option<Watch>; Role::ALL.len()],
    cases: [Case; Role::ALL.len()],
    threads: Threads,
    own: Own,
    reexecute_from: Duration,
}

/// The run of a role under watch.
#[derive(Clone, Copy, Debug)]
struct Watch {
    run: RoleRun,
    answered: bool,
    /// Whether `main` knows of that.
    told: bool,
    last_sign: Duration,
    /// Since when nothing of it was suspicious.
    steady_since: Duration,
    /// The same of that.
    steady_told: bool,
    suspected: bool,
    shown: bool,
    condemned: bool,
    /// When its first thread is looked at next, and since when that has ended though others go on.
    look_at: Duration,
    headless_since: Option<Duration>,
}

impl Guard {
    fn run(mut self: Box<Self>) {
        crash::protect_thread();
        // Without the privilege (in a namespace) it does its work at normal priority.
        let _ = sys::sched::real_time(PRIORITY);
        loop {
            std::thread::sleep(TICK);
            // A panic costs the rest of its tick: what is kept of a role is replaced whole.
            let _ = catch_unwind(AssertUnwindSafe(|| self.tick()));
        }
    }

    fn tick(&mut self) {
        #[cfg(feature = "fault")]
        crash::fault::point("guard");
        let now = crate::clock::boottime();
        self.vitals.guard_tick(now);
        if now >= self.spares_at {
            self.spares_at = now + LOOK_EVERY;
            self.spares.take();
        }
        for role in Role::ALL {
            self.watch(role, now);
        }
        if let Some(thread) = self.own.stuck(&self.vitals, now)
            && now >= self.reexecute_from
        {
            crash::reexecute(Crash::Stuck, thread);
        }
    }

    fn watch(&mut self, role: Role, now: Duration) {
        let Some(run) = self.vitals.run(role) else {
            self.watches[role.index()] = None;
            return;
        };
        let known = self.watches[role.index()].filter(|watch| watch.run == run);
        let mut watch = known.unwrap_or_else(|| {
            self.begin(role, now);
            Watch::of(run, now)
        });
        if self.sees_life(role, now) {
            watch.last_sign = now;
            watch.answered = true;
            if !watch.told {
                let sent = match role {
                    Role::Front => self.to_main.send(Message::DoorAnswers),
                    Role::Manager => self.to_main.send(Message::ManagerAnswers),
                    Role::Logd => Ok(()),
                };
                watch.told = sent.is_ok();
            }
        }
        if role == Role::Front && self.probe.is_blind {
            watch.last_sign = now;
        }
        self.look_for_its_first(&mut watch, now);
        let mut silences = self.silences(role, &watch);
        silences.retain(now);
        if watch.answered && silences.is_empty() {
            self.vitals.role_works(role, now);
        }
        if silences.is_empty() {
            self.is_steady(role, &mut watch, now);
        } else if !watch.condemned {
            self.examine(role, &mut watch, &silences, now);
        }
        self.watches[role.index()] = Some(watch);
    }

    fn begin(&mut self, role: Role, now: Duration) {
        match role {
            Role::Front => self.probe = Probe::default(),
            Role::Manager => self.heartbeat.begin_anew(now),
            Role::Logd => {}
        }
    }

    fn sees_life(&mut self, role: Role, now: Duration) -> bool {
        match role {
            Role::Front => self.probe.turn(&mut self.spares, now),
            Role::Manager => self.heartbeat.turn(now),
            // A log that has taken all there is works.
            Role::Logd => rustix::io::ioctl_fionread(self.own_log.as_fd()) == Ok(0),
        }
    }

    /// A process whose first thread has ended neither ends nor is whole, whatever its others say.
    fn look_for_its_first(&mut self, watch: &mut Watch, now: Duration) {
        if now < watch.look_at {
            return;
        }
        watch.look_at = now + LOOK_EVERY;
        let is_headless = state_of_first(watch.run.pid) == Some(b'Z') && {
            self.threads.look(watch.run.pid);
            self.threads.are_without_first(watch.run.pid)
        };
        let since = watch.headless_since.unwrap_or(now);
        watch.headless_since = is_headless.then_some(since);
    }

    fn silences(&self, role: Role, watch: &Watch) -> Silences {
        let mut silences = Silences::default();
        let since = |part, since| Silence {
            part,
            since,
            thread: None,
        };
        if let Some(at) = watch.headless_since {
            silences.push(since(Part::First, at));
        }
        match role {
            _ if !watch.answered => silences.push(since(Part::Start, watch.run.started)),
            Role::Front => silences.push(since(Part::Door, watch.last_sign)),
            Role::Logd => silences.push(since(Part::Reading, watch.last_sign)),
            Role::Manager => self.heartbeat.silences().for_each(|s| silences.push(s)),
        }
        silences
    }

    fn is_steady(&mut self, role: Role, watch: &mut Watch, now: Duration) {
        if watch.suspected {
            watch.suspected = false;
            watch.shown = false;
            watch.steady_since = now;
        }
        let long = now.saturating_sub(watch.steady_since) >= HEALTHY_AFTER;
        if watch.answered && long && !watch.steady_told {
            let generation = watch.run.generation;
            watch.steady_told = self
                .to_main
                .send(Message::Healthy { role, generation })
                .is_ok();
        }
    }

    /// Looks at the threads of a silent role, and judges it by them.
    fn examine(&mut self, role: Role, watch: &mut Watch, silences: &Silences, now: Duration) {
        let case = &mut self.cases[role.index()];
        if !watch.suspected {
            watch.suspected = true;
            case.clear();
            // The heartbeats go on meanwhile, and each is one.
            self.vitals.count(role, Step::Nudge);
        }
        watch.steady_told = false;
        watch.steady_since = now;
        self.spares.give();
        self.threads.look(watch.run.pid);
        case.look(now, &self.threads);
        if let Some(cause) = silences.all().find_map(|s| case.verdict(now, s)) {
            self.show(role, watch.run, true, cause);
            let generation = watch.run.generation;
            // A full queue: `main` is behind, and is told at the next tick.
            watch.condemned = self
                .to_main
                .send(Message::Dead {
                    role,
                    generation,
                    cause,
                })
                .is_ok();
        } else if !watch.shown
            && let Some(silence) = silences
                .all()
                .find(|s| now.saturating_sub(s.since) >= SHOWN_AFTER)
        {
            watch.shown = true;
            let cause = Cause {
                part: silence.part,
                finding: Finding::Unknown,
                silence: now.saturating_sub(silence.since),
            };
            self.show(role, watch.run, false, cause);
        }
    }

    /// Keeps what is seen of a role's threads.
    fn show(&self, role: Role, run: RoleRun, condemned: bool, cause: Cause) {
        let mut shown = [Shown::default(); MAX_SHOWN];
        let mut len = 0;
        for (place, thread) in shown.iter_mut().zip(self.threads.all()) {
            *place = Shown::of(run.pid, thread);
            len += 1;
        }
        let head = Head {
            at: crate::clock::boottime(),
            role,
            generation: run.generation,
            condemned,
            cause,
        };
        self.vitals.ring.write(head, &shown[..len]);
        self.vitals.count(role, Step::Evidence);
    }
}

impl Watch {
    fn of(run: RoleRun, now: Duration) -> Self {
        Self {
            run,
            answered: run.settled,
            told: false,
            last_sign: now,
            steady_since: now,
            steady_told: false,
            suspected: false,
            shown: false,
            condemned: false,
            look_at: now,
            headless_since: None,
        }
    }
}

/// What is silent of a role; a handful at most.
#[derive(Debug, Default)]
struct Silences {
    all: [Option<Silence>; 7],
}

impl Silences {
    fn push(&mut self, silence: Silence) {
        if let Some(place) = self.all.iter_mut().find(|place| place.is_none()) {
            *place = Some(silence);
        }
    }

    /// Keeps those that have lasted long enough to be suspicious.
    fn retain(&mut self, now: Duration) {
        for place in &mut self.all {
            *place = place.filter(|s| now.saturating_sub(s.since) >= s.part.limits().suspicious);
        }
    }

    fn is_empty(&self) -> bool {
        self.all.iter().all(Option::is_none)
    }

    fn all(&self) -> impl Iterator<Item = &Silence> {
        self.all.iter().flatten()
    }
}

/// The heartbeat's period: the longest that a parked pool stays silent.
const TICK: Duration = Duration::from_millis(100);

/// For its question to the door, and for a look at the threads of one process.
const SPARES: usize = 4;

/// Between two looks at a process's first thread: each opens a file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Above all ordinary threads; low among the real-time ones.
const PRIORITY: u8 = 10;

/// Silence from which on the owner can see what the threads did, also without a verdict.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// A role that was steady for so long is healthy; its earlier failures are forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
