//! How the door is told things: a bounded channel that wakes the loop. Sending never waits.

use std::{
    io,
    net::TcpListener,
    sync::{
        Arc,
        mpsc::{self, SyncSender, TrySendError},
    },
};

use mio::{Poll, Token, Waker};

use super::{
    config::{DoorConfig, Upstream},
    view::EmergencyView,
};

/// Something the door is told.
#[derive(Debug)]
pub enum Command {
    /// To listen on this port no more.
    Close {
        /// The port that clients see.
        port: u16,
    },
    /// What it should be from now on.
    Configure(Box<DoorConfig>),
    /// A listening socket for the box's port `port`: 80 is plain HTTP, any other TLS. The number
    /// decides about routing, whatever the socket is really bound to. To be sent after the first
    /// [`Configure`](Self::Configure), or early clients see the throw-away certificate.
    Listen {
        /// The port that clients see.
        port: u16,
        /// The socket.
        listener: TcpListener,
    },
    /// Where requests for what is below `/emergency/` and `/net/` go: to whoever lets owners in.
    Owner(Upstream),
    /// To accept no more, finish what is under way within its deadline, and end.
    Shutdown,
    /// How the box is.
    View(Box<EmergencyView>),
}

/// The sending end; can be cloned and given to other threads.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: SyncSender<Command>,
    waker: Arc<Waker>,
}

/// The door's end, for [`super::run`].
#[derive(Debug)]
pub struct Receiver {
    queue: mpsc::Receiver<Command>,
    pub(super) poll: Option<Poll>,
}

/// Why the door could not be told.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It is behind by [`QUEUE`] commands.
    #[error("The door has not taken its last {QUEUE} commands. Send the newest again later.")]
    Full(Box<Command>),
    /// It has ended.
    #[error("The door has ended.")]
    Gone,
}

/// A channel to a door that is yet to be opened.
///
/// # Errors
/// When the kernel gives no epoll instance or eventfd.
pub fn channel() -> io::Result<(Sender, Receiver)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (sender, queue) = mpsc::sync_channel(QUEUE);
    let poll = Some(poll);
    Ok((
        Sender {
            queue: sender,
            waker,
        },
        Receiver { queue, poll },
    ))
}

impl Sender {
    /// Tells the door `command`, at once or not at all.
    ///
    /// # Errors
    /// With the command given back when the door is behind; when it has ended.
    pub fn send(&self, command: Command) -> Result<(), SendError> {
        match self.queue.try_send(command) {
            Ok(()) => {
                // A wake-up that fails (the counter is full) means that one is already due.
                let _ = self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(command)) => Err(SendError::Full(Box::new(command))),
            Err(TrySendError::Disconnected(_)) => Err(SendError::Gone),
        }
    }
}

impl Receiver {
    /// The next command, if there is one.
    pub(super) fn next(&self) -> Option<Command> {
        self.queue.try_recv().ok()
    }
}

/// Commands that may wait: a boot sends some dozens.
pub const QUEUE: usize = 256;
/// The waker's token: no client, link or listener ever has this one.
pub(super) const WAKER: Token = Token(usize::MAX);
