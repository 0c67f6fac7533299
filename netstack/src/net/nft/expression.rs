//! nftables expressions: the few steps of which the box's rules are made.
//!
//! A rule is a little program on registers; each expression here loads, changes, compares or
//! decides on register 1, as `nft --debug=netlink` shows for the same rule in text.

use std::net::Ipv4Addr;

use super::super::netlink::Request;

/// One step of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    name: &'static str,
    parts: Vec<Part>,
}

/// How to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
}

#[derive(Clone, Debug)]
enum Part {
    Number(u16, u32),
    Text(u16, &'static str),
    /// A value: data in a nest of its own.
    Value(u16, Vec<u8>),
    /// A verdict in a value.
    Verdict(u16, u32),
}

impl Expression {
    /// Loads a fact about the packet.
    pub(crate) fn meta(key: u32) -> Self {
        Self::new(
            "meta",
            [
                Part::Number(META_REGISTER, REGISTER),
                Part::Number(META_KEY, key),
            ],
        )
    }

    /// Loads the connection's state as a bit.
    pub(crate) fn conntrack_state() -> Self {
        Self::new(
            "ct",
            [
                Part::Number(CT_REGISTER, REGISTER),
                Part::Number(CT_KEY, CT_STATE),
            ],
        )
    }

    /// Loads what happened to the connection, as bits.
    pub(crate) fn conntrack_status() -> Self {
        Self::new(
            "ct",
            [
                Part::Number(CT_REGISTER, REGISTER),
                Part::Number(CT_KEY, CT_STATUS),
            ],
        )
    }

    /// Loads bytes of the header that TCP, UDP or ICMP has.
    pub(crate) fn transport_header(offset: u32, length: u32) -> Self {
        Self::payload(TRANSPORT_HEADER, offset, length)
    }

    /// Loads bytes of the IP header.
    pub(crate) fn network_header(offset: u32, length: u32) -> Self {
        Self::payload(NETWORK_HEADER, offset, length)
    }

    /// Loads bytes of the Ethernet header.
    pub(crate) fn link_header(offset: u32, length: u32) -> Self {
        Self::payload(LINK_HEADER, offset, length)
    }

    /// Has a loading expression load behind what those before it loaded, for [`Self::look_up`].
    pub(crate) fn behind(mut self, loaded: u32) -> Self {
        if let Some(Part::Number(_, register)) = self.parts.first_mut() {
            *register = FIRST_SMALL_REGISTER + loaded.div_ceil(4);
        }
        self
    }

    /// Ends the rule here unless what was loaded is, or is not, in the set.
    pub(crate) fn look_up(operator: Operator, set: &'static str) -> Self {
        let inverse = match operator {
            Operator::Equal => 0,
            Operator::NotEqual => 1,
        };
        Self::new(
            "lookup",
            [
                Part::Number(LOOKUP_REGISTER, REGISTER),
                Part::Text(LOOKUP_SET, set),
                Part::Number(LOOKUP_FLAGS, inverse),
            ],
        )
    }

    /// Loads of what kind the packet's target is, as routing sees it.
    pub(crate) fn target_kind() -> Self {
        Self::new(
            "fib",
            [
                Part::Number(FIB_REGISTER, REGISTER),
                Part::Number(FIB_RESULT, FIB_KIND),
                Part::Number(FIB_FLAGS, FIB_OF_TARGET),
            ],
        )
    }

    /// Keeps an address for [`Self::redirect`].
    pub(crate) fn set_address(address: Ipv4Addr) -> Self {
        Self::constant(REGISTER, address.octets().to_vec())
    }

    /// Keeps a port for [`Self::redirect`].
    pub(crate) fn set_port(port: u16) -> Self {
        Self::constant(SECOND_REGISTER, port.to_be_bytes().to_vec())
    }

    /// Gives the packet the address and port that were kept.
    pub(crate) fn redirect() -> Self {
        Self::new(
            "nat",
            [
                Part::Number(NAT_TYPE, NAT_TARGET),
                Part::Number(NAT_FAMILY, FAMILY_IPV4),
                Part::Number(NAT_ADDRESS, REGISTER),
                Part::Number(NAT_PORT, SECOND_REGISTER),
            ],
        )
    }

    /// Keeps the bits of `mask`, bytes as they are in the register.
    pub(crate) fn mask(mask: &[u8]) -> Self {
        Self::new(
            "bitwise",
            [
                Part::Number(BITWISE_SOURCE, REGISTER),
                Part::Number(BITWISE_TARGET, REGISTER),
                Part::Number(BITWISE_LENGTH, mask.len() as u32),
                Part::Value(BITWISE_MASK, mask.to_vec()),
                Part::Value(BITWISE_XOR, vec![0; mask.len()]),
            ],
        )
    }

    /// Keeps these bits of a number, which is in the machine's order.
    pub(crate) fn mask_any(bits: u32) -> Self {
        Self::mask(&bits.to_ne_bytes())
    }

    /// Ends the rule here unless the comparison holds.
    pub(crate) fn compare(operator: Operator, value: &[u8]) -> Self {
        let operator = match operator {
            Operator::Equal => 0,
            Operator::NotEqual => 1,
        };
        Self::new(
            "cmp",
            [
                Part::Number(CMP_REGISTER, REGISTER),
                Part::Number(CMP_OPERATOR, operator),
                Part::Value(CMP_DATA, value.to_vec()),
            ],
        )
    }

    /// Ends the rule here unless the interface's whole name compares.
    pub(crate) fn compare_name(operator: Operator, name: &str) -> Self {
        Self::compare(operator, &name_bytes(name))
    }

    /// Lets the packet through.
    pub(crate) fn accept() -> Self {
        Self::verdict(1)
    }

