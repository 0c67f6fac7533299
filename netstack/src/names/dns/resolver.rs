//! A question in, an answer out: at once from what is known, or later from what others say.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    answer::{Age, Answer},
    cache::{self, Cache, Key},
    chance::Chance,
    config::DnsConfig,
    forward::{Action, Client, Forwarder, Origin, Outcome, Place, Refusal, Waiting},
    internal::{self, Asker, Internal},
    status::{DnsStatus, ServerStatus},
    upstream::{ServerId, Upstream, Via},
    wire::{self, Malformed, Query},
};
use crate::net::clock::Now;

/// The name server.
#[derive(Debug)]
pub(in crate::names) struct Resolver {
    config: DnsConfig,
    internal: Internal,
    cache: Cache,
    forwarder: Forwarder,
    replies: VecDeque<(Client, Vec<u8>)>,
    counts: DnsStatus,
}

impl Resolver {
    /// One that knows nobody.
    pub(in crate::names) fn new(chance: Chance) -> Self {
        Self {
            config: DnsConfig::default(),
            internal: Internal::default(),
            cache: Cache::new(LIMITS),
            forwarder: Forwarder::new(chance),
            replies: VecDeque::new(),
            counts: DnsStatus::default(),
        }
    }

    /// What should be. The same again changes nothing.
    pub(in crate::names) fn configure(&mut self, now: Now, config: DnsConfig) {
        if self.config == config {
            return;
        }
        self.internal = Internal::new(&config);
        // Another network may have other names, and what failed may not any more.
        if self.forwarder.configure(now, &config) {
            self.cache.clear();
        }
        self.config = config;
    }

