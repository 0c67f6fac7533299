//! The client against simulated servers, networks and clocks, in simulated time.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    Client, Correction,
    packet::{Answer, SECOND},
    peer::nanoseconds,
};
use crate::net::{
    clock::Now,
    random::Random,
    status::{TimeSource, TimeStatus},
};

/// 2026-11-29 12:00.
const NOON: i64 = 1_795_953_600 * SECOND;
const TEN_YEARS: i64 = 3652 * 86_400 * SECOND;
const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: i64 = SECOND / 1000;

/// The box's clock, some servers, and the network to them.
struct World {
    now: Now,
    client: Client,
    random: Random,
    servers: Vec<Server>,
    connected: bool,
    /// The box's clock less its time since boot, in nanoseconds.
    base: i64,
    /// How much too fast the box's crystal is, in parts of a million.
    drift: i64,
    /// Answers under way by their time of arrival; the number keeps equal times apart.
    arriving: BTreeMap<(Now, u64), (IpAddr, Vec<u8>)>,
    sent: u64,
    /// Of 100 packets, so many are lost.
    loss: u64,
    /// Of 100 answers, so many come twice.
    twice: u64,
    /// Of 100 questions, so many are answered by somebody else first, who did not see them.
    spoofed: u64,
    /// The longest a packet is under way, each way.
    delay: Duration,
    /// Whether the clock can be set at all.
    may_set: bool,
    steps: Vec<i64>,
    /// Questions to each server, with their times.
    asked: Vec<(Now, IpAddr)>,
}

struct Server {
    address: IpAddr,
    /// Its clock less the right time, in nanoseconds.
    error: i64,
    alive: bool,
    /// What it says in every answer, but for the times.
    says: Answer,
}

impl Server {
    fn new(number: u8) -> Self {
        Self {
            address: IpAddr::from([10, 0, 0, number]),
            error: 0,
            alive: true,
            says: Answer {
                alarm: false,
                stratum: 2,
                root_delay: 10 * MILLISECOND,
                root_dispersion: 5 * MILLISECOND,
                reference: [10, 0, 0, 99],
                cookie: 0,
                received: 0,
                sent: None,
            },
        }
    }

    fn wrong_by(self, error: i64) -> Self {
        Self { error, ..self }
    }

    fn kissing(mut self, code: &[u8; 4]) -> Self {
        self.says.stratum = 0;
        self.says.alarm = true;
        self.says.reference = *code;
        self
    }

    fn dead(self) -> Self {
        Self {
            alive: false,
            ..self
        }
    }
}

