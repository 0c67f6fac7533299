//! Asking others, as a state machine: questions, messages and the time go in; messages, outcomes
//! and the next deadline come out. It has no socket and no clock.
//!
//! The same question of several clients is asked once. Who does not answer within about a second has
//! company: the next server is asked beside him, and whoever answers first is heard. What arrives is
//! believed only if it comes by the way, and has the id and the question, that went out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use slab::Slab;

use super::{
    answer::Answer,
    cache::Key,
    chance::Chance,
    config::{DnsConfig, NameServer, Privacy},
    upstream::{ServerId, Upstream, Via},
    wire::{self, FORMAT_ERROR, NOT_IMPLEMENTED, Query, Question, RECURSION_DESIRED, RESPONSE},
};
use crate::net::clock::Now;

/// Questions under way and who is asked.
#[derive(Debug)]
pub(super) struct Forwarder {
    chance: Chance,
    upstreams: BTreeMap<ServerId, Upstream>,
    servers_made: u32,
    /// Who is asked about all names.
    servers: Vec<ServerId>,
    /// Who is asked about the names of a domain, the longest first.
    domains: Vec<(Vec<u8>, Vec<ServerId>)>,
    mix_case: bool,
    flights: Slab<Flight>,
    by_key: HashMap<Key, usize>,
    /// Each under the id of its message.
    attempts: HashMap<u16, Attempt>,
    timers: BTreeSet<(Now, Timer)>,
    waiting: HashMap<IpAddr, usize>,
    actions: VecDeque<Action>,
    outcomes: VecDeque<Outcome>,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) place: Place,
    pub(super) address: SocketAddr,
}

/// Where a client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// By the socket with this number.
    Datagram(usize),
    /// By the connection with this number, which none had before.
    Stream(u64),
}

/// A client that waits, and how he asked.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) client: Client,
    pub(super) query: Query,
}

/// Something to be done with sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The datagram with this id is not waited for any more.
    Forget(u16),
    /// To be sent: by a socket of its own, or by the connection to the server.
    Send {
        id: u16,
        server: ServerId,
        via: Via,
        bytes: Vec<u8>,
    },
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered {
        key: Key,
        answer: Answer,
        clients: Vec<Waiting>,
    },
    /// Nobody answered, or nobody knew.
    Failed {
        key: Key,
        question: Question,
        clients: Vec<Waiting>,
    },
    /// It takes so long that whoever waits gets what is stale.
    Late { key: Key, clients: Vec<Waiting> },
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The socket of the datagram with this id.
    Datagram(u16),
    Stream(ServerId, Via),
}

/// Why a question is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is under way, and so late that whoever has something stale should give that.
    Late,
    /// There is nobody to be asked.
    NoServer,
    /// Too much is under way.
    Overload,
    /// This client has too much under way.
    TooMany,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Attempt(u16),
    /// Its end, or when its clients have waited long enough.
    Flight(usize),
}

/// A question under way.
#[derive(Debug)]
struct Flight {
    key: Key,
    query: Query,
    clients: Vec<Waiting>,
    /// Who may still be asked, in turn.
    order: Vec<ServerId>,
    tries: usize,
    open: Vec<u16>,
    ends_at: Now,
    late_at: Option<Now>,
}

/// A message that was sent and may be answered.
#[derive(Debug)]
struct Attempt {
    /// Whose it is; `None` if only its server's health is of interest yet.
    flight: Option<usize>,
    server: ServerId,
    via: Via,
    question: Question,
    is_mixed: bool,
    edns: bool,
    sent_at: Now,
    /// When the next one is tried; `None` once it was.
    until: Option<Now>,
    /// Messages that came instead of its answer.
    forged: u32,
    /// Whether it was sent again over a new connection.
    again: bool,
}

impl Forwarder {
    /// One that knows nobody.
    pub(super) fn new(chance: Chance) -> Self {
        Self {
            chance,
            upstreams: BTreeMap::new(),
            servers_made: 0,
            servers: Vec::new(),
            domains: Vec::new(),
            mix_case: false,
            flights: Slab::new(),
            by_key: HashMap::new(),
            attempts: HashMap::new(),
            timers: BTreeSet::new(),
            waiting: HashMap::new(),
            actions: VecDeque::new(),
            outcomes: VecDeque::new(),
        }
    }

