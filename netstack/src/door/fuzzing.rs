//! The door as a fuzzer plays it: a client, and places behind the door, that say anything.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    config::{DoorConfig, Route, RouteKind, Upstream},
    head::{self, Lines},
    hello::Hello,
    http2::{self, Connection},
    limits::{INPUT_HIGH, Limits, OUTPUT_HIGH, READ},
    request::{Origin, Request},
    session::{Ask, Session},
    site::{Failure, Site},
    talk::Talk,
    vhost::{Entry, Table, Target},
};
use crate::fuzzing::steps;

/// A conversation over HTTP/1.1, or through a tunnel.
pub fn http1(script: &[u8]) {
    let now = Instant::now();
    let session = Session::new(Entry::Tls(443), ORIGIN, now);
    Stage::new(Talk::Http1(Box::new(session)), now).play(script);
}

/// A connection over HTTP/2, after both sides' settings.
pub fn http2(script: &[u8]) {
    let now = Instant::now();
    let connection = Connection::new(Entry::Tls(443), ORIGIN, now);
    let mut stage = Stage::new(Talk::Http2(Box::new(connection)), now);
    stage.client_says(http2::fuzzing::GREETING);
    stage.play(script);
}

/// One field section after another, as a client compresses them.
pub fn hpack(script: &[u8]) {
    http2::fuzzing::sections(steps(script).map(|(_, section)| section));
}

/// Names: in a request, and in the greeting of a TLS client. Both end somewhere, and no name that
/// is not the box's own leads into it.
pub fn routing(script: &[u8]) {
    let table = Table::new(&config());
    for (what, bytes) in steps(script) {
        if what == 0 {
            let mut hello = Hello::default();
            hello.push(bytes);
            let _ = hello.asked();
            continue;
        }
        let authority = String::from_utf8_lossy(bytes);
        let port = if what == 1 { 443 } else { 8443 };
        let target = table.route(Entry::Tls(port), &authority);
        if let Some(Target::Place(place)) = target
            && port == 443
        {
            let authority = authority.to_ascii_lowercase();
            let own = authority.contains("otter")
                || authority.contains("localhost")
                || authority
                    .bytes()
                    .all(|byte| b"0123456789abcdef.:[]".contains(&byte));
            assert!(own, "{authority:?} leads to {}", place.name);
        }
        let _ = table.passed(Entry::Tls(port), Some(&authority));
    }
}

/// A conversation, and all that its driver would hold.
struct Stage {
    site: Site,
    talk: Talk,
    now: Instant,
    limits: Limits,
    links: BTreeMap<usize, Link>,
    links_made: usize,
    dialling: Dialling,
    client_takes: bool,
    is_over: bool,
    /// Bytes go to the place as they are.
    passes: bool,
}

/// A connection to a place.
struct Link {
    stream: u32,
    is_connected: bool,
    /// What it has got, until the head that it begins with is whole.
    got: Option<Vec<u8>>,
}

/// What becomes of a connection that is asked for.
#[derive(Clone, Copy)]
enum Dialling {
    Connects,
    Crowded,
    Hangs,
    Refused,
    Reused,
}

impl Stage {
    fn new(talk: Talk, now: Instant) -> Self {
        let mut site = Site::new(now);
        site.configure(&config());
        Self {
            site,
            talk,
            now,
            limits: Limits::default(),
            links: BTreeMap::new(),
            links_made: 0,
            dialling: Dialling::Connects,
            client_takes: true,
            is_over: false,
            passes: false,
        }
    }

    /// Plays all steps, and then nobody says anything any more: that must end it.
    fn play(&mut self, script: &[u8]) {
        for (what, bytes) in steps(script) {
            if self.is_over {
                return;
            }
            self.step(what, bytes);
            let held = self.talk.held();
            assert!(held <= MOST_HELD, "it holds {held} bytes");
        }
        for _ in 0..MOST_DEADLINES {
            if self.is_over {
                return;
            }
            self.time_passes(Duration::MAX);
        }
        panic!(
            "silence does not end it: {:?}",
            self.talk.deadline(&self.limits)
        );
    }

    fn step(&mut self, what: u8, bytes: &[u8]) {
        match what {
            0 => self.client_says(bytes),
            1..=9 => self.place_says(usize::from(what - 1), bytes),
            10 => self.place_ends(bytes, false),
            11 => self.place_ends(bytes, true),
            12 => self.connects(bytes),
            13 => self.fails(bytes),
            14 => {
                let [low, high] = *bytes.first_chunk().unwrap_or(&[0, 1]);
                self.time_passes(Duration::from_millis(
                    u16::from_le_bytes([low, high]).into(),
                ));
            }
            15 => self.time_passes(Duration::MAX),
            16 => self.client_takes = !self.client_takes,
            17 => self.talk.side().eof = true,
            18 => {
                self.dialling = match bytes.first().copied().unwrap_or_default() % 5 {
                    0 => Dialling::Connects,
                    1 => Dialling::Crowded,
                    2 => Dialling::Hangs,
                    3 => Dialling::Refused,
                    _ => Dialling::Reused,
                };
            }
            19 => self.pass_through(bytes),
            20 => {
                if let Talk::Http2(connection) = &mut self.talk {
                    connection.go_away();
                }
            }
            _ => {}
        }
        self.settle();
    }

