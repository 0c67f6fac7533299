//! A box between a LAN and two services.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpListener, UdpSocket},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{Addressing, FilterStatus, Forward, NetConfig, Transport};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
use tests::netns::{Machine, Net, lacks, until};

/// The machines, and `net` on the box.
pub(crate) struct Lab {
    pub(crate) the_box: Machine,
    /// At 192.168.50.1, the gateway.
    pub(crate) router: Machine,
    /// At 10.77.0.2, behind `pv1`.
    pub(crate) one: Machine,
    /// At 10.77.0.3, behind `pv2`.
    pub(crate) two: Machine,
    pub(crate) net: Net,
    /// What [`Lab::apply`] applies.
    pub(crate) config: NetConfig,
}

impl Lab {
    /// With a filter that lets in to ports 80 and 443. None, said loudly, where it can't be.
    pub(crate) fn new() -> Result<Option<Self>> {
        let nmap = Path::new("/usr/bin/nmap").exists();
        let why = lacks().or_else(|| (!nmap).then(|| "needs `nmap`".to_owned()));
        if let Some(why) = why {
            let test = thread::current().name().unwrap_or_default().to_owned();
            println!("SKIPPED: {test}: {why}");
            return Ok(None);
        }
        let (the_box, router) = (Machine::new("box")?, Machine::new("router")?);
        the_box.cable("up0", &router, "lan0")?;
        router.run("ip addr add 192.168.50.1/24 dev lan0")?;
        router.run("ip addr add fd50::1/64 dev lan0 nodad")?;
        router.run("ip link set lan0 up")?;
        let mut config = NetConfig {
            open_ports: Some(vec![80, 443]),
            ..NetConfig::default()
        };
        let fixed = Addressing::Static {
            address: BOX_4.into(),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(192, 168, 50, 1)),
            dns: Vec::new(),
        };
        config.links.insert("up0".to_owned(), fixed);
        let mut net = Net::start(&the_box, config.clone())?;
        net.wait_for("address and bridge", SOON, |status| {
            status.gateway.is_some() && status.services.bridge
        })?;
        the_box.run("ip addr add fd50::7/64 dev up0 nodad")?;
        let (one, two) = (service(&the_box, 1)?, service(&the_box, 2)?);
        for port in ["pv1", "pv2"] {
            until(SOON, || {
                let link = the_box.run(&format!("ip -d link show {port}"));
                link.is_ok_and(|link| link.contains("isolated on"))
            })?;
        }
        let mut lab = Self {
            the_box,
            router,
            one,
            two,
            net,
            config,
        };
        lab.wait_for_guard(&["pv1", "pv2"])?;
        Ok(Some(lab))
    }

    /// Waits until what comes by these ports, and by no others, is looked at.
    pub(crate) fn wait_for_guard(&mut self, ports: &[&str]) -> Result<()> {
        let hook = match ports {
            [one] => format!("device \"{one}\" "),
            all => format!("devices = {{ {} }} ", all.join(", ")),
        };
        self.net.wait_for("the guard", SOON, |status| {
            let rules = status.services.guard_rules.concat();
            status.services.guard == FilterStatus::Applied && rules.contains(&hook)
        })
    }

    /// The rules for services' senders as the kernel has them.
    pub(crate) fn guard(&self) -> Result<String> {
        Ok(bare(&self.the_box.run("nft list table netdev pilot")?))
    }

    /// All tables that the kernel has, each of which must be there.
    pub(crate) fn in_force(&self) -> Result<String> {
        let tables = ["inet", "netdev"].map(|family| {
            let line = format!("nft list table {family} pilot");
            self.the_box.run(&line)
        });
        let [inet, netdev] = tables;
        let all = self.the_box.run("nft list tables")?;
        ensure!(all.lines().count() == 2, "{all}");
        Ok(inet? + &netdev?)
    }

    /// Has `net` make the configuration so, and waits until it is in force.
    pub(crate) fn apply(&mut self) -> Result<()> {
        self.net.handle.configure(self.config.clone())?;
        let last_forward = self.config.forwards.iter().take(MOST).next_back();
        let mut wanted = Vec::new();
        wanted.extend(last_forward.map(|forward| format!(" {} dnat ip to", forward.port)));
        let ports = self.config.open_ports.iter().flatten().take(MOST);
        wanted.extend(ports.map(|port| format!("tcp dport {port} accept")));
        let forwards = self.config.forwards.len().min(MOST);
        let ports = self
            .config
            .open_ports
            .as_ref()
            .map(|ports| ports.len().min(MOST));
        let names = self.config.dns.lan;
        self.net.wait_for("the rules", SOON, |status| {
            let rules = status.services.rules.join("\n");
            let names_told = rules.contains("    udp dport 53 accept");
            let opened = rules.matches("    tcp dport ").count() - usize::from(names_told);
            status.services.filter == FilterStatus::Applied
                && rules.matches("dnat ip to").count() == forwards
                && opened == ports.unwrap_or(0)
                && rules.contains("iifname \"lo\" accept") == ports.is_some()
                && names_told == names
                && wanted.iter().all(|rule| rules.contains(rule))
        })
    }

    /// Has a machine answer on these ports, over IPv4 and IPv6.
    pub(crate) fn listen(&self, machine: &Machine, tcp: &[u16], udp: &[u16]) -> Result<Answering> {
        let answering = Answering::default();
        machine.within(|| {
            for port in tcp {
                let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port))?;
                answering.listeners.lock().expect("whole").push(listener);
            }
            for port in udp {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, *port))?;
                let ended = Arc::clone(&answering.ended);
                thread::spawn(move || echo(&socket, &ended));
            }
            Ok(())
        })?;
        Ok(answering)
    }

    /// The bridge's own IPv6 address.
    pub(crate) fn link_local(&self) -> Result<Ipv6Addr> {
        let mut found = None;
        until(SOON, || {
            let shown = self.the_box.run("ip -6 addr show dev pilot0 scope link");
            let shown = shown.unwrap_or_default();
            let address = shown
                .split("inet6 ")
                .nth(1)
                .and_then(|rest| rest.split('/').next());
            found = address.and_then(|address| address.parse().ok());
            found.is_some() && !shown.contains("tentative")
        })?;
        found.context("no address")
    }

    /// Sends what makes whoever believes it use `machine` as its router.
    pub(crate) fn advertise(&self, machine: &Machine, link: &str) -> Result<()> {
        has_link_local(machine, link)?;
        let scope = index(machine, link)?;
        machine.within(|| {
            let socket = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?;
            sockopt::set_ipv6_multicast_hops(&socket, 255)?;
            let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let target = SocketAddrV6::new(everybody, 0, 0, scope);
            sendto(&socket, &ADVERTISEMENT, SendFlags::empty(), &target)?;
            Ok(())
        })
    }
}

