//! The box's network against real peers, in network name spaces: dnsmasq, Kea and ISC's dhcpd, the
//! kernel's own bridge, conntrack and nftables.

mod dhcp;
mod dhcp6;
mod faults;
mod firewall;
mod lan;
mod linklocal;
mod links;
mod privacy;
mod router;
mod succession;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::Result;
use netstack::net::{Addressing, FilterStatus, NetConfig, NetStatus};
use tests::netns::{Machine, lacks, until};

use self::lan::Lan;

/// A box with an uplink `up0` to a router's `lan0` at 192.168.50.1.
struct Lab {
    the_box: Machine,
    router: Machine,
}

impl Lab {
    fn new() -> Result<Self> {
        let lab = Self {
            the_box: Machine::new("box")?,
            router: Machine::new("router")?,
        };
        lab.the_box.cable("up0", &lab.router, "lan0")?;
        lab.router.run("ip addr add 192.168.50.1/24 dev lan0")?;
        lab.router.run("ip link set lan0 up")?;
        Ok(lab)
    }

    fn address(&self) -> Result<String> {
        self.the_box.run("ip -4 addr show dev up0")
    }
}

fn config() -> NetConfig {
    let mut config = NetConfig {
        hostname: Some("pilotlight".to_owned()),
        ..NetConfig::default()
    };
    config.links.insert("up0".to_owned(), Addressing::Automatic);
    config
}

fn leased(status: &NetStatus) -> Option<Ipv4Addr> {
    leased_on(status, "up0")
}

fn leased_on(status: &NetStatus, name: &str) -> Option<Ipv4Addr> {
    let link = status.links.iter().find(|link| link.name == name)?;
    let lease = link.lease.as_ref().filter(|lease| lease.server.is_some())?;
    let there = link
        .addresses
        .contains(&(lease.address.into(), lease.prefix));
    there.then_some(lease.address)
}

fn link_local(status: &NetStatus) -> Option<Ipv4Addr> {
    let addresses = status.links.iter().flat_map(|link| &link.addresses);
    addresses.into_iter().find_map(|(ip, _)| match ip {
        IpAddr::V4(ip) if ip.is_link_local() => Some(*ip),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    })
}

fn applied(status: &NetStatus) -> bool {
    status.services.bridge && status.services.filter == FilterStatus::Applied
}

/// Runs a test where it can run, and says loudly where it can't.
fn test(name: &str, work: impl FnOnce() -> Result<()>) {
    if let Some(why) = lacks() {
        println!("SKIPPED: {name}: {why}");
        return;
    }
    if let Err(error) = work() {
        panic!("{name}: {error:?}");
    }
}

/// Connects from `client` to `address` of `host`: who the host thinks it was, if it was reached.
fn greeting(host: &Machine, address: Ipv4Addr, client: &Machine) -> Result<Option<IpAddr>> {
    let listener = host.within(|| Ok(TcpListener::bind((address, 0))?))?;
    let target = SocketAddr::from((address, listener.local_addr()?.port()));
    listener.set_nonblocking(true)?;
    thread::scope(|scope| {
        let host = scope.spawn(move || {
            let mut seen = None;
            until(REACHED_WITHIN, || {
                seen = listener.accept().ok();
                seen.is_some()
            })
            .ok()?;
            let (mut stream, peer) = seen?;
            stream.write_all(b"hello").ok()?;
            Some(peer.ip())
        });
        let reached = client.within(|| {
            let Ok(mut stream) = TcpStream::connect_timeout(&target, REACHED_WITHIN) else {
                return Ok(false);
            };
            stream.set_read_timeout(Some(REACHED_WITHIN))?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said == "hello")
        })?;
        let seen = host.join().expect("a panic there is a panic here");
        Ok(seen.filter(|_| reached))
    })
}

/// What takes milliseconds on a quiet machine.
const SOON: Duration = Duration::from_secs(120);

/// A refusal is a packet dropped: only time tells.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
