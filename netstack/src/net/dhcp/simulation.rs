//! The client against a simulated server and network, in simulated time.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use super::{
    Client, Transmit,
    message::{self, Kind, Message, Options},
};
use crate::net::{clock::Now, frame::Mac, random::Random};

const MAC: Mac = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const DAY: Duration = Duration::from_secs(86_400);

/// A server with one address, and the network to it.
struct World {
    now: Now,
    client: Client,
    random: Random,
    /// Answers under way by their time of arrival; the number keeps equal times apart.
    arriving: BTreeMap<(Now, u64), Vec<u8>>,
    sent: u64,
    lease_seconds: u32,
    address: Ipv4Addr,
    /// Of 100 messages, so many are lost.
    loss: u64,
    /// Of 100 messages, so many arrive twice.
    twice: u64,
    /// The longest a message is under way.
    delay: Duration,
    alive: bool,
    refuses: bool,
    /// Whether it grants a lease to who looks for servers.
    rapid: bool,
    /// What the client has said, in order.
    heard: Vec<(Now, Kind, Option<Ipv4Addr>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            now: Duration::from_secs(5),
            client: Client::new(MAC, Some("box".into()), Random::new(seed)),
            random: Random::new(seed ^ 0xffff),
            arriving: BTreeMap::new(),
            sent: 0,
            lease_seconds: 86_400,
            address: Ipv4Addr::new(10, 0, 0, 7),
            loss: 0,
            twice: 0,
            delay: Duration::from_millis(5),
            alive: true,
            refuses: false,
            rapid: false,
            heard: Vec::new(),
        };
        world.client.carrier(world.now, true);
        world.carry();
        world
    }

    /// Lets the time pass, event by event. Fails if the client spins.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let budget = 10_000 + span.as_secs();
        for _ in 0..budget {
            let arrival = self.arriving.keys().next().map(|(at, _)| *at);
            let next = arrival.into_iter().chain(self.client.deadline()).min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => {
                    self.now = end;
                    return;
                }
            }
            while let Some((&key, _)) = self.arriving.range(..=(self.now, u64::MAX)).next() {
                let bytes = self.arriving.remove(&key).expect("the key is in the map");
                self.client.receive(self.now, &bytes);
                self.carry();
            }
            self.client.tick(self.now);
            self.carry();
            if let Some(lease) = self.client.lease() {
                assert!(
                    lease.expires.is_none_or(|at| at > self.now),
                    "an expired lease is held"
                );
            }
        }
        panic!("more than {budget} events in {span:?}");
    }

    fn carry(&mut self) {
        while let Some(transmit) = self.client.transmit() {
            let message = Message::parse(&transmit.message).expect("the client's own message");
            let kind = message.kind().expect("the client's own kind");
            self.heard.push((self.now, kind, transmit.server));
            if let Some(answer) = self.answer(&transmit, &message) {
                self.deliver(answer.encode());
            }
        }
    }

    fn answer(&self, transmit: &Transmit, asked: &Message) -> Option<Message> {
        let wanted = asked.options.address(message::REQUESTED_ADDRESS);
        let wanted = wanted.unwrap_or(asked.client);
        let mut rapid = asked.options.bytes(message::RAPID_COMMIT);
        rapid.take_if(|_| !self.rapid);
        let kind = match asked.kind()? {
            Kind::Discover if rapid.is_some() => Kind::Ack,
            Kind::Discover => Kind::Offer,
            Kind::Request if wanted == self.address && !self.refuses => Kind::Ack,
            Kind::Request => Kind::Nak,
            Kind::Offer | Kind::Decline | Kind::Ack | Kind::Nak | Kind::Release | Kind::Inform => {
                return None;
            }
        };
        let reachable = transmit.server.is_none_or(|server| server == SERVER);
        let mut options = Options::of(kind)
            .with(message::SERVER, &SERVER.octets())
            .with(message::SUBNET_MASK, &[255, 255, 255, 0])
            .with(message::ROUTER, &SERVER.octets())
            .with(message::LEASE_TIME, &self.lease_seconds.to_be_bytes());
        if let Some(rapid) = rapid {
            options = options.with(message::RAPID_COMMIT, rapid);
        }
        (self.alive && reachable).then(|| Message {
            reply: true,
            yours: self.address,
            options,
            ..asked.clone()
        })
    }

    /// What another server says, to the question that was asked last.
    fn hear_other(&mut self, kind: Kind, router: Ipv4Addr, rapid: bool) {
        let mut options = Options::of(kind)
            .with(message::SERVER, &OTHER.octets())
            .with(message::SUBNET_MASK, &[255, 255, 255, 0])
            .with(message::ROUTER, &router.octets())
            .with(message::LEASE_TIME, &3600u32.to_be_bytes());
        if rapid {
            options = options.with(message::RAPID_COMMIT, &[]);
        }
        let message = Message {
            reply: true,
            transaction: self.client.transaction,
            seconds: 0,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::new(10, 0, 0, 77),
            mac: MAC,
            options,
        };
        self.client.receive(self.now, &message.encode());
        self.carry();
    }

    fn deliver(&mut self, bytes: Vec<u8>) {
        let copies = 1 + u64::from(self.random.below(100) < self.twice);
        for _ in 0..copies {
            if self.random.below(100) >= self.loss {
                let at = self.now + self.random.between(Duration::ZERO, self.delay);
                self.sent += 1;
                self.arriving.insert((at, self.sent), bytes.clone());
            }
        }
    }

    fn bound(&self) -> bool {
        self.client.confirmed() && self.client.lease().is_some()
    }

    fn count(&self, kind: Kind) -> usize {
        self.heard.iter().filter(|(_, k, _)| *k == kind).count()
    }
}

