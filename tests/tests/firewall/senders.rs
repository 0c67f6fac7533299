//! Services that say they are somebody else on the services' own network.

use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::OwnedFd,
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::Transport;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tests::netns::{Machine, until};

use super::{
    lab::{self, Lab, SOON, forward},
    stream,
};

/// What the first service tries, and the second is robbed of where it works.
struct Rogue<'l> {
    lab: &'l Lab,
    /// Frames of the first service's go out here.
    wire: OwnedFd,
    /// All that comes to the second service.
    victim: OwnedFd,
    /// Where the box answers for names.
    names: UdpSocket,
    /// The bridge's own addresses.
    mac: [u8; 6],
    bridge: Ipv6Addr,
}

impl<'l> Rogue<'l> {
    fn new(lab: &'l Lab) -> Result<Self> {
        let open = |machine: &Machine, kind| {
            let link = lab::index(machine, "eth0")?;
            machine.within(|| Ok(sys::packet::open(link, kind, &[])?))
        };
        let names = lab.the_box.within(|| Ok(UdpSocket::bind("[::]:53")?))?;
        names.set_read_timeout(Some(SOON))?;
        Ok(Self {
            lab,
            wire: open(&lab.one, NO_KIND)?,
            victim: open(&lab.two, EVERY_KIND)?,
            names,
            mac: BOX_MAC,
            bridge: lab.link_local()?,
        })
    }

    /// Sends a frame from the first service.
    fn put(&self, frame: &[u8]) -> Result<()> {
        let sent = send(&self.wire, frame, SendFlags::empty())?;
        ensure!(sent == frame.len(), "half a frame");
        Ok(())
    }

    /// Waits for the first service's own datagram, which left after all that it sent before.
    fn all_has_come(&self) -> Result<()> {
        self.put(&datagram_4(self.mac, ONE, ONE_4, b"honest"))?;
        ensure!(
            self.next_name()? == "honest",
            "the rogue's datagram came first"
        );
        Ok(())
    }

