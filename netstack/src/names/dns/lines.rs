//! The sockets to those who are asked: one for each datagram, with a port of its own that a forged
//! answer would have to guess, and one connection to a server for all that goes by it.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use mio::{
    Interest, Registry,
    net::{TcpStream, UdpSocket},
};
use rustls::ClientConnection;

use super::{
    config::NameServer,
    forward::Origin,
    frames::{self, Frames},
    resolver::Resolver,
    service::{Kind, token},
    tls::Tls,
    upstream::{ServerId, Via},
};
use crate::net::clock::Now;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Lines {
    datagrams: HashMap<u16, UdpSocket>,
    streams: BTreeMap<usize, Stream>,
    streams_made: usize,
    tls: Tls,
}

/// A connection to a server.
#[derive(Debug)]
struct Stream {
    server: ServerId,
    via: Via,
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    is_open: bool,
    /// Whether it has carried an answer.
    is_proven: bool,
    inbox: Frames,
    outbox: Vec<u8>,
    used_at: Now,
    /// Since when an answer is waited for.
    waits_since: Option<Now>,
}

impl Lines {
    /// Whether certificates may be judged by the clock.
    pub(super) fn clock_is_right(&mut self, is_right: bool) {
        self.tls.clock_is_right(is_right);
    }

    /// Sends a message. What can't be sent the resolver is told.
    pub(super) fn send(
        &mut self,
        now: Now,
        (id, server, via): (u16, ServerId, Via),
        bytes: &[u8],
        resolver: &mut Resolver,
        registry: &Registry,
    ) {
        let Some(upstream) = resolver.upstream(server) else {
            return;
        };
        let to = upstream.address(via);
        if via == Via::Udp {
            match datagram(id, to, bytes, registry) {
                Ok(socket) => drop(self.datagrams.insert(id, socket)),
                Err(_) => resolver.unreachable(now, id),
            }
            return;
        }
        let same = |stream: &&mut Stream| (stream.server, stream.via) == (server, via);
        let sent = match self.streams.values_mut().find(same) {
            Some(stream) => Ok(stream),
            None => {
                let at = self.streams_made;
                let tls = (via == Via::Tls).then_some(&mut self.tls);
                let opened = open(now, (server, via), to, &upstream.server, tls);
                opened
                    .and_then(|mut stream| {
                        let both = Interest::READABLE | Interest::WRITABLE;
                        registry.register(&mut stream.socket, token(Kind::Stream, at), both)?;
                        Ok(stream)
                    })
                    .map(|stream| {
                        self.streams_made += 1;
                        self.streams.entry(at).or_insert(stream)
                    })
            }
        };
        match sent {
            Ok(stream) => {
                stream.used_at = now;
                stream.waits_since.get_or_insert(now);
                frames::append(&mut stream.outbox, bytes);
                if stream.is_open && stream.write().is_err() {
                    self.end_of(now, server, via, resolver);
                }
            }
            Err(_) => resolver.broke(now, server, via, true),
        }
    }

    /// Closes the socket of a datagram.
    pub(super) fn forget(&mut self, id: u16) {
        self.datagrams.remove(&id);
    }

    /// Takes what has arrived for a datagram that was sent.
    pub(super) fn datagram_ready(&mut self, now: Now, id: u16, resolver: &mut Resolver) {
        let mut buffer = [0; DATAGRAM_MAX];
        // Its share: whoever floods a socket is left alone for a turn, and then it is closed.
        for _ in 0..SHARE {
            let Some(socket) = self.datagrams.get(&id) else {
                return;
            };
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    resolver.receive(now, Origin::Datagram(id), &buffer[..length]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.datagrams.remove(&id);
                    return resolver.unreachable(now, id);
                }
            }
        }
    }

    /// A connection can do something.
    pub(super) fn stream_ready(&mut self, now: Now, at: usize, resolver: &mut Resolver) {
        let Some(stream) = self.streams.get_mut(&at) else {
            return;
        };
        let origin = Origin::Stream(stream.server, stream.via);
        let outcome = stream.work();
        let mut messages = Vec::new();
        while let Some(message) = stream.inbox.next() {
            messages.push(message.to_vec());
        }
        if !messages.is_empty() {
            stream.is_proven = true;
            stream.waits_since = None;
        }
        let ends = outcome.is_err();
        for message in messages {
            resolver.receive(now, origin, &message);
        }
        if ends {
            self.end(now, at, resolver);
        }
    }

    /// Closes connections that rest, and those that are dead.
    pub(super) fn tick(&mut self, now: Now, resolver: &mut Resolver) {
        let due = self.streams.iter().filter(|(_, s)| s.deadline() <= now);
        let due: Vec<usize> = due.map(|(at, _)| *at).collect();
        for at in due {
            self.end(now, at, resolver);
        }
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.streams.values().map(Stream::deadline).min()
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.datagrams.clear();
        self.streams.clear();
    }

    fn end_of(&mut self, now: Now, server: ServerId, via: Via, resolver: &mut Resolver) {
        let same = |(_, stream): &(&usize, &Stream)| (stream.server, stream.via) == (server, via);
        if let Some(at) = self.streams.iter().find(same).map(|(at, _)| *at) {
            self.end(now, at, resolver);
        }
    }

    fn end(&mut self, now: Now, at: usize, resolver: &mut Resolver) {
        if let Some(stream) = self.streams.remove(&at) {
            resolver.broke(now, stream.server, stream.via, !stream.is_proven);
        }
    }
}

