//! The resolver among clients and servers of all kinds, without sockets or sleeps.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    answer::tests::soa,
    chance::Chance,
    config::{DnsConfig, DnsSettings, NameServer, Privacy},
    forward::{Action, Client, Origin, Place},
    resolver::Resolver,
    status::DnsStatus,
    upstream::{ServerId, Via},
    wire::{self, A, NO_ERROR, NO_SUCH_NAME, Query, SERVER_FAILURE, SOA},
};
use crate::net::{clock::Now, random::Random};

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Good,
    Silent,
    /// Answers after so many milliseconds.
    Slow(u64),
    Fails,
    /// Answers another question, and the right one with a wrong id.
    Lies,
    /// Says that it is too long, unless by a connection.
    Cuts,
    /// Knows no EDNS.
    Old,
    /// Does not say what it was asked as it was asked.
    Lowers,
    /// Half of a message.
    Garbles,
    NoSuchName,
}

/// Clients, the resolver and its servers.
struct World {
    resolver: Resolver,
    now: Now,
    random: Random,
    servers: BTreeMap<SocketAddr, Manner>,
    /// Connections that break in place of opening.
    no_streams: bool,
    /// What goes by TLS is lost.
    swallows_tls: bool,
    /// What is on its way to the resolver.
    under_way: Vec<(Now, Origin, Vec<u8>)>,
    closed: HashSet<u16>,
    sent: Vec<(SocketAddr, Via, Vec<u8>)>,
    answers: Vec<(Now, Client, Vec<u8>)>,
    /// In thousandths.
    loss: u64,
    doubling: u64,
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn server(last: u8) -> SocketAddr {
    (ip(last), 53).into()
}

fn client(last: u8) -> Client {
    Client {
        place: Place::Datagram(0),
        address: (Ipv4Addr::new(10, 77, 0, last), 4000).into(),
    }
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = wire::Query {
        id,
        flags: wire::RECURSION_DESIRED,
        ..super::answer::tests::query(name)
    }
    .reply(0);
    message[2..4].copy_from_slice(&wire::RECURSION_DESIRED.to_be_bytes());
    message
}

fn code(answer: &[u8]) -> u16 {
    wire::u16_at(answer, 2).unwrap() & 15
}

/// What a good server says of a name: an address that is made of it.
fn truth(name: &[u8]) -> [u8; 4] {
    let sum = name.iter().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31)
            .wrapping_add(byte.to_ascii_lowercase().into())
    });
    sum.to_be_bytes()
}

/// The addresses in an answer.
fn addresses(answer: &[u8]) -> Vec<Vec<u8>> {
    let (_, begin) = wire::question(answer).unwrap();
    let all = wire::records(answer, begin).map(Option::unwrap);
    all.filter(|record| record.kind == A)
        .map(|record| answer[record.data].to_vec())
        .collect()
}

impl World {
    fn new(servers: &[(u8, Manner)]) -> Self {
        let named = servers.iter().map(|(last, _)| ip(*last)).collect();
        let mut world = Self {
            resolver: Resolver::new(Chance::new([7; 32])),
            now: Duration::from_secs(1000),
            random: Random::new(1),
            servers: servers.iter().map(|(n, m)| (server(*n), *m)).collect(),
            no_streams: false,
            swallows_tls: false,
            under_way: Vec::new(),
            closed: HashSet::new(),
            sent: Vec::new(),
            answers: Vec::new(),
            loss: 0,
            doubling: 0,
        };
        world.configure(DnsConfig {
            named,
            ..DnsConfig::default()
        });
        world
    }

    fn configure(&mut self, config: DnsConfig) {
        let config = DnsConfig {
            bridge: Some((Ipv4Addr::new(10, 77, 0, 1), 16)),
            services: vec![("photos".to_owned(), Ipv4Addr::new(10, 77, 0, 2))],
            ..config
        };
        self.resolver.configure(self.now, config);
    }

    fn ask(&mut self, client: Client, message: &[u8]) {
        let mut reply = Vec::new();
        if self.resolver.query(self.now, client, message, &mut reply) {
            self.answers.push((self.now, client, reply));
        }
        self.carry();
    }