    /// Who is asked from now on. What is known of those who stay is kept, and what is under way
    /// goes on with them. True if anybody came or went.
    pub(super) fn configure(&mut self, now: Now, config: &DnsConfig) -> bool {
        self.mix_case = config.settings.mix_case;
        let before = (self.servers.clone(), self.domains.clone());
        let mut old = std::mem::take(&mut self.upstreams);
        self.servers = self.adopt(&mut old, None, config.servers());
        let domains = config.domains().into_iter().map(|(domain, servers)| {
            let servers = self.adopt(&mut old, Some(&domain), servers);
            (domain, servers)
        });
        let mut domains: Vec<_> = domains.collect();
        domains.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.len()));
        self.domains = domains;
        let changed = before != (self.servers.clone(), self.domains.clone());
        if changed {
            self.leave(now);
        }
        changed
    }

    /// Asks for a client. With `has_stale` whoever waits hears of it when it takes long.
    pub(super) fn ask(
        &mut self,
        now: Now,
        key: &Key,
        waiting: Waiting,
        has_stale: bool,
    ) -> Result<(), Refusal> {
        let from = waiting.client.address.ip();
        let known = self.by_key.get(key).copied();
        if let Some(flight) = known.map(|at| &self.flights[at]) {
            // He repeats himself.
            let asks =
                |one: &Waiting| one.client == waiting.client && one.query.id == waiting.query.id;
            if flight.clients.iter().any(asks) {
                return Ok(());
            }
            if has_stale && flight.late_at.is_none() {
                return Err(Refusal::Late);
            }
            if flight.clients.len() >= CLIENTS_MAX {
                return Err(Refusal::Overload);
            }
        }
        if self
            .waiting
            .get(&from)
            .is_some_and(|count| *count >= OF_ONE_MAX)
        {
            return Err(Refusal::TooMany);
        }
        let at = match known {
            Some(at) => at,
            None => self.begin(now, key, &waiting.query, has_stale)?,
        };
        *self.waiting.entry(from).or_default() += 1;
        self.flights[at].clients.push(waiting);
        Ok(())
    }

    /// A message arrived.
    pub(super) fn receive(&mut self, now: Now, origin: Origin, message: &[u8]) {
        let Some(id) = wire::u16_at(message, 0) else {
            return;
        };
        let expected = match origin {
            Origin::Datagram(id) => Some(id),
            Origin::Stream(server, via) => self
                .attempts
                .get(&id)
                .filter(|attempt| (attempt.server, attempt.via) == (server, via))
                .map(|_| id),
        };
        let Some((expected, attempt)) = expected.and_then(|id| Some((id, self.attempts.get(&id)?)))
        else {
            return;
        };
        match attempt.judge(expected, message) {
            Judgement::Answers => self.heard(now, id, message),
            Judgement::LacksEdns => {
                let server = attempt.server;
                if let Some(upstream) = self.upstreams.get_mut(&server) {
                    upstream.lacks_edns(now);
                }
                self.instead(now, id, None);
            }
            Judgement::Forged => self.forged(now, expected),
        }
    }

    /// The datagram with this id did not get out, or not to anybody.
    pub(super) fn unreachable(&mut self, now: Now, id: u16) {
        if let Some(attempt) = self.attempts.get(&id) {
            let server = attempt.server;
            self.missed(now, server);
            self.give_up(now, id);
        }
    }

    /// The connection to a server is gone. `was_new` if it had never carried an answer.
    pub(super) fn broke(&mut self, now: Now, server: ServerId, via: Via, was_new: bool) {
        let of_it = |(id, attempt): (&u16, &Attempt)| {
            ((attempt.server, attempt.via) == (server, via)).then_some(*id)
        };
        let mut lost: Vec<u16> = self.attempts.iter().filter_map(of_it).collect();
        lost.sort_unstable();
        let mut is_miss = was_new;
        for id in lost {
            let Some(attempt) = self.attempts.get_mut(&id) else {
                continue;
            };
            // Servers close connections that rest, also in the moment that they are used again.
            if !was_new && !std::mem::replace(&mut attempt.again, true) {
                self.resend(id);
                continue;
            }
            let upstream = self.upstreams.get_mut(&server);
            if let Some(upstream) = upstream
                && via == Via::Tls
                && upstream.server.privacy == Privacy::Opportunistic
            {
                upstream.lacks_tls(now);
                is_miss = false;
                self.instead(now, id, Some(Via::Udp));
                continue;
            }
            if std::mem::take(&mut is_miss) {
                self.missed(now, server);
            }
            self.give_up(now, id);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Attempt(id) => self.overdue(now, id),
                Timer::Flight(flight) if self.flights[flight].ends_at <= now => self.fail(flight),
                Timer::Flight(flight) => self.late(flight),
            }
        }
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// What is to be done with sockets.
    pub(super) fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What came of a question.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// A server and what is known of it.
    pub(super) fn upstream(&self, server: ServerId) -> Option<&Upstream> {
        self.upstreams.get(&server)
    }

    /// All servers, in the order of their use.
    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        let of_domains = self.domains.iter().flat_map(|(_, servers)| servers);
        let all = self.servers.iter().chain(of_domains);
        all.filter_map(|id| self.upstreams.get(id))
    }

    /// How many questions are under way.
    #[cfg(any(test, fuzzing))]
    pub(super) fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// Takes over those of before, and makes those that are new.
    fn adopt(
        &mut self,
        old: &mut BTreeMap<ServerId, Upstream>,
        domain: Option<&Vec<u8>>,
        servers: Vec<NameServer>,
    ) -> Vec<ServerId> {
        let adopt = |server: NameServer| {
            let same = |(id, known): (&ServerId, &Upstream)| {
                (known.server == server && known.domain.as_ref() == domain).then_some(*id)
            };
            let (id, upstream) = match old.iter().find_map(same) {
                Some(id) => (id, old.remove(&id)),
                None => {
                    self.servers_made += 1;
                    (ServerId(self.servers_made), None)
                }
            };
            let upstream = upstream.unwrap_or_else(|| Upstream::new(server, domain.cloned()));
            self.upstreams.insert(id, upstream);
            id
        };
        servers.into_iter().map(adopt).collect()
    }

    /// Leaves those who are not to be asked any more.
    fn leave(&mut self, now: Now) {
        let at: Vec<usize> = self.flights.iter().map(|(at, _)| at).collect();
        for at in &at {
            self.flights[*at].order = self.order(self.flights[*at].key.name());
            self.flights[*at].tries = 0;
        }
        let gone = self.attempts.iter();
        let gone = gone.filter(|(_, attempt)| !self.upstreams.contains_key(&attempt.server));
        let gone: Vec<u16> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.give_up(now, id);
        }
    }

    /// Who is asked about a name: those that answer, and then the others.
    fn order(&self, name: &[u8]) -> Vec<ServerId> {
        let of_domain = self
            .domains
            .iter()
            .find(|(domain, _)| wire::ancestry(name).any(|above| above == &**domain));
        let servers = of_domain.map_or(&self.servers, |(_, servers)| servers);
        let mut order = servers.clone();
        order.sort_by_key(|id| !self.upstreams.get(id).is_some_and(Upstream::is_well));
        order
    }

    fn begin(
        &mut self,
        now: Now,
        key: &Key,
        query: &Query,
        has_stale: bool,
    ) -> Result<usize, Refusal> {
        let order = self.order(key.name());
        let first = order.first().ok_or(Refusal::NoServer)?;
        if self.flights.len() >= FLIGHTS_MAX || self.attempts.len() >= ATTEMPTS_MAX {
            return Err(Refusal::Overload);
        }
        let is_well = self.upstreams.get(first).is_some_and(Upstream::is_well);
        let ends_at = now + RESOLVE_FOR;
        let wait = if is_well { STALE_AFTER } else { Duration::ZERO };
        let late_at = has_stale.then_some(now + wait);
        let probed = self.probed(now, &order);
        let at = self.flights.insert(Flight {
            key: key.clone(),
            query: query.clone(),
            clients: Vec::new(),
            order,
            tries: 0,
            open: Vec::new(),
            ends_at,
            late_at,
        });
        self.by_key.insert(key.clone(), at);
        self.timers
            .insert((late_at.unwrap_or(ends_at), Timer::Flight(at)));
        self.advance(now, at);
        if let Some(server) = probed {
            self.launch(now, at, server, None);
        }
        Ok(at)
    }

    /// A silent server that is to be asked beside the one that answers.
    fn probed(&mut self, now: Now, order: &[ServerId]) -> Option<ServerId> {
        let mut others = order.iter().skip(1);
        let is_due = |id: &&ServerId| {
            let upstream = self.upstreams.get_mut(id);
            upstream.is_some_and(|upstream| upstream.take_probe(now))
        };
        others.find(is_due).copied()
    }

    /// Tries the next one. Without one, and nothing open, it has failed.
    fn advance(&mut self, now: Now, at: usize) {
        let flight = &mut self.flights[at];
        let count = flight.order.len();
        let most = (2 * count).clamp(TRIES_MIN, TRIES_MAX);
        if count > 0 && flight.tries < most {
            let server = flight.order[flight.tries % count];
            flight.tries += 1;
            self.launch(now, at, server, None);
        } else if flight.open.is_empty() {
            self.fail(at);
        }
    }

    /// Sends the question to a server, by its usual way or by another.
    fn launch(&mut self, now: Now, at: usize, server: ServerId, via: Option<Via>) {
        let Some(upstream) = self.upstreams.get(&server) else {
            return;
        };
        let via = via.unwrap_or_else(|| upstream.via(now));
        let (edns, patience) = (upstream.has_edns(now), upstream.patience(via));
        let id = loop {
            let id = self.chance.id();
            if !self.attempts.contains_key(&id) {
                break id;
            }
        };
        let flight = &mut self.flights[at];
        let mut question = flight.query.question.clone();
        // Whoever can't give it back is asked in the common way the second time.
        let is_mixed = self.mix_case && via == Via::Udp && flight.tries <= 1;
        question.name.make_ascii_lowercase();
        if is_mixed {
            mix(&mut question.name, &mut self.chance);
        }
        flight.open.push(id);
        let attempt = Attempt {
            flight: Some(at),
            server,
            via,
            question,
            is_mixed,
            edns,
            sent_at: now,
            until: Some(now + patience),
            forged: 0,
            again: false,
        };
        self.timers.insert((now + patience, Timer::Attempt(id)));
        self.attempts.insert(id, attempt);
        self.resend(id);
    }

    fn resend(&mut self, id: u16) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let Some(flight) = attempt.flight.and_then(|at| self.flights.get(at)) else {
            return;
        };
        let bytes = message(id, &flight.query, attempt);
        self.actions.push_back(Action::Send {
            id,
            server: attempt.server,
            via: attempt.via,
            bytes,
        });
    }

    /// An answer that is to be believed.
    fn heard(&mut self, now: Now, id: u16, message: &[u8]) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (server, via, flight) = (attempt.server, attempt.via, attempt.flight);
        let took = attempt.until.map(|_| now.saturating_sub(attempt.sent_at));
        if let Some(upstream) = self.upstreams.get_mut(&server) {
            upstream.heard(took.filter(|_| via == Via::Udp));
        }
        let Some(at) = flight else {
            return self.drop_attempt(id);
        };
        match Answer::read(message) {
            Some(answer) if answer.is_truncated() && via == Via::Udp => {
                self.instead(now, id, Some(Via::Tcp));
            }
            Some(answer) if answer.is_answer() && !answer.is_truncated() => {
                self.drop_attempt(id);
                let flight = self.land(at);
                self.outcomes.push_back(Outcome::Answered {
                    key: flight.key,
                    answer,
                    clients: flight.clients,
                });
            }
            // It can't say, or not so that it makes sense: others may.
            Some(_) | None => {
                self.flights[at].order.retain(|other| *other != server);
                self.flights[at].tries = 0;
                self.give_up(now, id);
            }
        }
    }

    /// Something came to the socket of a datagram that is no answer to it.
    fn forged(&mut self, now: Now, id: u16) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        attempt.forged += 1;
        let is_attack = attempt.forged >= FORGED_MAX && attempt.via == Via::Udp;
        if let Some(upstream) = self.upstreams.get_mut(&attempt.server) {
            upstream.forged += 1;
        }
        // Somebody guesses: over a connection he has more to guess.
        if is_attack {
            self.instead(now, id, Some(Via::Tcp));
        }
    }

    /// Asks the same server again, in another way.
    fn instead(&mut self, now: Now, id: u16, via: Option<Via>) {
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (flight, server) = (attempt.flight, attempt.server);
        self.drop_attempt(id);
        if let Some(at) = flight {
            self.launch(now, at, server, via);
        }
    }

    /// Nothing more is to be expected of an attempt.
    fn give_up(&mut self, now: Now, id: u16) {
        let flight = self.attempts.get(&id).and_then(|attempt| attempt.flight);
        self.drop_attempt(id);
        if let Some(at) = flight {
            self.advance(now, at);
        }
    }

    /// An attempt is not answered in time. It may be yet.
    fn overdue(&mut self, now: Now, id: u16) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        attempt.until = None;
        let (server, flight) = (attempt.server, attempt.flight);
        // Somebody on the way may swallow what is for this port alone.
        let upstream = self.upstreams.get_mut(&server);
        if let Some(upstream) = upstream
            && attempt.via == Via::Tls
            && upstream.server.privacy == Privacy::Opportunistic
        {
            upstream.lacks_tls(now);
            return match flight {
                Some(at) => self.launch(now, at, server, Some(Via::Udp)),
                None => self.drop_attempt(id),
            };
        }
        self.missed(now, server);
        match flight {
            Some(at) => self.advance(now, at),
            None => self.drop_attempt(id),
        }
    }

    fn missed(&mut self, now: Now, server: ServerId) {
        if let Some(upstream) = self.upstreams.get_mut(&server) {
            upstream.missed(now);
        }
    }

    fn drop_attempt(&mut self, id: u16) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        if let Some(until) = attempt.until {
            self.timers.remove(&(until, Timer::Attempt(id)));
        }
        if let Some(flight) = attempt.flight.and_then(|at| self.flights.get_mut(at)) {
            flight.open.retain(|open| *open != id);
        }
        if attempt.via == Via::Udp {
            self.actions.push_back(Action::Forget(id));
        }
    }

    fn late(&mut self, at: usize) {
        let flight = &mut self.flights[at];
        flight.late_at = None;
        self.timers.insert((flight.ends_at, Timer::Flight(at)));
        let clients = std::mem::take(&mut flight.clients);
        let key = flight.key.clone();
        self.release(&clients);
        self.outcomes.push_back(Outcome::Late { key, clients });
    }

    fn fail(&mut self, at: usize) {
        let flight = self.land(at);
        self.outcomes.push_back(Outcome::Failed {
            key: flight.key,
            question: flight.query.question,
            clients: flight.clients,
        });
    }

    /// Ends a flight and all its attempts but those that show whether a silent server is back.
    fn land(&mut self, at: usize) -> Flight {
        let flight = self.flights.remove(at);
        self.by_key.remove(&flight.key);
        let timer = flight.late_at.unwrap_or(flight.ends_at);
        self.timers.remove(&(timer, Timer::Flight(at)));
        self.release(&flight.clients);
        for id in &flight.open {
            let Some(attempt) = self.attempts.get_mut(id) else {
                continue;
            };
            attempt.flight = None;
            let upstream = self.upstreams.get(&attempt.server);
            let is_probe = upstream.is_some_and(|upstream| !upstream.is_well());
            if !is_probe || attempt.until.is_none() {
                self.drop_attempt(*id);
            }
        }
        flight
    }

    fn release(&mut self, clients: &[Waiting]) {
        for waiting in clients {
            let from = waiting.client.address.ip();
            if let Some(count) = self.waiting.get_mut(&from) {
                *count -= 1;
                if *count == 0 {
                    self.waiting.remove(&from);
                }
            }
        }
    }
}

