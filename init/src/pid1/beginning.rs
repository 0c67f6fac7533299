//! Everything before the first turn: what PID 1 makes for itself, or has from a predecessor.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use drivers::button::PowerButtons;
use netstack::net::NetStatus;
use nix::sys::{
    signal::SigSet,
    signalfd::{SfdFlags, SignalFd},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use supervise::status::{DataState, NetSummary};

use super::{
    BEGIN_AGAIN, Pid1, Stage,
    again::SPARES,
    estate::Estate,
    inheritance::Legacy,
    netchange::NetChanges,
    now,
    owner::Owner,
    publish,
    replace::Replaced,
    roles::FIRST,
    succession::{self, Succession},
    table::{LogPair, Table},
    timekeeping::Timekeeping,
    upgrade::{self, Upgrade},
};
use crate::{
    boot::{Boot, STAGE0, STAGE1},
    cmdline::Cmdline,
    console,
    crash::{self, epitaph::Cause},
    keep::Keep,
    kmsg, mounts, root,
    shared::{Board, Inbox, ToMain},
    spares::Spares,
    vitals::Vitals,
};

/// Everything before the first turn.
pub(super) fn begin() -> Pid1 {
    crash::begin_afresh();
    let stage = stage();
    let trouble = mounts::mount_all(mounts::KERNEL);
    crash::arm();
    #[cfg(feature = "fault")]
    crash::fault::in_a_new_binary("as-pid-1");
    allow_descriptors();
    // Before any thread is made: each has its own, from the one that makes it.
    let _ = FIRST.take();
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
            changes: NetChanges::default(),
            net_seen: NetStatus::default(),
            timekeeping: Timekeeping::new(now()),
            reserve_is_given: false,
            trouble: estate.trouble.into_iter().map(publish::bad).collect(),
            managers_notices: Vec::new(),
            other_hostname: None,
            log_tail: Vec::new(),
            owner: Owner::default(),
            forwards: Vec::new(),
            names: super::names::Names::default(),
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
    pub(super) fn start_console(&mut self) {
        self.console_is_up = true;
        self.consoles_due = console::active();
        self.open_consoles();
    }

    /// Starts the consoles that are due.
    pub(super) fn open_consoles(&mut self) {
        if !self.consoles_due.is_empty() {
            self.board.status.set(self.status(now()));
            open_consoles(&mut self.consoles_due, &self.board, &self.to_main);
        }
    }
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

/// The initramfs is a RAM file system; the root never is.
fn stage() -> Stage {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    match rustix::fs::statfs("/") {
        Ok(found) if [TMPFS, RAMFS].contains(&found.f_type) => Stage::Initramfs,
        _ => Stage::Root,
    }
}

pub(super) fn open(path: &str, flags: rustix::fs::OFlags) -> rustix::io::Result<OwnedFd> {
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

/// Attempts after which the consoles are opened though nothing else works.
const MOST_BEGINNINGS: u64 = 3;

/// Twice the door's connections, and as much again.
const DESCRIPTORS: u64 = 65_536;
