//! The sockets of one link: one a family, each of that link alone.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
};

use mio::{Interest, Registry, Token, net::UdpSocket};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use super::mdns::PORT;

/// The sockets of a link.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

/// Which of a link's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Sockets {
    /// Has a socket for each family that the link has addresses of. Says what can't be opened; that
    /// is tried again with the next call.
    pub(super) fn adjust(
        &mut self,
        link: (u32, &str),
        addresses: &[(IpAddr, u8)],
        registry: &Registry,
    ) -> io::Result<()> {
        let mut outcome = Ok(());
        for family in [Family::V4, Family::V6] {
            let wanted = addresses
                .iter()
                .any(|(ip, _)| ip.is_ipv4() == (family == Family::V4));
            let place = self.place(family);
            if !wanted {
                *place = None;
            } else if place.is_none() {
                match open(family, link.0, link.1, registry) {
                    Ok(socket) => *place = Some(socket),
                    Err(e) => outcome = Err(e),
                }
            }
        }
        outcome
    }

    /// Sends to one, or to everybody by both families. What the kernel does not take now is lost,
    /// as on any network.
    pub(super) fn send(&self, to: Option<SocketAddr>, bytes: &[u8]) {
        match (to, &self.v4, &self.v6) {
            (Some(to @ SocketAddr::V4(_)), Some(socket), _)
            | (Some(to @ SocketAddr::V6(_)), _, Some(socket)) => drop(socket.send_to(bytes, to)),
            (Some(_), ..) => {}
            (None, v4, v6) => {
                if let Some(socket) = v4 {
                    drop(socket.send_to(bytes, SocketAddr::from((GROUP_V4, PORT))));
                }
                if let Some(socket) = v6 {
                    drop(socket.send_to(bytes, SocketAddr::from((GROUP_V6, PORT))));
                }
            }
        }
    }

    /// The next message that waits.
    pub(super) fn receive(&self, family: Family, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let socket = match family {
            Family::V4 => self.v4.as_ref()?,
            Family::V6 => self.v6.as_ref()?,
        };
        socket.recv_from(buffer).ok()
    }

    fn place(&mut self, family: Family) -> &mut Option<UdpSocket> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// The index of the link called `name`, if it is there.
pub(super) fn index_of(name: &str) -> Option<u32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
    rustix::net::netdevice::name_to_index(socket.as_fd(), name).ok()
}

/// The token of a link's socket.
pub(super) fn token(link: u32, family: Family) -> Token {
    // None is 0, which is the waker's: links count from 1.
    Token(link as usize * 2 + usize::from(family == Family::V6))
}

/// The link and the socket of a token.
pub(super) fn from_token(token: Token) -> Option<(u32, Family)> {
    let family = if token.0.is_multiple_of(2) {
        Family::V4
    } else {
        Family::V6
    };
    Some((
        u32::try_from(token.0 / 2).ok().filter(|link| *link > 0)?,
        family,
    ))
}

fn open(family: Family, index: u32, name: &str, registry: &Registry) -> io::Result<UdpSocket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(name.as_bytes()))?;
    match family {
        Family::V4 => {
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
            socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
            socket.set_multicast_ttl_v4(HOPS)?;
            socket.set_multicast_loop_v4(false)?;
        }
        Family::V6 => {
            socket.set_only_v6(true)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
            socket.join_multicast_v6(&GROUP_V6, index)?;
            socket.set_multicast_hops_v6(HOPS)?;
            socket.set_unicast_hops_v6(HOPS)?;
            socket.set_multicast_loop_v6(false)?;
        }
    }
    let mut socket = UdpSocket::from_std(std::net::UdpSocket::from(OwnedFd::from(socket)));
    registry.register(&mut socket, token(index, family), Interest::READABLE)?;
    Ok(socket)
}

/// RFC 6762, 3.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// RFC 6762, 11.
const HOPS: u32 = 255;
