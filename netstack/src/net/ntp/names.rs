//! Time servers by name: which addresses the names have, and which of these are asked for the time.
//! A state machine: answers, failures and the time go in; questions, addresses and the next deadline
//! come out.
//!
//! What a name's addresses were stays good for as long as one of them gives the time: pools say
//! something else each time they are asked, and servers want to be kept. Only when all of a name's
//! addresses fail is it looked up again, and while that brings nothing, those of before are asked on.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    names::dns::stub::{self, Family, Reply},
    net::clock::Now,
};

/// All names of time servers.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Vec<Name>,
    connected: bool,
}

/// One name.
#[derive(Debug)]
struct Name {
    text: String,
    addresses: Vec<Found>,
    lookup: Lookup,
    /// Lookups in a row that brought nothing.
    failures: u32,
    /// When it was last looked up.
    looked: Now,
}

/// An address that a name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    ip: IpAddr,
    /// It gives no time.
    is_bad: bool,
}

#[derive(Debug)]
enum Lookup {
    /// None is needed, or there is no network for it.
    None,
    /// To be begun then.
    Due(Now),
    UnderWay(Question),
}

/// A question that is to be asked, or is open.
#[derive(Debug)]
struct Question {
    family: Family,
    /// Which of the name servers is asked.
    server: usize,
    /// Its number and when it is given up; none before it is sent.
    sent: Option<(u16, Now)>,
    /// What other questions of this lookup brought.
    found: Vec<IpAddr>,
}

/// A question to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) id: u16,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Names {
    /// Which names are wanted, and whether there is a network to ask by. May be said again and
    /// again.
    pub(crate) fn want<'a>(
        &mut self,
        now: Now,
        names: impl Iterator<Item = &'a str>,
        connected: bool,
    ) {
        let mut former = std::mem::take(&mut self.names);
        for text in names.take(NAMES_MAX) {
            if self.names.iter().any(|name| name.text == text) {
                continue;
            }
            let known = former.iter().position(|name| name.text == text);
            let name = known.map(|at| former.swap_remove(at));
            self.names.push(name.unwrap_or_else(|| Name::new(text)));
        }
        let is_new = connected && !self.connected;
        self.connected = connected;
        for name in &mut self.names {
            match name.lookup {
                _ if !connected => name.lookup = Lookup::None,
                // Another network may know it.
                Lookup::Due(_) if is_new => name.lookup = Lookup::Due(now),
                Lookup::None if name.addresses.is_empty() => name.lookup = Lookup::Due(now),
                Lookup::None if is_new && name.is_lost() => name.lookup = Lookup::Due(now),
                Lookup::None | Lookup::Due(_) | Lookup::UnderWay(_) => {}
            }
        }
    }

    /// Hears which addresses give no time; those of a name that has no others are looked up anew.
    pub(crate) fn judge(&mut self, now: Now, is_failing: impl Fn(IpAddr) -> bool) {
        for name in &mut self.names {
            for found in &mut name.addresses {
                found.is_bad |= is_failing(found.ip);
            }
            if matches!(name.lookup, Lookup::None) && name.is_lost() && self.connected {
                name.lookup = Lookup::Due(now.max(name.looked + AGAIN_AFTER));
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Now) {
        for name in &mut self.names {
            match &name.lookup {
                Lookup::Due(at) if *at <= now => name.begin(now),
                Lookup::UnderWay(Question {
                    sent: Some((_, until)),
                    ..
                }) if *until <= now => name.next_server(),
                Lookup::None | Lookup::Due(_) | Lookup::UnderWay(_) => {}
            }
        }
    }

    /// Whether there is a question to send.
    pub(crate) fn is_due(&self) -> bool {
        self.names.iter().any(|name| name.unsent().is_some())
    }

    /// Takes the next question, to one of the name servers in the order of their use; `id` is a
    /// number that nobody can guess, a new one each time.
    pub(crate) fn transmit(
        &mut self,
        now: Now,
        id: u16,
        servers: &[SocketAddr],
    ) -> Option<Outgoing> {
        for name in &mut self.names {
            while let Some(question) = name.unsent() {
                let (family, server) = (question.family, question.server);
                let Some(to) = servers.get(server).copied() else {
                    name.next_family(now, &[]);
                    continue;
                };
                let Some(bytes) = stub::question(id, &name.text, family) else {
                    name.next_family(now, &[]);
                    continue;
                };
                if let Lookup::UnderWay(question) = &mut name.lookup {
                    question.sent = Some((id, now + ANSWER_WITHIN));
                }
                return Some(Outgoing { id, to, bytes });
            }
        }
        None
    }

    /// A message came from the server that the question with this number went to.
    pub(crate) fn receive(&mut self, now: Now, id: u16, message: &[u8]) {
        let Some((name, family)) = self.asked(id) else {
            return;
        };
        match stub::reply(id, &name.text, family, message) {
            Some(Reply::Addresses(addresses)) => name.next_family(now, &addresses),
            Some(Reply::Failed) => name.next_server(),
            // Somebody guesses.
            None => {}
        }
    }

    /// The question with this number did not go out, or came back.
    pub(crate) fn undelivered(&mut self, id: u16) {
        if let Some((name, _)) = self.asked(id) {
            name.next_server();
        }
    }

    /// Whether an answer to the question with this number is waited for.
    pub(crate) fn awaits(&self, id: u16) -> bool {
        self.names.iter().any(|name| name.is_asked(id))
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let all = self.names.iter().filter_map(|name| match &name.lookup {
            Lookup::Due(at) => Some(*at),
            Lookup::UnderWay(Question {
                sent: Some((_, until)),
                ..
            }) => Some(*until),
            Lookup::None | Lookup::UnderWay(_) => None,
        });
        all.min()
    }

    /// The addresses to ask for the time, best first: one of each name, then more of them while
    /// there are too few for a majority. With `v6_first`, those of IPv6 are better.
    pub(crate) fn addresses(&self, v6_first: bool) -> Vec<IpAddr> {
        let each: Vec<Vec<IpAddr>> = self
            .names
            .iter()
            .map(|name| name.addresses(v6_first))
            .collect();
        let mut chosen: Vec<IpAddr> = Vec::new();
        let longest = each.iter().map(Vec::len).max().unwrap_or_default();
        for turn in 0..longest {
            for ip in each.iter().filter_map(|addresses| addresses.get(turn)) {
                if (turn == 0 || chosen.len() < ENOUGH) && !chosen.contains(ip) {
                    chosen.push(*ip);
                }
            }
        }
        chosen
    }

    /// The name that an address was found by.
    pub(crate) fn name_of(&self, ip: IpAddr) -> Option<&str> {
        let has = |name: &&Name| name.addresses.iter().any(|found| found.ip == ip);
        self.names.iter().find(has).map(|name| name.text.as_str())
    }

    /// The names that no address is known of.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &str> {
        let unknown = self.names.iter().filter(|name| name.addresses.is_empty());
        unknown.map(|name| name.text.as_str())
    }

    fn asked(&mut self, id: u16) -> Option<(&mut Name, Family)> {
        let name = self.names.iter_mut().find(|name| name.is_asked(id))?;
        match &name.lookup {
            Lookup::UnderWay(question) => {
                let family = question.family;
                Some((name, family))
            }
            Lookup::None | Lookup::Due(_) => None,
        }
    }
}