impl World {
    /// A box whose clock is off by `error`, on a network with these servers.
    fn new(seed: u64, error: i64, servers: Vec<Server>) -> Self {
        let now = Duration::from_secs(5);
        Self {
            now,
            client: Client::new(Random::new(seed)),
            random: Random::new(seed ^ 0xffff),
            servers,
            connected: true,
            base: NOON + error - nanoseconds(now),
            drift: 20,
            arriving: BTreeMap::new(),
            sent: 0,
            loss: 0,
            twice: 0,
            spoofed: 0,
            delay: Duration::from_millis(20),
            may_set: true,
            steps: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn tell(&mut self) {
        let servers: Vec<_> = self
            .servers
            .iter()
            .map(|server| (server.address, TimeSource::Dhcp))
            .collect();
        self.client.want(self.now, &servers, self.connected);
        self.carry();
    }

    /// The right time; the box's own ticks are a little too short.
    fn truth(&self) -> i64 {
        let ticked = nanoseconds(self.now);
        NOON + ticked - ticked / 1_000_000 * self.drift - 5 * SECOND
    }

    /// How far the box's clock is off.
    fn error(&self) -> i64 {
        self.base + nanoseconds(self.now) - self.truth()
    }

    /// Lets the time pass, event by event. Fails if the client spins.
    fn run(&mut self, span: Duration) {
        self.tell();
        let end = self.now + span;
        let budget = 10_000 + span.as_secs();
        for _ in 0..budget {
            let arrival = self.arriving.keys().next().map(|(at, _)| *at);
            let next = arrival.into_iter().chain(self.client.deadline()).min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => {
                    self.now = end;
                    self.carry();
                    return;
                }
            }
            while let Some((&key, _)) = self.arriving.range(..=(self.now, u64::MAX)).next() {
                let (server, bytes) = self.arriving.remove(&key).expect("the key is in the map");
                self.client.receive(self.now, self.base, server, &bytes);
            }
            self.carry();
        }
        panic!("more than {budget} events in {span:?}");
    }

    fn carry(&mut self) {
        if let Some(correction) = self.client.tick(self.now, self.base) {
            let (Correction::Step(by) | Correction::Slew { by, .. }) = correction;
            let mut result = Err("no leave".to_owned());
            if self.may_set {
                self.base += by;
                result = Ok(());
            }
            if matches!(correction, Correction::Step(_)) && self.may_set {
                self.steps.push(by);
            }
            self.client
                .corrected(self.now, correction, self.base, result);
        }
        while let Some((server, question)) = self.client.transmit(self.now, self.random.next()) {
            assert!(self.client.awaits(server));
            self.asked.push((self.now, server));
            self.answer(server, &question);
        }
    }

    fn answer(&mut self, address: IpAddr, question: &[u8]) {
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&question[40..]);
        let cookie = u64::from_be_bytes(cookie);
        if self.random.below(100) < self.spoofed {
            let lie = Answer {
                cookie: self.random.next(),
                received: self.truth() + TEN_YEARS,
                sent: Some(self.truth() + TEN_YEARS),
                ..Server::new(1).says
            };
            self.put(Duration::ZERO, address, lie);
        }
        let there = self.random.between(Duration::ZERO, self.delay);
        let back = self.random.between(Duration::ZERO, self.delay);
        let time = self.truth() + nanoseconds(there);
        let server = self.servers.iter().find(|server| server.address == address);
        let server = server.expect("only servers are asked");
        if !server.alive {
            return;
        }
        let answer = Answer {
            cookie,
            received: time + server.error,
            sent: Some(time + server.error),
            ..server.says
        };
        let copies = 1 + u64::from(self.random.below(100) < self.twice);
        for copy in 0..copies {
            if self.random.below(100) >= self.loss {
                self.put(there + back + Duration::from_millis(copy), address, answer);
            }
        }
    }

    fn put(&mut self, after: Duration, server: IpAddr, answer: Answer) {
        self.sent += 1;
        let bytes = answer.encode().to_vec();
        self.arriving
            .insert((self.now + after, self.sent), (server, bytes));
    }

    fn status(&self) -> TimeStatus {
        self.client.status()
    }

    fn verdict(&self, index: usize) -> String {
        self.status().servers[index].verdict.clone()
    }

    fn is_right(&self) -> bool {
        self.status().synchronised && self.error().abs() < 60 * MILLISECOND
    }
}

fn three() -> Vec<Server> {
    (1..=3).map(Server::new).collect()
}

#[test]
fn one_server_that_was_named_is_believed_within_a_second() {
    for error in [-TEN_YEARS, TEN_YEARS, 300 * MILLISECOND] {
        let mut world = World::new(1, error, vec![Server::new(1)]);
        world.run(Duration::from_secs(1));
        assert!(world.is_right(), "{error}: {:?}", world.status());
        assert_eq!(world.steps.len(), 1);
        world.run(10 * HOUR);
        assert_eq!(world.steps.len(), 1, "the rest is done bit by bit");
        assert!(world.is_right(), "{}", world.error());
        assert_eq!(world.verdict(0), "It is right, and followed.");
    }
}

#[test]
fn a_clock_that_is_nearly_right_is_never_stepped() {
    let mut world = World::new(2, 100 * MILLISECOND, three());
    world.run(10 * HOUR);
    assert!(world.is_right() && world.steps.is_empty());
    assert_eq!(world.status().last_step, None);
}

