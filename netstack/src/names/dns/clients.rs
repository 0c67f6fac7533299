//! The sockets that clients ask at: datagrams, and connections with any number of questions each
//! (RFC 7766). They are bound by PID 1; a successor listens on the very same.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mio::{
    Interest, Registry, Token,
    net::{TcpListener, TcpStream, UdpSocket},
};
use slab::Slab;

use super::{
    forward::{Client, Place},
    frames::{self, Frames},
    resolver::Resolver,
    service::{Kind, token},
};
use crate::net::clock::Now;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Clients {
    doors: Slab<Door>,
    connections: Slab<Connection>,
    by_number: HashMap<u64, usize>,
    made: u64,
    reply: Vec<u8>,
}

/// Where one of the box's addresses is asked.
#[derive(Debug)]
struct Door {
    address: IpAddr,
    datagrams: UdpSocket,
    listener: TcpListener,
    /// Whether it only answers what was asked.
    closes: bool,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    socket: TcpStream,
    address: SocketAddr,
    inbox: Frames,
    outbox: Vec<u8>,
    /// Questions that are not answered yet.
    waits: usize,
    /// Nothing more will be asked.
    is_over: bool,
    used_at: Now,
}

impl Clients {
    /// Listens at one of the box's addresses from now on.
    ///
    /// # Errors
    /// When the kernel can't tell of the sockets.
    pub(super) fn listen(
        &mut self,
        address: IpAddr,
        (datagrams, listener): (std::net::UdpSocket, std::net::TcpListener),
        registry: &Registry,
    ) -> io::Result<()> {
        self.close(address);
        datagrams.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        let place = self.doors.vacant_entry();
        let mut door = Door {
            address,
            datagrams: UdpSocket::from_std(datagrams),
            listener: TcpListener::from_std(listener),
            closes: false,
        };
        let at = place.key();
        let readable = Interest::READABLE;
        registry.register(&mut door.datagrams, token(Kind::Questions, at), readable)?;
        registry.register(&mut door.listener, token(Kind::Listener, at), readable)?;
        place.insert(door);
        Ok(())
    }

    /// Listens there no more.
    pub(super) fn close(&mut self, address: IpAddr) {
        self.doors.retain(|_, door| door.address != address);
    }

    /// Takes no more questions: a successor does.
    pub(super) fn retire(&mut self, registry: &Registry) {
        for (_, door) in &mut self.doors {
            door.closes = true;
            let _ = registry.deregister(&mut door.datagrams);
            let _ = registry.deregister(&mut door.listener);
        }
    }

    /// The tokens of all sockets.
    pub(super) fn sockets(&self) -> Vec<Token> {
        let of_door = |at| [token(Kind::Questions, at), token(Kind::Listener, at)];
        let doors = self.doors.iter().flat_map(|(at, _)| of_door(at));
        let connections = self.connections.iter();
        doors
            .chain(connections.map(|(at, _)| token(Kind::Connection, at)))
            .collect()
    }

    /// Takes a socket's share of questions. True if it may have more.
    pub(super) fn questions(&mut self, now: Now, at: usize, resolver: &mut Resolver) -> bool {
        let Some(door) = self.doors.get(at).filter(|door| !door.closes) else {
            return false;
        };
        let mut buffer = [0; QUESTION_MAX];
        for _ in 0..SHARE {
            match door.datagrams.recv_from(&mut buffer) {
                Ok((length, address)) => {
                    let place = Place::Datagram(at);
                    let client = Client { place, address };
                    if resolver.query(now, client, &buffer[..length], &mut self.reply) {
                        // What the kernel does not take now is lost, as on any network.
                        let _ = door.datagrams.send_to(&self.reply, address);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                // Of an answer that reached nobody.
                Err(_) => {}
            }
        }
        true
    }

    /// Lets clients in. True if there may be more.
    pub(super) fn accept(
        &mut self,
        now: Now,
        at: usize,
        resolver: &mut Resolver,
        registry: &Registry,
    ) -> bool {
        for _ in 0..SHARE {
            let Some(door) = self.doors.get(at).filter(|door| !door.closes) else {
                return false;
            };
            let (mut socket, address) = match door.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                // No descriptor: those who wait are let in with the next who comes.
                Err(_) => return false,
            };
            let of_one = self.connections.iter();
            let of_one = of_one.filter(|(_, other)| other.address.ip() == address.ip());
            if self.connections.len() >= CONNECTIONS_MAX
                || of_one.count() >= OF_ONE_MAX
                || !resolver.serves(address.ip())
            {
                continue;
            }
            let _ = socket.set_nodelay(true);
            let place = self.connections.vacant_entry();
            let both = Interest::READABLE | Interest::WRITABLE;
            if registry
                .register(&mut socket, token(Kind::Connection, place.key()), both)
                .is_err()
            {
                continue;
            }
            self.made += 1;
            self.by_number.insert(self.made, place.key());
            place.insert(Connection {
                number: self.made,
                socket,
                address,
                inbox: Frames::default(),
                outbox: Vec::new(),
                waits: 0,
                is_over: false,
                used_at: now,
            });
        }
        true
    }

    /// A connection can do something.
    pub(super) fn connection(&mut self, now: Now, at: usize, resolver: &mut Resolver) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        if connection.work(now, resolver, &mut self.reply).is_err() || connection.is_done() {
            self.end(at);
        }
    }

