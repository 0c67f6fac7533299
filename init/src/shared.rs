//! What PID 1's threads share: the published status, and a bounded queue towards `main`.
//!
//! The only lock here guards the exchange of a pointer; nobody works while holding it.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use netstack::net::NetStatus;
use rustix::event::EventfdFlags;
use supervise::status::BoxStatus;

use crate::console::Order;

/// One value that `main` replaces and others read.
#[derive(Debug, Default)]
pub struct Published<T>(Mutex<Arc<T>>);

impl<T> Published<T> {
    /// Replaces the value.
    pub fn set(&self, value: T) {
        let value = Arc::new(value);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    /// The newest value.
    pub fn get(&self) -> Arc<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What `main` publishes for the console.
#[derive(Debug, Default)]
pub struct Board {
    /// The state of the box.
    pub status: Published<BoxStatus>,
    /// The code that lets its holder set up the box.
    pub setup_code: Published<Option<String>>,
    /// The box's CA certificate as PEM.
    pub ca_pem: Published<Option<String>>,
}

/// A message to `main` from another thread of PID 1.
#[derive(Debug)]
pub enum Message {
    /// The guard's verdict: this run of the role no longer works.
    Dead {
        /// The role.
        role: crate::pid1::roles::Role,
        /// Which run of it.
        generation: u64,
        /// Why it is held to be dead.
        cause: crate::guard::Cause,
    },
    /// The front door answered the guard's first probe of this run.
    DoorAnswers,
    /// The manager's pool answered the guard's first heartbeat of this run.
    ManagerAnswers,
    /// The guard has seen nothing suspicious of this run for long.
    Healthy {
        /// The role.
        role: crate::pid1::roles::Role,
        /// Which run of it.
        generation: u64,
    },
    /// What `net` made of the network.
    Net(Box<NetStatus>),
    /// Whoever holds the console wants this; answered with what came of it.
    Order(Order, SyncSender<Result<String, String>>),
    /// A shell on this terminal; answered when it has ended.
    Shell(OwnedFd, SyncSender<Result<(), String>>),
}

/// The sending side of `main`'s queue. Sending never waits.
#[derive(Clone, Debug)]
pub struct ToMain {
    queue: SyncSender<Message>,
    bell: Arc<OwnedFd>,
}

impl ToMain {
    /// Sends a message, or gives it back when `main` is far behind.
    pub fn send(&self, message: Message) -> Result<(), TrySendError<Message>> {
        self.queue.try_send(message)?;
        // A full counter (EAGAIN) rings already.
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
        Ok(())
    }
}

/// `main`'s side of the queue.
#[derive(Debug)]
pub struct Inbox {
    queue: Receiver<Message>,
    bell: Arc<OwnedFd>,
}

impl Inbox {
    /// Makes a queue.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> Result<(Self, ToMain), rustix::io::Errno> {
        let (sender, queue) = sync_channel(MAX_MESSAGES);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = Arc::new(rustix::event::eventfd(0, flags)?);
        Ok((
            Self {
                queue,
                bell: bell.clone(),
            },
            ToMain {
                queue: sender,
                bell,
            },
        ))
    }

    /// Readable when there is a message.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The next message, if any.
    pub fn next(&self) -> Option<Message> {
        self.queue.try_recv().ok()
    }

    /// Silences the bell; called before the queue is emptied.
    pub fn answer(&self) {
        let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
    }
}

/// Far more than the few threads can have under way at once.
const MAX_MESSAGES: usize = 256;
