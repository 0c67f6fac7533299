//! A socket for each open question: a port that nobody can guess, and nobody's packets but the
//! server's own, which the kernel sees to as the socket is connected.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use mio::{Interest, Registry, Token, net::UdpSocket};

use super::{Client, packet::LENGTH, wall::Wall};
use crate::net::clock;

/// The open sockets, by their slot.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    slots: Vec<Option<(IpAddr, UdpSocket)>>,
}

impl Sockets {
    /// Asks a server.
    ///
    /// # Errors
    /// What the kernel says, when it has no way to the server or no socket left.
    pub(crate) fn ask(
        &mut self,
        server: IpAddr,
        question: &[u8; LENGTH],
        registry: &Registry,
    ) -> io::Result<()> {
        let any = match server {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        let mut socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(SocketAddr::new(server, PORT))?;
        registry.register(&mut socket, token(slot), Interest::READABLE)?;
        socket.send(question)?;
        match self.slots.get_mut(slot) {
            Some(free) => *free = Some((server, socket)),
            None => self.slots.push(Some((server, socket))),
        }
        Ok(())
    }

    /// Takes what has arrived to the client.
    pub(crate) fn receive(&self, slot: usize, client: &mut Client, wall: &Wall) {
        let Some(Some((server, socket))) = self.slots.get(slot) else {
            // It was closed between the event and now.
            return;
        };
        let mut buffer = [0; PACKET_MAX];
        for _ in 0..BURST {
            match socket.recv(&mut buffer) {
                Ok(length) => client.receive(clock::now(), wall.base(), *server, &buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => client.undelivered(*server, error.to_string()),
            }
        }
    }

    /// Closes those whose question is answered or given up.
    pub(crate) fn close_idle(&mut self, client: &Client) {
        for slot in &mut self.slots {
            slot.take_if(|(server, _)| !client.awaits(*server));
        }
    }
}

/// The socket that a token stands for; none if it is of no socket here.
pub(crate) fn from_token(token: Token) -> Option<usize> {
    (token.0 & LOW == KIND).then_some(token.0 >> 5)
}

/// Links' sockets have something in the lowest two bits.
fn token(slot: usize) -> Token {
    Token(slot << 5 | KIND)
}

/// The bits that say whose a token is, and these bits of ours.
const LOW: usize = 0x1f;
const KIND: usize = 0x10;

const PORT: u16 = 123;
/// A header with a few extension fields; the rest of a longer packet is cut off.
const PACKET_MAX: usize = 512;
/// Packets taken from one socket in one turn: a server sends one, and duplicates are worth nothing.
const BURST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_the_slot_and_are_nobody_else_s() {
        for slot in 0..9 {
            assert_eq!(from_token(token(slot)), Some(slot));
            assert_eq!(token(slot).0 & 3, 0);
        }
        for other in [0, 4, 8, 0x11, 0x31] {
            assert_eq!(from_token(Token(other)), None);
        }
    }
}