#[test]
fn a_lease_is_had_at_once() {
    let mut world = World::new(1);
    world.run(Duration::from_secs(1));
    let lease = world.client.lease().expect("a lease");
    assert!(world.bound());
    assert_eq!((lease.address, lease.prefix), (world.address, 24));
    assert_eq!(lease.router, Some(SERVER));
    assert_eq!(
        (world.count(Kind::Discover), world.count(Kind::Request)),
        (1, 1)
    );
}

#[test]
fn a_server_that_commits_at_once_is_asked_once() {
    let mut world = World::new(13);
    world.rapid = true;
    world.arriving.clear();
    world.run(Duration::from_secs(8));
    assert!(world.bound());
    // The first answer, which was an offer, got lost.
    let counts = (world.count(Kind::Discover), world.count(Kind::Request));
    assert_eq!(counts, (2, 0));
    let lease = world.client.lease().expect("a lease");
    let asked_at = world.heard.last().expect("asked").0;
    assert_eq!(lease.expires, Some(asked_at + DAY));
    world.run(7 * DAY);
    assert!(world.bound() && world.count(Kind::Discover) == 2);
}

#[test]
fn a_grant_that_nobody_asked_for_is_none() {
    let mut world = World::new(14);
    world.alive = false;
    world.arriving.clear();
    world.hear_other(Kind::Ack, OTHER, false);
    assert!(!world.bound(), "it does not say that it commits at once");
    world.hear_other(Kind::Ack, OTHER, true);
    assert!(world.bound());
    world.client.decline(world.now);
    world.hear_other(Kind::Ack, OTHER, true);
    assert!(!world.bound(), "it looks for no servers yet");
}

