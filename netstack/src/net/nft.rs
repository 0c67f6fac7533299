//! The services' packet filter: one nftables table, replaced as a whole in one transaction.
//!
//! Services may go out, with the box's address as theirs; nothing from outside may come in but
//! answers, and what is forwarded to them by port; services do not reach each other by way of the box
//! (on the bridge itself, its ports are isolated). What comes through the front door is not
//! forwarding.
//!
//! The kernel applies a batch all or not at all, and says which frame it refused.

mod expression;
mod listing;

use std::net::Ipv4Addr;

use rustix::io::Errno;

pub(crate) use self::listing::listing;

use self::expression::{Expression, Operator};
use super::{
    config::{Bridge, Forward, Transport},
    netlink::{APPEND, CREATE, Frame, Request},
};

/// A transaction's bytes, and how many acknowledgements mean that it is in force.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    first: u32,
    /// What each numbered frame is about, for the sentence when it is refused.
    frames: Vec<&'static str>,
    acknowledged: usize,
}

/// How a transaction went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// In force.
    Applied,
    /// Not in force; nothing was changed.
    Refused(Errno, &'static str),
}

impl Batch {
    /// Replaces the table by the one for this bridge, numbering frames from `sequence`.
    pub(crate) fn replace(bridge: &Bridge, forwards: &[Forward], sequence: u32) -> Self {
        let mut batch = Self::begin(sequence);
        batch.clear();
        batch.add("the table", table(NEW_TABLE, CREATE));
        batch.add("the forward chain", forward_chain());
        for rule in forward_rules(&bridge.name, !forwards.is_empty()) {
            batch.add("a forward rule", self::rule(FORWARD, rule));
        }
        if bridge.nat {
            batch.add("the NAT chain", nat_chain());
            batch.add("the masquerade rule", rule(POSTROUTING, masquerade(bridge)));
        }
        if !forwards.is_empty() {
            let chain = chain(PREROUTING, "nat", HOOK_PREROUTING, PRIORITY_TARGET_NAT);
            batch.add("the chain of forwarded ports", chain);
            for forward in forwards {
                let rule = rule(PREROUTING, redirect(bridge, forward));
                batch.add("a forwarded port", rule);
            }
        }
        batch.end()
    }

    /// Removes the table.
    pub(crate) fn remove(sequence: u32) -> Self {
        let mut batch = Self::begin(sequence);
        batch.clear();
        batch.end()
    }

    /// Takes in what the kernel answered. The first refusal, or the last acknowledgement, decides.
    pub(crate) fn answered(&mut self, frame: &Frame<'_>) -> Option<Verdict> {
        let verdict = frame.verdict()?;
        let number = frame.sequence.wrapping_sub(self.first) as usize;
        let about = *self.frames.get(number)?;
        match verdict {
            Err(errno) => Some(Verdict::Refused(errno, about)),
            Ok(()) => {
                self.acknowledged += 1;
                // The two frames that bracket the batch are not acknowledged.
                (self.acknowledged + 2 == self.frames.len()).then_some(Verdict::Applied)
            }
        }
    }

    fn begin(sequence: u32) -> Self {
        let mut batch = Self {
            bytes: Vec::with_capacity(BATCH_CAPACITY),
            first: sequence,
            frames: Vec::new(),
            acknowledged: 0,
        };
        batch.bracket(BATCH_BEGIN);
        batch
    }

    /// Deleting what may not be there is refused, so it is made first.
    fn clear(&mut self) {
        self.add("the table", table(NEW_TABLE, CREATE));
        self.add("the old table", table(DEL_TABLE, 0));
    }

    fn add(&mut self, about: &'static str, request: Request) {
        let number = self.next();
        self.bytes.extend(request.acknowledged(number));
        self.frames.push(about);
    }

    fn bracket(&mut self, kind: u16) {
        let request = Request::new(kind, 0, &header(0, SUBSYSTEM));
        let number = self.next();
        self.bytes.extend(request.numbered(number));
        self.frames.push("the transaction");
    }

