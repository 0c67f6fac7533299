//! A socket for each open question: a port that nobody can guess, and nobody's packets but the
//! server's own, which the kernel sees to as the socket is connected.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use mio::{Interest, Registry, Token, net::UdpSocket};

/// The open sockets of one purpose, by their slot; each with what its question is known by.
#[derive(Debug)]
pub(crate) struct Sockets<K> {
    purpose: Purpose,
    slots: Vec<Option<(K, UdpSocket)>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Time servers' addresses.
    Names,
    Time,
}

impl<K: Copy> Sockets<K> {
    pub(crate) fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            slots: Vec::new(),
        }
    }

    /// Asks a server.
    ///
    /// # Errors
    /// What the kernel says, when it has no way to the server or no socket left.
    pub(crate) fn ask(
        &mut self,
        key: K,
        server: SocketAddr,
        question: &[u8],
        registry: &Registry,
    ) -> io::Result<()> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        let mut socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        registry.register(&mut socket, token(self.purpose, slot), Interest::READABLE)?;
        socket.send(question)?;
        match self.slots.get_mut(slot) {
            Some(free) => *free = Some((key, socket)),
            None => self.slots.push(Some((key, socket))),
        }
        Ok(())
    }

    /// Hands over what has arrived, or why nothing will.
    pub(crate) fn receive(&self, slot: usize, mut take: impl FnMut(K, io::Result<&[u8]>)) {
        let Some(Some((key, socket))) = self.slots.get(slot) else {
            // It was closed between the event and now.
            return;
        };
        let mut buffer = [0; MESSAGE_MAX];
        for _ in 0..BURST {
            match socket.recv(&mut buffer) {
                Ok(length) => take(*key, Ok(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => take(*key, Err(error)),
            }
        }
    }

    /// Closes those whose question is answered or given up.
    pub(crate) fn close_idle(&mut self, is_open: impl Fn(K) -> bool) {
        for slot in &mut self.slots {
            slot.take_if(|(key, _)| !is_open(*key));
        }
    }
}

/// The socket that a token stands for; none if it is of no socket here.
pub(crate) fn from_token(token: Token) -> Option<(Purpose, usize)> {
    let purpose = match token.0 & LOW {
        NAMES => Purpose::Names,
        TIME => Purpose::Time,
        _ => return None,
    };
    Some((purpose, token.0 >> 5))
}

/// Links' sockets have something in the lowest two bits.
fn token(purpose: Purpose, slot: usize) -> Token {
    let kind = match purpose {
        Purpose::Names => NAMES,
        Purpose::Time => TIME,
    };
    Token(slot << 5 | kind)
}

/// The bits that say whose a token is, and these bits of ours.
const LOW: usize = 0x1f;
const TIME: usize = 0x10;
const NAMES: usize = 0x18;

/// Of the time, a header with a few extension fields; of names, as long as one may be that was not
/// asked to be longer (RFC 1035, 2.3.4). The rest of a longer one is cut off.
const MESSAGE_MAX: usize = 512;
/// Messages taken from one socket in one turn: a server sends one, and duplicates are worth nothing.
const BURST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_purpose_and_slot_and_are_nobody_else_s() {
        for slot in 0..9 {
            for purpose in [Purpose::Names, Purpose::Time] {
                assert_eq!(from_token(token(purpose, slot)), Some((purpose, slot)));
                assert_eq!(token(purpose, slot).0 & 3, 0);
            }
        }
        for other in [0, 4, 8, 0x0c, 0x11, 0x19, 0x31] {
            assert_eq!(from_token(Token(other)), None);
        }
    }
}