#[test]
fn one_false_ticker_of_three_is_found_out_even_if_it_answers_first() {
    for wrong in [-TEN_YEARS, SECOND, 200 * MILLISECOND, TEN_YEARS] {
        let mut servers = three();
        servers[1] = Server::new(2).wrong_by(wrong);
        let mut world = World::new(3, TEN_YEARS / 7, servers);
        world.run(Duration::from_secs(20));
        assert!(
            world.is_right(),
            "{wrong}: {} {:?}",
            world.error(),
            world.status()
        );
        let status = world.status();
        let agrees: Vec<bool> = status.servers.iter().map(|server| server.agrees).collect();
        assert_eq!(agrees, [true, false, true]);
        assert!(
            world.verdict(1).ends_with("so it is not believed."),
            "{}",
            world.verdict(1)
        );
        // A lie is not far off for long: rounds go on.
        world.run(5 * HOUR);
        assert!(world.is_right());
    }
    let mut world = World::new(3, 0, three());
    world.servers[2].error = TEN_YEARS + SECOND;
    world.run(Duration::from_secs(20));
    let said = "It is 3652 days ahead of what most servers say, so it is not believed.";
    assert_eq!(world.verdict(2), said);
}

#[test]
fn two_that_contradict_one_another_are_both_not_believed() {
    let servers = vec![Server::new(1), Server::new(2).wrong_by(TEN_YEARS)];
    let mut world = World::new(4, -3 * SECOND, servers);
    world.run(HOUR);
    assert!(!world.status().synchronised && world.steps.is_empty());
    assert!(world.verdict(0).starts_with("Not enough others agree"));
    world.servers.push(Server::new(3));
    world.run(Duration::from_secs(20));
    assert!(world.is_right(), "{:?}", world.status());
}

#[test]
fn the_first_to_answer_moves_nothing_before_most_have() {
    let mut servers = three();
    servers[0].error = TEN_YEARS;
    servers[1].alive = false;
    servers[2].alive = false;
    let mut world = World::new(5, 0, servers);
    world.run(Duration::from_secs(4));
    assert!(world.steps.is_empty(), "{:?}", world.steps);
    world.servers[1].alive = true;
    world.servers[2].alive = true;
    world.run(Duration::from_secs(20));
    assert!(world.is_right() && world.steps.is_empty());
}

#[test]
fn dead_servers_are_gone_without() {
    let servers = vec![Server::new(1).dead(), Server::new(2), Server::new(3).dead()];
    let mut world = World::new(6, SECOND * 90, servers);
    world.run(Duration::from_secs(30));
    assert!(world.is_right(), "{:?}", world.status());
    assert_eq!(world.verdict(0), "It does not answer.");
}

#[test]
fn without_any_answer_it_asks_on_and_is_right_soon_after_there_is_one() {
    let mut world = World::new(7, SECOND * 90, three());
    for server in &mut world.servers {
        server.alive = false;
    }
    world.run(10 * HOUR);
    assert!(!world.status().synchronised);
    // Each server, once a minute or so.
    assert!(
        (1500..2500).contains(&world.asked.len()),
        "{}",
        world.asked.len()
    );
    for server in &mut world.servers {
        server.alive = true;
    }
    world.run(Duration::from_secs(75));
    assert!(world.is_right(), "{:?}", world.status());
}

#[test]
fn questions_become_rare_while_the_clock_keeps_right() {
    let mut world = World::new(8, 0, vec![Server::new(1)]);
    world.drift = 2;
    world.run(6 * HOUR);
    let before = world.asked.len();
    world.run(24 * HOUR);
    let asked = world.asked.len() - before;
    assert!((70..110).contains(&asked), "{asked} in a day");
    for pair in world.asked.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= Duration::from_secs(2), "{pair:?}");
    }
}