    fn end(mut self) -> Self {
        self.bracket(BATCH_END);
        self
    }

    fn next(&self) -> u32 {
        self.first.wrapping_add(self.frames.len() as u32)
    }
}

/// Forwarded packets of which one side is the bridge; all others are none of the box's business.
fn forward_rules(bridge: &str, with_forwarded: bool) -> Vec<Vec<Expression>> {
    let from = |operator| {
        vec![
            Expression::meta(expression::META_INPUT_NAME),
            Expression::compare_name(operator, bridge),
        ]
    };
    let to = |operator| {
        vec![
            Expression::meta(expression::META_OUTPUT_NAME),
            Expression::compare_name(operator, bridge),
        ]
    };
    let answers = vec![
        Expression::conntrack_state(),
        Expression::mask_any(expression::CT_ESTABLISHED | expression::CT_RELATED),
        Expression::compare(Operator::NotEqual, &[0; 4]),
        Expression::accept(),
    ];
    let outwards = [
        from(Operator::Equal),
        to(Operator::NotEqual),
        vec![Expression::accept()],
    ];
    let forwarded = [
        from(Operator::NotEqual),
        to(Operator::Equal),
        vec![
            Expression::conntrack_status(),
            Expression::mask_any(expression::CT_TARGET_CHANGED),
            Expression::compare(Operator::NotEqual, &[0; 4]),
            Expression::accept(),
        ],
    ];
    let mut rules = vec![answers, outwards.concat()];
    if with_forwarded {
        rules.push(forwarded.concat());
    }
    rules.push(vec![Expression::drop()]);
    rules
}

/// What comes to the port from elsewhere than the services goes to one of them.
fn redirect(bridge: &Bridge, forward: &Forward) -> Vec<Expression> {
    let transport = match forward.transport {
        Transport::Tcp => TCP,
        Transport::Udp => UDP,
    };
    vec![
        Expression::meta(expression::META_INPUT_NAME),
        Expression::compare_name(Operator::NotEqual, &bridge.name),
        Expression::meta(expression::META_TRANSPORT),
        Expression::compare(Operator::Equal, &[transport]),
        Expression::target_port(),
        Expression::compare(Operator::Equal, &forward.port.to_be_bytes()),
        Expression::set_address(*forward.to.ip()),
        Expression::set_port(forward.to.port()),
        Expression::redirect(),
    ]
}

fn masquerade(bridge: &Bridge) -> Vec<Expression> {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(bridge.prefix.min(32)))
        .unwrap_or(0);
    let network = Ipv4Addr::from(u32::from(bridge.address) & mask);
    vec![
        Expression::ipv4_source(),
        Expression::mask(mask.to_be_bytes()),
        Expression::compare(Operator::Equal, &network.octets()),
        Expression::meta(expression::META_OUTPUT_NAME),
        Expression::compare_name(Operator::NotEqual, &bridge.name),
        Expression::masquerade(),
    ]
}

fn table(kind: u16, flags: u16) -> Request {
    request(kind, flags).text(TABLE_NAME, TABLE)
}

fn forward_chain() -> Request {
    chain(FORWARD, "filter", HOOK_FORWARD, PRIORITY_FILTER)
}

fn nat_chain() -> Request {
    chain(POSTROUTING, "nat", HOOK_POSTROUTING, PRIORITY_SOURCE_NAT)
}

fn chain(name: &str, kind: &str, hook: u32, priority: i32) -> Request {
    request(NEW_CHAIN, CREATE)
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, name)
        .nest(CHAIN_HOOK, |chain| {
            chain
                .be32(HOOK_NUMBER, hook)
                .be32(HOOK_PRIORITY, priority as u32)
        })
        .be32(CHAIN_POLICY, ACCEPT)
        .text(CHAIN_TYPE, kind)
}

fn rule(chain: &str, expressions: Vec<Expression>) -> Request {
    request(NEW_RULE, CREATE | APPEND)
        .text(RULE_TABLE, TABLE)
        .text(RULE_CHAIN, chain)
        .nest(RULE_EXPRESSIONS, |list| {
            expressions.iter().fold(list, |list, one| one.write(list))
        })
}