    fn next_name(&self) -> Result<String> {
        let mut bytes = [0; 64];
        let (length, _) = self.names.recv_from(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Has the box know both services as they are.
    fn introduce(&self) -> Result<()> {
        for (machine, mac) in [(&self.lab.one, ONE), (&self.lab.two, TWO)] {
            let link = lab::index(machine, "eth0")?;
            lab::has_link_local(machine, "eth0")?;
            let bridge = format!("[{}%{link}]:53", self.bridge);
            machine.within(move || {
                let (four, six) = (UdpSocket::bind("0.0.0.0:0")?, UdpSocket::bind("[::]:0")?);
                four.send_to(b"four", "10.77.0.1:53")?;
                six.send_to(b"six", bridge)?;
                Ok(())
            })?;
            let mut names = [self.next_name()?, self.next_name()?];
            names.sort();
            ensure!(names == ["four", "six"], "{names:?}");
            until(SOON, || self.known(mac).is_ok_and(|known| known == 2))
                .context("the box does not know its service")?;
        }
        Ok(())
    }

    /// As how many addresses the box knows a hardware address.
    fn known(&self, mac: [u8; 6]) -> Result<usize> {
        let neighbours = |family| {
            let line = format!("ip {family} neigh show dev pilot0");
            self.lab.the_box.run(&line)
        };
        let known = neighbours("-4")? + &neighbours("-6")?;
        Ok(known.matches(&spell(mac)).count())
    }

    /// By which port the bridge reaches a hardware address.
    fn port_of(&self, mac: [u8; 6]) -> Result<String> {
        let table = self.lab.the_box.run("bridge fdb show br pilot0")?;
        let line = table.lines().find(|line| line.starts_with(&spell(mac)));
        let (_, rest) = line
            .and_then(|line| line.split_once("dev "))
            .with_context(|| format!("nowhere: {table}"))?;
        Ok(rest
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned())
    }

    /// Tries everything, none of which may come anywhere.
    fn is_kept_out(&self) -> Result<()> {
        let two_6 = link_local(TWO);
        for (what, frame) in [
            ("ARP", arp(ONE, TWO_4)),
            ("IPv4", datagram_4(self.mac, ONE, TWO_4, b"rogue")),
            (
                "IPv4 to the neighbour",
                datagram_4(TWO, ONE, TWO_4, b"rogue"),
            ),
            ("IPv4 as the bridge", datagram_4(TWO, ONE, BOX_4, b"rogue")),
            (
                "a hardware address",
                datagram_4(self.mac, TWO, TWO_4, b"rogue"),
            ),
            (
                "the bridge's own",
                datagram_4([0xff; 6], self.mac, BOX_4, b"rogue"),
            ),
            ("IPv6", neighbour_solicitation(ONE, two_6, self.bridge)),
            ("a neighbour", advertisement(ONE, link_local(ONE), two_6)),
            ("a hardware address of LLDP", lldp(TWO)),
            ("a VLAN", tagged(&arp(ONE, TWO_4))),
        ] {
            self.put(&frame)?;
            self.all_has_come().with_context(|| what.to_owned())?;
            ensure!(self.known(ONE)? <= 2, "{what}: it took an address");
            ensure!(self.known(TWO)? == 2, "{what}: the other lost an address");
            let port = self.port_of(TWO)?;
            ensure!(
                port == "pv2",
                "{what}: the bridge now looks for it behind {port}"
            );
        }
        ensure!(!self.was_reached()?, "the neighbour was reached");
        Ok(())
    }

    /// Whether anything of the rogue's came to the second service.
    fn was_reached(&self) -> Result<bool> {
        let mut bytes = [0; 2048];
        loop {
            match recv(&self.victim, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let frame = bytes.get(..length).unwrap_or_default();
                    if frame.get(6..12) == Some(&ONE) || frame.ends_with(b"rogue") {
                        return Ok(true);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[test]
fn a_service_can_t_be_its_neighbour() -> Result<()> {
    let Some(mut lab) = Lab::new()? else {
        return Ok(());
    };
    lab.apply()?;
    let rogue = Rogue::new(&lab)?;
    rogue.introduce()?;
    rogue.is_kept_out()?;

    // That all this was the rules' doing.
    lab.net.handle.shutdown(false)?;
    until(SOON, || lab.net.handle.ended())?;
    lab.the_box.run("nft delete table netdev pilot")?;
    rogue.put(&datagram_4(rogue.mac, ONE, TWO_4, b"as IPv4"))?;
    ensure!(rogue.next_name()? == "as IPv4");
    until(SOON, || {
        // Once is not enough: who has just confirmed an address keeps it for a second.
        rogue
            .put(&advertisement(ONE, link_local(ONE), link_local(TWO)))
            .is_ok()
            && rogue.put(&arp(ONE, TWO_4)).is_ok()
            && rogue.known(ONE).is_ok_and(|known| known == 4)
    })
    .context("nobody needs to be kept from taking addresses")?;
    until(SOON, || {
        rogue.put(&lldp(TWO)).is_ok() && rogue.port_of(TWO).is_ok_and(|port| port == "pv1")
    })
    .context("nobody needs to be kept from taking hardware addresses")
}

#[test]
fn senders_are_looked_at_whatever_comes_and_goes() -> Result<()> {
    let Some(mut lab) = Lab::new()? else {
        return Ok(());
    };
    lab.config.forwards = vec![forward(Transport::Tcp, 2222, 7000)];
    lab.apply()?;
    let stream = stream::Stream::through(&lab)?;
    let before = lab.guard()?;
    for _ in 0..5 {
        let third = lab::service(&lab.the_box, 3)?;
        lab.wait_for_guard(&["pv1", "pv2", "pv3"])?;
        ensure!(lab.guard()?.contains("02:00:0a:4d:00:04 . 10.77.0.4"));
        stream.goes_on()?;
        lab.the_box.run("ip link del pv3")?;
        drop(third);
        lab.wait_for_guard(&["pv1", "pv2"])?;
        stream.goes_on()?;
    }
    ensure!(lab.guard()? == before, "{}", lab.guard()?);
    for undo in [
        "nft flush set netdev pilot addresses",
        "nft flush chain netdev pilot senders",
        "nft delete table netdev pilot",
        "nft flush ruleset",
    ] {
        // Where the kernel lets us own the table, it is refused.
        drop(lab.the_box.run(undo));
        until(SOON, || lab.guard().is_ok_and(|now| now == before))
            .with_context(|| format!("after {undo}"))?;
    }
    drop(stream);

    // One of the same name is another link.
    lab.the_box.run("ip link del pv1")?;
    lab.wait_for_guard(&["pv2"])?;
    lab.one = lab::service(&lab.the_box, 1)?;
    lab.wait_for_guard(&["pv1", "pv2"])?;
    let rogue = Rogue::new(&lab)?;
    rogue.introduce()?;
    rogue.is_kept_out()
}

/// The first words of Ethernet.
fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to, &from, &kind.to_be_bytes()[..], payload].concat()
}

/// A question to all for the bridge's address, from somebody who says that `address` is his.
fn arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    let (own, target) = (address.octets(), BOX_4.octets());
    let payload = [&head[..], &mac, &own, &[0; 6], &target].concat();
    ethernet([0xff; 6], mac, 0x0806, &payload)
}

/// A UDP datagram to the bridge's port 53.
fn datagram_4(to: [u8; 6], mac: [u8; 6], from: Ipv4Addr, text: &[u8]) -> Vec<u8> {
    let udp_len = (8 + text.len()) as u16;
    let mut head = vec![0x45, 0];
    head.extend((20 + udp_len).to_be_bytes());
    head.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    head.extend(from.octets());
    head.extend(BOX_4.octets());
    let sum = checksum(&head);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    head.extend(9000_u16.to_be_bytes());
    head.extend(53_u16.to_be_bytes());
    head.extend(udp_len.to_be_bytes());
    // None is needed over IPv4.
    head.extend([0, 0]);
    head.extend(text);
    ethernet(to, mac, 0x0800, &head)
}

/// A question for the bridge's hardware address (RFC 4861, 4.3).
fn neighbour_solicitation(mac: [u8; 6], from: Ipv6Addr, bridge: Ipv6Addr) -> Vec<u8> {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    icmpv6(mac, from, group, [135, 0, 0, 0, 0, 0, 0, 0], bridge, 1)
}

/// Word to all that `address` is `mac`'s (RFC 4861, 4.4), which they are to believe.
fn advertisement(mac: [u8; 6], from: Ipv6Addr, address: Ipv6Addr) -> Vec<u8> {
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    icmpv6(mac, from, group, [136, 0, 0, 0, 0x20, 0, 0, 0], address, 2)
}

fn icmpv6(
    mac: [u8; 6],
    from: Ipv6Addr,
    to: Ipv6Addr,
    head: [u8; 8],
    about: Ipv6Addr,
    option: u8,
) -> Vec<u8> {
    let mut message = [&head[..], &about.octets(), &[option, 1], &mac].concat();
    let length = message.len() as u16;
    let (from, to) = (from.octets(), to.octets());
    let pseudo = [
        &from[..],
        &to,
        &u32::from(length).to_be_bytes(),
        &[0, 0, 0, 58],
        &message,
    ];
    let sum = checksum(&pseudo.concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let head = [0x60, 0, 0, 0, (length >> 8) as u8, length as u8, 58, 255];
    let packet = [&head[..], &from, &to, &message].concat();
    ethernet([0x33, 0x33, 0, 0, 0, 1], mac, 0x86dd, &packet)
}

/// A frame to those whom no bridge passes on (IEEE 802.1AB), and from which it learns all the same.
fn lldp(mac: [u8; 6]) -> Vec<u8> {
    ethernet([1, 0x80, 0xc2, 0, 0, 0x0e], mac, 0x88cc, &[0; 46])
}

/// The frame in VLAN 1 (IEEE 802.1Q).
fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 1], &frame[12..]].concat()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word(a ^ 2, b),
        word(c, 0xff),
        word(0xfe, d),
        word(e, f),
    )
}

fn spell(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

const ONE: [u8; 6] = [2, 0, 10, 77, 0, 2];
const TWO: [u8; 6] = [2, 0, 10, 77, 0, 3];
const BOX_MAC: [u8; 6] = [2, 0, 10, 77, 0, 1];
const ONE_4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const TWO_4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const BOX_4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// ETH_P_ALL, and none, of linux/if_ether.h.
const EVERY_KIND: u16 = 3;
const NO_KIND: u16 = 0;