    /// The answer to a question, and how long it took.
    fn answer(&mut self, name: &str) -> (Vec<u8>, Duration) {
        let (before, began) = (self.answers.len(), self.now);
        self.ask(client(9), &query(77, name));
        while self.answers.len() == before {
            assert!(
                self.step(began + Duration::from_secs(10)),
                "no answer for {name}"
            );
        }
        let (at, _, answer) = self.answers[before].clone();
        (answer, at - began)
    }

    /// Lets the next thing happen, if it happens by then.
    fn step(&mut self, limit: Now) -> bool {
        let next = (0..self.under_way.len()).min_by_key(|n| self.under_way[*n].0);
        let arrival = next.map(|n| self.under_way[n].0);
        let deadline = self.resolver.deadline();
        let Some(at) = arrival.into_iter().chain(deadline).min() else {
            return false;
        };
        if at > limit {
            return false;
        }
        self.now = self.now.max(at);
        match next {
            Some(n) if self.under_way[n].0 <= at => {
                let (_, origin, bytes) = self.under_way.swap_remove(n);
                let is_closed = matches!(origin, Origin::Datagram(id) if self.closed.contains(&id));
                if !is_closed {
                    self.resolver.receive(self.now, origin, &bytes);
                }
            }
            _ => self.resolver.tick(self.now),
        }
        self.carry();
        true
    }

    fn pass(&mut self, time: Duration) {
        let limit = self.now + time;
        while self.step(limit) {}
        self.now = limit;
    }

    fn carry(&mut self) {
        while let Some(action) = self.resolver.action() {
            match action {
                Action::Forget(id) => drop(self.closed.insert(id)),
                Action::Send {
                    id,
                    server,
                    via,
                    bytes,
                } => self.deliver(id, server, via, &bytes),
            }
        }
        while let Some((client, answer)) = self.resolver.reply() {
            self.answers.push((self.now, client, answer));
        }
    }

    fn deliver(&mut self, id: u16, server: ServerId, via: Via, bytes: &[u8]) {
        assert_eq!(wire::u16_at(bytes, 0), Some(id));
        let address = self.resolver.upstream(server).unwrap().address(via);
        self.sent.push((address, via, bytes.to_vec()));
        self.closed.remove(&id);
        if self.no_streams && via != Via::Udp {
            return self.resolver.broke(self.now, server, via, true);
        }
        let place = SocketAddr::new(address.ip(), 53);
        let manner = self.servers.get(&place).copied().unwrap_or(Manner::Silent);
        let origin = match via {
            Via::Udp => Origin::Datagram(id),
            Via::Tcp | Via::Tls => Origin::Stream(server, via),
        };
        if self.swallows_tls && via == Via::Tls {
            return;
        }
        let is_lossy = via == Via::Udp;
        for (delay, answer) in manner.answers(bytes, via) {
            let copies = 1 + u64::from(self.random.below(1000) < self.doubling);
            for _ in 0..copies {
                if is_lossy && self.random.below(1000) < self.loss {
                    continue;
                }
                let jitter = Duration::from_millis(self.random.below(20));
                let at = self.now + delay + jitter;
                self.under_way.push((at, origin, answer.clone()));
            }
        }
    }

    fn asked(&self, last: u8) -> usize {
        let to = |(to, _, _): &&(SocketAddr, Via, Vec<u8>)| to.ip() == ip(last);
        self.sent.iter().filter(to).count()
    }

    fn status(&self) -> DnsStatus {
        self.resolver.status(self.now)
    }
}