#[test]
fn a_second_server_with_other_settings_is_told_of_as_long_as_its_word_counts() {
    for rapid in [false, true] {
        let mut world = World::new(15);
        world.run(Duration::from_secs(1));
        assert!(world.bound() && world.client.needs_raw_frames());
        let kind = if rapid { Kind::Ack } else { Kind::Offer };
        world.hear_other(kind, SERVER, rapid);
        assert_eq!(world.client.rivals(), None, "it says the same");
        let mut world = World::new(16);
        world.run(Duration::from_secs(1));
        world.hear_other(kind, OTHER, rapid);
        assert_eq!(world.client.lease().and_then(|l| l.server), Some(SERVER));
        let told = world.client.rivals().expect("it says something else");
        assert!(
            told.starts_with(
                "two DHCP servers answer: 10.0.0.1 (gives 10.0.0.7/24, the gateway 10.0.0.1, no \
                 name server) and 10.0.0.2 (gives 10.0.0.77/24, the gateway 10.0.0.2, no name \
                 server)."
            ),
            "{told}"
        );
        world.run(Duration::from_secs(7));
        assert!(!world.client.needs_raw_frames(), "it does not listen on");
        world.run(2 * DAY);
        assert_eq!(world.client.rivals(), Some(told), "it is still bound");
        world.client.carrier(world.now, false);
        assert_eq!(world.client.rivals(), None, "another network, perhaps");
        assert_eq!(world.client.deadline(), world.client.expires());
    }
}

#[test]
fn a_week_is_a_renewal_each_half_day_from_the_server_itself() {
    let mut world = World::new(2);
    world.run(7 * DAY);
    assert!(world.bound());
    assert_eq!(world.count(Kind::Discover), 1);
    let renewals: Vec<_> = world
        .heard
        .iter()
        .filter(|(_, _, to)| *to == Some(SERVER))
        .collect();
    assert!((13..=15).contains(&renewals.len()), "{}", renewals.len());
    assert!(
        renewals
            .windows(2)
            .all(|w| w[1].0 - w[0].0 >= DAY / 2 - Duration::from_secs(1))
    );
}

#[test]
fn a_silent_server_is_asked_again_later_and_later() {
    let mut world = World::new(3);
    world.alive = false;
    world.arriving.clear();
    world.run(Duration::from_secs(600));
    let times: Vec<_> = world.heard.iter().map(|(at, ..)| *at).collect();
    let pauses: Vec<_> = times
        .windows(2)
        .map(|w| (w[1] - w[0]).as_secs_f64())
        .collect();
    for (pause, want) in pauses.iter().zip([4.0, 8.0, 16.0, 32.0, 64.0, 64.0]) {
        assert!((pause - want).abs() <= 1.0, "{pauses:?}");
    }
    world.alive = true;
    world.run(Duration::from_secs(70));
    assert!(world.bound());
}

#[test]
fn a_server_that_dies_is_asked_then_any_then_the_lease_ends() {
    let mut world = World::new(4);
    world.lease_seconds = 8000;
    world.run(Duration::from_secs(10));
    let lease = world.client.lease().expect("a lease").clone();
    let asked = world.heard.len();
    world.alive = false;
    world.run(Duration::from_secs(7900));
    assert!(world.bound());
    let asked = &world.heard[asked..];
    let (late, early): (Vec<_>, Vec<_>) = asked
        .iter()
        .partition(|(at, ..)| Some(*at) >= lease.rebind_at);
    assert!(early.iter().all(|(_, _, to)| *to == Some(SERVER)));
    assert!(late.iter().all(|(_, _, to)| to.is_none()));
    assert!(
        early.len() >= 3 && late.len() >= 3 && asked.len() < 20,
        "{asked:?}"
    );
    world.run(Duration::from_secs(200));
    assert!(world.client.lease().is_none());
    world.alive = true;
    world.run(Duration::from_secs(70));
    assert!(world.bound());
}

#[test]
fn a_refused_lease_is_given_up_at_once_and_another_taken() {
    let mut world = World::new(5);
    world.run(Duration::from_secs(10));
    world.address = Ipv4Addr::new(10, 0, 0, 8);
    world.run(DAY / 2 + Duration::from_secs(1));
    assert_eq!(
        world.client.lease().expect("a lease").address,
        world.address
    );
}