    fn client_says(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(READ) {
            let side = self.talk.side();
            // The driver leaves it in the kernel.
            if side.input.len() < INPUT_HIGH && !side.eof {
                side.input.push(piece);
                side.moved = self.now;
            }
            self.settle();
        }
    }

    /// The `nth` place that is linked says something.
    fn place_says(&mut self, nth: usize, bytes: &[u8]) {
        let Some(Link { stream, .. }) = self.connected_link(nth) else {
            return;
        };
        let (stream, now) = (*stream, self.now);
        let Some(flow) = self.talk.flow(stream) else {
            return;
        };
        let full = flow.up.input.len() >= INPUT_HIGH || flow.client.output.len() >= OUTPUT_HIGH;
        if !full && !flow.up.eof {
            flow.up.input.push(bytes);
            flow.up.moved = now;
            self.talk.wake(stream);
        }
    }

    fn place_ends(&mut self, nth: &[u8], breaks: bool) {
        let now = self.now;
        let Some(stream) = self.connected_link(number(nth)).map(|link| link.stream) else {
            return;
        };
        if let Some(flow) = self.talk.flow(stream) {
            flow.up.eof = true;
            flow.up.reset |= breaks;
            flow.up.moved = now;
            self.talk.wake(stream);
        }
    }

    /// A connection that was on its way is complete.
    fn connects(&mut self, nth: &[u8]) {
        if let Some(link) = self.links.values_mut().nth(number(nth))
            && !std::mem::replace(&mut link.is_connected, true)
        {
            let stream = link.stream;
            self.talk.connected(stream, self.now);
            self.talk.wake(stream);
        }
    }

    /// A connection that was on its way can't be had.
    fn fails(&mut self, nth: &[u8]) {
        let mut waiting = self.links.iter().filter(|(_, link)| !link.is_connected);
        let Some((&key, link)) = waiting.nth(number(nth)) else {
            return;
        };
        let stream = link.stream;
        self.release(stream);
        self.links.remove(&key);
        self.talk
            .failed(stream, Failure::Unreachable, &self.site, self.now);
        self.talk.wake(stream);
    }

    /// Until the next deadline, or shorter.
    fn time_passes(&mut self, most: Duration) {
        let (at, wait) = self.talk.deadline(&self.limits);
        let until = at.saturating_duration_since(self.now);
        if until > most {
            self.now += most;
            return;
        }
        self.now = self.now.max(at);
        let dropped = self.talk.expire(wait, &self.site, &self.limits, self.now);
        self.drop_links(&dropped);
        // One whose linger is over is closed, whatever it still has to say.
        self.is_over |= self.asks_to_end() && wait == super::session::Wait::Stall;
        self.settle();
    }

    fn pass_through(&mut self, said: &[u8]) {
        let place = self.site.table.passed(Entry::Tls(443), Some("raw.otter"));
        if let (Talk::Http1(session), Some(place)) = (&mut self.talk, place)
            && session.is_idle()
        {
            session.pass_through(place, said);
            self.passes = true;
        }
    }

