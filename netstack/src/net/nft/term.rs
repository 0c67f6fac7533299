//! What a rule is made of, each term both as the kernel's expressions and as `nft list` spells it,
//! so that what is in force and what is told of it can't differ.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4},
};

use super::{
    super::config::Transport,
    expression::{self, Expression, Operator},
};

/// A condition, or what is done when all conditions before it hold.
#[derive(Clone, Debug)]
pub(crate) enum Term {
    /// It answers, or is about, what was let through before.
    Answer,
    /// It came, or did not come, by this link.
    From(Operator, String),
    /// It leaves, or does not leave, by this link.
    To(Operator, String),
    /// Its target was changed by [`Term::Redirect`].
    Redirected,
    /// Its target is one of the box's own addresses.
    ForTheBox,
    /// It is IPv4.
    Ipv4,
    /// It is of this protocol, by IANA's number and name.
    Protocol(u8, &'static str),
    /// It is ICMP for IPv4 of this type, by IANA's number and nft's name.
    Icmp(u8, &'static str),
    /// The same for IPv6.
    Icmpv6(u8, &'static str),
    /// It is for this port.
    Port(Transport, u16),
    /// It is a UDP datagram from the one port to the other.
    Udp(u16, u16),
    /// Its source is, or is not, in this network.
    Source(Operator, Ipv4Addr, u8),
    /// The same for IPv6.
    Source6(Operator, Ipv6Addr, u8),
    /// It came as a frame whose port and whose sender's hardware address are, or are not, in the set.
    Sender(Operator, &'static str),
    /// It is IPv4, and its port, hardware address and source are in the set.
    SenderIpv4(&'static str),
    /// It is ARP, and its port and what it says of its sender are in the set.
    SenderArp(&'static str),
    /// It is IPv6, and its port, hardware address and source are in the set.
    SenderIpv6(&'static str),
    /// Behind a [`Term::FrameIcmpv6`] of neighbour discovery: its port, hardware address and the
    /// address that it is about are not in the set.
    NoNeighbour(&'static str),
    /// It is IPv6 from somebody who has no address yet.
    Addressless,
    /// [`Term::Icmpv6`] of a frame that is not yet known to be IPv6.
    FrameIcmpv6(u8, &'static str),
    /// Let through.
    Accept,
    /// Dropped.
    Drop,
    /// Goes on with the address of the link that it leaves by.
    Masquerade,
    /// Goes on to there.
    Redirect(SocketAddrV4),
}

impl Term {
    /// The same for the kernel.
    pub(crate) fn expressions(&self) -> Vec<Expression> {
        let is = |value: &[u8]| Expression::compare(Operator::Equal, value);
        let flags = |load, bits| {
            let none = Expression::compare(Operator::NotEqual, &[0; 4]);
            vec![load, Expression::mask_any(bits), none]
        };
        let of_family = |family: u8| [Expression::meta(expression::META_FAMILY), is(&[family])];
        let of_protocol = |protocol: u8| {
            [
                Expression::meta(expression::META_TRANSPORT),
                is(&[protocol]),
            ]
        };
        let icmp = |family, protocol, kind: u8| {
            let mut all = Vec::from(of_family(family));
            all.extend(of_protocol(protocol));
            all.extend([Expression::transport_header(0, 1), is(&[kind])]);
            all
        };
        match self {
            Self::Answer => flags(
                Expression::conntrack_state(),
                expression::CT_ESTABLISHED | expression::CT_RELATED,
            ),
            Self::From(operator, link) => vec![
                Expression::meta(expression::META_INPUT_NAME),
                Expression::compare_name(*operator, link),
            ],
            Self::To(operator, link) => vec![
                Expression::meta(expression::META_OUTPUT_NAME),
                Expression::compare_name(*operator, link),
            ],
            Self::Redirected => flags(
                Expression::conntrack_status(),
                expression::CT_TARGET_CHANGED,
            ),
            Self::ForTheBox => vec![
                Expression::target_kind(),
                is(&expression::KIND_LOCAL.to_ne_bytes()),
            ],
            Self::Ipv4 => of_family(IPV4).into(),
            Self::Protocol(protocol, _) => of_protocol(*protocol).into(),
            Self::Icmp(kind, _) => icmp(IPV4, ICMP, *kind),
            Self::Icmpv6(kind, _) => icmp(IPV6, ICMPV6, *kind),
            Self::Port(transport, port) => {
                let mut all = Vec::from(of_protocol(number(*transport)));
                all.extend([Expression::transport_header(2, 2), is(&port.to_be_bytes())]);
                all
            }
            Self::Udp(from, to) => {
                let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
                let mut all = Vec::from(of_protocol(UDP));
                all.extend([Expression::transport_header(0, 4), is(&ports)]);
                all
            }
            Self::Source(operator, network, prefix) => {
                let mask = mask(*prefix);
                let mut all = Vec::from(of_family(IPV4));
                all.push(Expression::network_header(12, 4));
                all.extend((*prefix < 32).then(|| Expression::mask(&mask.octets())));
                all.push(Expression::compare(*operator, &(*network & mask).octets()));
                all
            }
            Self::Source6(operator, network, prefix) => {
                let mask = mask6(*prefix);
                let mut all = Vec::from(of_family(IPV6));
                all.push(Expression::network_header(8, 16));
                all.extend((*prefix < 128).then(|| Expression::mask(&mask.octets())));
                all.push(Expression::compare(*operator, &(*network & mask).octets()));
                all
            }
            Self::Sender(operator, set) => {
                let mut all = Vec::from(ethernet());
                all.extend(sender());
                all.push(Expression::look_up(*operator, set));
                all
            }
            Self::SenderIpv4(set) => {
                let source = Expression::network_header(12, 4);
                of_sender(FRAME_IPV4, source, set)
            }
            Self::SenderArp(set) => {
                let mut all = Vec::from(ethernet());
                all.extend(of_frame(FRAME_ARP));
                all.extend([
                    Expression::meta(expression::META_INPUT_NAME),
                    Expression::network_header(8, 6).behind(NAME_LEN),
                    Expression::network_header(14, 4).behind(NAME_LEN + MAC_LEN),
                    Expression::look_up(Operator::Equal, set),
                ]);
                all
            }
            Self::SenderIpv6(set) => {
                let source = Expression::network_header(8, 16);
                of_sender(FRAME_IPV6, source, set)
            }
            Self::NoNeighbour(set) => {
                let mut all = Vec::from(sender());
                let target = Expression::transport_header(8, 16);
                all.push(target.behind(NAME_LEN + MAC_LEN));
                all.push(Expression::look_up(Operator::NotEqual, set));
                all
            }
            Self::Addressless => {
                let mut all = Vec::from(ethernet());
                all.extend(of_frame(FRAME_IPV6));
                all.extend([Expression::network_header(8, 16), is(&[0; 16])]);
                all
            }
            Self::FrameIcmpv6(kind, _) => {
                let mut all = Vec::from(ethernet());
                all.extend(of_frame(FRAME_IPV6));
                all.extend(of_protocol(ICMPV6));
                all.extend([Expression::transport_header(0, 1), is(&[*kind])]);
                all
            }
            Self::Accept => vec![Expression::accept()],
            Self::Drop => vec![Expression::drop()],
            Self::Masquerade => vec![Expression::masquerade()],
            Self::Redirect(to) => vec![
                Expression::set_address(*to.ip()),
                Expression::set_port(to.port()),
                Expression::redirect(),
            ],
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |operator: &Operator| match operator {
            Operator::Equal => "",
            Operator::NotEqual => "!= ",
        };
        match self {
            Self::Answer => f.write_str("ct state established,related"),
            Self::From(operator, link) => write!(f, "iifname {}\"{link}\"", not(operator)),
            Self::To(operator, link) => write!(f, "oifname {}\"{link}\"", not(operator)),
            Self::Redirected => f.write_str("ct status dnat"),
            Self::ForTheBox => f.write_str("fib daddr type local"),
            Self::Ipv4 => f.write_str("meta nfproto ipv4"),
            Self::Protocol(_, name) => write!(f, "meta l4proto {name}"),
            Self::Icmp(_, name) => write!(f, "icmp type {name}"),
            Self::Icmpv6(_, name) | Self::FrameIcmpv6(_, name) => {
                write!(f, "icmpv6 type {name}")
            }
            Self::Sender(operator, set) => {
                write!(f, "iifname . ether saddr {}@{set}", not(operator))
            }
            Self::SenderIpv4(set) => write!(f, "iifname . ether saddr . ip saddr @{set}"),
            Self::SenderArp(set) => {
                write!(f, "iifname . arp saddr ether . arp saddr ip @{set}")
            }
            Self::SenderIpv6(set) => write!(f, "iifname . ether saddr . ip6 saddr @{set}"),
            Self::NoNeighbour(set) => {
                write!(f, "iifname . ether saddr . @th,64,128 != @{set}")
            }
            Self::Addressless => f.write_str("ip6 saddr ::"),
            Self::Port(Transport::Tcp, port) => write!(f, "tcp dport {port}"),
            Self::Port(Transport::Udp, port) => write!(f, "udp dport {port}"),
            Self::Udp(from, to) => write!(f, "udp sport {from} udp dport {to}"),
            Self::Source(operator, network, prefix) => {
                let network = *network & mask(*prefix);
                write!(f, "ip saddr {}{network}", not(operator))?;
                if *prefix < 32 {
                    write!(f, "/{prefix}")?;
                }
                Ok(())
            }
            Self::Source6(operator, network, prefix) => {
                let network = *network & mask6(*prefix);
                write!(f, "ip6 saddr {}{network}", not(operator))?;
                if *prefix < 128 {
                    write!(f, "/{prefix}")?;
                }
                Ok(())
            }
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Masquerade => f.write_str("masquerade"),
            Self::Redirect(to) => write!(f, "dnat ip to {to}"),
        }
    }
}

/// Without it the kernel would take the first bytes of whatever a link carries for an Ethernet header.
fn ethernet() -> [Expression; 2] {
    let kind = expression::KIND_ETHERNET.to_ne_bytes();
    [
        Expression::meta(expression::META_INPUT_KIND),
        Expression::compare(Operator::Equal, &kind),
    ]
}

/// By the frame's own word, which it has in front of it also where it is of a VLAN.
fn of_frame(kind: u16) -> [Expression; 2] {
    [
        Expression::link_header(12, 2),
        Expression::compare(Operator::Equal, &kind.to_be_bytes()),
    ]
}

/// Loads the port and the hardware address.
fn sender() -> [Expression; 2] {
    [
        Expression::meta(expression::META_INPUT_NAME),
        Expression::link_header(6, 6).behind(NAME_LEN),
    ]
}

fn of_sender(kind: u16, address: Expression, set: &'static str) -> Vec<Expression> {
    let mut all = Vec::from(ethernet());
    all.extend(of_frame(kind));
    all.extend(sender());
    all.push(address.behind(NAME_LEN + MAC_LEN));
    all.push(Expression::look_up(Operator::Equal, set));
    all
}

fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
    }
}

fn mask(prefix: u8) -> Ipv4Addr {
    let bits = 32_u32.saturating_sub(prefix.into());
    Ipv4Addr::from_bits(u32::MAX.checked_shl(bits).unwrap_or(0))
}

fn mask6(prefix: u8) -> Ipv6Addr {
    let bits = 128_u32.saturating_sub(prefix.into());
    Ipv6Addr::from_bits(u128::MAX.checked_shl(bits).unwrap_or(0))
}

// From linux/netfilter.h and IANA's protocol numbers.
/// NFPROTO_IPV4 and NFPROTO_IPV6.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
// From linux/if_ether.h.
const FRAME_IPV4: u16 = 0x0800;
const FRAME_ARP: u16 = 0x0806;
const FRAME_IPV6: u16 = 0x86dd;
/// What a link's name and a hardware address take up in registers, which are filled by fours.
const NAME_LEN: u32 = expression::INTERFACE_NAME_LEN as u32;
const MAC_LEN: u32 = 6_u32.next_multiple_of(4);