impl Manner {
    /// What comes back, and when.
    fn answers(self, message: &[u8], via: Via) -> Vec<(Duration, Vec<u8>)> {
        let query = Query::parse(message).unwrap();
        let good = good(&query);
        let ms = Duration::from_millis;
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut answer = good.clone();
            change(&mut answer);
            answer
        };
        match self {
            Self::Good => vec![(ms(10), good)],
            Self::Slow(after) => vec![(ms(after), good)],
            Self::Silent => vec![],
            Self::Fails => vec![(ms(10), query.reply(SERVER_FAILURE))],
            Self::Lies => vec![
                (ms(5), with(&|answer| answer[13] ^= 1)),
                (ms(5), with(&|answer| answer[0] ^= 1)),
                (ms(5), with(&|answer| answer[2] &= 0x7f)),
            ],
            Self::Cuts if via == Via::Udp => {
                let mut short = query.reply(NO_ERROR);
                short[2] |= 2;
                vec![(ms(10), short)]
            }
            Self::Cuts => vec![(ms(10), good)],
            Self::Old if query.edns.is_some() => {
                vec![(ms(10), wire::refuse(message, wire::FORMAT_ERROR))]
            }
            Self::Old => vec![(ms(10), good)],
            Self::Lowers => {
                vec![(
                    ms(10),
                    with(&|answer| {
                        answer[12..][..query.question.name.len()].make_ascii_lowercase()
                    }),
                )]
            }
            Self::Garbles => vec![(ms(10), good[..good.len() - 3].to_vec())],
            Self::NoSuchName => {
                let bare = Query {
                    edns: None,
                    ..query
                };
                let mut answer = bare.reply(NO_SUCH_NAME);
                answer.extend([0xc0, 12]);
                answer.extend(SOA.to_be_bytes());
                answer.extend([0, 1, 0, 0, 0, 60, 0, 22]);
                answer.extend(soa(60));
                wire::set_u16(&mut answer, 8, 1);
                vec![(ms(10), answer)]
            }
        }
    }
}

fn good(query: &Query) -> Vec<u8> {
    let bare = Query {
        edns: None,
        ..query.clone()
    };
    let mut answer = bare.reply(NO_ERROR);
    answer.extend([0xc0, 12]);
    answer.extend(A.to_be_bytes());
    answer.extend([0, 1, 0, 0, 0, 60, 0, 4]);
    answer.extend(truth(&query.question.name));
    wire::set_u16(&mut answer, 6, 1);
    query.close(&mut answer, NO_ERROR);
    answer
}

fn is_true(answer: &[u8], name: &str) -> bool {
    let name = wire::name(name).unwrap();
    code(answer) == NO_ERROR && addresses(answer) == [truth(&name)]
}

#[test]
fn a_question_is_asked_once_and_then_answered_from_what_is_kept() {
    let mut world = World::new(&[(1, Manner::Good)]);
    for n in 1..=20 {
        world.ask(client(n), &query(n.into(), "example.org"));
    }
    world.pass(Duration::from_secs(1));
    assert_eq!((world.answers.len(), world.sent.len()), (20, 1), "joined");
    for (_, client, answer) in &world.answers {
        let SocketAddr::V4(from) = client.address else {
            panic!("{client:?}")
        };
        assert_eq!(wire::u16_at(answer, 0), Some(from.ip().octets()[3].into()));
        assert!(is_true(answer, "example.org"));
    }
    let (answer, took) = world.answer("EXAMPLE.org");
    assert!(is_true(&answer, "example.org") && took.is_zero());
    assert!(answer[12..].starts_with(b"\x07EXAMPLE"), "his own spelling");
    world.pass(Duration::from_secs(60));
    world.answer("example.org");
    assert_eq!(world.sent.len(), 2, "its time was over");
    let status = world.status();
    assert_eq!(
        (status.from_cache, status.forwarded, status.kept),
        (1, 21, 1)
    );
}

#[test]
fn a_silent_server_costs_a_second_then_nothing_and_is_used_again_when_it_is_back() {
    let mut world = World::new(&[(1, Manner::Silent), (2, Manner::Good)]);
    let (_, took) = world.answer("a.example");
    assert!((1000..1100).contains(&took.as_millis()), "{took:?}");
    world.answer("b.example");
    let (_, took) = world.answer("c.example");
    assert!(took.as_millis() < 100, "{took:?}");
    assert!(world.status().servers[0].silent_for.is_some());
    assert!(world.status().works());
    world.servers.insert(server(1), Manner::Good);
    world.pass(Duration::from_secs(6));
    world.answer("d.example");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.status().servers[0].silent_for, None, "it was probed");
    let before = world.asked(1);
    world.answer("e.example");
    assert_eq!(world.asked(1), before + 1);
}