/// Sockets that answer until it is dropped.
#[derive(Default)]
pub(crate) struct Answering {
    listeners: std::sync::Mutex<Vec<TcpListener>>,
    ended: Arc<AtomicBool>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn echo(socket: &UdpSocket, ended: &AtomicBool) {
    let mut bytes = [0; 2048];
    let set = socket.set_read_timeout(Some(Duration::from_millis(200)));
    while set.is_ok() && !ended.load(Ordering::Relaxed) {
        match socket.recv_from(&mut bytes) {
            // A peer that is gone already is none of ours.
            Ok((length, peer)) => drop(socket.send_to(&bytes[..length], peer)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// A machine that hangs on the box's bridge as LXC's would.
pub(crate) fn service(the_box: &Machine, number: u8) -> Result<Machine> {
    let service = Machine::new(&format!("svc{number}"))?;
    the_box.cable(&format!("pv{number}"), &service, "eth0")?;
    the_box.run(&format!("ip link set pv{number} master pilot0 up"))?;
    let own = number + 1;
    service.run(&format!(
        "ip link set eth0 address 02:00:0a:4d:00:{own:02x}"
    ))?;
    service.run(&format!("ip addr add 10.77.0.{own}/16 dev eth0"))?;
    service.run("ip link set eth0 up")?;
    service.run("ip link set lo up")?;
    service.run("ip route add default via 10.77.0.1")?;
    Ok(service)
}

/// Waits for a link's own IPv6 address: until then the kernel sends with another.
pub(crate) fn has_link_local(machine: &Machine, link: &str) -> Result<()> {
    until(SOON, || {
        let shown = machine.run(&format!("ip -6 addr show dev {link} scope link"));
        shown.is_ok_and(|shown| shown.contains("inet6") && !shown.contains("tentative"))
    })
}

/// A link's index, which is the scope of its addresses.
pub(crate) fn index(machine: &Machine, link: &str) -> Result<u32> {
    machine.within(|| {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        Ok(rustix::net::netdevice::name_to_index(&any, link)?)
    })
}

/// A port of the box that leads to a port of the first service.
pub(crate) fn forward(transport: Transport, port: u16, inner: u16) -> Forward {
    Forward {
        transport,
        port,
        to: SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 2), inner),
    }
}

/// Rules without the blanks that lay them out, comments, and the table's owner.
pub(crate) fn bare(rules: &str) -> String {
    let lines = rules
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let rules = lines.filter(|line| !line.trim_start().starts_with("flags "));
    let words = rules.flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

pub(crate) const BOX: &str = "192.168.50.7";
pub(crate) const BOX_4: [u8; 4] = [192, 168, 50, 7];
pub(crate) const BOX_6: &str = "fd50::7";
pub(crate) const ROUTER: &str = "192.168.50.1";

/// What takes milliseconds on a quiet machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// Of forwarded and of open ports each.
const MOST: usize = 128;

/// A router advertisement (RFC 4861, 4.2) of a router that is good for half an hour; the kernel fills
/// in the checksum.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