impl Stream {
    fn deadline(&self) -> Now {
        match self.waits_since {
            Some(since) => since + ANSWER_WITHIN,
            None => self.used_at + REST,
        }
    }

    /// Writes and reads what can be.
    ///
    /// # Errors
    /// The connection is of no more use; what has arrived is.
    fn work(&mut self) -> io::Result<()> {
        if !self.is_open {
            if let Some(e) = self.socket.take_error()? {
                return Err(e);
            }
            match self.socket.peer_addr() {
                Ok(_) => self.is_open = true,
                Err(e) if e.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(e) => return Err(e),
            }
            let _ = self.socket.set_nodelay(true);
        }
        self.write()?;
        let read = self.read();
        // TLS may have something to say to what it heard.
        self.write()?;
        read
    }

    fn write(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => {
                while !self.outbox.is_empty() {
                    match done(self.socket.write(&self.outbox))? {
                        Some(length) => drop(self.outbox.drain(..length)),
                        None => return Ok(()),
                    }
                }
            }
            Some(tls) => {
                if !self.outbox.is_empty() {
                    let taken = tls.writer().write(&self.outbox)?;
                    self.outbox.drain(..taken);
                }
                while tls.wants_write() {
                    if done(tls.write_tls(&mut self.socket))?.is_none() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_AT_ONCE];
        loop {
            if self.inbox.held() > INBOX_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let length = match &mut self.tls {
                None => done(self.socket.read(&mut buffer))?,
                Some(tls) => {
                    let length = done(tls.read_tls(&mut self.socket))?;
                    let state = tls.process_new_packets();
                    if let Err(e) = state {
                        // The alert that says why.
                        let _ = tls.write_tls(&mut self.socket);
                        return Err(io::Error::other(e));
                    }
                    loop {
                        match tls.reader().read(&mut buffer) {
                            Ok(0) => break,
                            Ok(length) => self.inbox.push(&buffer[..length]),
                            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                            Err(e) => return Err(e),
                        }
                    }
                    if length.is_some_and(|length| length > 0) {
                        continue;
                    }
                    length
                }
            };
            match length {
                None => return Ok(()),
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(length) => self.inbox.push(&buffer[..length]),
            }
        }
    }
}

fn open(
    now: Now,
    (server, via): (ServerId, Via),
    to: SocketAddr,
    name_server: &NameServer,
    tls: Option<&mut Tls>,
) -> io::Result<Stream> {
    let tls = tls.map(|tls| tls.connect(name_server)).transpose()?;
    Ok(Stream {
        server,
        via,
        socket: TcpStream::connect(to)?,
        tls: tls.map(Box::new),
        is_open: false,
        is_proven: false,
        inbox: Frames::default(),
        outbox: Vec::new(),
        used_at: now,
        waits_since: None,
    })
}

/// Sends by a new socket, whose port the kernel picks by chance, and which hears nobody else.
fn datagram(id: u16, to: SocketAddr, bytes: &[u8], registry: &Registry) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut socket = UdpSocket::bind((any, 0).into())?;
    socket.connect(to)?;
    registry.register(
        &mut socket,
        token(Kind::Datagram, id.into()),
        Interest::READABLE,
    )?;
    socket.send(bytes)?;
    Ok(socket)
}

/// What came of a call; `None` if it has to be made again later.
fn done(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(length) => Ok(Some(length)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(e) => Err(e),
    }
}

/// Longer ones were not asked for, in bytes.
const DATAGRAM_MAX: usize = 4096;
/// Messages taken from one socket in one turn.
const SHARE: usize = 32;
const READ_AT_ONCE: usize = 16 << 10;
/// Two of the longest messages.
const INBOX_MAX: usize = 128 << 10;
/// The time of a handshake and an answer: whoever waits has left by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection waits for the next question.
const REST: Duration = Duration::from_secs(15);