    /// A client asks. True if the answer is in `reply`; else there is none, or it comes later.
    pub(in crate::names) fn query(
        &mut self,
        now: Now,
        client: Client,
        message: &[u8],
        reply: &mut Vec<u8>,
    ) -> bool {
        self.counts.questions += 1;
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(Malformed::Unanswerable) => return false,
            Err(Malformed::Refused(code)) => {
                self.counts.refused += 1;
                *reply = wire::refuse(message, code);
                return true;
            }
        };
        if let Some(refusal) = self.refusal(&client, &query) {
            self.counts.refused += 1;
            *reply = query.reply(refusal);
            return true;
        }
        if query.question.kind == wire::ANY {
            *reply = minimal(&query);
            return true;
        }
        if let Some(answer) = self
            .internal
            .answer(&query, &self.asker(client.address.ip()))
        {
            self.counts.own += 1;
            *reply = answer;
            return true;
        }
        if !query.wants_recursion() {
            self.counts.refused += 1;
            *reply = query.reply(wire::REFUSED);
            return true;
        }
        self.resolve(now, Waiting { client, query }, reply)
    }

    /// A message of somebody who was asked.
    pub(in crate::names) fn receive(&mut self, now: Now, origin: Origin, message: &[u8]) {
        self.forwarder.receive(now, origin, message);
        self.settle(now);
    }

    /// A datagram did not get out, or not to anybody.
    pub(in crate::names) fn unreachable(&mut self, now: Now, id: u16) {
        self.forwarder.unreachable(now, id);
        self.settle(now);
    }

    /// A connection is gone; `was_new` if it had never carried an answer.
    pub(in crate::names) fn broke(&mut self, now: Now, server: ServerId, via: Via, was_new: bool) {
        self.forwarder.broke(now, server, via, was_new);
        self.settle(now);
    }

    /// Does what is due.
    pub(in crate::names) fn tick(&mut self, now: Now) {
        self.forwarder.tick(now);
        self.settle(now);
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(in crate::names) fn deadline(&self) -> Option<Now> {
        self.forwarder.deadline()
    }

    /// What is to be done with sockets.
    pub(in crate::names) fn action(&mut self) -> Option<Action> {
        self.forwarder.action()
    }

    /// An answer for a client who waited.
    pub(in crate::names) fn reply(&mut self) -> Option<(Client, Vec<u8>)> {
        self.replies.pop_front()
    }

    /// A server that is asked.
    pub(in crate::names) fn upstream(&self, server: ServerId) -> Option<&Upstream> {
        self.forwarder.upstream(server)
    }

    /// How it does.
    pub(in crate::names) fn status(&self, now: Now) -> DnsStatus {
        let (kept, bytes) = self.cache.size();
        let servers = self.forwarder.upstreams().map(|upstream| {
            let via = upstream.via(now);
            ServerStatus {
                address: upstream.address(via),
                tls: via == Via::Tls,
                domain: upstream.domain.as_deref().map(wire::text),
                silent_for: upstream
                    .silent_since()
                    .map(|since| now.saturating_sub(since)),
                round_trip: upstream.round_trip(),
                answers: upstream.answers,
                silences: upstream.silences,
                forged: upstream.forged,
            }
        });
        DnsStatus {
            servers: servers.collect(),
            kept: kept as u64,
            kept_bytes: bytes as u64,
            ..self.counts.clone()
        }
    }

    /// How many questions are under way.
    #[cfg(any(test, fuzzing))]
    pub(in crate::names) fn under_way(&self) -> usize {
        self.forwarder.under_way()
    }

    /// Whether an address may ask at all.
    pub(in crate::names) fn serves(&self, address: IpAddr) -> bool {
        let on_bridge = |address: Ipv4Addr| {
            let bridge = self.config.bridge;
            bridge.is_some_and(|bridge| internal::is_within(address, bridge))
        };
        let address = address.to_canonical();
        match address {
            IpAddr::V4(ip) if ip.is_loopback() || on_bridge(ip) => true,
            IpAddr::V6(ip) if ip.is_loopback() => true,
            _ => {
                let mut own = self.config.addresses.iter();
                own.any(|(own, prefix)| {
                    *own == address || self.config.settings.lan && is_near(address, *own, *prefix)
                })
            }
        }
    }

    /// Who is at an address that may ask.
    fn asker(&self, address: IpAddr) -> Asker {
        let address = address.to_canonical();
        let own = self.config.addresses.iter();
        if own.clone().any(|(own, _)| *own == address) {
            return Asker::Inside;
        }
        // Both families of a network that he is in: by the other he may reach the box too, but
        // whether it is on the same link is not told.
        let near = own.filter(|(own, prefix)| is_near(address, *own, *prefix));
        let near: Vec<IpAddr> = near.map(|(own, _)| *own).collect();
        match near.is_empty() {
            true => Asker::Inside,
            false => Asker::Lan(near),
        }
    }

    /// Why a question is not answered.
    fn refusal(&self, client: &Client, query: &Query) -> Option<u16> {
        if !self.serves(client.address.ip()) {
            return Some(wire::REFUSED);
        }
        if query.edns.is_some_and(|edns| edns.version > 0) {
            return Some(wire::BAD_VERSION);
        }
        match query.question.kind {
            _ if query.question.class != wire::INTERNET => Some(wire::REFUSED),
            // Whole zones, also by their changes.
            251 | 252 => Some(wire::REFUSED),
            // What is no record.
            0 | wire::OPT | 249 | 250 | 253 | 254 => Some(wire::NOT_IMPLEMENTED),
            _ => None,
        }
    }

    fn resolve(&mut self, now: Now, waiting: Waiting, reply: &mut Vec<u8>) -> bool {
        let key = Key::of(&waiting.query);
        let limit = limit(&waiting);
        let found = self.cache.find(now, &key);
        let has_stale = found.is_some_and(|found| found.renew);
        if let Some(found) = found.filter(|found| !found.renew) {
            match found.age {
                Age::Fresh(_) => self.counts.from_cache += 1,
                Age::Stale => self.counts.stale += 1,
            }
            found.answer.render(&waiting.query, found.age, limit, reply);
            return true;
        }
        let query = waiting.query.clone();
        let refusal = match self.forwarder.ask(now, &key, waiting, has_stale) {
            Ok(()) => {
                self.counts.forwarded += 1;
                return false;
            }
            Err(refusal) => refusal,
        };
        if let Some(found) = self.cache.find(now, &key) {
            self.counts.stale += 1;
            found.answer.render(&query, found.age, limit, reply);
            return true;
        }
        self.counts.failed += 1;
        *reply = query.reply(match refusal {
            Refusal::TooMany => wire::REFUSED,
            Refusal::Late | Refusal::NoServer | Refusal::Overload => wire::SERVER_FAILURE,
        });
        true
    }

    /// Keeps what came of questions and answers who waited.
    fn settle(&mut self, now: Now) {
        while let Some(outcome) = self.forwarder.outcome() {
            match outcome {
                Outcome::Answered {
                    key,
                    answer,
                    clients,
                } => {
                    self.answer(clients, &answer, Age::Fresh(Now::ZERO));
                    self.cache.put(now, key, answer);
                }
                Outcome::Failed {
                    key,
                    question,
                    clients,
                } => {
                    let failure = Answer::failure(&question);
                    self.cache.put(now, key.clone(), failure.clone());
                    let found = self.cache.find(now, &key);
                    let known = found.map(|found| (found.answer.clone(), found.age));
                    let (answer, age) = known.unwrap_or((failure, Age::Fresh(Now::ZERO)));
                    match answer.is_answer() {
                        true => self.counts.stale += clients.len() as u64,
                        false => self.counts.failed += clients.len() as u64,
                    }
                    self.answer(clients, &answer, age);
                }
                Outcome::Late { key, clients } => {
                    let found = self.cache.find(now, &key);
                    if let Some(answer) = found.map(|found| found.answer.clone()) {
                        self.counts.stale += clients.len() as u64;
                        self.answer(clients, &answer, Age::Stale);
                    }
                }
            }
        }
    }

    fn answer(&mut self, clients: Vec<Waiting>, answer: &Answer, age: Age) {
        for waiting in clients {
            let mut reply = Vec::new();
            answer.render(&waiting.query, age, limit(&waiting), &mut reply);
            self.replies.push_back((waiting.client, reply));
        }
    }
}

