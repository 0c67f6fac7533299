//! Ethernet, IPv4, UDP and ARP as bytes: what a link without an address needs to speak DHCP and to
//! ask who has an address. Pure; lengths are checked, nothing here fails but by `None`.

use std::net::Ipv4Addr;

use sys::packet::Instruction;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// To every station.
pub(crate) const BROADCAST: Mac = [0xff; 6];

/// `ETH_P_IP`.
pub(crate) const IPV4: u16 = 0x0800;

/// `ETH_P_ARP`.
pub(crate) const ARP: u16 = 0x0806;

/// The port a DHCP client listens on.
pub(crate) const CLIENT_PORT: u16 = 68;

/// The port a DHCP server listens on.
pub(crate) const SERVER_PORT: u16 = 67;

/// A DHCP message from `source` to every station, as a whole Ethernet frame.
pub(crate) fn broadcast(mac: Mac, source: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let udp_length = (UDP_LEN + message.len()) as u16;
    let mut frame = ethernet(mac, BROADCAST, IPV4);
    let ip_start = frame.len();
    frame.extend_from_slice(&[0x45, 0xc0]); // Version 4, 5 words; internetwork control.
    frame.extend_from_slice(&(IP_LEN as u16 + udp_length).to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0x40, 0, HOP_LIMIT, UDP, 0, 0]); // Don't fragment.
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&Ipv4Addr::BROADCAST.octets());
    let sum = checksum(&[&frame[ip_start..]]);
    frame[ip_start + 10..ip_start + 12].copy_from_slice(&sum.to_be_bytes());

    let udp_start = frame.len();
    frame.extend_from_slice(&CLIENT_PORT.to_be_bytes());
    frame.extend_from_slice(&SERVER_PORT.to_be_bytes());
    frame.extend_from_slice(&udp_length.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(message);
    let pseudo = [&[0, UDP], &udp_length.to_be_bytes()[..]].concat();
    let addresses = &frame[ip_start + 12..ip_start + 20];
    // A sum of zero would mean "none": its other form is sent (RFC 768).
    let sum = match checksum(&[addresses, &pseudo, &frame[udp_start..]]) {
        0 => 0xffff,
        sum => sum,
    };
    frame[udp_start + 6..udp_start + 8].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The DHCP message in an Ethernet frame to port 68, if that is what it holds.
///
/// The UDP checksum is not verified: between virtual machines and name spaces it is left for a
/// network card to fill in, and none ever does.
pub(crate) fn dhcp_payload(frame: &[u8]) -> Option<&[u8]> {
    let (header, packet) = frame.split_at_checked(ETHERNET_LEN)?;
    if header[12..14] != IPV4.to_be_bytes() || packet.first()? >> 4 != 4 {
        return None;
    }
    let ip_length = usize::from(packet[0] & 0xf) * 4;
    let total = usize::from(be16(packet, 2)?);
    let fragment = be16(packet, 6)? & 0x3fff;
    if ip_length < IP_LEN || fragment != 0 || *packet.get(9)? != UDP {
        return None;
    }
    // Short frames are padded: the packet says how long it really is.
    let datagram = packet.get(ip_length..total)?;
    let length = usize::from(be16(datagram, 4)?);
    if be16(datagram, 2)? != CLIENT_PORT {
        return None;
    }
    datagram.get(UDP_LEN..length)
}

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    /// Whether it asks (or announces) rather than answers.
    pub(crate) request: bool,
    pub(crate) sender_mac: Mac,
    pub(crate) sender: Ipv4Addr,
    pub(crate) target: Ipv4Addr,
}

impl Arp {
    /// The packet as an Ethernet frame to every station.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = ethernet(self.sender_mac, BROADCAST, ARP);
        frame.extend_from_slice(&ARP_ETHERNET_IPV4);
        frame.extend_from_slice(&[0, if self.request { 1 } else { 2 }]);
        frame.extend_from_slice(&self.sender_mac);
        frame.extend_from_slice(&self.sender.octets());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&self.target.octets());
        frame
    }

    /// Reads an Ethernet frame; `None` if it is not ARP for IPv4.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let (header, packet) = frame.split_at_checked(ETHERNET_LEN)?;
        if header[12..14] != ARP.to_be_bytes() || packet.get(..6)? != ARP_ETHERNET_IPV4 {
            return None;
        }
        let address = |offset: usize| {
            let octets: &[u8; 4] = packet.get(offset..)?.first_chunk()?;
            Some(Ipv4Addr::from(*octets))
        };
        Some(Self {
            request: match be16(packet, 6)? {
                1 => true,
                2 => false,
                _ => return None,
            },
            sender_mac: *packet.get(8..)?.first_chunk()?,
            sender: address(14)?,
            target: address(24)?,
        })
    }
}