#[test]
fn who_denies_is_asked_no_more_until_the_network_is_another() {
    let mut world = World::new(9, 0, vec![Server::new(1).kissing(b"DENY"), Server::new(2)]);
    world.run(24 * HOUR);
    let denied = IpAddr::from([10, 0, 0, 1]);
    let asked = |world: &World| world.asked.iter().filter(|(_, to)| *to == denied).count();
    assert_eq!(asked(&world), 1);
    assert!(world.verdict(0).starts_with("It refuses"));
    assert!(world.is_right());
    world.connected = false;
    world.tell();
    world.connected = true;
    world.run(HOUR);
    assert_eq!(asked(&world), 2);
}

#[test]
fn who_wants_fewer_questions_gets_ever_fewer() {
    let mut world = World::new(10, 0, vec![Server::new(1).kissing(b"RATE")]);
    world.run(48 * HOUR);
    let times: Vec<Now> = world.asked.iter().map(|(at, _)| *at).collect();
    assert!((6..12).contains(&times.len()), "{times:?}");
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.windows(2).all(|pair| pair[1] >= pair[0]),
        "{pauses:?}"
    );
    assert!(world.verdict(0).contains("less often"));
    world.servers[0] = Server::new(1);
    world.run(48 * HOUR);
    assert!(world.is_right());
}

#[test]
fn what_can_t_be_an_answer_is_none_to_go_by() {
    type Change = fn(&mut Answer);
    let changes: [(Change, &str); 4] = [
        (|says| says.alarm = true, "not set"),
        (|says| says.stratum = 16, "not set"),
        (|says| says.root_dispersion = 2 * SECOND, "too far"),
        (|says| says.root_delay = 4 * SECOND, "too far"),
    ];
    for (change, word) in changes {
        let mut world = World::new(11, SECOND, vec![Server::new(1)]);
        change(&mut world.servers[0].says);
        world.run(HOUR);
        assert!(!world.status().synchronised && world.steps.is_empty());
        assert!(world.verdict(0).contains(word), "{}", world.verdict(0));
    }
}

#[test]
fn a_clock_that_somebody_sets_is_put_right_at_once() {
    let mut world = World::new(12, 0, three());
    world.run(5 * HOUR);
    for by in [TEN_YEARS, -TEN_YEARS, 10 * SECOND] {
        let asked = world.asked.len();
        world.base += by;
        world.carry();
        assert!(world.is_right(), "{}", world.error());
        assert_eq!(world.asked.len(), asked, "nobody had to be asked");
        let step = world.status().last_step.expect("a step");
        assert!((step.by + by / 1000).abs() < 100_000);
        world.run(HOUR);
        assert!(world.is_right());
    }
}

#[test]
fn a_clock_set_while_nobody_knows_better_is_left_as_it_is() {
    let mut world = World::new(13, 0, vec![Server::new(1).dead()]);
    world.run(HOUR);
    world.base += TEN_YEARS;
    world.run(HOUR);
    assert!(world.steps.is_empty() && !world.status().synchronised);
    world.servers[0].alive = true;
    world.run(Duration::from_secs(75));
    assert!(world.is_right());
}

#[test]
fn servers_that_jump_for_one_round_move_nothing_and_for_good_do() {
    let mut world = World::new(14, 0, vec![Server::new(1)]);
    world.run(2 * HOUR);
    world.servers[0].error = 5 * SECOND;
    let asked = world.asked.len();
    while world.asked.len() == asked {
        world.run(SECONDS_10);
    }
    // The round that makes sure has begun; what was seen is gone again.
    world.servers[0].error = 0;
    world.run(Duration::from_secs(40));
    assert!(world.steps.is_empty() || world.is_right());
    world.servers[0].error = 3600 * SECOND;
    world.run(HOUR);
    assert!(
        (world.error() - 3600 * SECOND).abs() < SECOND,
        "{}",
        world.error()
    );
}

#[test]
fn a_clock_that_may_not_be_set_is_said_to_be_wrong() {
    let mut world = World::new(15, SECOND, three());
    world.may_set = false;
    world.run(HOUR);
    assert!(!world.status().synchronised);
    let offset = world.status().offset.expect("measured");
    assert!((offset + 1_000_000).abs() < 200_000, "{offset}");
    assert!(
        world
            .client
            .problem()
            .is_some_and(|why| why.contains("no leave"))
    );
    world.may_set = true;
    world.run(HOUR);
    assert!(world.is_right() && world.client.problem().is_none());
}

