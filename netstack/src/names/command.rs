//! How `names` is told things: a bounded channel that wakes the loop. Sending never waits.

use std::{
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
};

use mio::{Poll, Token, Waker};

use super::{dns::DnsConfig, zone::Site};

/// Something that `names` is told.
#[derive(Debug)]
pub enum Command {
    /// What it should publish from now on, and where.
    Publish {
        /// What.
        site: Site,
        /// The links by name, each with its addresses and their prefix lengths.
        links: Vec<(String, Vec<(IpAddr, u8)>)>,
    },
    /// That the box goes down: everything is taken back.
    Farewell,
    /// What its name server should be from now on.
    Resolve(Box<DnsConfig>),
    /// To answer at one of the box's addresses, by sockets that are bound to port 53 there.
    Listen {
        /// The address.
        address: IpAddr,
        /// For questions as datagrams.
        datagrams: UdpSocket,
        /// For questions by connection.
        listener: TcpListener,
    },
    /// To answer there no more.
    Close {
        /// The address.
        address: IpAddr,
    },
    /// To take no more questions, as a successor does.
    Retire,
}

/// The sending end.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: SyncSender<Command>,
    waker: Arc<Waker>,
}

/// The loop's end, for [`super::run`].
#[derive(Debug)]
pub struct Receiver {
    pub(super) queue: mpsc::Receiver<Command>,
    pub(super) poll: Poll,
}

/// Makes both ends.
///
/// # Errors
/// If the kernel gives no epoll descriptor or no eventfd.
pub fn channel() -> io::Result<(Sender, Receiver)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (sender, queue) = mpsc::sync_channel(QUEUE);
    let sender = Sender {
        queue: sender,
        waker,
    };
    Ok((sender, Receiver { queue, poll }))
}

impl Sender {
    /// Tells it. False if it is behind by [`QUEUE`] commands or has ended: what the box is like is
    /// soon told again.
    pub fn send(&self, command: Command) -> bool {
        self.queue.try_send(command).is_ok() && self.waker.wake().is_ok()
    }
}

/// Commands that may wait: a boot sends a few for each address.
pub const QUEUE: usize = 64;

/// Wakes the loop.
pub(super) const WAKER: Token = Token(0);
