//! HTTP/2 by hand: frames as the standard draws them, and what comes back.
//!
//! The table of broken clients follows the sections of RFC 9113; it was written here, beside the
//! implementation. h2spec, a suite of others, is run by `tests/tests/door.rs`.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use netstack::door::Limits;

use crate::{
    client::Client,
    open::{Door, nobody, until},
    upstream::Upstream,
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// END_STREAM and END_HEADERS.
pub(crate) const WHOLE: u8 = 0x5;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection that speaks frames.
pub(crate) struct Peer {
    client: Client,
}

impl Peer {
    pub(crate) fn new(door: &Door) -> Self {
        let client = Client::http2(door.https, "otter.local", door.ca.pem()).unwrap();
        let mut peer = Self { client };
        peer.client
            .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        peer.send(&frame(SETTINGS, 0, 0, &[]));
        peer
    }

    /// Sends; that the door may have closed already shows when it is read from.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.client.send(bytes);
    }

    fn next(&mut self) -> io::Result<Frame> {
        let head = self.client.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        Ok(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: self.client.exactly(length)?,
        })
    }

    /// Frames up to the first that `is` so.
    pub(crate) fn until(&mut self, is: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.next()?;
            if is(&frame) {
                return Ok(frame);
            }
        }
    }

    /// The body of the answer on `stream`, once it is whole; windows are opened as it comes.
    fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.until(|frame| frame.stream == stream).unwrap();
            assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
            if frame.kind == DATA && !frame.payload.is_empty() {
                body.extend_from_slice(&frame.payload);
                let by = (frame.payload.len() as u32).to_be_bytes();
                self.send(&frame_of(WINDOW_UPDATE, 0, &by));
                self.send(&frame_of(WINDOW_UPDATE, stream, &by));
            }
            if frame.flags & END_STREAM != 0 {
                return body;
            }
        }
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn frame_of(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(kind, 0, stream, payload)
}

/// A field section of plain literals.
pub(crate) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = text.len();
            assert!(length < 127 + 128, "longer ones take more bytes");
            match length {
                0..127 => block.push(length as u8),
                _ => block.extend_from_slice(&[127, (length - 127) as u8]),
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", "demo.otter.local"),
    ];
    fields.extend_from_slice(more);
    section(&fields)
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &request("GET", path, &[]))
}

#[test]
fn many_streams_share_a_connection() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let mut peer = Peer::new(&door);
    let ids: Vec<u32> = (0..50).map(|n| 2 * n + 1).collect();
    for id in &ids {
        peer.send(&get(*id, &format!("/{id}")));
    }
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut open = ids.len();
    while open > 0 {
        let frame = peer.next().unwrap();
        if frame.kind == DATA {
            bodies
                .entry(frame.stream)
                .or_default()
                .extend(&frame.payload);
        }
        let ends = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        open -= usize::from(ends);
    }
    for id in ids {
        assert_eq!(bodies[&id], format!("GET /{id} ").into_bytes());
    }
    let heads = demo.heads.lock().unwrap();
    assert!(
        heads
            .iter()
            .all(|head| head.contains("Forwarded: for=127.0.0.1;"))
    );
    drop(heads);
    door.close();
}