    /// Does what is asked for until nothing is.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < MOST_ROUNDS, "it goes round in circles");
            let moved = match &self.talk {
                Talk::Http1(_) => self.request(),
                Talk::Http2(_) => self.streams(),
            };
            if !moved {
                return;
            }
        }
    }

    /// As `Engine::request`.
    fn request(&mut self) -> bool {
        let Talk::Http1(session) = &mut self.talk else {
            return false;
        };
        let ask = session.advance(&self.site, self.now);
        let _ = session.served();
        let ends = matches!(ask, Ask::End { .. });
        let granted = self.grant(ask, 0);
        let moved = self.flush(0) | self.flush_client();
        if ends && self.talk.side().output.is_empty() {
            self.is_over = true;
            return false;
        }
        self.talk.relax();
        granted || moved
    }

    /// As `Engine::streams`.
    fn streams(&mut self) -> bool {
        let Talk::Http2(connection) = &mut self.talk else {
            return false;
        };
        connection.receive(&self.site, self.now);
        let mut moved = false;
        for _ in 0..connection.count_ready() {
            let Talk::Http2(connection) = &mut self.talk else {
                return false;
            };
            let Some(id) = connection.next_ready() else {
                break;
            };
            moved |= self.stream(id);
            if let Talk::Http2(connection) = &mut self.talk {
                connection.settle(id);
            }
        }
        let Talk::Http2(connection) = &mut self.talk else {
            return false;
        };
        connection.send(self.now);
        let _ = connection.served();
        let (orphans, over) = (connection.orphans(), connection.is_over());
        let again = connection.is_ready();
        self.drop_links(&orphans);
        let flushed = self.flush_client();
        if over.is_some() && self.talk.side().output.is_empty() {
            self.is_over = true;
            return false;
        }
        self.talk.relax();
        moved || again || flushed
    }

    fn stream(&mut self, id: u32) -> bool {
        for round in 0.. {
            assert!(round < MOST_ROUNDS, "stream {id} goes round in circles");
            let Talk::Http2(connection) = &mut self.talk else {
                break;
            };
            let Some(stream) = connection.stream(id) else {
                return round > 0;
            };
            let ask = stream.advance(&self.site, self.now);
            let granted = self.grant(ask, id);
            if !self.flush(id) && !granted {
                return round > 0;
            }
        }
        false
    }

    fn grant(&mut self, ask: Ask, stream: u32) -> bool {
        match ask {
            Ask::End { .. } | Ask::Nothing => return false,
            Ask::Dial { pooled, .. } => self.dial(stream, pooled),
            Ask::Release { .. } => self.release(stream),
        }
        true
    }

    fn dial(&mut self, stream: u32, pooled: bool) {
        let failure = match self.dialling {
            Dialling::Connects | Dialling::Hangs | Dialling::Reused => None,
            Dialling::Crowded => Some(Failure::Crowded),
            Dialling::Refused => Some(Failure::Unreachable),
        };
        if let Some(failure) = failure {
            return self.talk.failed(stream, failure, &self.site, self.now);
        }
        let reused = pooled && matches!(self.dialling, Dialling::Reused);
        let is_connected = reused || !matches!(self.dialling, Dialling::Hangs);
        let key = self.links_made;
        self.links_made += 1;
        let link = Link {
            stream,
            is_connected,
            got: (!self.passes).then(Vec::new),
        };
        self.links.insert(key, link);
        self.talk.linked(stream, key, reused, self.now);
        if is_connected && !reused {
            self.talk.connected(stream, self.now);
        }
    }

    fn release(&mut self, stream: u32) {
        let link = self.talk.flow(stream).and_then(|flow| flow.link.take());
        self.drop_links(link.as_slice());
    }

    fn drop_links(&mut self, keys: &[usize]) {
        for key in keys {
            self.links.remove(key);
        }
    }

    /// What goes to a place goes to one that is linked and connected, and begins with a head that
    /// has one meaning only.
    fn flush(&mut self, stream: u32) -> bool {
        let Some(flow) = self.talk.flow(stream) else {
            return false;
        };
        let Some(link) = flow.link.and_then(|key| self.links.get_mut(&key)) else {
            return false;
        };
        if !link.is_connected || flow.up.output.is_empty() {
            return false;
        }
        if let Some(got) = &mut link.got {
            got.extend_from_slice(flow.up.output.bytes());
            let end = head::end(got, &mut 0, Lines::Strict).expect("lines as we write them");
            if let Some(end) = end {
                match Request::parse(&got[..end]) {
                    Ok(_) => {}
                    // With the door's own lines it may be more than the door takes.
                    Err(refusal) if refusal.status == 431 => {}
                    Err(refusal) => panic!("a head that we would refuse: {refusal:?}"),
                }
                link.got = None;
            }
        }
        flow.up.output.clear();
        flow.up.moved = self.now;
        true
    }

    fn flush_client(&mut self) -> bool {
        let (now, is_http2) = (self.now, matches!(self.talk, Talk::Http2(_)));
        let side = self.talk.side();
        if !self.client_takes || side.output.is_empty() {
            return false;
        }
        if is_http2 {
            http2::fuzzing::check(side.output.bytes());
        }
        side.output.clear();
        side.moved = now;
        true
    }

    fn asks_to_end(&mut self) -> bool {
        match &mut self.talk {
            Talk::Http1(session) => {
                matches!(session.advance(&self.site, self.now), Ask::End { .. })
            }
            Talk::Http2(connection) => connection.is_over().is_some(),
        }
    }

    fn connected_link(&self, nth: usize) -> Option<&Link> {
        self.links
            .values()
            .filter(|link| link.is_connected)
            .nth(nth)
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.first().copied().unwrap_or_default().into()
}

fn config() -> DoorConfig {
    let route = |service: &str, kind| Route {
        service: service.into(),
        upstream: Upstream::Tcp(([10, 77, 0, 2], 80).into()),
        port: None,
        kind,
    };
    DoorConfig {
        hostname: "otter".into(),
        routes: vec![
            route("demo", RouteKind::Http),
            route("raw", RouteKind::PassThrough),
        ],
        ..DoorConfig::default()
    }
}

const ORIGIN: Origin = Origin {
    peer: std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    is_tls: true,
};
/// Turns that any bytes there are could be worth; more is a loop.
const MOST_ROUNDS: u32 = 20_000;
/// Deadlines after which a silent conversation is over: those of every stream, and its own.
const MOST_DEADLINES: u32 = 1000;
/// Bytes that one conversation may hold at the most: what is held back in the kernel is not ours.
const MOST_HELD: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use crate::fuzzing::play_seeds;

    #[test]
    fn every_seed_is_survived() {
        play_seeds("http1", super::http1);
        play_seeds("http2", super::http2);
        play_seeds("hpack", super::hpack);
        play_seeds("routing", super::routing);
    }
}
