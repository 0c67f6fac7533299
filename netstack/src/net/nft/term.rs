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
    /// It begins something.
    New,
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
    /// Let through.
    Accept,
    /// Dropped.
    Drop,
    /// Goes on with the address of the link that it leaves by.
    Masquerade,
    /// Goes on to there.
    Redirect(SocketAddrV4),
    /// What it belongs to is marked with this number.
    Mark(u32),
    /// It gets the mark of what it belongs to.
    Marked,
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
            Self::New => flags(Expression::conntrack_state(), expression::CT_NEW),
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
            Self::Accept => vec![Expression::accept()],
            Self::Drop => vec![Expression::drop()],
            Self::Masquerade => vec![Expression::masquerade()],
            Self::Redirect(to) => vec![
                Expression::set_address(*to.ip()),
                Expression::set_port(to.port()),
                Expression::redirect(),
            ],
            Self::Mark(mark) => vec![
                Expression::set_number(*mark),
                Expression::set_conntrack_mark(),
            ],
            Self::Marked => vec![Expression::conntrack_mark(), Expression::set_mark()],
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
            Self::New => f.write_str("ct state new"),
            Self::From(operator, link) => write!(f, "iifname {}\"{link}\"", not(operator)),
            Self::To(operator, link) => write!(f, "oifname {}\"{link}\"", not(operator)),
            Self::Redirected => f.write_str("ct status dnat"),
            Self::ForTheBox => f.write_str("fib daddr type local"),
            Self::Ipv4 => f.write_str("meta nfproto ipv4"),
            Self::Protocol(_, name) => write!(f, "meta l4proto {name}"),
            Self::Icmp(_, name) => write!(f, "icmp type {name}"),
            Self::Icmpv6(_, name) => write!(f, "icmpv6 type {name}"),
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
            Self::Mark(mark) => write!(f, "ct mark set 0x{mark:08x}"),
            Self::Marked => f.write_str("meta mark set ct mark"),
        }
    }
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
