//! Listening sockets and new connections: who gets in, and who goes when it is full.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    time::{Duration, Instant},
};

use mio::{
    Interest, Registry,
    net::{TcpListener, TcpStream},
};
use rustix::net::sockopt::set_tcp_nodelay;
use slab::Slab;

use super::{
    census::{Admission, Group},
    client::Client,
    engine::{self, Engine},
    limits::{ACCEPTS_A_TURN, SHED_AT_ONCE},
    request::Origin,
    session::Session,
    socket::Socket,
    vhost::Entry,
};

/// The listening sockets.
#[derive(Default)]
pub(super) struct Listeners {
    all: Slab<Listener>,
    /// Whose turn it is to be asked first.
    first: usize,
    /// Accepting pauses until then: the process has no descriptor left.
    paused: Option<Instant>,
}

struct Listener {
    socket: TcpListener,
    entry: Entry,
    /// There may be connections waiting.
    waiting: bool,
}

impl Listeners {
    /// Adds the guard's plain loopback socket.
    pub(super) fn add_probe(&mut self, socket: StdListener, registry: &Registry) -> io::Result<()> {
        self.register(Entry::Probe, socket, registry)
    }

    /// Adds the socket of the box's port `port`, in place of the one that it had.
    pub(super) fn add(
        &mut self,
        port: u16,
        socket: StdListener,
        registry: &Registry,
    ) -> io::Result<()> {
        self.register(entry(port), socket, registry)
    }

    /// Closes the socket of the box's port `port`.
    pub(super) fn remove(&mut self, port: u16) {
        self.all.retain(|_, listener| listener.entry != entry(port));
    }

    /// Notes that connections wait at a listener.
    pub(super) fn note(&mut self, key: usize) {
        if let Some(listener) = self.all.get_mut(key) {
            listener.waiting = true;
        }
    }

    /// Whether connections wait that may be accepted.
    pub(super) fn is_waiting(&self, now: Instant) -> bool {
        self.paused.is_none_or(|until| now >= until) && self.all.iter().any(|(_, l)| l.waiting)
    }

    /// Whether accepting pauses.
    pub(super) fn is_pausing(&self) -> bool {
        self.paused.is_some()
    }

    /// Closes all of them.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    fn register(
        &mut self,
        entry: Entry,
        socket: StdListener,
        registry: &Registry,
    ) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        // Answers are written whole; waiting to fill packets would only delay them. What is accepted
        // has it from here. A failure costs speed and nothing else.
        let _ = set_tcp_nodelay(&socket, true);
        let mut socket = TcpListener::from_std(socket);
        let vacant = self.all.vacant_entry();
        let key = vacant.key();
        registry.register(&mut socket, engine::listener_token(key), Interest::READABLE)?;
        vacant.insert(Listener {
            socket,
            entry,
            waiting: true,
        });
        self.all
            .retain(|other, listener| other == key || listener.entry != entry);
        Ok(())
    }

    /// The next connection that waits, from one listener after the other.
    fn next(&mut self, now: Instant) -> io::Result<Option<(TcpStream, SocketAddr, Entry)>> {
        if self.paused.is_some_and(|until| now < until) {
            return Ok(None);
        }
        self.paused = None;
        let slots = self.all.capacity().max(1);
        self.first = (self.first + 1) % slots;
        for slot in 0..slots {
            let listener = self.all.get_mut((self.first + slot) % slots);
            let Some(listener) = listener.filter(|listener| listener.waiting) else {
                continue;
            };
            match listener.socket.accept() {
                Ok((stream, peer)) => return Ok(Some((stream, peer, listener.entry))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.waiting = false,
                // The client has gone again; the next may not have.
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    self.paused = Some(now + PAUSE);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }
}

impl Engine {
    /// Accepts a few connections, if any wait.
    pub(super) fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_A_TURN {
            match self.listeners.next(now) {
                Ok(Some((stream, peer, entry))) => self.admit(stream, peer, entry, now),
                Ok(None) => break,
                Err(error) => {
                    let shed = self.shed_idle(SHED_AT_ONCE, now);
                    let text = format!("No connection can be accepted now ({error}).");
                    (self.log)(&format!("{text} {shed} idle ones were closed."));
                    break;
                }
            }
        }
    }

    /// Closes up to `count` idle connections, those idle for longest first; how many.
    pub(super) fn shed_idle(&mut self, count: usize, now: Instant) -> usize {
        self.shed_idle_since(now, count, now)
    }

    /// The same of those that have been idle since `before` at least.
    pub(super) fn shed_idle_since(&mut self, before: Instant, count: usize, now: Instant) -> usize {
        let idle = self.clients.iter();
        let idle = idle.filter_map(|(key, client)| Some((client.idle_since()?, key)));
        let idle = idle.filter(|(since, _)| *since <= before);
        let mut idle: Vec<(Instant, usize)> = idle.collect();
        idle.sort_unstable();
        idle.truncate(count);
        for (_, key) in &idle {
            self.drop_client(*key, now);
        }
        idle.len()
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, entry: Entry, now: Instant) {
        let group = match entry {
            Entry::Probe => None,
            Entry::Plain | Entry::Tls(_) => Some(Group::from(peer.ip())),
        };
        let admission = group.map(|group| self.census.judge(group, &self.limits));
        match admission {
            None | Some(Admission::Welcome) => {}
            Some(Admission::IfRoom) if self.shed_idle(SHED_AT_ONCE, now) > 0 => {}
            Some(Admission::IfRoom | Admission::Refused) => return,
        }
        // What fails here fails for this client alone, and closing is all the answer there is.
        let Ok(client) = self.welcome(stream, peer, entry, group, now) else {
            return;
        };
        let key = self.clients.insert(client);
        if let Some(group) = group {
            self.census.enter(group);
        }
        let client = &mut self.clients[key];
        if client
            .socket
            .register(self.poll.registry(), engine::client_token(key))
            .is_err()
        {
            return self.drop_client(key, now);
        }
        self.arm(key);
    }

    fn welcome(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        entry: Entry,
        group: Option<Group>,
        now: Instant,
    ) -> io::Result<Client> {
        let tls = match entry {
            Entry::Tls(_) => Some(self.tls.accept()?),
            Entry::Plain | Entry::Probe => None,
        };
        let origin = Origin {
            peer: peer.ip(),
            is_tls: tls.is_some(),
        };
        let is_tls = origin.is_tls;
        let session = Session::new(entry, origin, now);
        let client = Client::new(Socket::accepted(stream), tls, session, group, now);
        let may_pass = is_tls && self.site.table.passes_any();
        Ok(if may_pass { client.undecided() } else { client })
    }
}

fn entry(port: u16) -> Entry {
    match port {
        PLAIN_PORT => Entry::Plain,
        port => Entry::Tls(port),
    }
}

/// Errors of accept(2) that are the waiting client's, not ours.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

/// The port without TLS.
const PLAIN_PORT: u16 = 80;
/// With no descriptor left, trying again at once would only burn the processor.
const PAUSE: Duration = Duration::from_millis(100);