fn request(kind: u16, flags: u16) -> Request {
    Request::new(SUBSYSTEM << 8 | kind, flags, &header(FAMILY_IPV4, 0))
}

/// `struct nfgenmsg`: family, version, and the resource in network order.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The table's name; nothing else of this name is touched.
pub(super) const TABLE: &str = "pilot";
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";
const PREROUTING: &str = "prerouting";
/// More than any box forwards; a transaction of so many still fits a socket's buffer.
pub(super) const MAX_FORWARDS: usize = 128;
/// All rules of the box with room to spare.
const BATCH_CAPACITY: usize = 4096;

// From linux/netfilter/nfnetlink.h, nf_tables.h, linux/netfilter.h and netfilter_ipv4.h.
/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// NFPROTO_IPV4.
const FAMILY_IPV4: u8 = 2;
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
/// The frame that tells of a table's removal.
pub(super) const TABLE_REMOVED: u16 = SUBSYSTEM << 8 | DEL_TABLE;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
pub(super) const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const HOOK_PREROUTING: u32 = 0;
const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;
const PRIORITY_TARGET_NAT: i32 = -100;
/// IPPROTO_TCP and IPPROTO_UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// NF_ACCEPT.
const ACCEPT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::{super::netlink::frames, *};

    fn answer(sequence: u32, code: i32) -> Vec<u8> {
        Request::new(2, 0, &code.to_ne_bytes()).numbered(sequence)
    }

    fn hear(batch: &mut Batch, bytes: &[u8]) -> Option<Verdict> {
        frames(bytes)
            .next()
            .and_then(|frame| batch.answered(&frame))
    }

    #[test]
    fn a_batch_is_bracketed_and_numbered() {
        let batch = Batch::replace(&Bridge::default(), &[], 100);
        let all: Vec<_> = frames(&batch.bytes).collect();
        assert_eq!(
            all.first().map(|f| (f.kind, f.sequence)),
            Some((BATCH_BEGIN, 100))
        );
        assert_eq!(all.last().map(|f| f.kind), Some(BATCH_END));
        assert!(
            all.windows(2)
                .all(|pair| pair[1].sequence == pair[0].sequence + 1)
        );
        assert_eq!(all.len(), batch.frames.len());
    }

    #[test]
    fn all_acknowledgements_mean_applied_and_one_refusal_does_not() {
        let mut batch = Batch::remove(7);
        assert_eq!(hear(&mut batch, &answer(8, 0)), None);
        assert_eq!(hear(&mut batch, &answer(9, 0)), Some(Verdict::Applied));
        let mut batch = Batch::replace(&Bridge::default(), &[], 7);
        let refused = hear(&mut batch, &answer(10, -2));
        assert_eq!(refused, Some(Verdict::Refused(Errno::NOENT, "the table")));
        assert_eq!(hear(&mut batch, &answer(99, -2)), None, "somebody else's");
    }

    #[test]
    fn each_forwarded_port_is_a_rule_and_without_one_there_is_no_chain_for_them() {
        let to = std::net::SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 2), 7000);
        let forward = |transport| Forward {
            transport,
            port: 2222,
            to,
        };
        let forwards = [forward(Transport::Tcp), forward(Transport::Udp)];
        let count = |forwards: &[Forward], what: &str| {
            let batch = Batch::replace(&Bridge::default(), forwards, 1);
            batch.frames.iter().filter(|about| **about == what).count()
        };
        assert_eq!(count(&forwards, "a forwarded port"), 2);
        assert_eq!(count(&[], "the chain of forwarded ports"), 0);
        let more = count(&forwards, "a forward rule") - count(&[], "a forward rule");
        assert_eq!(more, 1, "what is forwarded is let through");
    }

    #[test]
    fn without_nat_there_is_no_nat_chain() {
        let bridge = Bridge {
            nat: false,
            ..Bridge::default()
        };
        let batch = Batch::replace(&bridge, &[], 1);
        assert!(!batch.frames.contains(&"the NAT chain"));
    }
}
