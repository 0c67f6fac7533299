//! Clients, the resolver and its servers, with a clock that tests move.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::super::{
    answer::tests::soa,
    chance::Chance,
    config::DnsConfig,
    forward::{Action, Client, Origin, Place},
    resolver::Resolver,
    status::DnsStatus,
    upstream::{ServerId, Via},
    wire::{self, A, NO_ERROR, NO_SUCH_NAME, Query, SERVER_FAILURE, SOA},
};
use crate::net::{clock::Now, random::Random};

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Manner {
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
pub(super) struct World {
    pub(super) resolver: Resolver,
    pub(super) now: Now,
    pub(super) random: Random,
    pub(super) servers: BTreeMap<SocketAddr, Manner>,
    /// Connections that break in place of opening.
    pub(super) no_streams: bool,
    /// What goes by TLS is lost.
    pub(super) swallows_tls: bool,
    /// What is on its way to the resolver.
    under_way: Vec<(Now, Origin, Vec<u8>)>,
    closed: HashSet<u16>,
    pub(super) sent: Vec<(SocketAddr, Via, Vec<u8>)>,
    pub(super) answers: Vec<(Now, Client, Vec<u8>)>,
    /// In thousandths.
    pub(super) loss: u64,
    pub(super) doubling: u64,
}

pub(super) fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

pub(super) fn server(last: u8) -> SocketAddr {
    (ip(last), 53).into()
}

pub(super) fn client(last: u8) -> Client {
    Client {
        place: Place::Datagram(0),
        address: (Ipv4Addr::new(10, 77, 0, last), 4000).into(),
    }
}

pub(super) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = wire::Query {
        id,
        flags: wire::RECURSION_DESIRED,
        ..super::super::answer::tests::query(name)
    }
    .reply(0);
    message[2..4].copy_from_slice(&wire::RECURSION_DESIRED.to_be_bytes());
    message
}

pub(super) fn code(answer: &[u8]) -> u16 {
    wire::u16_at(answer, 2).unwrap() & 15
}

/// What a good server says of a name: an address that is made of it.
pub(super) fn truth(name: &[u8]) -> [u8; 4] {
    let sum = name.iter().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31)
            .wrapping_add(byte.to_ascii_lowercase().into())
    });
    sum.to_be_bytes()
}

/// The addresses in an answer.
pub(super) fn addresses(answer: &[u8]) -> Vec<Vec<u8>> {
    let (_, begin) = wire::question(answer).unwrap();
    let all = wire::records(answer, begin).map(Option::unwrap);
    all.filter(|record| record.kind == A)
        .map(|record| answer[record.data].to_vec())
        .collect()
}

impl World {
    pub(super) fn new(servers: &[(u8, Manner)]) -> Self {
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

    pub(super) fn configure(&mut self, config: DnsConfig) {
        let config = DnsConfig {
            bridge: Some((Ipv4Addr::new(10, 77, 0, 1), 16)),
            services: vec![("photos".to_owned(), Ipv4Addr::new(10, 77, 0, 2))],
            ..config
        };
        self.resolver.configure(self.now, config);
    }

    pub(super) fn ask(&mut self, client: Client, message: &[u8]) {
        let mut reply = Vec::new();
        if self.resolver.query(self.now, client, message, &mut reply) {
            self.answers.push((self.now, client, reply));
        }
        self.carry();
    }

    /// The answer to a question, and how long it took.
    pub(super) fn answer(&mut self, name: &str) -> (Vec<u8>, Duration) {
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
    pub(super) fn step(&mut self, limit: Now) -> bool {
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

    pub(super) fn pass(&mut self, time: Duration) {
        let limit = self.now + time;
        while self.step(limit) {}
        self.now = limit;
    }

    pub(super) fn carry(&mut self) {
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

    pub(super) fn asked(&self, last: u8) -> usize {
        let to = |(to, _, _): &&(SocketAddr, Via, Vec<u8>)| to.ip() == ip(last);
        self.sent.iter().filter(to).count()
    }

    pub(super) fn status(&self) -> DnsStatus {
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

pub(super) fn good(query: &Query) -> Vec<u8> {
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

pub(super) fn is_true(answer: &[u8], name: &str) -> bool {
    let name = wire::name(name).unwrap();
    code(answer) == NO_ERROR && addresses(answer) == [truth(&name)]
}
