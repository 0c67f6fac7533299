//! The thread `net` and the handle to it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use mio::{Events, Poll, Waker};

use super::{
    config::NetConfig,
    engine::{self, Engine, Next, WAKER},
    status::NetStatus,
};

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Configure(Box<NetConfig>),
    Shutdown { release: bool },
}

/// Why the thread does not start or take a command.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Its queue is full: it does not turn, or is told more often than it turns.
    #[error("the network thread has {COMMANDS_MAX} commands waiting already; ask again later")]
    Busy,
    /// It has been shut down.
    #[error("the network thread has ended, so it takes no commands")]
    Ended,
    /// The kernel refused what it needs to start.
    #[error("the network thread does not start: {0}")]
    Start(#[from] io::Error),
}

/// The way to the thread. Dropping it ends the thread and leaves the network as it is.
#[derive(Debug)]
pub struct NetHandle {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
    turns: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// Starts the thread `net`. It calls `on_status` after every change, and must not be kept waiting
/// by it.
///
/// # Errors
/// [`NetError::Start`] if the kernel gives no epoll descriptor or no thread. All else that fails
/// is told by [`NetStatus::problems`] and tried again.
pub fn spawn(
    config: NetConfig,
    on_status: impl FnMut(NetStatus) + Send + 'static,
) -> Result<NetHandle, NetError> {
    spawn_prepared(config, || {}, on_status)
}

/// The same with something that the thread does before all else.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_prepared(
    config: NetConfig,
    prepare: impl FnOnce() + Send + 'static,
    on_status: impl FnMut(NetStatus) + Send + 'static,
) -> Result<NetHandle, NetError> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let turns = Arc::new(AtomicU64::new(0));
    let (commands, received) = sync_channel(COMMANDS_MAX);
    let mut runner = Runner {
        poll,
        received,
        turns: Arc::clone(&turns),
        config,
        on_status: Box::new(on_status),
        published: None,
        failures: 0,
    };
    let thread = Builder::new()
        .name("net".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            prepare();
            runner.run();
        })?;
    Ok(NetHandle {
        commands,
        waker,
        turns,
        thread,
    })
}

impl NetHandle {
    /// Tells what should be from now on. Returns at once.
    ///
    /// # Errors
    /// [`NetError::Busy`] or [`NetError::Ended`]; the configuration is not taken then.
    pub fn configure(&self, config: NetConfig) -> Result<(), NetError> {
        self.send(Command::Configure(Box::new(config)))
    }

    /// Ends the thread; addresses stay. With `release`, leases are given back to their servers
    /// (for a box that moves, not for one that reboots). Returns at once.
    ///
    /// # Errors
    /// [`NetError::Busy`] or [`NetError::Ended`].
    pub fn shutdown(&self, release: bool) -> Result<(), NetError> {
        self.send(Command::Shutdown { release })
    }

    /// Wakes the loop, so that [`turns`](Self::turns) moves on if it lives.
    pub fn nudge(&self) {
        // Writes to an eventfd; it fails only if the thread has been nudged 2^64 times unheard.
        drop(self.waker.wake());
    }

    /// How often the loop has turned. It turns at least once a second.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether the thread has ended.
    pub fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    fn send(&self, command: Command) -> Result<(), NetError> {
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                TrySendError::Full(_) => NetError::Busy,
                TrySendError::Disconnected(_) => NetError::Ended,
            })?;
        self.nudge();
        Ok(())
    }
}

/// What outlives an engine.
struct Runner {
    poll: Poll,
    received: Receiver<Command>,
    turns: Arc<AtomicU64>,
    config: NetConfig,
    on_status: Box<dyn FnMut(NetStatus) + Send>,
    published: Option<NetStatus>,
    /// Engines that failed without a minute of peace between them.
    failures: u32,
}

impl Runner {
    fn run(&mut self) {
        loop {
            let began = super::clock::now();
            // The engine is gone after a panic; what is kept here is whole between any two steps.
            let why = match catch_unwind(AssertUnwindSafe(|| self.run_engine())) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            let lasted = super::clock::now().saturating_sub(began);
            self.failures = if lasted > PEACE { 0 } else { self.failures + 1 };
            self.publish(NetStatus {
                problems: vec![format!(
                    "The network's control failed ({why}) and starts again; addresses stay."
                )],
                ..self.published.clone().unwrap_or_default()
            });
            if self.rest(RESTART_FIRST * (1 << self.failures.min(RESTART_DOUBLINGS_MAX))) {
                return;
            }
        }
    }

    /// Runs one engine until it is told to end, or fails.
    fn run_engine(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut engine = Engine::start(self.config.clone(), &self.poll)?;
        loop {
            match self.poll.poll(&mut events, Some(engine.sleep())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.turns.fetch_add(1, Ordering::Relaxed);
            loop {
                let command = match self.received.try_recv() {
                    Ok(command) => command,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                };
                if let Command::Configure(config) = &command {
                    self.config.clone_from(config);
                }
                match engine::obey(&mut engine, command, &self.poll) {
                    Next::Continue => {}
                    Next::End => return Ok(()),
                }
            }
            engine.turn(&self.poll, &events)?;
            if let Some(status) = engine.status() {
                self.publish(status);
            }
        }
    }

    fn publish(&mut self, status: NetStatus) {
        if self.published.as_ref() != Some(&status) {
            self.published = Some(status.clone());
            (self.on_status)(status);
        }
    }

    /// Sleeps before the next engine, still obeying. True if it is to end.
    fn rest(&mut self, pause: Duration) -> bool {
        let until = super::clock::now() + pause;
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let left = until.saturating_sub(super::clock::now());
            if left.is_zero() {
                return false;
            }
            // Whatever fails here, the engine will meet again and tell.
            drop(self.poll.poll(&mut events, Some(left.min(TURN_WITHIN))));
            self.turns.fetch_add(1, Ordering::Relaxed);
            match self.received.try_recv() {
                Ok(Command::Configure(config)) => self.config = *config,
                Ok(Command::Shutdown { .. }) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => {}
            }
        }
    }
}

/// Commands that may wait: more than anybody has reason to send within a turn.
const COMMANDS_MAX: usize = 8;

/// Events taken in one turn.
const EVENTS_MAX: usize = 64;

/// The loop's deepest call needs a tenth of this.
const STACK: usize = 512 << 10;

/// An engine that ran for this long was not broken when it started.
const PEACE: Duration = Duration::from_secs(60);

const RESTART_FIRST: Duration = Duration::from_millis(200);
/// Up to 25 s.
const RESTART_DOUBLINGS_MAX: u32 = 7;

/// The loop turns at least this often, also between engines.
const TURN_WITHIN: Duration = Duration::from_secs(1);
