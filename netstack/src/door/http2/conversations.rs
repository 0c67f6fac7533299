//! Connections without a socket: frames in, frames out, and no service that ever answers.

use std::{net::Ipv4Addr, time::Instant};

use super::{
    super::{
        config::{DoorConfig, Route, RouteKind, Upstream},
        request::Origin,
        session::{Ask, Wait},
        site::Site,
        vhost::Entry,
    },
    Connection,
    frame::{self, Code, Head},
    hpack::NO_TABLE,
};

/// A client and the door's side of its connection.
struct Stage {
    site: Site,
    connection: Connection,
    now: Instant,
}

/// A frame that the door wrote.
type Frame = (Head, Vec<u8>);

impl Stage {
    /// A connection on which both sides have sent their settings.
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
        let mut stage = Self {
            site,
            connection: Connection::new(Entry::Tls(443), origin, now),
            now,
        };
        stage.take(&[frame::PREFACE, &frame(frame::SETTINGS, 0, 0, &[])].concat());
        stage
    }

    /// Gives the client's bytes, and returns the frames that come of them.
    fn take(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.connection.side.input.push(bytes);
        self.connection.receive(&self.site, self.now);
        while let Some(id) = self.connection.next_ready() {
            if let Some(stream) = self.connection.stream(id) {
                let ask = stream.advance(&self.site, self.now);
                assert!(matches!(ask, Ask::Dial { .. } | Ask::Nothing), "{ask:?}");
            }
            self.connection.settle(id);
        }
        self.write()
    }

    /// The frames that are to be written now.
    fn write(&mut self) -> Vec<Frame> {
        self.connection.send(self.now);
        let output = &mut self.connection.side.output;
        let mut frames = Vec::new();
        while let Some(head) = Head::parse(output.bytes()) {
            let payload = &output.bytes()[frame::HEAD..frame::HEAD + head.length];
            frames.push((head, payload.to_vec()));
            output.consume(frame::HEAD + head.length);
        }
        frames
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Default::default();
    frame::write(kind, flags, stream, payload, &mut out);
    out.bytes().to_vec()
}

/// A request's head, of plain literals.
fn request(stream: u32, method: &str, flags: u8) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", method),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "demo.otter.local"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(frame::HEADERS, frame::END_HEADERS | flags, stream, &block)
}

#[test]
fn every_setting_costs_patience_and_not_only_every_frame() {
    let mut stage = Stage::new();
    stage.take(&request(1, "GET", frame::END_STREAM));
    let windows = [[0, 4, 0, 0, 1, 0], [0, 4, 0, 0, 2, 0]];
    let settings = frame(frame::SETTINGS, 0, 0, &windows.repeat(600).concat());
    let calm = stage.take(&settings);
    assert!(
        calm.iter().all(|(head, _)| head.kind == frame::SETTINGS),
        "{calm:?}"
    );
    let end = stage.take(&settings).pop().unwrap();
    assert_eq!(end.0.kind, frame::GOAWAY);
    assert_eq!(end.1[4..], (Code::Calm as u32).to_be_bytes());
}

#[test]
fn what_ended_streams_left_unread_is_given_back_to_the_others() {
    let mut stage = Stage::new();
    let mut ids = Vec::new();
    for n in 0..4 {
        let id = 2 * n + 1;
        ids.push(id);
        stage.take(&request(id, "POST", 0));
        for _ in 0..8 {
            let data = frame(frame::DATA, 0, id, &[b'x'; frame::MAX_FRAME]);
            assert_eq!(stage.take(&data), [], "nobody reads it");
        }
    }
    let mut given = 0;
    for id in ids {
        let reset = frame(frame::RST_STREAM, 0, id, &[0, 0, 0, 8]);
        for (head, payload) in stage.take(&reset) {
            assert_eq!((head.kind, head.stream), (frame::WINDOW_UPDATE, 0));
            given += u32::from_be_bytes(payload.try_into().unwrap());
        }
    }
    assert_eq!(given, 512 * 1024);
}

