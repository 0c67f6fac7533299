//! Whole conversations without a socket: every split of the same bytes must give the same result,
//! and no bytes at all may bring the door down.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    config::{DoorConfig, Route, RouteKind, Upstream},
    limits::Limits,
    request::Origin,
    session::{Ask, Session, Wait},
    site::{Failure, Site},
    vhost::Entry,
};

/// What became of a conversation.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    to_client: Vec<u8>,
    to_place: Vec<u8>,
    dials: usize,
    ended: bool,
}

/// What a place says once the bytes it has got end like this.
#[derive(Clone, Copy)]
struct Says<'b>(&'b [u8], &'b [u8]);

/// A session between a client and a place that both say what they were given, in pieces.
struct Stage {
    site: Site,
    session: Session,
    now: Instant,
    outcome: Outcome,
    linked: bool,
}

impl Stage {
    fn new() -> Self {
        let now = Instant::now();
        let mut site = Site::new(now);
        site.configure(&DoorConfig {
            hostname: "otter".into(),
            routes: vec![Route {
                service: "demo".into(),
                upstream: Upstream::Tcp(([10, 77, 0, 2], 80).into()),
                port: None,
                kind: RouteKind::default(),
            }],
            ..DoorConfig::default()
        });
        let origin = Origin {
            peer: Ipv4Addr::new(192, 0, 2, 7).into(),
            is_tls: true,
        };
        Self {
            site,
            session: Session::new(Entry::Tls(443), origin, now),
            now,
            outcome: Outcome::default(),
            linked: false,
        }
    }

    /// Gives the client's next piece, and the place's answers to what is complete by then.
    fn step(&mut self, from_client: &[u8], place: &mut &[Says], piece: usize) {
        self.session.flow.client.input.push(from_client);
        self.settle();
        while let Some((Says(end, answer), later)) = place.split_first() {
            if !self.linked || !self.outcome.to_place.ends_with(end) {
                break;
            }
            *place = later;
            for piece in answer.chunks(piece) {
                if !self.linked {
                    break;
                }
                self.session.flow.up.input.push(piece);
                self.settle();
            }
        }
    }

    /// Does what the session asks for until it asks for nothing.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "the session goes round in circles");
            let ask = self.session.advance(&self.site, self.now);
            let moved = self.drain();
            match ask {
                Ask::Dial { .. } => {
                    self.outcome.dials += 1;
                    self.linked = true;
                    self.session.linked(false, self.now);
                    self.session.connected(self.now);
                }
                Ask::Release { .. } => self.linked = false,
                Ask::End { .. } => {
                    self.outcome.ended = true;
                    self.session.flow.client.input.clear();
                    break;
                }
                Ask::Nothing if moved == 0 => break,
                Ask::Nothing => {}
            }
        }
    }

    fn drain(&mut self) -> usize {
        let flow = &mut self.session.flow;
        let (client_out, up_out) = (&mut flow.client.output, &mut flow.up.output);
        let moved = client_out.len() + up_out.len();
        self.outcome.to_client.extend_from_slice(client_out.bytes());
        self.outcome.to_place.extend_from_slice(up_out.bytes());
        client_out.clear();
        up_out.clear();
        moved
    }
}

/// Plays a conversation with the client's bytes in pieces of `client`, the place's in `place`.
fn play(from_client: &[u8], mut says: &[Says], client: usize, place: usize) -> Outcome {
    let mut stage = Stage::new();
    for piece in from_client.chunks(client) {
        stage.step(piece, &mut says, place);
    }
    stage.step(b"", &mut says, place);
    stage.session.flow.client.eof = true;
    stage.session.flow.up.eof = true;
    stage.settle();
    stage.outcome
}

/// A small generator: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

const CLIENT: &[u8] = b"POST /a HTTP/1.1\r\nHost: demo.otter.local\r\nContent-Length: 5\r\n\r\nhello\
    \r\nGET /health HTTP/1.1\r\nHost: otter.local\r\n\r\n\
    PUT /b HTTP/1.1\r\nHost: demo.otter\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n\
    HEAD /c HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n";
const PLACE: [Says<'_>; 3] = [
    Says(
        b"hello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
    ),
    Says(
        b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
    ),
    Says(
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
    ),
];

#[test]
fn any_split_of_a_conversation_gives_the_same_result() {
    let whole = play(CLIENT, &PLACE, CLIENT.len(), 1);
    let said = String::from_utf8(whole.to_client.clone()).unwrap();
    assert_eq!(whole.dials, 3, "{said}");
    assert!(whole.ended && said.ends_with("Content-Length: 99\r\nConnection: close\r\n\r\n"));
    assert!(
        said.contains("100 Continue") && said.contains("\"ok\":true"),
        "{said}"
    );
    for client in 1..CLIENT.len() {
        for place in [1, 7, 1000] {
            assert_eq!(
                play(CLIENT, &PLACE, client, place),
                whole,
                "pieces of {client}, {place}"
            );
        }
    }
}

#[test]
fn damaged_conversations_end_without_harm_and_alike_however_they_are_split() {
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for round in 0..3000 {
        let (mut client, mut place) = (CLIENT.to_vec(), PLACE[1].1.to_vec());
        for _ in 0..=dice.roll(4) {
            let bytes = if dice.roll(2) == 0 {
                &mut client
            } else {
                &mut place
            };
            let at = dice.roll(bytes.len());
            match dice.roll(3) {
                0 => bytes[at] = dice.roll(256) as u8,
                1 => bytes.insert(at, b"\r\n 0;:,\x00"[dice.roll(8)]),
                _ => drop(bytes.remove(at)),
            }
        }
        let place = [Says(b"hello", &place), Says(b"0\r\n\r\n", &place), PLACE[2]];
        let whole = play(&client, &place, client.len(), 1);
        let split = play(&client, &place, 1 + dice.roll(9), 1);
        // A place that answers before its time ends the exchange, sooner or later in the bytes.
        let (whole, split) = (&whole.to_place, &split.to_place);
        let shared = whole.len().min(split.len());
        assert_eq!(whole[..shared], split[..shared], "round {round}");
    }
}