/// What a message is to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Answers,
    Forged,
    LacksEdns,
}

impl Attempt {
    fn judge(&self, id: u16, message: &[u8]) -> Judgement {
        let flags = wire::u16_at(message, 2).unwrap_or_default();
        if wire::u16_at(message, 0) != Some(id) || flags & RESPONSE == 0 {
            return Judgement::Forged;
        }
        let is_refusal = [FORMAT_ERROR, NOT_IMPLEMENTED].contains(&(flags & 15)) && self.edns;
        match wire::question(message) {
            // Servers of before 1999 give nothing back.
            None if is_refusal && message.len() == wire::HEADER => Judgement::LacksEdns,
            None => Judgement::Forged,
            Some((question, _)) if !self.is_asked(&question) => Judgement::Forged,
            Some(_) if is_refusal => Judgement::LacksEdns,
            Some(_) => Judgement::Answers,
        }
    }

    fn is_asked(&self, question: &Question) -> bool {
        let is_name = match self.is_mixed {
            true => question.name == self.question.name,
            false => question.name.eq_ignore_ascii_case(&self.question.name),
        };
        is_name && (question.kind, question.class) == (self.question.kind, self.question.class)
    }
}

fn message(id: u16, query: &Query, attempt: &Attempt) -> Vec<u8> {
    let mut message = Vec::with_capacity(wire::HEADER + attempt.question.name.len() + 15);
    let flags = query.echoed() | RECURSION_DESIRED;
    for field in [id, flags, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    attempt.question.write(&mut message);
    if attempt.edns {
        let mut options = Vec::new();
        if attempt.via == Via::Tls {
            // All are as long as others, so that their length tells nothing (RFC 8467, 4.1).
            let used = message.len() + OPT_LENGTH + PADDING_HEADER;
            let padding = used.next_multiple_of(PADDED_TO) - used;
            options.extend(PADDING.to_be_bytes());
            options.extend((padding as u16).to_be_bytes());
            options.resize(PADDING_HEADER + padding, 0);
        }
        wire::append_opt(&mut message, 0, query.is_signed(), &options);
    }
    message
}

/// Changes the case of letters by chance.
fn mix(name: &mut [u8], chance: &mut Chance) {
    let (mut bits, mut left) = (0, 0);
    for byte in name.iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
        if left == 0 {
            (bits, left) = (chance.byte(), 8);
        }
        if bits & 1 == 1 {
            *byte ^= 0x20;
        }
        (bits, left) = (bits >> 1, left - 1);
    }
}

/// Questions under way at once: a page of a browser has some dozens.
const FLIGHTS_MAX: usize = 512;
/// Of all of them together: each may be a socket.
const ATTEMPTS_MAX: usize = 2048;
/// Who waits for the same answer.
const CLIENTS_MAX: usize = 64;
/// Of one address.
const OF_ONE_MAX: usize = 128;
/// Messages that are no answer, after which an attempt goes by a connection.
const FORGED_MAX: u32 = 8;
/// A single server is asked so often.
const TRIES_MIN: usize = 3;
const TRIES_MAX: usize = 6;
/// Just less than the five seconds that clients commonly wait.
const RESOLVE_FOR: Duration = Duration::from_millis(4500);
/// RFC 8767, 5: the client response timer.
const STALE_AFTER: Duration = Duration::from_millis(1800);

/// RFC 8467 and RFC 7830.
const PADDED_TO: usize = 128;
const PADDING: u16 = 12;
const PADDING_HEADER: usize = 4;
/// An EDNS record without options, in bytes.
const OPT_LENGTH: usize = 11;
