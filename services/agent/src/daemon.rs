//! One daemon's life: started, ended, held back, started again; or told to end, and ended.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    time::Instant,
};

use rustix::{pipe::PipeFlags, process::Signal};
use services::{
    plan::{AGENT_PROGRAM, Daemon as Spec, Restart},
    report::{DaemonReport, DaemonState},
};
use supervise::{
    backoff::{Backoff, Policy},
    spawn::{Child, Command, Schedule},
    unit::Exit,
};

use crate::{launch, output::Output};

/// A daemon that is kept running.
pub(crate) struct Daemon {
    spec: Spec,
    backoff: Backoff,
    state: State,
    restarts: u32,
    last_exit: Option<String>,
}

enum State {
    /// To be started at this time.
    Due(Instant),
    Running {
        child: Child,
        since: Instant,
        told_to_end: bool,
    },
    Ended,
}

impl Daemon {
    /// A daemon to be started at once.
    pub(crate) fn new(spec: Spec, now: Instant) -> Self {
        Self {
            spec,
            backoff: Backoff::new(Policy::SERVICE),
            state: State::Due(now),
            restarts: 0,
            last_exit: None,
        }
    }

    /// Starts it if it is time to; its output comes back.
    pub(crate) fn start_if_due(&mut self, now: Instant, null: BorrowedFd<'_>) -> Option<Output> {
        if !matches!(self.state, State::Due(at) if now >= at) {
            return None;
        }
        match self.spawn(null) {
            Ok((child, output)) => {
                supervise::info!("{} started as process {}", self.spec.name, child.pid);
                self.state = State::Running {
                    child,
                    since: now,
                    told_to_end: false,
                };
                Some(output)
            }
            Err(why) => {
                self.hold_back(now, now, &why);
                None
            }
        }
    }

    /// Its process ended, if `pid` was its process; returns whether it was.
    pub(crate) fn ended(&mut self, pid: u32, exit: Exit, now: Instant, stopping: bool) -> bool {
        let State::Running { child, since, .. } = &self.state else {
            return false;
        };
        if child.pid != pid {
            return false;
        }
        let (exit, since) = (child.exit(exit), *since);
        // What it left behind in its group would hold its ports and locks against its successor.
        if let Some(group) = rustix::process::Pid::from_raw(pid.cast_signed()) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let again = match self.spec.restart {
            Restart::Always => true,
            Restart::OnFailure => !exit.success(),
            Restart::Never => false,
        };
        if again && !stopping {
            self.hold_back(since, now, &exit.to_string());
        } else {
            supervise::info!("{} ended: {exit}", self.spec.name);
            self.last_exit = Some(exit.to_string());
            self.state = State::Ended;
        }
        true
    }

    /// Asks it, once, to end; a start that was due is called off.
    pub(crate) fn ask_to_end(&mut self) {
        match &mut self.state {
            State::Running {
                told_to_end: true, ..
            }
            | State::Ended => {}
            State::Running {
                child, told_to_end, ..
            } => {
                // Some take a second SIGTERM for impatience and skip their clean-up.
                *told_to_end = true;
                let _ = child.signal(Signal::TERM);
            }
            State::Due(_) => self.state = State::Ended,
        }
    }

    /// Whether its process lives.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// When it is to be started next.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            State::Running { .. } | State::Ended => None,
        }
    }

    /// Its state for the manager.
    pub(crate) fn report(&self) -> DaemonReport {
        DaemonReport {
            name: self.spec.name.clone(),
            state: match self.state {
                State::Due(_) => DaemonState::BackingOff,
                State::Running { .. } => DaemonState::Running,
                State::Ended => DaemonState::Ended,
            },
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
        }
    }

    fn hold_back(&mut self, since: Instant, now: Instant, why: &str) {
        let ran_for = now.saturating_duration_since(since);
        let wait = self.backoff.after_run(ran_for, random());
        supervise::warning!(
            "{} ended ({why}) and is started again in {:.1} s",
            self.spec.name,
            wait.as_secs_f32()
        );
        self.restarts = self.restarts.saturating_add(1);
        self.last_exit = Some(why.to_owned());
        self.state = State::Due(now + wait);
    }

    fn spawn(&self, null: BorrowedFd<'_>) -> Result<(Child, Output), String> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags).map_err(|e| e.to_string())?;
        // The daemon's end waits when the pipe is full, as every program expects of its output.
        rustix::io::ioctl_fionbio(&writer, false).map_err(|e| e.to_string())?;
        let workdir = self.spec.workdir.display().to_string();
        let launch = launch::arguments(self.spec.user.as_deref(), &workdir, &self.spec.command);
        let command = Command {
            program: AGENT_PROGRAM,
            args: [self.spec.name.clone()].into_iter().chain(launch).collect(),
            env: self
                .spec
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            fds: vec![(null, 0), (writer.as_fd(), 1), (writer.as_fd(), 2)],
            user: None,
            cgroup: None,
            controlling_tty: false,
            oom_score_adj: 0,
            schedule: Schedule::default(),
            no_new_privs: true,
        };
        let child = command.spawn().map_err(|e| e.to_string())?;
        Ok((child, Output::new(&self.spec.name, reader)))
    }
}

/// For jitter only: zero does no harm.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}