#[test]
fn a_server_that_offers_and_always_refuses_is_asked_ever_more_rarely() {
    let mut world = World::new(6);
    world.refuses = true;
    world.client.carrier(world.now, false);
    world.client.carrier(world.now, true);
    world.carry();
    world.run(Duration::from_secs(3600));
    assert!(!world.bound());
    assert!(
        (30..100).contains(&world.count(Kind::Discover)),
        "{}",
        world.count(Kind::Discover)
    );
    world.refuses = false;
    world.run(Duration::from_secs(70));
    assert!(world.bound());
}

#[test]
fn a_lease_survives_a_pulled_cable_and_is_confirmed_when_it_is_back() {
    let mut world = World::new(7);
    world.run(Duration::from_secs(10));
    world.client.carrier(world.now, false);
    world.run(Duration::from_secs(600));
    assert!(world.client.lease().is_some() && !world.client.confirmed());
    world.client.carrier(world.now, true);
    world.carry();
    world.run(Duration::from_secs(1));
    assert!(world.bound());
    assert_eq!(world.count(Kind::Discover), 1, "asked for what it had");
}

#[test]
fn another_network_without_an_answer_is_looked_over_while_the_old_lease_stands() {
    let mut world = World::new(8);
    world.run(Duration::from_secs(10));
    world.client.carrier(world.now, false);
    world.alive = false;
    world.client.carrier(world.now, true);
    world.run(Duration::from_secs(60));
    assert!(world.client.lease().is_some() && !world.client.confirmed());
    assert!(world.count(Kind::Discover) > 1);
    world.alive = true;
    world.address = Ipv4Addr::new(10, 0, 0, 9);
    world.run(Duration::from_secs(70));
    assert_eq!(
        world.client.lease().expect("a lease").address,
        world.address
    );
}

#[test]
fn after_a_suspension_past_the_end_nothing_old_is_held() {
    let mut world = World::new(9);
    world.run(Duration::from_secs(10));
    world.now += 3 * DAY;
    world.client.tick(world.now);
    assert!(world.client.lease().is_none());
    world.carry();
    world.run(Duration::from_secs(1));
    assert!(world.bound());
}

#[test]
fn a_release_goes_to_the_server_and_leaves_nothing() {
    let mut world = World::new(10);
    world.run(Duration::from_secs(10));
    let release = world.client.release(world.now).expect("a message");
    let message = Message::parse(&release.message).expect("a message");
    assert_eq!(message.kind(), Some(Kind::Release));
    assert_eq!(
        (release.server, message.client),
        (Some(SERVER), world.address)
    );
    assert!(world.client.lease().is_none() && world.client.deadline().is_none());
}

#[test]
fn on_a_thousand_bad_networks_there_is_a_lease_in_the_end() {
    for seed in 0..1000 {
        let mut world = World::new(seed);
        world.loss = world.random.below(70);
        world.twice = world.random.below(50);
        world.delay = Duration::from_millis(world.random.below(6000));
        world.lease_seconds = 300 + world.random.below(7200) as u32;
        world.run(2 * DAY);
        world.loss = 0;
        world.delay = Duration::from_millis(10);
        world.run(Duration::from_secs(7500));
        assert!(world.bound(), "seed {seed}: {:?}", world.client);
    }
}

#[test]
fn hostile_answers_never_panic_nor_spin() {
    let mut random = Random::new(12);
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..100 {
            let kind = [Kind::Offer, Kind::Ack, Kind::Nak][random.below(3) as usize];
            let mut options = Options::of(kind);
            for _ in 0..random.below(12) {
                let value: Vec<u8> = (0..random.below(9)).map(|_| random.next() as u8).collect();
                options = options.with(random.below(128) as u8, &value);
            }
            let message = Message {
                reply: true,
                transaction: world.client.transaction,
                seconds: 0,
                client: Ipv4Addr::UNSPECIFIED,
                yours: Ipv4Addr::from(random.next() as u32),
                mac: MAC,
                options,
            };
            world.client.receive(world.now, &message.encode());
            world.carry();
            let span = Duration::from_secs(random.below(2000));
            world.run(span);
        }
    }
}
