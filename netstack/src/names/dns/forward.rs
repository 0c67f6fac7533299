//! Asking others, as a state machine: questions, messages and the time go in; messages, outcomes
//! and the next deadline come out. It has no socket and no clock.
//!
//! The same question of several clients is asked once. Who does not answer within about a second has
//! company: the next server is asked beside him, and whoever answers first is heard. What arrives is
//! believed only if it comes by the way, and has the id and the question, that went out.

mod attempt;
mod exchange;

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
    config::{DnsConfig, NameServer},
    upstream::{ServerId, Upstream, Via},
    wire::{self, Query, Question},
};
use crate::net::clock::Now;
use attempt::Attempt;

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

/// Questions under way at once: a page of a browser has some dozens.
const FLIGHTS_MAX: usize = 512;
/// Of all of them together: each may be a socket.
const ATTEMPTS_MAX: usize = 2048;
/// Who waits for the same answer.
const CLIENTS_MAX: usize = 64;
/// Of one address.
const OF_ONE_MAX: usize = 128;
/// A single server is asked so often.
const TRIES_MIN: usize = 3;
const TRIES_MAX: usize = 6;
/// Just less than the five seconds that clients commonly wait.
const RESOLVE_FOR: Duration = Duration::from_millis(4500);
/// RFC 8767, 5: the client response timer.
const STALE_AFTER: Duration = Duration::from_millis(1800);
