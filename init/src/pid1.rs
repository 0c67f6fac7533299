//! PID 1's main thread: signals, children, the process table, the order of boot and shutdown.
//!
//! One loop over one `poll`. Must never: block (whatever may hang in the kernel is a helper's), read
//! or write a disk, take a lock that another thread holds while working, wait for a child, or end.
//! Every wait has a deadline; a panic costs the turn it happened in.

mod again;
mod beginning;
mod control;
mod estate;
mod forwards;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod hearing;
mod hunt;
mod inheritance;
mod jobs;
mod keeping;
mod names;
mod netchange;
mod netview;
mod netwish;
mod owner;
mod publish;
mod reaping;
mod replace;
mod retire;
pub mod roles;
mod shutdown;
pub mod sockets;
mod start;
mod steps;
mod succession;
pub mod table;
mod timekeeping;
mod tries;
mod unit;
mod upgrade;
mod watchdog;

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use drivers::{button::PowerButtons, uevent::UeventSocket, watchdog::Armed};
use netstack::net::{NetHandle, NetStatus};
use nix::sys::{signal::Signal, signalfd::SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use supervise::{
    cgroup::Cgroup,
    control::Forward,
    status::{DataState, NetSummary, Notice},
    unit::{Exit, UnitName},
};

use self::{
    jobs::Job,
    keeping::Written,
    names::Names,
    netchange::NetChanges,
    owner::Owner,
    replace::Replaced,
    retire::Retiring,
    roles::Role,
    shutdown::Down,
    sockets::Sockets,
    succession::Succession,
    table::{LogPair, Table},
    timekeeping::Timekeeping,
    unit::Due,
    upgrade::Upgrade,
};
use crate::{
    boot::{Action, Boot},
    cmdline::Cmdline,
    crash::{self, epitaph::Cause},
    handover::Handover,
    keep::Keep,
    kmsg,
    shared::{Board, Inbox, ToMain},
    spares::Spares,
    vitals::Vitals,
};

pub use inheritance::Rehearsal;
pub use start::{HEARTBEAT_FD, OWNERS_FD};

/// Everything that `main` knows.
pub struct Pid1 {
    stage: Stage,
    program: String,
    cmdline: Cmdline,
    kernel: String,
    boot: Boot,
    table: Table,
    jobs: Vec<Job>,
    helpers_started: u64,
    empty_groups: Vec<Cgroup>,
    replaced: Replaced,
    left_behind: Vec<u32>,
    retiring: Vec<Retiring>,
    more_to_reap: bool,
    down: Option<Down>,

    signals: SignalFd,
    inbox: Inbox,
    to_main: ToMain,
    uevents: Option<UeventSocket>,
    buttons: PowerButtons,
    sockets: Sockets,
    heartbeat: OwnedFd,
    guards: OwnedFd,
    null: OwnedFd,
    kmsg: Option<OwnedFd>,
    own_log: LogPair,
    helper_log: LogPair,

    board: Arc<Board>,
    vitals: Arc<Vitals>,
    net_thread: Option<NetHandle>,
    watchdog: Option<Armed>,
    feed_at: Duration,
    /// None until it has lived.
    guard_lives: Option<bool>,
    console_is_up: bool,
    consoles_due: Vec<PathBuf>,
    guard_is_up: bool,
    spares: Spares,
    try_again_at: Duration,

    keep: Keep,
    keep_is_there: bool,
    keep_write: Option<Written>,
    door: Option<Vec<u8>>,
    wishes: BTreeMap<UnitName, bool>,
    found: Vec<Action>,
    hunt_at: Duration,
    drivers_done: Option<Duration>,

    data: DataState,
    data_was_mounted: bool,
    data_asked: Option<Duration>,
    ask_data_at: Duration,
    net: NetSummary,
    changes: NetChanges,
    /// What `net` said last, in full; a successor hears it anew.
    net_seen: NetStatus,
    timekeeping: Timekeeping,
    reserve_is_given: bool,
    trouble: Vec<Notice>,
    managers_notices: Vec<Notice>,
    /// What the box goes by on its links, where another device has the name wanted.
    other_hostname: Option<String>,
    log_tail: Vec<String>,
    owner: Owner,
    forwards: Vec<Forward>,
    names: Names,
    dirty: bool,
    publish_at: Duration,
    last_turn: Duration,
    handover: Option<Handover>,
    succession: Succession,
    upgrade: Upgrade,
}

/// Which root PID 1 runs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The initramfs: looks for the root.
    Initramfs,
    /// The root itself.
    Root,
}

/// Runs PID 1. Never returns: if it did, the kernel would panic.
pub fn run() -> ! {
    crash::arm();
    let begun = catch_unwind(beginning::begin);
    let Ok(mut pid1) = begun else {
        // What was handed over, or this binary, is at fault: both have a limit.
        loop {
            crash::reexecute(Cause::Panics, "main");
            std::thread::sleep(BEGIN_AGAIN);
        }
    };
    let mut panics = Vec::new();
    loop {
        let turn = catch_unwind(AssertUnwindSafe(|| pid1.turn()));
        if turn.is_err() {
            panicked(&mut panics, now());
        }
    }
}