#[test]
fn the_first_section_that_is_written_gives_up_the_table() {
    let mut stage = Stage::new();
    stage.take(&request(1, "GET", frame::END_STREAM));
    let stream = stage.connection.stream(1).unwrap();
    stream.flow.sections.push(vec![0x88]);
    stream.abort(Code::Internal, stage.now);
    stage.connection.settle(1);
    let kinds: Vec<u8> = stage.write().iter().map(|(head, _)| head.kind).collect();
    assert_eq!(kinds, [frame::RST_STREAM]);
    for (id, first) in [(3, NO_TABLE), (5, 0x88)] {
        stage.take(&request(id, "GET", frame::END_STREAM));
        let stream = stage.connection.stream(id).unwrap();
        stream.flow.sections.push(vec![0x88]);
        stage.connection.settle(id);
        let (head, payload) = stage.write().remove(0);
        assert_eq!((head.kind, payload[0]), (frame::HEADERS, first));
    }
}

#[test]
fn streams_that_were_left_out_are_unexpected_and_those_that_ended_are_closed() {
    let goodbye = |before: &[u32], last: u32| {
        let mut stage = Stage::new();
        for id in before {
            stage.take(&request(*id, "GET", frame::END_STREAM));
            let stream = stage.connection.stream(*id).unwrap();
            stream.abort(Code::Internal, stage.now);
            stage.connection.settle(*id);
            assert_eq!(stage.write().len(), 1);
        }
        let end = stage.take(&request(last, "GET", frame::END_STREAM));
        let (head, payload) = end.last().unwrap().clone();
        assert_eq!(head.kind, frame::GOAWAY);
        payload[4..].to_vec()
    };
    let [unexpected, closed] =
        [Code::Protocol, Code::StreamClosed].map(|code| (code as u32).to_be_bytes());
    assert_eq!(goodbye(&[5], 3), unexpected);
    assert_eq!(goodbye(&[1, 3, 9, 11], 7), unexpected);
    assert_eq!(goodbye(&[1], 1), closed);
    assert_eq!(goodbye(&[13, 15], 13), closed);
}

#[test]
fn a_second_goodbye_promises_no_more_than_the_first() {
    let mut stage = Stage::new();
    stage.take(&request(1, "GET", frame::END_STREAM));
    stage.connection.go_away();
    let first = stage.write().pop().unwrap();
    assert_eq!(first.1[..4], [0, 0, 0, 1]);
    let refused = stage.take(&request(3, "GET", frame::END_STREAM));
    assert_eq!(refused[0].1, (Code::Refused as u32).to_be_bytes());
    let last = stage.take(&frame(frame::PING, 0, 1, &[0; 8])).pop();
    let (head, payload) = last.unwrap();
    assert_eq!(head.kind, frame::GOAWAY);
    assert_eq!(payload, [0, 0, 0, 1, 0, 0, 0, Code::Protocol as u8]);
}

#[test]
fn data_that_comes_too_late_is_reset_once() {
    let data = |id| frame(frame::DATA, 0, id, b"late");
    let mut stage = Stage::new();
    stage.take(&request(1, "POST", 0));
    let nothing = frame(frame::WINDOW_UPDATE, 0, 1, &[0; 4]);
    assert_eq!(stage.take(&nothing)[0].0.kind, frame::RST_STREAM);
    assert_eq!(stage.take(&data(1).repeat(3)), []);
    stage.take(&request(3, "POST", 0));
    let stream = stage.connection.stream(3).unwrap();
    stream.expire(Wait::Answer, &stage.site, stage.now);
    stage.connection.settle(3);
    let answer = stage.write().pop().unwrap();
    assert!(answer.0.has(frame::END_STREAM), "{answer:?}");
    let resets = stage.take(&data(3).repeat(3));
    let [(head, payload)] = resets.as_slice() else {
        panic!("{resets:?}");
    };
    assert_eq!((head.kind, head.stream), (frame::RST_STREAM, 3));
    assert_eq!(*payload, (Code::NoError as u32).to_be_bytes());
}