/// Accepts unfragmented UDP over IPv4 to port 68, so that a busy LAN does not wake the box.
pub(crate) const DHCP_ONLY: [Instruction; 11] = [
    step(LOAD_HALF, 12),
    jump(JUMP_IF_EQUAL, IPV4 as u32, 0, 8),
    step(LOAD_BYTE, 23),
    jump(JUMP_IF_EQUAL, UDP as u32, 0, 6),
    step(LOAD_HALF, 20),
    jump(JUMP_IF_ANY, 0x3fff, 4, 0),
    step(LOAD_IP_LENGTH, 14),
    step(LOAD_HALF_AFTER_IP, 16),
    jump(JUMP_IF_EQUAL, CLIENT_PORT as u32, 0, 1),
    step(RETURN, u32::MAX),
    step(RETURN, 0),
];

fn ethernet(from: Mac, to: Mac, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_CAPACITY);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&kind.to_be_bytes());
    frame
}

fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The Internet checksum (RFC 1071). Parts but the last have even lengths.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
            sum += u32::from(u16::from_be_bytes(word));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

const fn step(code: u16, operand: u32) -> Instruction {
    jump(code, operand, 0, 0)
}

const fn jump(code: u16, operand: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction {
        code,
        if_true,
        if_false,
        operand,
    }
}

const ETHERNET_LEN: usize = 14;
const IP_LEN: usize = 20;
const UDP_LEN: usize = 8;
/// `IPPROTO_UDP`.
const UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;
/// Room for any frame built here without growing.
const FRAME_CAPACITY: usize = 600;
/// Ethernet and IPv4 with their address lengths (RFC 826).
const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// `BPF_LD | BPF_H | BPF_ABS` and the rest, from `linux/bpf_common.h`.
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_IP_LENGTH: u16 = 0xb1;
const LOAD_HALF_AFTER_IP: u16 = 0x48;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_ANY: u16 = 0x45;
const RETURN: u16 = 0x06;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    /// As a server's answer would be: the same frame with the ports swapped.
    fn answer(message: &[u8]) -> Vec<u8> {
        let mut frame = broadcast(MAC, Ipv4Addr::new(10, 0, 0, 1), message);
        frame[34..36].copy_from_slice(&SERVER_PORT.to_be_bytes());
        frame[36..38].copy_from_slice(&CLIENT_PORT.to_be_bytes());
        frame
    }

    #[test]
    fn a_frame_carries_its_message_and_sums_to_zero() {
        let frame = broadcast(MAC, Ipv4Addr::UNSPECIFIED, b"odd");
        assert_eq!(checksum(&[&frame[14..34]]), 0);
        let pseudo = [0, UDP, 0, 11];
        assert_eq!(checksum(&[&frame[26..34], &pseudo, &frame[34..]]), 0);
        assert_eq!(dhcp_payload(&frame), None, "a request is not for us");
    }

    #[test]
    fn the_payload_of_an_answer_is_found_with_and_without_padding() {
        let mut frame = answer(b"hello");
        assert_eq!(dhcp_payload(&frame), Some(&b"hello"[..]));
        frame.resize(60, 0);
        assert_eq!(dhcp_payload(&frame), Some(&b"hello"[..]));
        for cut in 0..47 {
            assert_eq!(dhcp_payload(&frame[..cut]), None);
        }
    }

    #[test]
    fn arp_reads_back_and_rubbish_does_not() {
        let arp = Arp {
            request: true,
            sender_mac: MAC,
            sender: Ipv4Addr::UNSPECIFIED,
            target: Ipv4Addr::new(169, 254, 7, 9),
        };
        let frame = arp.frame();
        assert_eq!(Arp::parse(&frame), Some(arp));
        assert!((0..frame.len()).all(|cut| Arp::parse(&frame[..cut]).is_none()));
        let mut random = crate::net::random::Random::new(3);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.below(64)).map(|_| random.next() as u8).collect();
            Arp::parse(&bytes);
            dhcp_payload(&bytes);
        }
    }
}
