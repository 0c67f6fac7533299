//! PID 1's main thread: signals, children, the process table, the order of boot and shutdown.
//!
//! One loop over one `poll`. Must never: block (whatever may hang in the kernel is a helper's), read
//! or write a disk, take a lock that another thread holds while working, wait for a child, or end.
//! Every wait has a deadline; a panic costs the turn it happened in.

mod again;
mod control;
mod estate;
mod forwards;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod inheritance;
mod jobs;
mod keeping;
mod netview;
mod owner;
mod publish;
mod replace;
mod retire;
pub mod roles;
mod shutdown;
pub mod sockets;
mod start;
mod steps;
mod succession;
pub mod table;
mod unit;
mod upgrade;

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use drivers::{button::PowerButtons, uevent::UeventSocket, watchdog::Armed};
use netstack::net::NetHandle;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Resource, getrlimit, setrlimit},
};
use supervise::{
    cgroup::Cgroup,
    control::{Forward, Power},
    status::{DataState, NetSummary, Notice},
    unit::{Exit, UnitName},
};

use self::{
    again::SPARES,
    estate::Estate,
    inheritance::Legacy,
    jobs::{Job, Purpose},
    keeping::Written,
    owner::Owner,
    replace::Replaced,
    retire::Retiring,
    roles::Role,
    shutdown::Down,
    sockets::Sockets,
    succession::Succession,
    table::{LogPair, Table},
    unit::Due,
    upgrade::Upgrade,
};
use crate::{
    boot::{Action, Boot, STAGE0, STAGE1},
    cmdline::Cmdline,
    console,
    crash::{self, epitaph::Cause},
    handover::Handover,
    keep::Keep,
    kmsg, mounts, root,
    shared::{Board, Inbox, Message, ToMain},
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
    reserve_is_given: bool,
    trouble: Vec<Notice>,
    managers_notices: Vec<Notice>,
    /// What the box goes by on its links, where another device has the name wanted.
    other_hostname: Option<String>,
    log_tail: Vec<String>,
    owner: Owner,
    forwards: Vec<Forward>,
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
    let begun = catch_unwind(begin);
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

/// Everything before the first turn.
fn begin() -> Pid1 {
    crash::begin_afresh();
    let stage = stage();
    let trouble = mounts::mount_all(mounts::KERNEL);
    crash::arm();
    #[cfg(feature = "fault")]
    crash::fault::in_a_new_binary("as-pid-1");
    allow_descriptors();
    let (mut handover, succession) = succession::begin();
    let mut legacy = handover.as_mut().and_then(Legacy::of);
    if succession.generation == 0 {
        kmsg::write(
            kmsg::INFO,
            &format!("version {}, {stage:?}", env!("CARGO_PKG_VERSION")),
        );
    }
    for why in trouble {
        kmsg::write(kmsg::ERROR, &why);
    }
    crash::reserve::take();
    let mut means = begun(Means::new, || {});
    let estate = begun(
        || {
            // What they need is mounted by now, or was not the first time.
            mounts::mount_all(mounts::KERNEL);
            Estate::of(legacy.as_mut(), &succession)
        },
        || means.open_consoles(),
    );
    let consoles_are_up = means.consoles.is_some();
    let mut pid1 = Pid1::new(stage, estate, means, &succession);
    pid1.handover = handover;
    // What is handed over is believed by nobody, but a mistake in not believing must not be the end.
    let inherited = catch_unwind(AssertUnwindSafe(|| match legacy {
        Some(legacy) => pid1.inherit(legacy),
        None => pid1.settle(None),
    }));
    if inherited.is_err() {
        crash::reexecute(Cause::Panics, "main");
    }
    pid1.spares.take();
    pid1.start_threads(consoles_are_up);
    #[cfg(feature = "fault")]
    crash::fault::listen();
    pid1.vitals.main().is_me();
    pid1
}

/// What PID 1 can't begin without; asked for again and again. When it is not to be had, `meanwhile`.
fn begun<T>(mut attempt: impl FnMut() -> Result<T, String>, mut meanwhile: impl FnMut()) -> T {
    let mut attempts = 0_u64;
    loop {
        match attempt() {
            Ok(begun) => return begun,
            Err(why) => {
                kmsg::write(kmsg::ERROR, &format!("PID 1 can't begin: {why}"));
                std::thread::sleep(BEGIN_AGAIN);
            }
        }
        attempts += 1;
        if attempts == MOST_BEGINNINGS {
            meanwhile();
        }
    }
}

/// What `main` makes for itself.
struct Means {
    inbox: Inbox,
    to_main: ToMain,
    null: OwnedFd,
    signals: SignalFd,
    board: Arc<Board>,
    consoles: Option<Vec<PathBuf>>,
}

impl Means {
    fn new() -> Result<Self, String> {
        let text = |what: &'static str| move |e: rustix::io::Errno| format!("{what}: {e}");
        let (inbox, to_main) = Inbox::new().map_err(text("queue"))?;
        Ok(Self {
            inbox,
            to_main,
            null: open("/dev/null", rustix::fs::OFlags::RDWR).map_err(text("/dev/null"))?,
            signals: watched_signals()?,
            board: Arc::default(),
            consoles: None,
        })
    }

    /// Nothing else can be had: at least there is somebody to talk to.
    fn open_consoles(&mut self) {
        let mut due = console::active();
        open_consoles(&mut due, &self.board, &self.to_main);
        self.consoles = Some(due);
    }
}

/// Starts the consoles that are due; those that can't be stay so.
fn open_consoles(due: &mut Vec<PathBuf>, board: &Arc<Board>, to_main: &ToMain) {
    if due.is_empty() {
        return;
    }
    let host = crate::console_host::Host::new(board.clone(), to_main.clone());
    let host: Arc<dyn console::Host> = Arc::new(host);
    due.retain(|console| match console::spawn(console, &host) {
        Ok(()) => false,
        Err(e) => {
            let text = format!("a recovery console can't be opened, and is tried again: {e}");
            kmsg::write(kmsg::ERROR, &text);
            true
        }
    });
}

/// Lets every process of the box have as many descriptors as it asks for, up to [`DESCRIPTORS`]: of
/// the kernel's 4096 the door could give two each to two thousand clients. What a process has
/// without asking stays as it is.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.maximum = limit.maximum.map(|most| most.max(DESCRIPTORS));
    let _ = setrlimit(Resource::Nofile, limit);
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
    fn new(stage: Stage, estate: Estate, means: Means, succession: &Succession) -> Self {
        let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let (steps, earlier, program) = match stage {
            Stage::Initramfs => (STAGE0, Vec::new(), "/init"),
            Stage::Root => (STAGE1, root::load_reports(), "/usr/lib/pilotlight/init"),
        };
        let program = match upgrade::program_in_memory(stage) {
            Some(path) => path,
            None => program.to_owned(),
        };
        let vitals = Arc::new(Vitals::default());
        if stage == Stage::Root {
            own_stdio(&estate.own_log, &means.null);
        }
        Self {
            stage,
            program,
            cmdline: Cmdline::parse(&line),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            boot: Boot::new(steps, earlier),
            table: Table::new(),
            jobs: Vec::new(),
            helpers_started: 0,
            empty_groups: Vec::new(),
            replaced: Replaced::default(),
            left_behind: Vec::new(),
            retiring: Vec::new(),
            more_to_reap: false,
            down: None,
            signals: means.signals,
            inbox: means.inbox,
            to_main: means.to_main,
            uevents: estate.uevents,
            buttons: PowerButtons::default(),
            sockets: estate.sockets,
            heartbeat: estate.heartbeat,
            guards: estate.guards,
            null: means.null,
            kmsg: estate.kmsg,
            own_log: estate.own_log,
            helper_log: estate.helper_log,
            board: means.board,
            vitals,
            net_thread: None,
            watchdog: None,
            feed_at: Duration::ZERO,
            guard_lives: None,
            console_is_up: means.consoles.is_some(),
            consoles_due: means.consoles.unwrap_or_default(),
            guard_is_up: false,
            spares: Spares::new(SPARES),
            try_again_at: Duration::ZERO,
            keep: Keep::default(),
            keep_is_there: false,
            keep_write: None,
            door: None,
            wishes: BTreeMap::new(),
            found: Vec::new(),
            hunt_at: Duration::ZERO,
            drivers_done: None,
            data: DataState::Pending,
            data_was_mounted: false,
            data_asked: None,
            ask_data_at: Duration::ZERO,
            net: NetSummary::default(),
            reserve_is_given: false,
            trouble: estate.trouble.into_iter().map(publish::bad).collect(),
            managers_notices: Vec::new(),
            other_hostname: None,
            log_tail: Vec::new(),
            owner: Owner::default(),
            forwards: Vec::new(),
            dirty: true,
            publish_at: Duration::ZERO,
            last_turn: Duration::ZERO,
            handover: None,
            succession: succession.clone(),
            upgrade: Upgrade::default(),
        }
    }

    fn start_threads(&mut self, consoles_are_up: bool) {
        if self.stage == Stage::Root {
            self.start_guard();
        }
        // One that was opened in a predecessor, or not at all; those that are there already stay.
        let is_due = self.stage == Stage::Root || self.console_is_up;
        if is_due && !consoles_are_up {
            self.start_console();
        }
    }

    /// Opens the recovery console on every console that the kernel names.
    fn start_console(&mut self) {
        self.console_is_up = true;
        self.consoles_due = console::active();
        self.open_consoles();
    }

    /// Starts the consoles that are due.
    fn open_consoles(&mut self) {
        if !self.consoles_due.is_empty() {
            self.board.status.set(self.status(now()));
            open_consoles(&mut self.consoles_due, &self.board, &self.to_main);
        }
    }

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

    /// Signals to PID 1: busybox's own commands and the kernel's Ctrl-Alt-Del.
    fn take_signals(&mut self, now: Duration) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo.cast_signed()) {
                Ok(Signal::SIGINT | Signal::SIGTERM) => self.go_down(Power::Reboot, now),
                Ok(Signal::SIGUSR1) => self.go_down(Power::Halt, now),
                Ok(Signal::SIGUSR2 | Signal::SIGPWR) => self.go_down(Power::PowerOff, now),
                // SIGCHLD: the reaper looks anyway.
                _ => {}
            }
        }
    }

    fn take_messages(&mut self, now: Duration) {
        self.inbox.answer();
        for _ in 0..MESSAGES_A_TURN {
            let Some(message) = self.inbox.next() else {
                return;
            };
            match message {
                Message::Dead {
                    role,
                    generation,
                    cause,
                } => self.replace(role, generation, cause, now),
                Message::Healthy { role, generation } => self.is_healthy(role, generation),
                Message::DoorAnswers => self.role_answers(Role::Front, Action::Front),
                Message::ManagerAnswers => self.role_answers(Role::Manager, Action::Manager),
                Message::Net(status) => self.net_is(&status),
                Message::Order(order, reply) => {
                    let _ = reply.try_send(self.obey(order, now));
                }
                Message::Shell(tty, reply) => self.start_shell(&tty, reply),
            }
        }
    }

    /// Does what the holder of the console wants.
    fn obey(&mut self, order: console::Order, now: Duration) -> Result<String, String> {
        match order {
            console::Order::Power(power) => {
                self.go_down(power, now);
                Ok("Going down.".to_owned())
            }
            console::Order::Restart(unit) => {
                self.restart(&unit, now)?;
                Ok(format!("{unit} is being restarted."))
            }
            console::Order::Start(unit) => {
                self.tell_wish(unit.clone(), true);
                if let Some(known) = self.table.get_mut(&unit) {
                    known.life.want();
                    return Ok(format!("{unit} is being started."));
                }
                let manager = self.table.get(&Role::Manager.unit());
                if manager.is_some_and(|manager| manager.life.is_running()) {
                    return Ok(format!("The manager was told to start {unit}."));
                }
                Err(format!(
                    "there is no unit {unit}, and no manager to ask for it"
                ))
            }
            console::Order::Stop(unit) => {
                self.tell_wish(unit.clone(), false);
                self.stop_service(&unit, now)?;
                Ok(format!("{unit} is being stopped."))
            }
        }
    }

    fn role_answers(&mut self, role: Role, action: Action) {
        self.upgrade.answers[role.index()] = true;
        self.step_done(action);
    }

    fn take_uevents(&mut self) {
        let mut aliases = Vec::new();
        let (mut look, mut lost) = (false, false);
        if let Some(uevents) = &mut self.uevents {
            for _ in 0..UEVENTS_A_TURN {
                let event = match uevents.receive() {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(e) => {
                        supervise::warning!("{e}");
                        lost = true;
                        break;
                    }
                };
                look |= matches!(event.subsystem(), "input" | "block");
                aliases.extend(event.wants_module().map(str::to_owned));
            }
        }
        // Before the first look at all devices is over, it sees these too.
        if self.drivers_done.is_some() && !aliases.is_empty() {
            let mut args = vec!["modalias"];
            args.extend(aliases.iter().map(String::as_str));
            self.start_job(Purpose::Modalias, &args, MODALIAS_PATIENCE);
        }
        if lost && self.drivers_done.is_some() {
            self.start_coldplug(MODALIAS_PATIENCE);
        }
        if look || lost {
            self.hunt_at = Duration::ZERO;
            let _ = self.buttons.look(std::path::Path::new("/sys"));
        }
    }

    fn take_buttons(&mut self, now: Duration) {
        let names: Vec<String> = self
            .buttons
            .descriptors()
            .map(|(name, _)| name.to_owned())
            .collect();
        if names.iter().any(|name| self.buttons.pressed(name)) {
            supervise::info!("the power button was pressed");
            self.go_down(Power::PowerOff, now);
        }
    }

    /// Takes ended children off the kernel's hands: units, helpers, and orphans.
    fn reap(&mut self, now: Duration) {
        let mut ended: Vec<(u32, Exit)> = Vec::new();
        self.more_to_reap =
            supervise::reaper::reap(REAPED_A_TURN, |pid, exit| ended.push((pid, exit)));
        for (pid, exit) in ended {
            if !self.job_ended(pid, exit) && !self.straggler_ended(pid) && !self.retired_ended(pid)
            {
                self.unit_ended(pid, exit, now);
            }
        }
    }

    fn unit_ended(&mut self, pid: u32, exit: Exit, now: Duration) {
        let mut units = self.table.iter();
        if let Some((name, _)) = units.find(|(_, unit)| unit.life.pid() == Some(pid)) {
            self.bury(&name.clone(), exit, now);
        }
    }

    /// A process that was left behind has ended after all.
    fn straggler_ended(&mut self, pid: u32) -> bool {
        let Some(at) = self.left_behind.iter().position(|left| *left == pid) else {
            return false;
        };
        self.left_behind.swap_remove(at);
        self.changed();
        true
    }

    /// A unit's run is over; whether another follows is decided by its life.
    fn bury(&mut self, name: &UnitName, exit: Exit, now: Duration) {
        let Some(unit) = self.table.get_mut(name) else {
            return;
        };
        let exit = unit.child.take().map_or(exit, |child| child.exit(exit));
        let generation = unit.life.generation();
        unit.control = None;
        unit.life.ended(exit, now, start::random());
        let (name, role, over) = (name.clone(), unit.role(), unit.life.is_over());
        let retry_in = unit.life.retry_in(now);
        // A container's processes end with its monitor, and a role leaves none behind.
        if let Some(group) = unit.cgroup.take() {
            let _ = group.kill();
            // A service's next run has the same.
            if role.is_some() || over {
                self.empty_groups.push(group);
            }
        }
        supervise::warning!("{name} ended: {exit}");
        match role {
            Some(role) => self.role_ended(role, retry_in),
            None => {
                let event = supervise::control::Event::Exited {
                    unit: name.clone(),
                    generation,
                    exit,
                };
                self.tell(Role::Manager, event, vec![]);
                if over {
                    self.table.remove(&name);
                }
            }
        }
        self.changed();
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

    /// Feeds the hardware watchdog, as long as the guard is alive to judge the others.
    fn feed_watchdog(&mut self, now: Duration) {
        let lives = self.vitals.guard_age(now) <= GUARD_IS_DEAD_AFTER;
        if self.guard_lives == Some(!lives) {
            self.tell_of_guard(lives);
        }
        self.guard_lives = self.guard_lives.map(|_| lives).or(lives.then_some(true));
        if !lives || now < self.feed_at {
            return;
        }
        self.feed_at = now + FEED_EVERY;
        if let Some(watchdog) = &self.watchdog {
            let _ = watchdog.device.feed();
        }
    }

    /// On the console too: after the reset that follows, it may be all that is known.
    fn tell_of_guard(&self, lives: bool) {
        let text = match (lives, &self.watchdog) {
            (true, _) => "the guard works again",
            (false, Some(_)) => "the guard does nothing any more: the watchdog is no longer fed",
            (false, None) => "the guard does nothing any more, and there is no watchdog",
        };
        kmsg::write(kmsg::ERROR, text);
        supervise::error!("{text}");
    }
}

