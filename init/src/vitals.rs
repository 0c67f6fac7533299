//! What `main` and `guard` tell each other: a few numbers, without a lock.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    guard::{self, Ring},
    pid1::roles::Role,
};

/// The numbers. Times are milliseconds since the kernel started.
#[derive(Debug, Default)]
pub struct Vitals {
    guard_ticked: AtomicU64,
    main: Turns,
    net: Turns,
    runs: [Run; Role::ALL.len()],
    counts: [[AtomicU64; Step::ALL]; Role::ALL.len()],
    /// What the guard saw.
    pub ring: Ring,
}

/// A step of the ladder that a role goes through when it is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It became suspicious, and is nudged.
    Nudge,
    /// What its threads do was kept.
    Evidence,
    /// It was replaced.
    Replace,
    /// It failed too often, and is held back.
    HoldBack,
}

impl Step {
    const ALL: usize = 4;
}

/// What a thread of PID 1 shows of itself.
#[derive(Debug, Default)]
pub struct Turns {
    thread: AtomicU32,
    turns: AtomicU64,
}

impl Turns {
    /// The thread, once known, and how often its loop has turned; nothing before its first turn.
    pub fn get(&self) -> Option<(u32, u64)> {
        let turns = self.turns.load(Ordering::Acquire);
        (turns != 0).then(|| (self.thread.load(Ordering::Relaxed), turns))
    }

    /// The calling thread is the one.
    pub fn is_me(&self) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.set_thread(thread.unsigned_abs());
    }

    /// This thread is the one.
    pub fn set_thread(&self, thread: u32) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// It has turned so often.
    pub fn set(&self, turns: u64) {
        self.turns.store(turns, Ordering::Release);
    }

    /// It has turned once more.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Default)]
struct Run {
    pid: AtomicU32,
    generation: AtomicU64,
    started: AtomicU64,
    settled: AtomicBool,
    /// When this or an earlier run last worked as it should; 0 before the first.
    worked: AtomicU64,
}

/// One run of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleRun {
    /// Its process.
    pub pid: u32,
    /// Counts the role's starts.
    pub generation: u64,
    /// When it was started, or inherited.
    pub started: Duration,
    /// Whether it had long answered when it was inherited.
    pub settled: bool,
}

impl Vitals {
    /// What `main` shows.
    pub fn main(&self) -> &Turns {
        &self.main
    }

    /// What `net` shows.
    pub fn net(&self) -> &Turns {
        &self.net
    }

    /// `main` has started a role.
    pub fn role_started(&self, role: Role, pid: u32, generation: u64, now: Duration) {
        self.role_runs(role, pid, generation, now, false);
    }

    /// `main` has inherited a role that is `age` old.
    pub fn role_inherited(
        &self,
        role: Role,
        pid: u32,
        generation: u64,
        now: Duration,
        age: Duration,
    ) {
        // One that had not answered by then would have been replaced.
        let settled = age > guard::START_PATIENCE;
        self.role_runs(role, pid, generation, now, settled);
    }

    fn role_runs(&self, role: Role, pid: u32, generation: u64, now: Duration, settled: bool) {
        let run = &self.runs[role.index()];
        run.settled.store(settled, Ordering::Relaxed);
        run.started.store(millis(now), Ordering::Relaxed);
        run.generation.store(generation, Ordering::Relaxed);
        run.pid.store(pid, Ordering::Release);
    }

    /// A role's process has ended.
    pub fn role_ended(&self, role: Role) {
        self.runs[role.index()].pid.store(0, Ordering::Release);
    }

    /// The role's run under way.
    pub fn run(&self, role: Role) -> Option<RoleRun> {
        let run = &self.runs[role.index()];
        let pid = run.pid.load(Ordering::Acquire);
        (pid != 0).then(|| RoleRun {
            pid,
            generation: run.generation.load(Ordering::Relaxed),
            started: Duration::from_millis(run.started.load(Ordering::Relaxed)),
            settled: run.settled.load(Ordering::Relaxed),
        })
    }

    /// `guard` has seen a role work.
    pub fn role_works(&self, role: Role, now: Duration) {
        let run = &self.runs[role.index()];
        run.worked.store(millis(now), Ordering::Relaxed);
    }

    /// For how long a role, whichever its run, has not worked as it did before; `None` while it
    /// does, and before it ever did.
    pub fn silence(&self, role: Role, now: Duration) -> Option<Duration> {
        let worked = self.runs[role.index()].worked.load(Ordering::Relaxed);
        let silence = now.saturating_sub(Duration::from_millis(worked));
        (worked != 0 && silence >= SILENT_AFTER).then_some(silence)
    }

    /// A step of the ladder was taken.
    pub fn count(&self, role: Role, step: Step) {
        self.counts[role.index()][step as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was taken since PID 1 began.
    pub fn counted(&self, role: Role, step: Step) -> u64 {
        self.counts[role.index()][step as usize].load(Ordering::Relaxed)
    }

    /// `guard` is alive.
    pub fn guard_tick(&self, now: Duration) {
        self.guard_ticked.store(millis(now), Ordering::Relaxed);
    }

    /// How long ago `guard` was alive.
    pub fn guard_age(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(
            self.guard_ticked.load(Ordering::Relaxed),
        ))
    }
}

/// `guard` looks ten times a second; on a loaded box it may have to wait for its turn.
const SILENT_AFTER: Duration = Duration::from_secs(1);

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