#[test]
fn a_day_without_servers_ends_what_is_known() {
    let mut world = World::new(16, 0, three());
    world.run(HOUR);
    assert!(world.status().synchronised);
    for server in &mut world.servers {
        server.alive = false;
    }
    world.run(20 * HOUR);
    assert!(world.status().synchronised);
    world.run(5 * HOUR);
    assert!(!world.status().synchronised);
}

#[test]
fn a_network_that_comes_and_goes_a_thousand_times_is_no_flood() {
    let mut world = World::new(17, 0, three());
    for _ in 0..1000 {
        world.connected = !world.connected;
        world.tell();
        world.run(Duration::from_millis(100));
    }
    assert!(world.asked.len() <= 3 * 52, "{}", world.asked.len());
    world.connected = true;
    world.run(Duration::from_secs(20));
    assert!(world.is_right());
}

#[test]
fn without_a_network_or_servers_nothing_is_due() {
    let mut world = World::new(18, 0, three());
    world.run(HOUR);
    world.connected = false;
    world.tell();
    assert_eq!(world.client.deadline(), None);
    world.connected = true;
    world.servers.clear();
    world.tell();
    assert_eq!(world.client.deadline(), None);
    assert!(world.status().servers.is_empty());
}

#[test]
fn no_more_servers_are_asked_than_are_of_use_and_none_twice() {
    let mut servers: Vec<_> = (1..=20).map(Server::new).collect();
    servers.push(Server::new(1));
    let mut world = World::new(19, 0, servers);
    world.tell();
    assert_eq!(world.status().servers.len(), 8);
}

#[test]
fn on_a_thousand_bad_networks_with_liars_the_clock_is_right_in_the_end() {
    for seed in 0..1000 {
        let mut random = Random::new(seed);
        let good = 2 + random.below(3) as u8;
        let bad = random.below(u64::from(good)) as u8;
        let mut servers: Vec<_> = (1..=good + bad).map(Server::new).collect();
        for server in servers.iter_mut().take(bad.into()) {
            let by = [-TEN_YEARS, -SECOND, SECOND, 90 * SECOND, TEN_YEARS];
            server.error = by[random.below(5) as usize];
        }
        let error = [-TEN_YEARS, -SECOND, 0, SECOND, TEN_YEARS][random.below(5) as usize];
        let mut world = World::new(seed, error, servers);
        world.drift = random.below(200) as i64 - 100;
        world.loss = random.below(50);
        world.twice = random.below(50);
        world.spoofed = random.below(100);
        world.delay = Duration::from_millis(random.below(400));
        world.run(2 * HOUR);
        world.loss = 0;
        world.delay = Duration::from_millis(20);
        world.run(HOUR);
        let (status, off) = (world.status(), world.error());
        assert!(
            status.synchronised && off.abs() < 200 * MILLISECOND,
            "seed {seed}: off by {off}: {status:#?}"
        );
    }
}

#[test]
fn hostile_packets_never_panic_nor_spin_nor_move_the_clock() {
    let mut random = Random::new(20);
    for seed in 0..200 {
        let mut world = World::new(seed, 0, three());
        for server in &mut world.servers {
            server.alive = false;
        }
        for _ in 0..100 {
            let mut bytes: Vec<u8> = (0..random.below(100))
                .map(|_| random.next() as u8)
                .collect();
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0xf8 | 4;
            }
            let server = IpAddr::from([10, 0, 0, 1 + random.below(4) as u8]);
            world.client.receive(world.now, world.base, server, &bytes);
            world.carry();
            let span = Duration::from_secs(random.below(200));
            world.run(span);
        }
        assert!(world.steps.is_empty());
    }
}

const SECONDS_10: Duration = Duration::from_secs(10);