#[test]
fn random_bytes_are_refused_and_nothing_else() {
    let mut dice = Dice(0x0dd0_beef_cafe_0001);
    for _ in 0..3000 {
        let length = 1 + dice.roll(600);
        let noise: Vec<u8> = (0..length).map(|_| dice.roll(256) as u8).collect();
        let outcome = play(&noise, &PLACE, 1 + dice.roll(64), 7);
        assert_eq!((outcome.dials, outcome.to_place.len()), (0, 0));
        assert!(outcome.ended);
        let request = [
            b"GET / HTTP/1.1\r\nHost: demo.otter\r\n\r\n",
            noise.as_slice(),
        ]
        .concat();
        let outcome = play(
            &request,
            &[Says(b"", &noise)],
            1 + dice.roll(64),
            1 + dice.roll(64),
        );
        assert!(outcome.ended && outcome.dials >= 1);
    }
}

#[test]
fn a_place_that_refuses_is_tried_once_more_after_a_pause() {
    let mut stage = Stage::new();
    let request = b"GET / HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n";
    stage.session.flow.client.input.push(request);
    let (now, limits) = (stage.now, Limits::default());
    for attempt in 0..2 {
        let ask = stage.session.advance(&stage.site, now);
        assert!(
            matches!(ask, Ask::Dial { .. }),
            "attempt {attempt}: {ask:?}"
        );
        stage.session.failed(Failure::Unreachable, &stage.site, now);
        if attempt == 0 {
            let (at, wait) = stage.session.deadline(&limits);
            assert_eq!((at > now, wait), (true, Wait::Redial));
            assert_eq!(stage.session.advance(&stage.site, now), Ask::Nothing);
            stage.session.expire(wait, &stage.site, at);
        }
    }
    assert!(
        stage
            .session
            .flow
            .client
            .output
            .bytes()
            .starts_with(b"HTTP/1.1 503 ")
    );
}

#[test]
fn the_second_attempt_sends_the_whole_of_a_request_with_a_body() {
    let mut stage = Stage::new();
    let request = b"POST / HTTP/1.1\r\nHost: demo.otter\r\nContent-Length: 5\r\n\r\nhe";
    stage.session.flow.client.input.push(request);
    let (now, limits) = (stage.now, Limits::default());
    let ask = stage.session.advance(&stage.site, now);
    assert!(matches!(ask, Ask::Dial { .. }), "{ask:?}");
    stage.session.linked(false, now);
    // While the connection is on its way, more of the body comes.
    assert_eq!(stage.session.advance(&stage.site, now), Ask::Nothing);
    stage.session.flow.client.input.push(b"l");
    assert_eq!(stage.session.advance(&stage.site, now), Ask::Nothing);
    stage.session.failed(Failure::Unreachable, &stage.site, now);
    let (at, wait) = stage.session.deadline(&limits);
    stage.session.expire(wait, &stage.site, at);
    stage.step(b"lo", &mut [].as_slice(), 1);
    let sent = String::from_utf8(stage.outcome.to_place).unwrap();
    assert!(
        sent.starts_with("POST / HTTP/1.1\r\n") && sent.ends_with("\r\n\r\nhello"),
        "{sent}"
    );
}

#[test]
fn a_whole_answer_is_passed_on_though_its_request_was_cut_short() {
    let mut stage = Stage::new();
    let request = b"POST / HTTP/1.1\r\nHost: demo.otter\r\nContent-Length: 5\r\n\r\nhe";
    stage.step(request, &mut [].as_slice(), 1);
    let answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
    let flow = &mut stage.session.flow;
    flow.up.input.push(answer);
    (flow.up.eof, flow.client.eof) = (true, true);
    stage.settle();
    let said = String::from_utf8(stage.outcome.to_client).unwrap();
    assert!(
        said.starts_with("HTTP/1.1 413 ") && said.ends_with("\r\n\r\nno"),
        "{said}"
    );
}

#[test]
fn every_wait_has_its_deadline() {
    let (mut stage, limits) = (Stage::new(), Limits::default());
    let now = stage.now;
    let waits = |stage: &Stage| stage.session.deadline(&limits);
    assert_eq!(waits(&stage), (now + limits.idle, Wait::Idle));
    stage.step(
        b"POST / HTTP/1.1\r\nHost: demo.otter\r\n",
        &mut [].as_slice(),
        1,
    );
    assert_eq!(waits(&stage), (now + limits.head, Wait::Head));
    stage.step(b"Content-Length: 2\r\n\r\na", &mut [].as_slice(), 1);
    assert_eq!(waits(&stage), (now + limits.stall, Wait::Stall));
    stage.step(b"b", &mut [].as_slice(), 1);
    assert_eq!(waits(&stage), (now + limits.answer, Wait::Answer));
    let later = now + limits.answer + Duration::from_secs(1);
    stage.session.expire(Wait::Answer, &stage.site, later);
    assert!(
        stage
            .session
            .flow
            .client
            .output
            .bytes()
            .starts_with(b"HTTP/1.1 504 ")
    );
    assert_eq!(waits(&stage).1, Wait::Stall);
}