#[test]
fn a_slow_server_is_heard_although_others_were_asked_beside_it() {
    let mut world = World::new(&[(1, Manner::Slow(2500)), (2, Manner::Silent)]);
    let (answer, took) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
    assert!((2500..2600).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn nobody_answers_within_clients_patience_and_that_is_kept_for_a_moment_only() {
    let mut world = World::new(&[(1, Manner::Silent), (2, Manner::Silent)]);
    let (answer, took) = world.answer("a.example");
    assert_eq!(code(&answer), SERVER_FAILURE);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let before = world.sent.len();
    let (answer, took) = world.answer("a.example");
    assert!(code(&answer) == SERVER_FAILURE && took.is_zero());
    assert_eq!(world.sent.len(), before);
    world.servers.insert(server(1), Manner::Good);
    world.pass(Duration::from_secs(3));
    let (answer, _) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
}

#[test]
fn a_server_that_fails_is_asked_once_and_another_may_know() {
    let mut world = World::new(&[(1, Manner::Fails), (2, Manner::Garbles), (3, Manner::Good)]);
    let (answer, took) = world.answer("a.example");
    assert!(is_true(&answer, "a.example") && took.as_millis() < 200);
    assert_eq!((world.asked(1), world.asked(2), world.asked(3)), (1, 1, 1));
    let mut world = World::new(&[(1, Manner::Fails)]);
    let (answer, _) = world.answer("a.example");
    assert_eq!((code(&answer), world.sent.len()), (SERVER_FAILURE, 1));
    assert!(world.status().servers[0].silent_for.is_none(), "it answers");
}

#[test]
fn what_is_stale_is_better_than_nothing() {
    let mut world = World::new(&[(1, Manner::Good)]);
    world.answer("a.example");
    world.pass(Duration::from_secs(100));
    world.servers.insert(server(1), Manner::Silent);
    let (answer, took) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
    assert!((1800..1900).contains(&took.as_millis()), "{took:?}");
    let (_, took) = world.answer("a.example");
    assert!(took.is_zero(), "who is late already is known");
    world.pass(Duration::from_secs(5));
    let before = world.sent.len();
    let (_, took) = world.answer("a.example");
    assert!(took.is_zero() && world.sent.len() == before, "held");
    assert_eq!(world.status().stale, 3);
    world.pass(Duration::from_secs(40));
    world.servers.insert(server(1), Manner::Fails);
    let (answer, _) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"), "nor is a failure better");
    world.pass(Duration::from_secs(40));
    world.servers.insert(server(1), Manner::Good);
    world.answer("a.example");
    world.pass(Duration::from_secs(1));
    let fresh = world.status().from_cache;
    world.answer("a.example");
    assert_eq!(world.status().from_cache, fresh + 1);
}

#[test]
fn what_is_not_there_is_kept_too() {
    let mut world = World::new(&[(1, Manner::NoSuchName)]);
    for _ in 0..5 {
        assert_eq!(code(&world.answer("a.example").0), NO_SUCH_NAME);
    }
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn lies_are_not_believed_and_a_flood_of_them_is_evaded() {
    let mut world = World::new(&[(1, Manner::Lies), (2, Manner::Good)]);
    let (answer, _) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
    assert_eq!(world.status().servers[0].forged, 3);
    // A stranger guesses ids while the server itself is slow.
    let mut world = World::new(&[(1, Manner::Slow(500))]);
    world.ask(client(9), &query(1, "bank.example"));
    let sent = world.sent[0].2.clone();
    let origin = Origin::Datagram(wire::u16_at(&sent, 0).unwrap());
    let mut forged = good(&Query::parse(&sent).unwrap());
    for guess in 1..100 {
        forged[1] = sent[1] ^ guess;
        world.resolver.receive(world.now, origin, &forged);
        world.carry();
    }
    assert_eq!(world.sent.last().unwrap().1, Via::Tcp);
    assert_eq!(world.sent.len(), 2);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.answers.len(), 1);
}

#[test]
fn ids_and_spelling_are_hard_to_guess() {
    let mut world = World::new(&[(1, Manner::Good)]);
    world.configure(DnsConfig {
        named: vec![ip(1)],
        settings: DnsSettings {
            mix_case: true,
            ..DnsSettings::default()
        },
        ..DnsConfig::default()
    });
    for n in 0..50 {
        world.answer(&format!("some-longer-name-{n}.example"));
    }
    let ids: HashSet<_> = world.sent.iter().map(|(_, _, b)| b[..2].to_vec()).collect();
    assert!(ids.len() > 45);
    let tails: HashSet<_> = world
        .sent
        .iter()
        .map(|(_, _, b)| b[12..28].to_vec())
        .collect();
    assert!(tails.len() > 45);
    // A server that does not give the spelling back is asked again without.
    world.servers.insert(server(1), Manner::Lowers);
    let (answer, _) = world.answer("lower.example");
    assert!(is_true(&answer, "lower.example"));
}

#[test]
fn what_is_too_long_comes_by_a_connection() {
    let mut world = World::new(&[(1, Manner::Cuts)]);
    assert!(is_true(&world.answer("a.example").0, "a.example"));
    let ways: Vec<_> = world.sent.iter().map(|(_, via, _)| *via).collect();
    assert_eq!(ways, [Via::Udp, Via::Tcp]);
    let mut world = World::new(&[(1, Manner::Cuts), (2, Manner::Good)]);
    world.no_streams = true;
    assert!(is_true(&world.answer("a.example").0, "a.example"));
}

#[test]
fn a_server_without_edns_is_asked_without() {
    let mut world = World::new(&[(1, Manner::Old)]);
    assert!(is_true(&world.answer("a.example").0, "a.example"));
    assert!(is_true(&world.answer("b.example").0, "b.example"));
    let edns = world.sent.iter().map(|(_, _, bytes)| bytes[11]);
    assert_eq!(edns.collect::<Vec<_>>(), [1, 0, 0]);
}

fn private(privacy: Privacy) -> DnsConfig {
    let server = NameServer {
        privacy,
        ..NameServer::plain(ip(1))
    };
    DnsConfig {
        settings: DnsSettings {
            servers: vec![server],
            ..DnsSettings::default()
        },
        ..DnsConfig::default()
    }
}

#[test]
fn tls_is_used_where_it_can_be_and_never_left_where_it_must_be() {
    let strict = Privacy::Strict {
        name: "dns.example".to_owned(),
        authority: None,
    };
    for (privacy, falls_back) in [(Privacy::Opportunistic, true), (strict, false)] {
        let mut world = World::new(&[(1, Manner::Good)]);
        world.configure(private(privacy));
        assert!(is_true(&world.answer("a.example").0, "a.example"));
        let (to, via, bytes) = world.sent[0].clone();
        assert_eq!((to.port(), via, bytes.len() % 128), (853, Via::Tls, 0));
        world.no_streams = true;
        let (answer, _) = world.answer("b.example");
        assert_eq!(is_true(&answer, "b.example"), falls_back);
        let open = world.sent.iter().any(|(_, via, _)| *via != Via::Tls);
        assert_eq!(open, falls_back);
    }
}

#[test]
fn a_port_that_swallows_everything_costs_two_seconds_once() {
    let mut world = World::new(&[(1, Manner::Good)]);
    world.configure(private(Privacy::Opportunistic));
    world.swallows_tls = true;
    let (answer, took) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
    assert!((2000..2200).contains(&took.as_millis()), "{took:?}");
    let (_, took) = world.answer("b.example");
    assert!(took.as_millis() < 100, "{took:?}");
}

#[test]
fn a_connection_that_was_closed_while_it_rested_costs_nothing() {
    let mut world = World::new(&[(1, Manner::Silent)]);
    world.configure(private(Privacy::Opportunistic));
    world.ask(client(1), &query(1, "a.example"));
    let server = ServerId(2);
    assert!(world.resolver.upstream(server).is_some());
    world.resolver.broke(world.now, server, Via::Tls, false);
    world.servers.insert(self::server(1), Manner::Good);
    world.carry();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.answers.len(), 1);
    assert!(world.sent.iter().all(|(_, via, _)| *via == Via::Tls));
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn the_longest_domain_decides_who_is_asked() {
    let mut world = World::new(&[(1, Manner::Good), (2, Manner::Good), (3, Manner::Good)]);
    let domain = |name: &str, last| (name.to_owned(), vec![NameServer::plain(ip(last))]);
    world.configure(DnsConfig {
        named: vec![ip(1)],
        settings: DnsSettings {
            domains: [domain("corp.example", 2), domain("Lab.Corp.Example", 3)].into(),
            ..DnsSettings::default()
        },
        ..DnsConfig::default()
    });
    for (name, last) in [
        ("www.example", 1),
        ("notcorp.example", 1),
        ("corp.example", 2),
        ("a.CORP.example", 2),
        ("a.b.lab.corp.example", 3),
    ] {
        world.answer(name);
        assert_eq!(world.sent.last().unwrap().0.ip(), ip(last), "{name}");
    }
}

#[test]
fn own_names_are_answered_with_no_server_at_all_and_others_are_not() {
    let mut world = World::new(&[]);
    let (answer, _) = world.answer("photos.pilot.internal");
    assert_eq!(addresses(&answer), [[10, 77, 0, 2]]);
    assert_eq!(code(&world.answer("example.org").0), SERVER_FAILURE);
    assert!(!world.status().works());
}

#[test]
fn strangers_and_strange_questions_are_refused() {
    let mut world = World::new(&[(1, Manner::Good)]);
    let mut reply = |from: IpAddr, change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = query(5, "example.org");
        change(&mut message);
        let client = Client {
            address: (from, 4000).into(),
            ..client(1)
        };
        let mut reply = Vec::new();
        let answered = world
            .resolver
            .query(world.now, client, &message, &mut reply);
        answered.then(|| (code(&reply), reply.len() <= message.len() + 11))
    };
    let near = Ipv4Addr::new(10, 77, 3, 4).into();
    let kind =
        |kind: u8| move |m: &mut Vec<u8>| *m.last_chunk_mut::<4>().unwrap() = [0, kind, 0, 1];
    let refused = Some((wire::REFUSED, true));
    assert_eq!(reply(ip(200), &|_| {}), refused);
    assert_eq!(reply(near, &|_| {}), None, "asked");
    for zone in [251, 252] {
        assert_eq!(reply(near, &kind(zone)), refused);
    }
    let chaos = |m: &mut Vec<u8>| *m.last_mut().unwrap() = 3;
    assert_eq!(reply(near, &chaos), refused);
    assert_eq!(reply(near, &|m| m[2] &= !1), refused, "a snoop");
    let unknown = Some((wire::NOT_IMPLEMENTED, true));
    assert_eq!(reply(near, &kind(250)), unknown);
    assert_eq!(reply(near, &|m| m[2] |= 5 << 3), unknown);
    assert_eq!(
        reply(near, &|m| m.truncate(20)),
        Some((wire::FORMAT_ERROR, true))
    );
    assert_eq!(reply(near, &|m| m[2] |= 0x80), None, "an answer");
    assert_eq!(
        reply(near, &kind(255)).unwrap().0,
        NO_ERROR,
        "any, RFC 8482"
    );
    let newer = |m: &mut Vec<u8>| {
        wire::append_opt(m, 0, false, &[]);
        let version = m.len() - 5;
        m[version] = 1;
    };
    assert_eq!(reply(near, &newer), Some((wire::BAD_VERSION & 15, true)));
}

#[test]
fn the_lan_is_served_if_it_is_wanted_and_nobody_beyond_it_ever() {
    let mut world = World::new(&[(1, Manner::Good)]);
    let serves = |world: &World, text: &str| world.resolver.serves(text.parse().unwrap());
    let mut config = DnsConfig {
        named: vec![ip(1)],
        addresses: vec![
            ("192.168.1.5".parse().unwrap(), 24),
            ("2001:db8::5".parse().unwrap(), 64),
            ("198.51.100.1".parse().unwrap(), 0),
        ],
        ..DnsConfig::default()
    };
    let near = ["192.168.1.77", "::ffff:192.168.1.77", "2001:db8::77"];
    world.configure(config.clone());
    assert!(near.iter().all(|ip| !serves(&world, ip)));
    assert!(serves(&world, "192.168.1.5"), "the box itself");
    config.settings.lan = true;
    world.configure(config);
    assert!(near.iter().all(|ip| serves(&world, ip)));
    for far in ["192.168.2.77", "203.0.113.7", "2001:db8:1::1"] {
        assert!(!serves(&world, far), "{far}");
    }
}

#[test]
fn a_flood_is_bounded_and_one_clients_flood_keeps_no_other_from_asking() {
    let mut world = World::new(&[(1, Manner::Silent)]);
    for n in 0..1000 {
        world.ask(client(1), &query(n, &format!("n{n}.example")));
    }
    assert_eq!(world.resolver.under_way(), 128);
    assert!(
        world
            .answers
            .iter()
            .all(|(_, _, a)| code(a) == wire::REFUSED)
    );
    for last in 2..=20 {
        for n in 0..128 {
            world.ask(client(last), &query(n, &format!("n{n}.c{last}.example")));
        }
    }
    assert_eq!(world.resolver.under_way(), 512);
    let before = world.sent.len();
    world.pass(Duration::from_secs(5));
    assert!(world.sent.len() <= before + 2 * 512);
    assert_eq!(world.resolver.under_way(), 0);
    assert_eq!(world.answers.len(), 1000 + 19 * 128, "each has an answer");
}

#[test]
fn a_loop_ends() {
    let mut world = World::new(&[(1, Manner::Silent)]);
    world.ask(client(1), &query(1, "loop.example"));
    let mut seen = 0;
    let limit = world.now + Duration::from_secs(30);
    while world.step(limit) {
        // The router asks whom it was asked by.
        while let Some((_, _, bytes)) = world.sent.get(seen).cloned() {
            seen += 1;
            world.ask(client(250), &bytes);
        }
    }
    assert!(world.sent.len() < 10, "{}", world.sent.len());
    assert_eq!(world.resolver.under_way(), 0);
}

#[test]
fn another_network_has_other_servers_and_other_names() {
    let mut world = World::new(&[(1, Manner::Silent)]);
    world.servers.insert(server(2), Manner::Good);
    world.ask(client(1), &query(1, "a.example"));
    world.configure(DnsConfig {
        named: vec![ip(2)],
        ..DnsConfig::default()
    });
    world.carry();
    world.pass(Duration::from_millis(100));
    assert_eq!(world.answers.len(), 1, "what was under way goes on");
    assert_eq!(world.status().kept, 1);
    world.configure(DnsConfig::default());
    assert_eq!(world.status().kept, 0);
}

/// Loss, doubling, reorder and servers of all manners: each question is answered once, within
/// clients' patience, with the truth or with a failure.
#[test]
fn ten_thousand_schedules_end_well() {
    const MANNERS: [Manner; 10] = [
        Manner::Good,
        Manner::Silent,
        Manner::Slow(700),
        Manner::Slow(3000),
        Manner::Fails,
        Manner::Lies,
        Manner::Cuts,
        Manner::Old,
        Manner::Lowers,
        Manner::Garbles,
    ];
    let mut random = Random::new(42);
    let (mut truths, mut failures) = (0, 0);
    for schedule in 0..10_000 {
        let count = 1 + random.below(3) as u8;
        let mut pick = || MANNERS[random.below(10) as usize];
        let servers: Vec<_> = (1..=count).map(|n| (n, pick())).collect();
        let mut world = World::new(&servers);
        world.random = Random::new(schedule);
        (world.loss, world.doubling) = (random.below(500), random.below(300));
        world.no_streams = random.below(4) == 0;
        let privacy = [Privacy::None, Privacy::Opportunistic];
        world.configure(DnsConfig {
            named: servers.iter().map(|(n, _)| ip(*n)).collect(),
            settings: DnsSettings {
                mix_case: random.below(2) == 0,
                encrypt: privacy[random.below(2) as usize] == Privacy::Opportunistic,
                ..DnsSettings::default()
            },
            ..DnsConfig::default()
        });
        let mut asked = Vec::new();
        for n in 0..1 + random.below(6) {
            let name = format!("n{}.example", random.below(3));
            let from = client(1 + random.below(3) as u8);
            asked.push((world.now, from, n as u16, name.clone()));
            world.ask(from, &query(n as u16, &name));
            world.pass(Duration::from_millis(random.below(2000)));
        }
        world.pass(Duration::from_secs(10));
        assert_eq!(world.answers.len(), asked.len(), "{schedule}: {servers:?}");
        for (began, from, id, name) in &asked {
            let is_its = |(_, client, answer): &&(Now, Client, Vec<u8>)| {
                client == from && wire::u16_at(answer, 0) == Some(*id)
            };
            let (at, _, answer) = world.answers.iter().find(is_its).unwrap();
            assert!(*at <= *began + Duration::from_millis(4501), "{schedule}");
            if is_true(answer, name) {
                truths += 1;
            } else {
                assert_eq!(code(answer), SERVER_FAILURE, "{schedule}: {servers:?}");
                failures += 1;
            }
        }
        assert_eq!(
            (world.resolver.under_way(), world.resolver.deadline()),
            (0, None)
        );
    }
    assert!(truths > 10_000 && failures > 1_000, "{truths}, {failures}");
}
