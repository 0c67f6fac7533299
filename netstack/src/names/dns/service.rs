//! The name server at work: carries messages and time between its sockets and the resolver, on the
//! loop of the thread `names`.

use std::{io, net::IpAddr};

use mio::{Registry, Token};

use super::{
    chance::Chance, clients::Clients, config::DnsConfig, forward::Action, lines::Lines,
    resolver::Resolver, status::DnsStatus,
};
use crate::net::clock::Now;

/// Resolver and sockets.
#[derive(Debug)]
pub(in crate::names) struct Service {
    resolver: Resolver,
    clients: Clients,
    lines: Lines,
}

/// What a socket is for; part of the token of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::names) enum Kind {
    /// Clients' datagrams.
    Questions,
    /// Clients' connections to be.
    Listener,
    /// A client's connection.
    Connection,
    /// A datagram to somebody who is asked.
    Datagram,
    /// A connection to somebody who is asked.
    Stream,
}

impl Service {
    /// One that listens nowhere and knows nobody.
    pub(in crate::names) fn new() -> Self {
        Self {
            resolver: Resolver::new(Chance::seeded()),
            clients: Clients::default(),
            lines: Lines::default(),
        }
    }

    /// What should be.
    pub(in crate::names) fn configure(&mut self, now: Now, config: DnsConfig, registry: &Registry) {
        self.lines.clock_is_right(config.clock_is_right);
        self.resolver.configure(now, config);
        self.carry(now, registry);
    }

    /// Listens at one of the box's addresses from now on.
    ///
    /// # Errors
    /// When the kernel can't tell of the sockets.
    pub(in crate::names) fn listen(
        &mut self,
        address: IpAddr,
        sockets: (std::net::UdpSocket, std::net::TcpListener),
        registry: &Registry,
    ) -> io::Result<()> {
        self.clients.listen(address, sockets, registry)
    }

    /// Listens there no more.
    pub(in crate::names) fn close(&mut self, address: IpAddr) {
        self.clients.close(address);
    }

    /// Takes no more questions, as a successor does; those under way are answered.
    pub(in crate::names) fn retire(&mut self, registry: &Registry) {
        self.clients.retire(registry);
    }

    /// After a panic: knows nothing, and listens where it did.
    pub(in crate::names) fn begin_again(&mut self, now: Now, config: DnsConfig) {
        self.resolver = Resolver::new(Chance::seeded());
        self.lines.clock_is_right(config.clock_is_right);
        self.resolver.configure(now, config);
        self.lines.clear();
    }

    /// The sockets that clients ask at.
    pub(in crate::names) fn sockets(&self) -> Vec<Token> {
        self.clients.sockets()
    }

    /// Takes a socket's share. True if it may have more: mio does not tell of it again.
    pub(in crate::names) fn ready(
        &mut self,
        now: Now,
        (kind, at): (Kind, usize),
        registry: &Registry,
    ) -> bool {
        let Self {
            resolver,
            clients,
            lines,
        } = self;
        let has_more = match kind {
            Kind::Questions => clients.questions(now, at, resolver),
            Kind::Listener => clients.accept(now, at, resolver, registry),
            Kind::Connection => {
                clients.connection(now, at, resolver);
                false
            }
            Kind::Datagram => {
                if let Ok(id) = u16::try_from(at) {
                    lines.datagram_ready(now, id, resolver);
                }
                false
            }
            Kind::Stream => {
                lines.stream_ready(now, at, resolver);
                false
            }
        };
        self.carry(now, registry);
        has_more
    }

    /// Does what is due.
    pub(in crate::names) fn tick(&mut self, now: Now, registry: &Registry) {
        self.resolver.tick(now);
        self.lines.tick(now, &mut self.resolver);
        self.clients.tick(now);
        self.carry(now, registry);
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(in crate::names) fn deadline(&self) -> Option<Now> {
        let all = [
            self.resolver.deadline(),
            self.lines.deadline(),
            self.clients.deadline(),
        ];
        all.into_iter().flatten().min()
    }

    /// How it does.
    pub(in crate::names) fn status(&self, now: Now) -> DnsStatus {
        self.resolver.status(now)
    }

    /// Does with sockets what the resolver wants, until it wants nothing more.
    fn carry(&mut self, now: Now, registry: &Registry) {
        loop {
            if let Some(action) = self.resolver.action() {
                match action {
                    Action::Forget(id) => self.lines.forget(id),
                    Action::Send {
                        id,
                        server,
                        via,
                        bytes,
                    } => {
                        let about = (id, server, via);
                        let resolver = &mut self.resolver;
                        self.lines.send(now, about, &bytes, resolver, registry);
                    }
                }
            } else if let Some((client, reply)) = self.resolver.reply() {
                self.clients.answer(now, client, &reply, &mut self.resolver);
            } else {
                return;
            }
        }
    }
}

/// The token of a socket.
pub(super) fn token(kind: Kind, at: usize) -> Token {
    Token(OURS | (kind as usize) << KIND_AT | at)
}

/// The socket of a token; `None` if it is none of the name server's.
pub(in crate::names) fn from_token(token: Token) -> Option<(Kind, usize)> {
    let kind = match token.0 >> KIND_AT & 7 {
        0 => Kind::Questions,
        1 => Kind::Listener,
        2 => Kind::Connection,
        3 => Kind::Datagram,
        4 => Kind::Stream,
        _ => return None,
    };
    (token.0 & OURS != 0).then_some((kind, token.0 & ((1 << KIND_AT) - 1)))
}

/// No link has so large an index.
const OURS: usize = 1 << 62;
const KIND_AT: u32 = 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_what_a_socket_is_for() {
        for (n, kind) in [
            Kind::Questions,
            Kind::Listener,
            Kind::Connection,
            Kind::Datagram,
            Kind::Stream,
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(from_token(token(kind, n * 1000)), Some((kind, n * 1000)));
        }
        assert_eq!(from_token(Token(8)), None);
    }
}