    /// Answers a client who waited.
    pub(super) fn answer(
        &mut self,
        now: Now,
        client: Client,
        reply: &[u8],
        resolver: &mut Resolver,
    ) {
        match client.place {
            Place::Datagram(at) => {
                if let Some(door) = self.doors.get(at) {
                    let _ = door.datagrams.send_to(reply, client.address);
                }
            }
            Place::Stream(number) => {
                let Some(at) = self.by_number.get(&number).copied() else {
                    return;
                };
                let connection = &mut self.connections[at];
                connection.waits = connection.waits.saturating_sub(1);
                frames::append(&mut connection.outbox, reply);
                self.connection(now, at, resolver);
            }
        }
    }

    /// Closes connections that are of no use.
    pub(super) fn tick(&mut self, now: Now) {
        let idle = self.connections.iter().filter(|(_, c)| c.deadline() <= now);
        let idle: Vec<usize> = idle.map(|(at, _)| at).collect();
        for at in idle {
            self.end(at);
        }
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.connections.iter().map(|(_, c)| c.deadline()).min()
    }

    fn end(&mut self, at: usize) {
        let connection = self.connections.remove(at);
        self.by_number.remove(&connection.number);
    }
}

impl Connection {
    fn deadline(&self) -> Now {
        self.used_at + IDLE
    }

    fn is_done(&self) -> bool {
        self.is_over && self.waits == 0 && self.outbox.is_empty()
    }

    fn work(&mut self, now: Now, resolver: &mut Resolver, reply: &mut Vec<u8>) -> io::Result<()> {
        self.write(now)?;
        let mut buffer = [0; READ_AT_ONCE];
        loop {
            self.take_questions(now, resolver, reply);
            self.write(now)?;
            // What a client asks faster than it takes answers stays where it is.
            if self.is_over || self.is_behind() || self.inbox.held() > u16::MAX.into() {
                return Ok(());
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => self.is_over = true,
                Ok(length) => {
                    self.used_at = now;
                    self.inbox.push(&buffer[..length]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn take_questions(&mut self, now: Now, resolver: &mut Resolver, reply: &mut Vec<u8>) {
        while !self.is_behind()
            && let Some(message) = self.inbox.next()
        {
            let client = Client {
                place: Place::Stream(self.number),
                address: self.address,
            };
            let waits = super::wire::Query::parse(message).is_ok();
            if resolver.query(now, client, message, reply) {
                frames::append(&mut self.outbox, reply);
            } else {
                self.waits += usize::from(waits);
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.waits >= PIPELINE_MAX || self.outbox.len() > OUTBOX_MAX
    }

    fn write(&mut self, now: Now) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.used_at = now;
                    self.outbox.drain(..length);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// A question with all that may go with it, in bytes.
const QUESTION_MAX: usize = 4096;
/// Taken from one socket in one turn.
const SHARE: usize = 128;
const READ_AT_ONCE: usize = 4096;
/// Clients use connections for what is too long, and for a moment.
const CONNECTIONS_MAX: usize = 256;
const OF_ONE_MAX: usize = 32;
/// Questions of one connection that wait at once.
const PIPELINE_MAX: usize = 64;
/// Answers that one connection has not taken, in bytes.
const OUTBOX_MAX: usize = 128 << 10;
/// RFC 7766, 6.2.3: some seconds; an answer takes less.
const IDLE: Duration = Duration::from_secs(10);