    /// Drops the packet.
    pub(crate) fn drop() -> Self {
        Self::verdict(0)
    }

    /// Gives the packet the address of the link it leaves by.
    pub(crate) fn masquerade() -> Self {
        Self::new("masq", [])
    }

    /// Adds the expression to a rule's list.
    pub(crate) fn write(&self, list: Request) -> Request {
        list.nest(LIST_ELEMENT, |one| {
            one.text(EXPRESSION_NAME, self.name)
                .nest(EXPRESSION_DATA, |data| {
                    self.parts.iter().fold(data, |data, part| part.write(data))
                })
        })
    }

    fn payload(header: u32, offset: u32, length: u32) -> Self {
        Self::new(
            "payload",
            [
                Part::Number(PAYLOAD_REGISTER, REGISTER),
                Part::Number(PAYLOAD_BASE, header),
                Part::Number(PAYLOAD_OFFSET, offset),
                Part::Number(PAYLOAD_LENGTH, length),
            ],
        )
    }

    fn constant(register: u32, value: Vec<u8>) -> Self {
        Self::new(
            "immediate",
            [
                Part::Number(IMMEDIATE_REGISTER, register),
                Part::Value(IMMEDIATE_DATA, value),
            ],
        )
    }

    fn verdict(code: u32) -> Self {
        Self::new(
            "immediate",
            [
                Part::Number(IMMEDIATE_REGISTER, VERDICT_REGISTER),
                Part::Verdict(IMMEDIATE_DATA, code),
            ],
        )
    }

    fn new(name: &'static str, parts: impl Into<Vec<Part>>) -> Self {
        Self {
            name,
            parts: parts.into(),
        }
    }
}

/// An interface's name as the kernel has it in a register.
pub(super) fn name_bytes(name: &str) -> [u8; INTERFACE_NAME_LEN] {
    let mut bytes = [0; INTERFACE_NAME_LEN];
    let length = name.len().min(INTERFACE_NAME_LEN - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

impl Part {
    fn write(&self, data: Request) -> Request {
        match self {
            Self::Number(kind, value) => data.be32(*kind, *value),
            Self::Text(kind, text) => data.text(*kind, text),
            Self::Value(kind, bytes) => data.nest(*kind, |value| value.attr(DATA_VALUE, bytes)),
            Self::Verdict(kind, code) => data.nest(*kind, |value| {
                value.nest(DATA_VERDICT, |verdict| verdict.be32(VERDICT_CODE, *code))
            }),
        }
    }
}

// From linux/netfilter/nf_tables.h and nf_conntrack_common.h.
/// NFT_META_IIFNAME.
pub(super) const META_INPUT_NAME: u32 = 6;
/// NFT_META_OIFNAME.
pub(super) const META_OUTPUT_NAME: u32 = 7;
/// NFT_META_NFPROTO.
pub(super) const META_FAMILY: u32 = 15;
/// NFT_META_L4PROTO.
pub(super) const META_TRANSPORT: u32 = 16;
/// NFT_META_IIFTYPE.
pub(super) const META_INPUT_KIND: u32 = 8;
/// ARPHRD_ETHER of linux/if_arp.h.
pub(super) const KIND_ETHERNET: u16 = 1;
/// IPS_DST_NAT.
pub(super) const CT_TARGET_CHANGED: u32 = 1 << 5;
/// NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
pub(super) const CT_ESTABLISHED: u32 = 1 << 1;
pub(super) const CT_RELATED: u32 = 1 << 2;
/// NFT_REG_1 and NFT_REG_VERDICT.
const REGISTER: u32 = 1;
const SECOND_REGISTER: u32 = 2;
const VERDICT_REGISTER: u32 = 0;
/// NFT_REG32_00: the first register's first four bytes.
const FIRST_SMALL_REGISTER: u32 = 8;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const META_REGISTER: u16 = 1;
const META_KEY: u16 = 2;
const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;
/// NFT_CT_STATE.
const CT_STATE: u32 = 0;
/// NFT_CT_STATUS.
const CT_STATUS: u32 = 2;
const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_ADDRESS: u16 = 3;
const NAT_PORT: u16 = 5;
/// NFT_NAT_DNAT and NFPROTO_IPV4.
const NAT_TARGET: u32 = 1;
const FAMILY_IPV4: u32 = 2;
const FIB_REGISTER: u16 = 1;
const FIB_RESULT: u16 = 2;
const FIB_FLAGS: u16 = 3;
/// NFT_FIB_RESULT_ADDRTYPE.
const FIB_KIND: u32 = 3;
/// NFTA_FIB_F_DADDR.
const FIB_OF_TARGET: u32 = 1 << 1;
/// RTN_LOCAL of linux/rtnetlink.h: an address of the box's own.
pub(super) const KIND_LOCAL: u32 = 2;
const PAYLOAD_REGISTER: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
/// NFT_PAYLOAD_LL_HEADER, NFT_PAYLOAD_NETWORK_HEADER and NFT_PAYLOAD_TRANSPORT_HEADER.
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const BITWISE_SOURCE: u16 = 1;
const BITWISE_TARGET: u16 = 2;
const BITWISE_LENGTH: u16 = 3;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;
const CMP_REGISTER: u16 = 1;
const CMP_OPERATOR: u16 = 2;
const CMP_DATA: u16 = 3;
const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const LOOKUP_SET: u16 = 1;
const LOOKUP_REGISTER: u16 = 2;
/// Has NFT_LOOKUP_F_INV as its first bit.
const LOOKUP_FLAGS: u16 = 5;
/// IFNAMSIZ.
pub(super) const INTERFACE_NAME_LEN: usize = 16;