impl Name {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            addresses: Vec::new(),
            lookup: Lookup::None,
            failures: 0,
            looked: Now::ZERO,
        }
    }

    /// Whether none of its addresses gives the time.
    fn is_lost(&self) -> bool {
        self.addresses.iter().all(|found| found.is_bad)
    }

    fn unsent(&self) -> Option<&Question> {
        match &self.lookup {
            Lookup::UnderWay(question) if question.sent.is_none() => Some(question),
            Lookup::None | Lookup::Due(_) | Lookup::UnderWay(_) => None,
        }
    }

    fn is_asked(&self, number: u16) -> bool {
        match &self.lookup {
            Lookup::UnderWay(question) => question.sent.is_some_and(|(id, _)| id == number),
            Lookup::None | Lookup::Due(_) => false,
        }
    }

    fn begin(&mut self, now: Now) {
        self.looked = now;
        self.lookup = Lookup::UnderWay(Question {
            family: Family::V4,
            server: 0,
            sent: None,
            found: Vec::new(),
        });
    }

    /// This server does not know.
    fn next_server(&mut self) {
        if let Lookup::UnderWay(question) = &mut self.lookup {
            question.server += 1;
            question.sent = None;
        }
    }

    /// These are all of one family.
    fn next_family(&mut self, now: Now, addresses: &[IpAddr]) {
        let Lookup::UnderWay(question) = &mut self.lookup else {
            return;
        };
        question.found.extend(addresses);
        match question.family {
            Family::V4 => {
                question.family = Family::V6;
                (question.server, question.sent) = (0, None);
            }
            Family::V6 => {
                let found = std::mem::take(&mut question.found);
                self.end(now, &found);
            }
        }
    }

    fn end(&mut self, now: Now, found: &[IpAddr]) {
        self.lookup = Lookup::None;
        if found.is_empty() {
            let pause = FAILED_FIRST * (1 << self.failures.min(FAILED_DOUBLINGS_MAX));
            self.failures = self.failures.saturating_add(1);
            self.lookup = Lookup::Due(now + pause);
            return;
        }
        self.failures = 0;
        let all = found.iter().map(|ip| Found {
            ip: *ip,
            is_bad: false,
        });
        self.addresses = all.collect();
    }

    /// Those that may give the time; if none does, all.
    fn addresses(&self, v6_first: bool) -> Vec<IpAddr> {
        let is_lost = self.is_lost();
        let usable = self
            .addresses
            .iter()
            .filter(|found| is_lost || !found.is_bad);
        let mut usable: Vec<IpAddr> = usable.map(|found| found.ip).collect();
        usable.sort_by_key(|ip| ip.is_ipv6() != v6_first);
        usable
    }
}

