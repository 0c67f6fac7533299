//! The loop: signals, daemons, output, probe and manager, in one thread that waits in `poll` only.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use services::{
    plan::{AGENT_SOCKET, AgentSpec},
    report::AgentReport,
};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use crate::{daemon::Daemon, link::Link, output::Output, probe::Probe};

/// Why there can be no agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0} can't be read: {1}")]
    NoSpec(&'static str, io::Error),
    #[error("{0}")]
    Spec(#[from] services::plan::PlanError),
    #[error("a signal handler can't be set up: {0}")]
    Signals(io::Error),
    #[error("/dev/null can't be opened: {0}")]
    NoNull(io::Error),
    #[error("waiting failed: {0}")]
    Poll(rustix::io::Errno),
}

/// Everything the agent knows.
pub(crate) struct Agent {
    daemons: Vec<Daemon>,
    outputs: Vec<Output>,
    probe: Option<Probe>,
    link: Link,
    null: OwnedFd,
    signals: UnixStream,
    told_to_stop: Arc<AtomicBool>,
    stop_timeout: Duration,
    /// When all that is left is killed, once the agent was told to end.
    deadline: Option<Instant>,
    sequence: u64,
    report_at: Instant,
}

impl Agent {
    pub(crate) fn new(spec: AgentSpec) -> Result<Self, Error> {
        let now = Instant::now();
        let (signals, told_to_stop) = signals().map_err(Error::Signals)?;
        Ok(Self {
            daemons: spec
                .daemons
                .into_iter()
                .map(|spec| Daemon::new(spec, now))
                .collect(),
            outputs: Vec::new(),
            probe: spec.health.and_then(start_probe),
            link: Link::new(AGENT_SOCKET, now),
            null: File::open("/dev/null").map_err(Error::NoNull)?.into(),
            signals,
            told_to_stop,
            stop_timeout: Duration::from_millis(spec.stop_timeout_ms.into()),
            deadline: None,
            sequence: 0,
            report_at: now,
        })
    }

    /// Runs until it was told to end and everything has.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            self.bury(now);
            if self.told_to_stop.load(Ordering::Relaxed) && self.stop(now) {
                return Ok(());
            }
            for daemon in &mut self.daemons {
                self.outputs
                    .extend(daemon.start_if_due(now, self.null.as_fd()));
            }
            self.report_if_due(now);
            self.wait(now)?;
        }
    }

    /// Buries every child that ended, the daemons' own as well as orphans.
    fn bury(&mut self, now: Instant) {
        let (daemons, stopping) = (&mut self.daemons, self.deadline.is_some());
        let mut changed = false;
        while supervise::reaper::reap(MANY, |pid, exit| {
            changed |= daemons
                .iter_mut()
                .any(|daemon| daemon.ended(pid, exit, now, stopping));
        }) {}
        if changed {
            self.report_at = now;
        }
    }

    /// One step of ending, the last started first. Returns whether all have ended.
    fn stop(&mut self, now: Instant) -> bool {
        let deadline = match self.deadline {
            Some(deadline) => deadline,
            None => {
                self.report_at = now;
                *self.deadline.insert(now + self.stop_timeout)
            }
        };
        if now >= deadline {
            let stubborn = self
                .daemons
                .iter()
                .filter(|daemon| daemon.is_running())
                .count();
            supervise::warning!("{stubborn} daemons have not ended in time and are killed");
            // By the kernel, with all else in the container, when its first process ends.
            return true;
        }
        for daemon in self.daemons.iter_mut().rev() {
            daemon.ask_to_end();
            if daemon.is_running() {
                return false;
            }
        }
        true
    }

    fn report_if_due(&mut self, now: Instant) {
        if !self.link.connect(now) && now < self.report_at {
            return;
        }
        self.report_at = now + REPORT_EVERY;
        self.sequence += 1;
        let report = AgentReport {
            sequence: self.sequence,
            daemons: self.daemons.iter().map(Daemon::report).collect(),
            health: self.probe.as_ref().and_then(|probe| probe.health(now)),
            dropped_lines: supervise::log::dropped(),
            stopping: self.deadline.is_some(),
        };
        self.link.send(&report, now);
    }

    fn wait(&mut self, now: Instant) -> Result<(), Error> {
        let until = self
            .daemons
            .iter()
            .filter_map(Daemon::due)
            .chain(self.link.retry_at())
            .chain(self.deadline)
            .fold(self.report_at, Instant::min);
        let wait_for = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![wait_for(self.signals.as_fd())];
        fds.extend(self.outputs.iter().map(|output| wait_for(output.as_fd())));
        fds.extend(
            self.probe
                .iter()
                .map(|probe| wait_for(probe.wake().as_fd())),
        );
        fds.extend(self.link.socket().map(wait_for));
        let timeout =
            Timespec::try_from(until.saturating_duration_since(now)).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            });
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::Poll(errno)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        self.take(ready.into_iter());
        Ok(())
    }

    /// Handles what `wait` found ready, in the order in which it listed them.
    fn take(&mut self, mut ready: impl Iterator<Item = bool>) {
        let now = Instant::now();
        let mut is_ready = || ready.next().unwrap_or(false);
        if is_ready() {
            drain(&mut self.signals);
        }
        self.outputs
            .retain_mut(|output| !is_ready() || output.pump());
        let has_link = self.link.socket().is_some();
        if let Some(probe) = &self.probe
            && is_ready()
        {
            if rustix::io::read(probe.wake(), &mut [0_u8; 64]) == Ok(0) {
                // Its thread is gone: no answer rather than an old one.
                self.probe = None;
            }
            self.report_at = now;
        }
        if has_link && is_ready() {
            self.link.readable(now);
        }
    }
}

fn start_probe(spec: services::plan::HealthProbe) -> Option<Probe> {
    Probe::start(spec)
        .inspect_err(|e| supervise::warning!("the health probe can't run: {e}"))
        .ok()
}

/// A socket that is readable after a signal, and a flag for those that mean the end.
fn signals() -> io::Result<(UnixStream, Arc<AtomicBool>)> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Before the wake-up, so that whoever wakes sees it.
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    for signal in [SIGTERM, SIGINT, SIGCHLD] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok((reader, stop))
}

fn drain(signals: &mut UnixStream) {
    let mut bytes = [0; 256];
    while matches!(signals.read(&mut bytes), Ok(n) if n == bytes.len()) {}
}

/// A manager that asks "how old is this?" gets an answer no older than this.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Orphans buried before the agent looks at anything else.
const MANY: usize = 1000;