/// The clock of everything here.
fn now() -> Duration {
    crate::clock::boottime()
}

/// The initramfs is a RAM file system; the root never is.
fn stage() -> Stage {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    match rustix::fs::statfs("/") {
        Ok(found) if [TMPFS, RAMFS].contains(&found.f_type) => Stage::Initramfs,
        _ => Stage::Root,
    }
}

fn open(path: &str, flags: rustix::fs::OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(
        path,
        flags | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
}

/// From here on PID 1 speaks through the log like everybody else; or, if the kernel will not have
/// it, goes on as it is.
fn own_stdio(log: &LogPair, null: &OwnedFd) {
    let duplicated = retried(|| rustix::stdio::dup2_stdin(null))
        .and_then(|()| retried(|| rustix::stdio::dup2_stdout(&*log.write)))
        .and_then(|()| retried(|| rustix::stdio::dup2_stderr(&*log.write)));
    if let Err(errno) = duplicated {
        kmsg::write(kmsg::ERROR, &format!("standard descriptors: {errno}"));
    }
}

/// The second attempt of what hardly ever fails.
fn retried(call: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    call().or_else(|_| call())
}

/// All signals are taken here and nowhere else; threads inherit the mask.
fn watched_signals() -> Result<SignalFd, String> {
    let mut signals = SigSet::empty();
    for signal in crash::WATCHED {
        signals.add(signal);
    }
    signals
        .thread_block()
        .map_err(|e| format!("signals: {e}"))?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| format!("signals: {e}"))
}

/// No turn is further away, so that the watchdog is fed and forgotten deadlines are harmless.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A deadline in the past must not make the loop spin.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
/// A guard that has not ticked for so long is stuck itself.
const GUARD_IS_DEAD_AFTER: Duration = Duration::from_secs(5);
const FEED_EVERY: Duration = Duration::from_secs(1);
const MODALIAS_PATIENCE: Duration = Duration::from_secs(60);
const BEGIN_AGAIN: Duration = Duration::from_secs(1);
/// Attempts after which the consoles are opened though nothing else works.
const MOST_BEGINNINGS: u64 = 3;
/// Twice the door's connections, and as much again.
const DESCRIPTORS: u64 = 65_536;
/// A bug that panics at every turn must not also burn the CPU.
const AFTER_PANIC: Duration = Duration::from_millis(100);
/// More panics than this within [`PANICS_WITHIN`] are no accident.
const MOST_PANICS: usize = 20;
const PANICS_WITHIN: Duration = Duration::from_secs(60);

/// Bounds on one turn, so that no source of work keeps the others waiting.
const MESSAGES_A_TURN: usize = 64;
const UEVENTS_A_TURN: usize = 256;
const REAPED_A_TURN: usize = 256;