/// As many as servers that are asked.
const NAMES_MAX: usize = 8;
/// Of four, one may be wrong and another silent (RFC 5905; RFC 8633, 3.2).
const ENOUGH: usize = 4;
/// A little more than the box's own name server takes to say that nobody answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// After a lookup whose addresses all failed.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// After a lookup that brought nothing: 4 s, then for twice as long each time, up to 17 min.
const FAILED_FIRST: Duration = Duration::from_secs(4);
const FAILED_DOUBLINGS_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::dns::wire;

    /// The last bytes of the addresses that a server says a name has.
    type Knows = fn(&str) -> Vec<u8>;

    /// Name servers that know two names, and the time.
    struct World {
        names: Names,
        now: Now,
        /// By server: what it says of a name; without, it is silent.
        servers: Vec<Option<Knows>>,
        asked: Vec<(usize, String, u16)>,
        ids: u16,
    }

    fn server(n: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, u8::try_from(n).unwrap()], 53))
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([198, 51, 100, last])
    }

    /// Each name of the pool has four addresses, of `0.pool` 1 to 4, of `1.pool` 11 to 14.
    fn knows(name: &str) -> Vec<u8> {
        match name.strip_suffix(".pool") {
            Some(n) => (1..=4).map(|k| n.parse::<u8>().unwrap() * 10 + k).collect(),
            None => Vec::new(),
        }
    }

    fn knows_others(name: &str) -> Vec<u8> {
        knows(name).into_iter().map(|last| last + 100).collect()
    }

    impl World {
        fn new(servers: &[Option<Knows>]) -> Self {
            Self {
                names: Names::default(),
                now: Duration::from_secs(1000),
                servers: servers.to_vec(),
                asked: Vec::new(),
                ids: 0,
            }
        }

        fn want(&mut self, names: &[&str]) {
            self.names.want(self.now, names.iter().copied(), true);
            self.run();
        }

        /// Until nothing is left to do without time passing.
        fn run(&mut self) {
            self.names.tick(self.now);
            let all: Vec<_> = (0..self.servers.len()).map(server).collect();
            self.ids += 1;
            while let Some(sent) = self.names.transmit(self.now, self.ids, &all) {
                let at = all.iter().position(|one| *one == sent.to).unwrap();
                let (question, _) = wire::question(&sent.bytes).unwrap();
                let name = wire::text(&question.name);
                self.asked.push((at, name.clone(), question.kind));
                if let Some(knows) = self.servers[at] {
                    let addresses = match question.kind {
                        wire::A => knows(&name),
                        _ => Vec::new(),
                    };
                    let reply = answer(&sent.bytes, &addresses);
                    assert!(self.names.awaits(sent.id));
                    self.names.receive(self.now, sent.id, &reply);
                }
                self.ids += 1;
            }
            assert!(!self.names.is_due());
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(at) = self.names.deadline().filter(|at| *at <= end) {
                self.now = self.now.max(at);
                self.run();
            }
            self.now = end;
        }

        fn addresses(&self) -> Vec<IpAddr> {
            self.names.addresses(false)
        }
    }

    fn answer(question: &[u8], addresses: &[u8]) -> Vec<u8> {
        let query = wire::Query::parse(question).unwrap();
        let mut reply = query.reply(wire::NO_ERROR);
        for last in addresses {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, *last]);
        }
        wire::set_u16(&mut reply, 6, addresses.len() as u16);
        reply
    }

    #[test]
    fn names_give_one_address_each_and_more_while_they_are_few() {
        let mut world = World::new(&[Some(knows)]);
        world.want(&["0.pool", "1.pool"]);
        assert_eq!(world.addresses(), [ip(1), ip(11), ip(2), ip(12)]);
        assert_eq!(world.names.name_of(ip(12)), Some("1.pool"));
        world.want(&["0.pool", "1.pool", "2.pool", "3.pool", "4.pool"]);
        let each = [ip(1), ip(11), ip(21), ip(31), ip(41)];
        assert_eq!(world.addresses(), each);
        world.want(&["0.pool"]);
        assert_eq!(world.addresses(), [ip(1), ip(2), ip(3), ip(4)]);
        let before = world.asked.len();
        world.pass(Duration::from_secs(86_400));
        assert_eq!(
            world.asked.len(),
            before,
            "what works is not asked for again"
        );
    }

    #[test]
    fn an_address_that_fails_is_replaced_and_a_name_of_which_all_fail_looked_up_again() {
        let mut world = World::new(&[Some(knows)]);
        world.want(&["0.pool", "1.pool"]);
        world.pass(Duration::from_secs(10));
        world.names.judge(world.now, |failing| failing == ip(1));
        assert_eq!(world.addresses(), [ip(2), ip(11), ip(3), ip(12)]);
        let before = world.asked.len();
        world.servers[0] = Some(knows_others);
        let of_first = |failing: IpAddr| (1..=4).any(|last| failing == ip(last));
        world.names.judge(world.now, of_first);
        assert_eq!(world.addresses()[0], ip(1), "better than none");
        world.pass(AGAIN_AFTER);
        world.names.judge(world.now, of_first);
        assert_eq!(world.addresses(), [ip(101), ip(11), ip(102), ip(12)]);
        let again = &world.asked[before..];
        assert!(again.len() == 2 && again.iter().all(|(_, name, _)| name == "0.pool"));
    }

    #[test]
    fn addresses_of_before_are_kept_while_a_lookup_brings_nothing() {
        let mut world = World::new(&[Some(knows)]);
        world.want(&["0.pool"]);
        world.servers[0] = Some(|_| Vec::new());
        world.names.judge(world.now, |_| true);
        world.pass(Duration::from_secs(3600));
        assert_eq!(world.addresses().len(), 4);
        assert!((4..30).contains(&world.asked.len()), "{:?}", world.asked);
    }

    #[test]
    fn the_next_server_is_asked_when_one_is_silent_or_refuses_or_fails() {
        let mut world = World::new(&[None, Some(knows)]);
        world.want(&["0.pool"]);
        assert!(world.addresses().is_empty());
        world.pass(2 * ANSWER_WITHIN);
        assert_eq!(world.addresses().len(), 4);
        let order: Vec<_> = world
            .asked
            .iter()
            .map(|(at, _, kind)| (*at, *kind))
            .collect();
        let (a, aaaa) = (wire::A, wire::AAAA);
        assert_eq!(order, [(0, a), (1, a), (0, aaaa), (1, aaaa)]);

        let mut names = Names::default();
        names.want(world.now, ["0.pool"].into_iter(), true);
        names.tick(world.now);
        let all = [server(0), server(1)];
        let first = names.transmit(world.now, 1, &all).unwrap();
        names.undelivered(first.id);
        let second = names.transmit(world.now, 2, &all).unwrap();
        assert_eq!((first.to, second.to), (all[0], all[1]));
        let query = wire::Query::parse(&second.bytes).unwrap();
        let failed = query.reply(wire::SERVER_FAILURE);
        names.receive(world.now, 2, &failed);
        let third = names.transmit(world.now, 3, &all).unwrap();
        assert_eq!(third.to, all[0], "now for the other family");
        assert!(!names.awaits(1) && !names.awaits(2) && names.awaits(3));
    }

    #[test]
    fn a_name_that_nobody_knows_is_asked_for_ever_more_rarely_and_at_once_on_a_new_network() {
        let mut world = World::new(&[Some(|_| Vec::new())]);
        world.want(&["none.example"]);
        assert_eq!(world.names.unknown().collect::<Vec<_>>(), ["none.example"]);
        world.pass(Duration::from_secs(86_400));
        let lookups = world.asked.len() / 2;
        assert!((80..110).contains(&lookups), "{lookups}");
        world
            .names
            .want(world.now, ["none.example"].into_iter(), false);
        assert_eq!(world.names.deadline(), None);
        let before = world.asked.len();
        world.want(&["none.example"]);
        assert_eq!(world.asked.len(), before + 2);
    }

    #[test]
    fn nothing_is_asked_without_servers_and_what_is_no_name_is_none() {
        let mut world = World::new(&[]);
        world.want(&["0.pool"]);
        assert!(world.asked.is_empty() && world.names.deadline().is_some());
        let mut world = World::new(&[Some(knows)]);
        world.want(&["a..b", "0.pool"]);
        assert_eq!(world.addresses().len(), 4);
        assert_eq!(world.names.unknown().collect::<Vec<_>>(), ["a..b"]);
    }

    #[test]
    fn a_family_may_be_better() {
        let mut name = Name::new("x");
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        name.end(Now::ZERO, &[ip(1), v6]);
        assert_eq!(name.addresses(false), [ip(1), v6]);
        assert_eq!(name.addresses(true), [v6, ip(1)]);
    }
}
