//! The sockets of one uplink, open only while its protocols need them: an addressed link that
//! rests costs nothing, and no traffic of the LAN wakes PID 1.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use mio::{Interest, Registry, Token, net::UdpSocket, unix::SourceFd};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use super::{
    frame::{self, Arp, CLIENT_PORT, DHCP_ONLY, SERVER_PORT},
    uplink::{Needs, Outgoing},
};

/// The sockets of one link.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    arp: Option<OwnedFd>,
    datagrams: Option<(Ipv4Addr, UdpSocket)>,
    frames: Option<OwnedFd>,
}

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heard<'a> {
    Arp(Arp),
    /// A DHCP message.
    Dhcp(&'a [u8]),
}

/// Which of a link's sockets an event is about; part of the event's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Arp,
    Datagrams,
    Frames,
}

impl Ports {
    /// Opens what is needed and closes what is not.
    ///
    /// # Errors
    /// The first socket that does not open, as a sentence; the others are opened all the same.
    pub(crate) fn adjust(
        &mut self,
        link: u32,
        needs: Needs,
        registry: &Registry,
    ) -> Result<(), String> {
        let frames = packet_socket(
            &mut self.frames,
            needs.frames,
            || sys::packet::open(link, frame::IPV4, &DHCP_ONLY),
            (registry, token(link, Port::Frames)),
        );
        let arp = packet_socket(
            &mut self.arp,
            needs.arp,
            || sys::packet::open(link, frame::ARP, &[]),
            (registry, token(link, Port::Arp)),
        );
        let datagrams = self.adjust_datagrams(link, needs.datagrams, registry);
        frames.and(arp).and(datagrams)
    }

    /// Sends; what is lost is repeated by its protocol.
    pub(crate) fn send(&self, mac: frame::Mac, outgoing: &Outgoing) {
        let sent = match outgoing {
            Outgoing::Arp(arp) => put(self.arp.as_ref(), &arp.frame()),
            Outgoing::Dhcp(transmit) => match (transmit.server, &self.datagrams) {
                (Some(server), Some((_, socket))) => {
                    let server = SocketAddr::from((server, SERVER_PORT));
                    socket.send_to(&transmit.message, server).map(drop)
                }
                // The server's own address is behind a broadcast too, if there is no socket.
                _ => put(
                    self.frames.as_ref(),
                    &frame::broadcast(mac, transmit.source, &transmit.message),
                ),
            },
        };
        // A full queue or a link just gone: the same as a packet lost on the wire.
        drop(sent);
    }

    /// Takes what has arrived at a socket to the protocols. True if there may be more.
    pub(crate) fn receive(&self, port: Port, mut hear: impl FnMut(Heard<'_>)) -> bool {
        let mut buffer = [0; FRAME_MAX];
        for _ in 0..BURST {
            let length = match port {
                Port::Arp => take(self.arp.as_ref(), &mut buffer),
                Port::Frames => take(self.frames.as_ref(), &mut buffer),
                Port::Datagrams => match &self.datagrams {
                    Some((_, socket)) => socket.recv(&mut buffer).ok(),
                    None => None,
                },
            };
            let Some(bytes) = length.and_then(|length| buffer.get(..length)) else {
                return false;
            };
            let heard = match port {
                Port::Arp => Arp::parse(bytes).map(Heard::Arp),
                Port::Frames => frame::dhcp_payload(bytes).map(Heard::Dhcp),
                Port::Datagrams => Some(Heard::Dhcp(bytes)),
            };
            if let Some(heard) = heard {
                hear(heard);
            }
        }
        true
    }

    fn adjust_datagrams(
        &mut self,
        link: u32,
        needed: Option<Ipv4Addr>,
        registry: &Registry,
    ) -> Result<(), String> {
        if self.datagrams.as_ref().map(|(address, _)| *address) == needed {
            return Ok(());
        }
        self.datagrams = None;
        let Some(address) = needed else {
            return Ok(());
        };
        let open = || -> io::Result<UdpSocket> {
            let mut socket = UdpSocket::bind(SocketAddr::from((address, CLIENT_PORT)))?;
            registry.register(
                &mut socket,
                token(link, Port::Datagrams),
                Interest::READABLE,
            )?;
            Ok(socket)
        };
        let socket = open().map_err(|error| {
            format!("The DHCP port of {address} does not open ({error}); it is tried again.")
        })?;
        self.datagrams = Some((address, socket));
        Ok(())
    }
}

/// The token of a link's socket, and which it was: see [`from_token`].
fn token(link: u32, port: Port) -> Token {
    let port = match port {
        Port::Arp => 1,
        Port::Datagrams => 2,
        Port::Frames => 3,
    };
    Token((link as usize) << 2 | port)
}

/// The link and the socket that a token stands for; `None` if it is of no link.
pub(crate) fn from_token(token: Token) -> Option<(u32, Port)> {
    let port = match token.0 & 3 {
        1 => Port::Arp,
        2 => Port::Datagrams,
        3 => Port::Frames,
        _ => return None,
    };
    Some((u32::try_from(token.0 >> 2).ok()?, port))
}

fn packet_socket(
    slot: &mut Option<OwnedFd>,
    needed: bool,
    open: impl FnOnce() -> Result<OwnedFd, sys::Error>,
    (registry, token): (&Registry, Token),
) -> Result<(), String> {
    if !needed {
        *slot = None;
        return Ok(());
    }
    if slot.is_some() {
        return Ok(());
    }
    let opened = open().map_err(|error| error.to_string()).and_then(|fd| {
        registry
            .register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)
            .map_err(|error| error.to_string())?;
        Ok(fd)
    });
    let fd = opened.map_err(|error| {
        format!("A packet socket for DHCP does not open ({error}); it is tried again.")
    })?;
    *slot = Some(fd);
    Ok(())
}

fn put(socket: Option<&OwnedFd>, frame: &[u8]) -> io::Result<()> {
    let socket = socket.ok_or(Errno::NOTCONN)?;
    send(socket, frame, SendFlags::DONTWAIT)?;
    Ok(())
}

fn take(socket: Option<&OwnedFd>, buffer: &mut [u8]) -> Option<usize> {
    let socket = socket?;
    let length = match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
        // A link that went down leaves one error in front of what is queued.
        Err(Errno::NETDOWN) => recv(socket, &mut *buffer, RecvFlags::DONTWAIT),
        other => other,
    };
    length.ok().map(|(length, _)| length)
}

/// Larger than any Ethernet frame DHCP may come in.
const FRAME_MAX: usize = 2048;

/// Frames taken from one socket before the others have their turn.
const BURST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_link_and_socket() {
        for port in [Port::Arp, Port::Datagrams, Port::Frames] {
            assert_eq!(from_token(token(7, port)), Some((7, port)));
        }
        assert_eq!(from_token(Token(8)), None);
    }
}
