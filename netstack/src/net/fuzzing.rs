//! The network's protocols as a fuzzer plays them: a kernel, servers and neighbours that say
//! anything.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use super::{
    clock::Now,
    config::{Bridge, NetConfig},
    dhcp::message::{Kind, Message, Options},
    dialogue::Dialogue,
    filter::Filter,
    frame::{self, Arp, Mac},
    kernel::Kernel,
    netlink::{Request, frames},
    random::Random,
    reconcile,
    uplink::{Outgoing, Uplink},
};
use crate::fuzzing::steps;

/// The conversation with rtnetlink, from the first dump on. What is made of the kernel's words is
/// compared with what should be, and asked for.
pub fn rtnl(script: &[u8]) {
    let mut now = Duration::from_secs(5);
    let mut dialogue = Dialogue::begin(now);
    let config = NetConfig::default();
    for (what, bytes) in steps(script) {
        now += Duration::from_millis(10);
        match what {
            0 => dialogue.hear(now, bytes),
            // As the kernel says it: numbered as the oldest question that is open.
            1 => {
                let number = dialogue.oldest();
                let kind = u16::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 2]));
                let body = bytes.get(2..).unwrap_or_default();
                dialogue.hear(now, &Request::new(kind, 0, body).numbered(number));
            }
            2 => dialogue.lost(now),
            3 => now = dialogue.deadline().map_or(now, |at| at.max(now)),
            _ => {
                if let Some(kernel) = dialogue.settled() {
                    let changes = reconcile::changes(&config, kernel, &wanted(&config, kernel));
                    assert!(changes.len() <= MOST_CHANGES, "{} changes", changes.len());
                    dialogue.ask(now, &changes);
                }
            }
        }
        while let Some(request) = dialogue.transmit() {
            assert_eq!(frames(&request).count(), 1);
        }
        if dialogue.tick(now).is_err() {
            return;
        }
    }
}

/// The services' packet filter, as the kernel answers.
pub fn filter(script: &[u8]) {
    let mut now = Duration::from_secs(5);
    let mut filter = Filter::new(mio::Token(1));
    for (what, bytes) in steps(script) {
        now += Duration::from_millis(10);
        match what {
            0 => filter.hear(now, bytes),
            1 => filter.begin(now, Some(&Bridge::default())),
            2 => filter.begin(now, None),
            _ => now = filter.deadline().map_or(now, |at| at.max(now)),
        }
        let _ = filter.status();
    }
}

/// A link that gets its addresses by itself, among servers and neighbours of all kinds.
pub fn dhcp(script: &[u8]) {
    let mut now = Duration::from_secs(5);
    let mut uplink = Uplink::new(MAC, Some("otter".into()), Random::new(1));
    let mut asked = None;
    uplink.carrier(now, true);
    for (what, bytes) in steps(script) {
        match what {
            0 => uplink.receive_dhcp(now, bytes),
            // To us, and an answer to what was asked last.
            1..=8 => {
                if let Some(answer) = answer(asked.as_ref(), what, bytes) {
                    uplink.receive_dhcp(now, &answer);
                }
            }
            9 => {
                if let Some(message) = frame::dhcp_payload(bytes) {
                    uplink.receive_dhcp(now, message);
                }
            }
            10 => {
                if let Some(arp) = Arp::parse(bytes) {
                    uplink.receive_arp(now, &arp);
                }
            }
            11 => uplink.carrier(now, bytes.is_empty()),
            12 => {
                let [low, high] = *bytes.first_chunk().unwrap_or(&[0, 1]);
                now += Duration::from_secs(u16::from_le_bytes([low, high]).into());
                uplink.tick(now);
            }
            _ => {
                let next = uplink.deadline().map_or(now, |at| at.max(now));
                now = next.min(now + Duration::from_secs(400 * 86_400));
                uplink.tick(now);
            }
        }
        asked = take(&mut uplink, now).or(asked);
        let due = uplink.deadline().filter(|at| *at <= now);
        assert!(!is_stuck(&mut uplink, now), "it spins at {now:?}: {due:?}");
        let _ = (uplink.wanted(), uplink.needs(), uplink.lease());
    }
}

/// Whether time that does not pass keeps it busy.
fn is_stuck(uplink: &mut Uplink, now: Now) -> bool {
    for _ in 0..100 {
        if uplink.deadline().is_none_or(|at| at > now) {
            return false;
        }
        uplink.tick(now);
        take(uplink, now);
    }
    true
}

/// Takes what is to be sent; the last DHCP message of it.
fn take(uplink: &mut Uplink, now: Now) -> Option<Message> {
    let mut asked = None;
    for round in 0.. {
        assert!(round < 100, "it says more and more at {now:?}");
        match uplink.transmit() {
            Some(Outgoing::Dhcp(transmit)) => {
                asked = Some(Message::parse(&transmit.message).expect("our own message"));
            }
            Some(Outgoing::Arp(arp)) => {
                Arp::parse(&arp.frame()).expect("our own packet");
            }
            None => break,
        }
    }
    asked
}

/// An answer of this kind, with options as they come: code, length, value.
fn answer(asked: Option<&Message>, kind: u8, mut bytes: &[u8]) -> Option<Vec<u8>> {
    let kind = match kind {
        1..=3 => Kind::Offer,
        4..=7 => Kind::Ack,
        _ => Kind::Nak,
    };
    let [a, b, c, d, rest @ ..] = bytes else {
        return None;
    };
    bytes = rest;
    let yours = Ipv4Addr::new(*a, *b, *c, *d);
    let mut options = Options::of(kind);
    while let [code, length, rest @ ..] = bytes {
        let (value, after) = rest.split_at(usize::from(*length).min(rest.len()));
        // A message has its kind once.
        if *code != KIND && *code != 0 && *code != END {
            options = options.with(*code, value);
        }
        bytes = after;
    }
    Some(
        Message {
            reply: true,
            yours,
            options,
            ..asked?.clone()
        }
        .encode(),
    )
}

fn wanted(config: &NetConfig, kernel: &Kernel) -> BTreeMap<u32, reconcile::Wanted> {
    let ours = kernel
        .links
        .values()
        .filter(|link| reconcile::addressing(config, link).is_some());
    ours.map(|link| (link.index, reconcile::Wanted::default()))
        .collect()
}

const MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The option that says what a message is, and the one after which nothing is read.
const KIND: u8 = 53;
const END: u8 = 255;
/// Of one script's words: each costs bytes.
const MOST_CHANGES: usize = 10_000;

#[cfg(test)]
mod tests {
    use crate::fuzzing::play_seeds;

    #[test]
    fn every_seed_is_survived() {
        play_seeds("rtnl", super::rtnl);
        play_seeds("filter", super::filter);
        play_seeds("dhcp", super::dhcp);
    }
}