/// Goes on after a panic, for a while; a bug that panics at every turn may be gone in a successor.
fn panicked(panics: &mut Vec<Duration>, now: Duration) {
    let text = "a turn of PID 1's main loop panicked; going on";
    kmsg::write(kmsg::ERROR, text);
    supervise::error!("{text}");
    panics.retain(|at| now.saturating_sub(*at) < PANICS_WITHIN);
    panics.push(now);
    if panics.len() > MOST_PANICS {
        crash::reexecute(Cause::Panics, "main");
    }
    std::thread::sleep(AFTER_PANIC);
}

impl Pid1 {
    /// One turn: wait for whatever comes first, then do all that is due.
    fn turn(&mut self) {
        self.wait();
        let now = now();
        self.last_turn = now;
        self.show_life();
        self.take_signals(now);
        self.take_messages(now);
        self.take_uevents();
        self.take_buttons(now);
        for role in Role::ALL {
            self.serve(role, now);
        }
        self.reap(now);
        self.give_up_jobs(now);
        self.advance_boot(now);
        self.do_what_is_due(now);
        self.try_again(now);
        self.watch_data(now);
        self.watch_network(now);
        self.end_retired(now);
        self.watch_upgrade(now);
        self.advance_shutdown(now);
        self.empty_groups.retain(|group| group.remove().is_err());
        self.feed_watchdog(now);
        self.publish(now);
        self.prepare_to_go_over(now);
        self.hand_on();
        self.tell_succession(now);
        self.go_over();
    }

    /// For the guard: this turn, and those of `net`.
    fn show_life(&self) {
        #[cfg(feature = "fault")]
        crash::fault::point("main");
        #[cfg(feature = "fault")]
        crash::fault::in_a_turn(self.vitals.main().get().map_or(0, |(_, turns)| turns));
        self.vitals.main().turn();
        if let Some(net) = &self.net_thread {
            self.vitals.net().set(net.turns());
        }
    }

    fn wait(&self) {
        let timeout = Timespec::try_from(self.until_next(now())).unwrap_or_default();
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.inbox.bell(), PollFlags::IN),
        ];
        if let Some(uevents) = &self.uevents {
            fds.push(PollFd::from_borrowed_fd(uevents.as_fd(), PollFlags::IN));
        }
        for (_, button) in self.buttons.descriptors() {
            fds.push(PollFd::from_borrowed_fd(button, PollFlags::IN));
        }
        for outbox in self.table.values().filter_map(|unit| unit.control.as_ref()) {
            let mut events = PollFlags::IN;
            events.set(PollFlags::OUT, outbox.is_behind());
            fds.push(PollFd::new(outbox.socket(), events));
        }
        // An error (EINTR) is as good as a wake-up.
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }

    fn until_next(&self, now: Duration) -> Duration {
        // One SIGCHLD told of them all and has been taken; and nothing is worth waiting for before
        // the first turn.
        if self.more_to_reap || self.last_turn.is_zero() {
            return Duration::ZERO;
        }
        let lives = self
            .table
            .values()
            .filter_map(|unit| unit.life.next_deadline())
            .min();
        let hunting = self.boot.next_deadline().map(|_| self.hunt_at);
        [
            self.boot.next_deadline(),
            self.changes.deadline(),
            self.next_give_up(),
            self.shutdown_deadline(),
            Some(self.publish_at),
            lives,
            hunting,
        ]
        .into_iter()
        .flatten()
        .map(|at| at.saturating_sub(now))
        .min()
        .unwrap_or(LONGEST_WAIT)
        .clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    fn do_what_is_due(&mut self, now: Duration) {
        let down = self.going_down();
        let due: Vec<_> = self
            .table
            .iter_mut()
            .filter_map(|(name, unit)| Some((name.clone(), unit.role(), unit.life.due(now)?)))
            .collect();
        for (name, role, due) in due {
            match due {
                // On the way down only the front comes back: it says that the box goes down.
                Due::Start if down && role != Some(Role::Front) => {}
                Due::Start => self.start_unit(&name, now),
                Due::Kill => {
                    supervise::warning!("{name} does not end and is killed");
                    if let Some(group) = self.table.get(&name).and_then(|u| u.cgroup.as_ref()) {
                        let _ = group.kill();
                    }
                }
                Due::Stuck => self.stuck(&name, role, now),
            }
        }
    }

    /// A killed process that the kernel holds. A role is done without it: nothing of it runs any
    /// more, and the box needs the next one now. A service is waited for, as its files are its own.
    fn stuck(&mut self, name: &UnitName, role: Option<Role>, now: Duration) {
        let Some(unit) = self.table.get(name) else {
            return;
        };
        match (role, unit.life.pid()) {
            (Some(_), Some(pid)) => {
                supervise::error!("{name} (pid {pid}) is stuck in the kernel and left behind");
                self.left_behind.push(pid);
                self.bury(name, Exit::Signal(Signal::SIGKILL as i32), now);
            }
            _ => {
                if let Some(group) = &unit.cgroup {
                    let _ = group.kill();
                }
            }
        }
    }
}

/// The clock of everything here.
fn now() -> Duration {
    crate::clock::boottime()
}

/// No turn is further away, so that the watchdog is fed and forgotten deadlines are harmless.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A deadline in the past must not make the loop spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
const BEGIN_AGAIN: Duration = Duration::from_secs(1);
/// A bug that panics at every turn must not also burn the CPU.
const AFTER_PANIC: Duration = Duration::from_millis(100);
/// More panics than this within [`PANICS_WITHIN`] are no accident.
const MOST_PANICS: usize = 20;
const PANICS_WITHIN: Duration = Duration::from_secs(60);