/// The longest answer, in bytes.
fn limit(waiting: &Waiting) -> usize {
    match waiting.client.place {
        Place::Datagram(_) => waiting.query.datagram_max(),
        Place::Stream(_) => u16::MAX.into(),
    }
}

/// Whoever wants everything gets something (RFC 8482, 4.2).
fn minimal(query: &Query) -> Vec<u8> {
    let bare = Query {
        edns: None,
        ..query.clone()
    };
    let mut reply = bare.reply(wire::NO_ERROR);
    reply.extend([0xc0, wire::HEADER as u8]);
    reply.extend(wire::HINFO.to_be_bytes());
    reply.extend(wire::INTERNET.to_be_bytes());
    reply.extend(MINIMAL_TTL.to_be_bytes());
    let data = b"\x07RFC8482\0";
    reply.extend((data.len() as u16).to_be_bytes());
    reply.extend_from_slice(data);
    wire::set_u16(&mut reply, 6, 1);
    query.close(&mut reply, wire::NO_ERROR);
    reply
}

/// Whether an address is on a network of ours.
fn is_near(address: IpAddr, own: IpAddr, prefix: u8) -> bool {
    match (address, own) {
        (IpAddr::V4(address), IpAddr::V4(own)) => {
            prefix > 0 && internal::is_within(address, (own, prefix))
        }
        (IpAddr::V6(address), IpAddr::V6(own)) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(prefix.min(128)))
                .unwrap_or(0);
            let network = |ip: Ipv6Addr| u128::from(ip) & mask;
            prefix > 0 && network(address) == network(own)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// What a household asks in a day, several times over.
const LIMITS: cache::Limits = cache::Limits {
    entries: 16_384,
    bytes: 8 << 20,
};
/// In seconds.
const MINIMAL_TTL: u32 = 3_600;
