//! What of IPv6 is not the kernel's own work, link by link: servers' names asked for where a router
//! says so, and routers asked to announce themselves again to a `net` that begins.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddrV6},
};

use mio::{Interest, Registry, Token, net::UdpSocket};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    clock::Now,
    dhcp6::{self, Information},
    frame::Mac,
    kernel::Kernel,
    random::Random,
    router::Announced,
    solicit::{self, Solicitor},
};

/// IPv6 on the links that are looked after.
#[derive(Debug)]
pub(crate) struct Inet6 {
    links: BTreeMap<u32, Host>,
    random: Random,
}

/// One link's.
#[derive(Debug)]
struct Host {
    mac: Mac,
    /// The address that is good on the link itself, once it has one.
    address: Option<Ipv6Addr>,
    client: dhcp6::Client,
    solicitor: Option<Solicitor>,
    socket: Option<UdpSocket>,
}

impl Inet6 {
    /// With no link yet.
    pub(crate) fn new(random: Random) -> Self {
        Self {
            links: BTreeMap::new(),
            random,
        }
    }

    /// Takes up the links of these indices, drops the others, and tells each what the kernel knows.
    pub(crate) fn follow(
        &mut self,
        now: Now,
        kernel: &Kernel,
        announced: &Announced,
        automatic: &[u32],
    ) {
        self.links.retain(|index, host| {
            let link = kernel.links.get(index);
            automatic.contains(index) && link.is_some_and(|link| link.mac == host.mac)
        });
        for link in automatic.iter().filter_map(|index| kernel.links.get(index)) {
            let plugged = link.up && link.carrier;
            let random = &mut self.random;
            let host = self.links.entry(link.index).or_insert_with(|| Host {
                mac: link.mac,
                address: None,
                client: dhcp6::Client::new(link.mac, Random::new(random.next())),
                // When it comes up later, the kernel asks.
                solicitor: plugged.then(|| Solicitor::new(now, random)),
                socket: None,
            });
            let address = kernel
                .addresses_of(link.index)
                .find_map(|there| match there.ip {
                    IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(ip),
                    IpAddr::V4(_) | IpAddr::V6(_) => None,
                });
            if host.address != address {
                host.address = address;
                host.socket = None;
            }
            let asked = kernel.inet6.get(&link.index);
            let somebody = asked.is_some_and(|told| told.managed || told.informs);
            host.client
                .want(now, plugged && somebody && address.is_some());
            if let Some(solicitor) = &mut host.solicitor
                && (!plugged || announced.links().contains(&link.index))
            {
                solicitor.answered();
            }
        }
    }

    /// Lets time pass, opens and closes sockets, and sends; what is lost is repeated.
    pub(crate) fn run(&mut self, now: Now, registry: &Registry) {
        for (index, host) in &mut self.links {
            if host
                .solicitor
                .as_mut()
                .is_some_and(|solicitor| solicitor.tick(now))
            {
                drop(solicit::ask(*index, host.mac));
            }
            host.client.tick(now);
            if !host.client.is_asking() {
                host.socket = None;
            }
            while let Some(question) = host.client.transmit() {
                drop(host.send(*index, &question, registry));
            }
        }
    }

    /// Takes what has arrived at a link's socket. True if there may be more.
    pub(crate) fn receive(&mut self, now: Now, link: u32) -> bool {
        let Some(Host {
            client,
            socket: Some(socket),
            ..
        }) = self.links.get_mut(&link)
        else {
            // It was closed between the event and now.
            return false;
        };
        let mut buffer = [0; MESSAGE_MAX];
        for _ in 0..BURST {
            match socket.recv(&mut buffer) {
                Ok(length) => client.receive(now, &buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // What a question met on its way: nobody listens, say.
                Err(_) => {}
            }
        }
        true
    }

    /// When [`run`](Self::run) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let hosts = self.links.values();
        hosts
            .flat_map(|host| {
                let solicitor = host.solicitor.as_ref().and_then(Solicitor::deadline);
                [solicitor, host.client.deadline()]
            })
            .flatten()
            .min()
    }

    /// What a server said on a link.
    pub(crate) fn information(&self, link: u32) -> Option<&Information> {
        self.links.get(&link)?.client.information()
    }

    /// The time servers that were named, on all links.
    pub(crate) fn time_servers(&self) -> impl Iterator<Item = IpAddr> {
        let said = self
            .links
            .values()
            .filter_map(|host| host.client.information());
        said.flat_map(|information| information.ntp.iter().copied().map(IpAddr::V6))
    }
}

impl Host {
    fn send(&mut self, link: u32, question: &[u8], registry: &Registry) -> io::Result<()> {
        if self.socket.is_none() {
            let address = self.address.ok_or(io::ErrorKind::AddrNotAvailable)?;
            self.socket = Some(open(link, address, registry)?);
        }
        if let Some(socket) = &self.socket {
            let servers = SocketAddrV6::new(dhcp6::SERVERS, dhcp6::SERVER_PORT, 0, link);
            socket.send_to(question, servers.into())?;
        }
        Ok(())
    }
}

/// The client's port at the link's own address, where no packet from farther away comes.
fn open(link: u32, address: Ipv6Addr, registry: &Registry) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_only_v6(true)?;
    let ours = SocketAddrV6::new(address, dhcp6::CLIENT_PORT, 0, link);
    socket.bind(&SockAddr::from(ours))?;
    let mut socket = UdpSocket::from_std(socket.into());
    registry.register(&mut socket, token(link), Interest::READABLE)?;
    Ok(socket)
}

/// The link whose socket a token stands for; none if it is of no socket here.
pub(crate) fn from_token(token: Token) -> Option<u32> {
    let ours = token.0 & LOW == KIND;
    u32::try_from(token.0 >> 5).ok().filter(|_| ours)
}

fn token(link: u32) -> Token {
    Token((link as usize) << 5 | KIND)
}

/// The bits that say whose a token is, and these bits of ours: see `engine::WAKER`.
const LOW: usize = 0x1f;
const KIND: usize = 0x0c;

/// What fits an Ethernet frame whole; a longer answer is cut off.
const MESSAGE_MAX: usize = 1500;
/// Answers taken from one socket before the others have their turn.
const BURST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_the_link_and_are_nobody_else_s() {
        for link in 0..9 {
            assert_eq!(from_token(token(link)), Some(link));
            assert_eq!(token(link).0 & 3, 0);
            assert_eq!(super::super::ntp::sockets::from_token(token(link)), None);
        }
        for other in [0, 4, 8, 0x10, 0x30, 0x0d] {
            assert_eq!(from_token(Token(other)), None);
        }
    }
}