#[test]
fn bodies_pass_both_ways_whole() {
    let demo = Upstream::tcp(|mut connection| {
        while let Some(request) = connection.request() {
            let text = String::from_utf8(request.body).unwrap();
            connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for part in text.as_bytes().chunks(70_001) {
                let part = std::str::from_utf8(part).unwrap();
                connection.say(&format!("{:x}\r\n{part}\r\n", part.len()));
            }
            connection.say("0\r\n\r\n");
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut peer = Peer::new(&door);
    let body = "0123456789abcde\n".repeat(20_000);
    let length = body.len().to_string();
    for (stream, more) in [
        (1, &[][..]),
        (3, &[("content-length", length.as_str())][..]),
    ] {
        let head = request("POST", "/", more);
        peer.send(&frame(HEADERS, END_HEADERS, stream, &head));
        let mut parts = body.as_bytes().chunks(16_384).peekable();
        // The door announces windows of 128 KiB a stream, so it must have opened them again.
        let (mut sent, mut window) = (0, 128 * 1024_i64);
        while let Some(part) = parts.next() {
            while window < part.len() as i64 {
                let update = peer
                    .until(|frame| frame.kind == WINDOW_UPDATE && frame.stream == stream)
                    .unwrap();
                let by: [u8; 4] = update.payload.try_into().unwrap();
                window += i64::from(u32::from_be_bytes(by));
            }
            let flags = if parts.peek().is_none() {
                END_STREAM
            } else {
                0
            };
            peer.send(&frame(DATA, flags, stream, part));
            window -= part.len() as i64;
            sent += part.len();
        }
        assert_eq!(sent, body.len());
        assert!(peer.body(stream) == body.as_bytes(), "stream {stream}");
    }
    door.close();
}

#[test]
fn a_client_that_takes_nothing_holds_nothing_up() {
    let went_on = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&went_on);
    let demo = Upstream::tcp(move |mut connection| {
        while let Some(request) = connection.request() {
            if request.path == "/endless" {
                connection.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
                let piece = "x".repeat(64 * 1024);
                // Far more than all that lies between would hold.
                for _ in 0..1000 {
                    connection.say(&piece);
                }
                flag.store(true, Ordering::SeqCst);
            }
            connection.answer("200 OK", "short");
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut peer = Peer::new(&door);
    // Opens the connection's window, but not the stream's.
    peer.send(&frame_of(WINDOW_UPDATE, 0, &100_000_000_u32.to_be_bytes()));
    peer.send(&get(1, "/endless"));
    let mut taken = 0;
    while taken < 65_535 {
        let data = peer.until(|frame| frame.kind == DATA).unwrap();
        taken += data.payload.len();
    }
    peer.send(&get(3, "/short"));
    assert_eq!(peer.body(3), b"short");
    assert!(
        !went_on.load(Ordering::SeqCst),
        "the endless answer was read on"
    );
    door.close();
}

/// What a client does after its preface, and what must come of it: an error code, and whether it
/// ends the stream or the connection.
struct Broken {
    section: &'static str,
    bytes: Vec<u8>,
    ends: Ends,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Connection(u32),
    Stream(u32),
}

fn broken() -> Vec<Broken> {
    use Ends::{Connection, Stream};
    const PROTOCOL: u32 = 1;
    const FLOW: u32 = 3;
    const CLOSED: u32 = 5;
    const SIZE: u32 = 6;
    const COMPRESSION: u32 = 9;
    let post = |stream| frame(HEADERS, END_HEADERS, stream, &request("POST", "/", &[]));
    let fields = |more: &[(&str, &str)]| frame(HEADERS, WHOLE, 1, &request("GET", "/", more));
    let setting = |name: u16, value: u32| {
        let payload = [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        frame(SETTINGS, 0, 0, &payload)
    };
    let window = |stream, by: u32| frame_of(WINDOW_UPDATE, stream, &by.to_be_bytes());
    let half = frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[]));
    let case = |section, parts: &[Vec<u8>], ends| Broken {
        section,
        bytes: parts.concat(),
        ends,
    };
    vec![
        case(
            "4.2 too large",
            &[frame_of(DATA, 1, &[0; 16_385])],
            Connection(SIZE),
        ),
        case(
            "4.3 bad section",
            &[frame(HEADERS, WHOLE, 1, &[0xbe])],
            Connection(COMPRESSION),
        ),
        case(
            "5.1 DATA on idle",
            &[frame_of(DATA, 1, b"x")],
            Connection(PROTOCOL),
        ),
        case(
            "5.1 RST on idle",
            &[frame_of(RST_STREAM, 1, &[0; 4])],
            Connection(PROTOCOL),
        ),
        case("5.1 window of idle", &[window(1, 1)], Connection(PROTOCOL)),
        case(
            "5.1 DATA after the end",
            &[get(1, "/slow"), frame_of(DATA, 1, b"x")],
            Connection(CLOSED),
        ),
        case(
            "5.1 HEADERS after the end",
            &[get(1, "/slow"), get(1, "/slow")],
            Connection(CLOSED),
        ),
        case("5.1.1 even stream", &[get(2, "/")], Connection(PROTOCOL)),
        case(
            "5.1.1 lower stream",
            &[get(5, "/"), get(3, "/")],
            Connection(PROTOCOL),
        ),
        case(
            "5.3.1 depends on itself",
            &[frame(
                HEADERS,
                WHOLE | 0x20,
                1,
                &[&[0, 0, 0, 1, 0][..], &request("GET", "/", &[])].concat(),
            )],
            Connection(PROTOCOL),
        ),
        case(
            "6.1 DATA on stream 0",
            &[frame_of(DATA, 0, b"x")],
            Connection(PROTOCOL),
        ),
        case(
            "6.1 padding",
            &[post(1), frame(DATA, 8, 1, &[5, 0])],
            Connection(PROTOCOL),
        ),
        case(
            "6.2 HEADERS on stream 0",
            &[get(0, "/")],
            Connection(PROTOCOL),
        ),
        case(
            "6.2 frames in a section",
            &[half.clone(), frame_of(PING, 0, &[0; 8])],
            Connection(PROTOCOL),
        ),
        case(
            "6.4 RST of 3 bytes",
            &[post(1), frame_of(RST_STREAM, 1, &[0; 3])],
            Connection(SIZE),
        ),
        case(
            "6.5 SETTINGS on a stream",
            &[frame_of(SETTINGS, 1, &[])],
            Connection(PROTOCOL),
        ),
        case(
            "6.5 SETTINGS of 5 bytes",
            &[frame_of(SETTINGS, 0, &[0; 5])],
            Connection(SIZE),
        ),
        case(
            "6.5 ACK with a payload",
            &[frame(SETTINGS, 1, 0, &[0; 6])],
            Connection(SIZE),
        ),
        case("6.5.2 push", &[setting(2, 2)], Connection(PROTOCOL)),
        case("6.5.2 window", &[setting(4, 0x8000_0000)], Connection(FLOW)),
        case(
            "6.5.2 frame size",
            &[setting(5, 16_383)],
            Connection(PROTOCOL),
        ),
        case(
            "6.6 PUSH_PROMISE",
            &[frame(5, 4, 1, &[0, 0, 0, 2])],
            Connection(PROTOCOL),
        ),
        case(
            "6.7 PING on a stream",
            &[frame_of(PING, 1, &[0; 8])],
            Connection(PROTOCOL),
        ),
        case(
            "6.7 PING of 7 bytes",
            &[frame_of(PING, 0, &[0; 7])],
            Connection(SIZE),
        ),
        case(
            "6.8 GOAWAY on a stream",
            &[frame_of(GOAWAY, 1, &[0; 8])],
            Connection(PROTOCOL),
        ),
        case("6.9 by nothing", &[window(0, 0)], Connection(PROTOCOL)),
        case(
            "6.9 by nothing, a stream",
            &[post(1), window(1, 0)],
            Stream(PROTOCOL),
        ),
        case(
            "6.9.1 too wide",
            &[window(0, 0x7fff_ffff)],
            Connection(FLOW),
        ),
        case(
            "6.9.1 too wide, a stream",
            &[post(1), window(1, 0x7fff_ffff)],
            Stream(FLOW),
        ),
        case(
            "6.10 CONTINUATION alone",
            &[frame_of(CONTINUATION, 1, &[])],
            Connection(PROTOCOL),
        ),
        case(
            "6.10 of another stream",
            &[half, frame(CONTINUATION, 4, 3, &[])],
            Connection(PROTOCOL),
        ),
        case("8.1 a second head", &[post(1), post(1)], Stream(PROTOCOL)),
        case(
            "8.1.1 body too short",
            &[
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &request("POST", "/", &[("content-length", "5")]),
                ),
                frame(DATA, END_STREAM, 1, b"abc"),
            ],
            Stream(PROTOCOL),
        ),
        case(
            "8.1.1 body too long",
            &[
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &request("POST", "/", &[("content-length", "2")]),
                ),
                frame(DATA, END_STREAM, 1, b"abc"),
            ],
            Stream(PROTOCOL),
        ),
        case(
            "8.2.1 upper case",
            &[fields(&[("X", "y")])],
            Stream(PROTOCOL),
        ),
        case(
            "8.2.1 line end",
            &[fields(&[("a", "b\r\nc: d")])],
            Stream(PROTOCOL),
        ),
        case(
            "8.2.2 connection",
            &[fields(&[("connection", "close")])],
            Stream(PROTOCOL),
        ),
        case("8.2.2 te", &[fields(&[("te", "gzip")])], Stream(PROTOCOL)),
        case(
            "8.3 unknown pseudo",
            &[fields(&[(":x", "y")])],
            Stream(PROTOCOL),
        ),
        case(
            "8.3.1 no path",
            &[frame(
                HEADERS,
                WHOLE,
                1,
                &section(&[(":method", "GET"), (":scheme", "https")]),
            )],
            Stream(PROTOCOL),
        ),
    ]
}

#[test]
fn what_breaks_the_standard_ends_the_stream_or_the_connection() {
    let demo = Upstream::tcp(|mut connection| while connection.head().is_some() {});
    let door = Door::with_demo(&demo.at);
    for Broken {
        section,
        bytes,
        ends,
    } in broken()
    {
        let mut peer = Peer::new(&door);
        peer.send(&bytes);
        let error = peer.until(|frame| matches!(frame.kind, RST_STREAM | GOAWAY));
        let error = error.unwrap_or_else(|error| panic!("{section}: {error}"));
        let code = error.payload[error.payload.len() - 4..].try_into().unwrap();
        let code = u32::from_be_bytes(code);
        let got = match error.kind {
            GOAWAY => Ends::Connection(code),
            _ => Ends::Stream(code),
        };
        assert_eq!(got, ends, "{section}");
        if error.kind == GOAWAY {
            assert!(peer.client.is_closed(), "{section}");
        } else {
            peer.send(&frame_of(PING, 0, b"are you "));
            let pong = peer.until(|frame| frame.kind == PING).unwrap();
            assert_eq!(pong.payload, b"are you ", "{section}");
        }
    }
    door.close();
}

/// CVE-2023-44487, CVE-2019-9512, -9515, -9518, CVE-2024-27316 and their like.
#[test]
fn floods_end_their_own_connection_only() {
    let demo = Upstream::friendly();
    let door = Door::with_demo(&demo.at);
    let mut other = Peer::new(&door);
    let mut next = 1;
    let resets = (0..5000).map(|n| {
        let cancel = frame_of(RST_STREAM, 2 * n + 1, &8_u32.to_be_bytes());
        [get(2 * n + 1, "/"), cancel].concat()
    });
    let endless = frame(HEADERS, 0, 1, &request("GET", "/", &[]));
    let post = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    // CVE-2025-8671: what the client does makes the door reset its own streams.
    let made = (0..5000).map(|n| {
        let too_wide = frame_of(WINDOW_UPDATE, 2 * n + 1, &0x7fff_ffff_u32.to_be_bytes());
        [get(2 * n + 1, "/"), too_wide].concat()
    });
    let floods: [(&str, Vec<u8>); 6] = [
        ("rapid reset", resets.collect::<Vec<_>>().concat()),
        ("made to reset", made.collect::<Vec<_>>().concat()),
        ("pings", frame_of(PING, 0, &[0; 8]).repeat(100_000)),
        ("settings", frame_of(SETTINGS, 0, &[]).repeat(100_000)),
        (
            "empty data",
            [post, frame_of(DATA, 1, &[]).repeat(100_000)].concat(),
        ),
        (
            "continuations",
            [endless, frame_of(CONTINUATION, 1, &[]).repeat(100_000)].concat(),
        ),
    ];
    for (name, bytes) in floods {
        let mut peer = Peer::new(&door);
        for part in bytes.chunks(4096) {
            peer.send(part);
        }
        match peer.until(|frame| frame.kind == GOAWAY) {
            Ok(end) => assert_eq!(end.payload[4..], 11_u32.to_be_bytes(), "{name}"),
            // The end may be lost to a reset, as the door reads no more; but it must come.
            Err(error) => assert!(
                !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ),
                "{name}: {error}"
            ),
        }
        other.send(&get(next, "/other"));
        assert_eq!(other.body(next), b"GET /other ", "{name}");
        next += 2;
    }
    door.close();
}

#[test]
fn streams_beyond_the_limit_are_refused_and_may_be_tried_again() {
    let demo = Upstream::tcp(|mut connection| while connection.head().is_some() {});
    let door = Door::with_demo(&demo.at);
    let mut peer = Peer::new(&door);
    for n in 0..101 {
        peer.send(&get(2 * n + 1, "/"));
    }
    let refused = peer.until(|frame| frame.kind == RST_STREAM).unwrap();
    assert_eq!(
        (refused.stream, refused.payload),
        (201, 7_u32.to_be_bytes().to_vec())
    );
    door.close();
}

#[test]
fn services_that_fail_cost_their_own_stream_only() {
    let demo = Upstream::tcp(|mut connection| {
        while let Some(request) = connection.request() {
            match request.path.as_str() {
                "/nonsense" => return connection.say("what?\r\n\r\n"),
                "/half" => {
                    return connection.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
                }
                _ => connection.answer("200 OK", "fine"),
            }
        }
    });
    let door = Door::open(&nobody(), &demo.at, Limits::default());
    let mut peer = Peer::new(&door);
    peer.send(&get(1, "/half"));
    let reset = peer.until(|frame| frame.kind == RST_STREAM).unwrap();
    assert_eq!(
        (reset.stream, reset.payload),
        (1, 2_u32.to_be_bytes().to_vec())
    );
    peer.send(&get(3, "/nonsense"));
    assert!(
        String::from_utf8(peer.body(3))
            .unwrap()
            .contains("no proper answer")
    );
    peer.send(&get(5, "/"));
    assert_eq!(peer.body(5), b"fine");
    door.close();
}

#[test]
fn endless_interim_answers_cost_their_own_request_only() {
    let demo = Upstream::tcp(|mut connection| {
        while let Some(request) = connection.request() {
            if request.path == "/endless" {
                let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000);
                while connection.writer.write_all(hints.as_bytes()).is_ok() {}
                return;
            }
            connection.answer("200 OK", "fine");
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut peer = Peer::new(&door);
    peer.send(&get(1, "/endless"));
    let page = String::from_utf8(peer.body(1)).unwrap();
    assert!(page.contains("no proper answer"), "{page}");
    peer.send(&get(3, "/"));
    assert_eq!(peer.body(3), b"fine");
    let mut client = door.client();
    let mut answer = client.get("demo.otter.local", "/endless").unwrap();
    while answer.status < 200 {
        answer = client.answer().unwrap();
    }
    assert_eq!(answer.status, 502);
    assert_eq!(client.get("demo.otter.local", "/").unwrap().body, b"fine");
    door.close();
}

#[test]
fn data_on_its_way_to_a_stream_that_the_door_reset_harms_no_other() {
    let demo = Upstream::tcp(|mut connection| {
        while let Some(head) = connection.head() {
            if head.starts_with("POST ") {
                return connection.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            }
            connection.answer("200 OK", "fine");
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut peer = Peer::new(&door);
    let post = request("POST", "/", &[]);
    peer.send(&frame(HEADERS, END_HEADERS, 1, &post));
    let reset = peer.until(|frame| frame.kind == RST_STREAM).unwrap();
    assert_eq!(reset.stream, 1);
    peer.send(&frame_of(DATA, 1, b"on its way"));
    peer.send(&get(3, "/"));
    assert_eq!(peer.body(3), b"fine");
    door.close();
}

#[test]
fn a_door_that_closes_lets_requests_finish() {
    let demo = Upstream::tcp(|mut connection| {
        while connection.request().is_some() {
            std::thread::sleep(Duration::from_millis(500));
            connection.answer("200 OK", "late");
        }
    });
    let limits = Limits {
        drain: Duration::from_secs(60),
        ..Limits::default()
    };
    let door = Door::open(&nobody(), &demo.at, limits);
    let mut peer = Peer::new(&door);
    peer.send(&get(1, "/"));
    until("the request's arrival", || {
        !demo.heads.lock().unwrap().is_empty()
    });
    let closing = std::thread::spawn(move || door.close());
    peer.until(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(peer.body(1), b"late");
    closing.join().unwrap();
}
