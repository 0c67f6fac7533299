//! The network's protocols as a fuzzer plays them: a kernel, servers and neighbours that say
//! anything.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{
    change::Change,
    classless,
    clock::Now,
    config::{Made, NetConfig},
    dhcp::message::{Kind, Message, Options},
    dhcp6,
    dialogue::Dialogue,
    filter::Filter,
    frame::{self, Arp, Mac},
    kernel::Kernel,
    netlink::{Frame, Request, frames},
    nft::Policy,
    ntp::{self, Correction, packet},
    random::Random,
    reconcile,
    router::Announced,
    routing::{Routing, Way},
    status::TimeSource,
    uplink::{Outgoing, Uplink},
};
use crate::fuzzing::steps;

/// The conversation with rtnetlink, from the first dump on. What is made of the kernel's words is
/// compared with what should be, and asked for.
pub fn rtnl(script: &[u8]) {
    let mut now = Duration::from_secs(5);
    let mut dialogue = Dialogue::begin(now);
    let config = declared();
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
                    let changes = changes(&config, kernel);
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
    let mut filter = Filter::<Policy>::new(mio::Token(1));
    for (what, bytes) in steps(script) {
        now += Duration::from_millis(10);
        match what {
            0 => filter.hear(now, bytes),
            1 => filter.begin(now, Policy::of(&NetConfig::default())),
            2 => filter.begin(now, Policy::default()),
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

/// An IPv6 network on which anybody announces routers and answers as a server.
pub fn dhcpv6(script: &[u8]) {
    let mut now = Duration::from_secs(5);
    let mut client = dhcp6::Client::new(MAC, Random::new(1));
    let mut announced = Announced::default();
    let mut asked = None;
    client.want(now, true);
    for (what, bytes) in steps(script) {
        match what {
            0 => client.receive(now, bytes),
            // An answer to what was asked last, with options as they come.
            1 => {
                if let Some(answer) = answer6(asked.as_ref(), bytes) {
                    client.receive(now, &answer);
                }
            }
            // A router's option, as the kernel hands it on, and any other word of the kernel's.
            2 => announce(&mut announced, now, bytes),
            3 => {
                for frame in frames(bytes) {
                    announced.learn(now, &frame);
                }
            }
            4 => client.want(now, bytes.is_empty()),
            5 => announced.forget(LINK),
            6 => {
                let [low, high] = *bytes.first_chunk().unwrap_or(&[0, 1]);
                now += Duration::from_secs(u16::from_le_bytes([low, high]).into());
                client.tick(now);
            }
            _ => {
                now = client.deadline().map_or(now, |at| at.max(now));
                client.tick(now);
            }
        }
        if let Some(question) = client.transmit() {
            assert!(client.is_asking());
            asked = dhcp6::message::Message::parse(&question);
            assert!(asked.is_some(), "our own message");
        }
        client.tick(now);
        assert!(
            client.deadline().is_none_or(|at| at > now),
            "it spins at {now:?}"
        );
        let said = client.information().cloned().unwrap_or_default();
        let servers = announced.servers(now, LINK).count();
        let domains: Vec<&String> = announced.domains(now, LINK).chain(&said.search).collect();
        assert!(servers <= FEW && said.dns.len() <= FEW && said.ntp.len() <= FEW);
        assert!(domains.len() <= 2 * FEW + FEW && domains.iter().all(|name| is_harmless(name)));
    }
}

/// An answer with options as they come: code and length in two bytes each, value.
fn answer6(asked: Option<&dhcp6::message::Message>, options: &[u8]) -> Option<Vec<u8>> {
    use dhcp6::message::{CLIENT_ID, Message, Options, REPLY, SERVER_ID};
    let asked = asked?;
    let named = Options::default()
        .with(CLIENT_ID, asked.options.bytes(CLIENT_ID)?)
        .with(SERVER_ID, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9]);
    let answer = Message {
        kind: REPLY,
        transaction: asked.transaction,
        options: named,
    };
    Some([&answer.encode(), options].concat())
}

/// An option of a router on the link, in the message of the kernel's that tells of it.
fn announce(announced: &mut Announced, now: Now, option: &[u8]) {
    let Ok(length) = u16::try_from(option.len()) else {
        return;
    };
    let mut payload = vec![10, 0];
    payload.extend(length.to_ne_bytes());
    payload.extend(LINK.to_ne_bytes());
    payload.extend([134, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend(option);
    payload.extend(20u16.to_ne_bytes());
    payload.extend(1u16.to_ne_bytes());
    payload.extend(ROUTER6.octets());
    let frame = Frame {
        kind: 68,
        flags: 0,
        sequence: 0,
        payload: &payload,
    };
    announced.learn(now, &frame);
}

fn is_harmless(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 253 && name.chars().all(allowed)
}

/// Time servers of all kinds, networks that come and go, and others who set the clock.
pub fn ntp(script: &[u8]) {
    let mut world = NtpWorld {
        now: Duration::from_secs(5),
        base: 1_795_953_600 * packet::SECOND,
        client: ntp::Client::new(Random::new(1)),
        cookies: Random::new(2),
        open: BTreeMap::new(),
        may_set: true,
        was_answered: false,
    };
    let servers = NTP_SERVERS.map(|server| (server, TimeSource::Dhcp));
    world.client.want(world.now, &servers, true);
    world.settle();
    for (what, bytes) in steps(script).take(NTP_STEPS_MAX) {
        let first = bytes.first().copied().unwrap_or_default();
        let server = NTP_SERVERS[usize::from(first) % NTP_SERVERS.len()];
        match what {
            // Whatever comes from the server's address.
            0 => world.hear(server, bytes.get(1..).unwrap_or_default()),
            // By one who saw the question.
            1..=4 => world.answer(server, bytes),
            5 => world.base = world.base.wrapping_add(number(bytes)),
            6 => {
                let some = usize::from(first) % (servers.len() + 1);
                world.client.want(world.now, &servers[..some], what < first);
                // Who is forgotten may be asked at once when he is named again.
                world
                    .open
                    .retain(|server, _| NTP_SERVERS[..some].contains(server));
            }
            7 => world.client.undelivered(server, "a whim".to_owned()),
            8 => world.may_set = first.is_multiple_of(2),
            9 => {
                let milliseconds = number(bytes).unsigned_abs() % 10_000_000;
                world.now += Duration::from_millis(milliseconds);
            }
            _ => {
                let next = world.client.deadline().unwrap_or(world.now);
                world.now = world.now.max(next);
            }
        }
        world.settle();
    }
    assert!(world.client.status().servers.len() <= NTP_SERVERS.len());
}

/// A clock, and what its client asks.
struct NtpWorld {
    now: Now,
    base: i64,
    client: ntp::Client,
    cookies: Random,
    /// The last question to each server.
    open: BTreeMap<IpAddr, (Now, u64)>,
    may_set: bool,
    was_answered: bool,
}

impl NtpWorld {
    fn hear(&mut self, server: IpAddr, bytes: &[u8]) {
        self.client.receive(self.now, self.base, server, bytes);
    }

    /// An answer with anything in it: flags, stratum, two root times in milliseconds, what a kiss
    /// says, how far the server's clock is ahead, how long it held the question.
    fn answer(&mut self, server: IpAddr, bytes: &[u8]) {
        let (Some((asked, cookie)), [_, flags, stratum, delay, dispersion, a, b, c, d, rest @ ..]) =
            (self.open.get(&server), bytes)
        else {
            return;
        };
        let error = number(rest);
        let held = number(rest.get(8..).unwrap_or_default());
        let received = 1_795_953_600 * packet::SECOND;
        let received = received
            .wrapping_add(error)
            .wrapping_add(asked.as_nanos() as i64);
        let answer = packet::Answer {
            alarm: flags & 1 != 0,
            stratum: *stratum,
            root_delay: i64::from(*delay) * packet::SECOND / 100,
            root_dispersion: i64::from(*dispersion) * packet::SECOND / 100,
            reference: [*a, *b, *c, *d],
            cookie: *cookie,
            received,
            sent: (flags & 2 == 0).then(|| received.wrapping_add(held)),
        };
        self.was_answered = true;
        self.hear(server, &answer.encode());
    }

    /// Does what is due now, which must be an end of it.
    fn settle(&mut self) {
        for _ in 0..100 {
            if let Some(correction) = self.client.tick(self.now, self.base) {
                assert!(
                    self.was_answered,
                    "it believes who did not see its questions"
                );
                let result = match correction {
                    Correction::Step(by) | Correction::Slew { by, .. } if self.may_set => {
                        self.base = self.base.wrapping_add(by);
                        Ok(())
                    }
                    Correction::Step(_) | Correction::Slew { .. } => Err("no leave".to_owned()),
                };
                self.client
                    .corrected(self.now, correction, self.base, result);
            }
            let cookie = self.cookies.next();
            if let Some((server, _)) = self.client.transmit(self.now, cookie) {
                assert!(self.client.awaits(server));
                let before = self.open.insert(server, (self.now, cookie));
                let soon = before.is_some_and(|(at, _)| at + NTP_LEAST_PAUSE > self.now);
                assert!(!soon, "{server} is pestered");
            }
            if self.client.deadline().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("it spins at {:?}", self.now);
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

/// With a bridge and a VLAN of the owner's.
fn declared() -> NetConfig {
    let bridge = Made::Bridge {
        ports: vec!["eth1".to_owned()],
    };
    let vlan = Made::Vlan {
        on: "eth0".to_owned(),
        id: 7,
    };
    let made = [("br0".to_owned(), bridge), ("lan7".to_owned(), vlan)];
    NetConfig {
        made: made.into(),
        ..NetConfig::default()
    }
}

fn changes(config: &NetConfig, kernel: &Kernel) -> Vec<Change> {
    let ours = kernel
        .links
        .values()
        .filter(|link| reconcile::addressing(config, link).is_some());
    let wanted: BTreeMap<_, _> = ours
        .map(|link| (link.index, reconcile::Wanted::default()))
        .collect();
    let ways = wanted.keys().map(|link| Way {
        link: *link,
        gateway: Ipv4Addr::new(10, 0, 0, 1),
        addresses: vec![(Ipv4Addr::new(10, 0, 0, 7), 24)],
        trusted: link % 2 == 0,
    });
    let routing = Routing::of(&ways.collect::<Vec<_>>(), &[]);
    let mut changes = reconcile::changes(config, kernel, &wanted, &routing);
    let none = wanted.keys().map(|link| (*link, (0, Vec::new()))).collect();
    changes.extend(classless::changes(config.bridge.as_ref(), kernel, &none));
    changes
}

/// Eight bytes, or as many as there are.
fn number(bytes: &[u8]) -> i64 {
    let mut number = [0; 8];
    let length = bytes.len().min(8);
    number[..length].copy_from_slice(&bytes[..length]);
    i64::from_le_bytes(number)
}

/// More say nothing new, and the longest inputs would take most of a run's time.
const NTP_STEPS_MAX: usize = 256;
/// Between two questions to one server.
const NTP_LEAST_PAUSE: Duration = Duration::from_secs(2);
const NTP_SERVERS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)),
];
const MAC: Mac = [2, 0, 0, 0, 0, 1];
const LINK: u32 = 7;
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Servers of a kind that are kept of one link; of domains, twice as many may be in one list.
const FEW: usize = 4;
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
        play_seeds("dhcpv6", super::dhcpv6);
        play_seeds("ntp", super::ntp);
    }
}
