//! HTTP/2 requests that would be others, or two, once they are written as HTTP/1.1.

use super::{END, KETTLE21, RFC2, SMUGGLED, Seen, record};
use crate::{
    http2::{
        DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, RST_STREAM, WHOLE, frame, section,
    },
    open::{Door, nobody},
};

/// One attempt: its fields, and the body if one comes.
struct Case {
    source: &'static str,
    fields: Vec<(String, String)>,
    body: Option<String>,
    /// Fields after the body.
    trailer: Vec<(&'static str, &'static str)>,
    ends: Ends,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Answer(&'static str),
    Reset,
}

type Field<'f> = (&'f str, &'f str);

fn post(source: &'static str, changed: &[Field<'_>], added: &[Field<'_>]) -> Case {
    let usual = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/c"),
        (":authority", "demo.otter.local"),
    ];
    let changed = usual.map(|(name, value)| {
        let other = changed.iter().find(|(changed, _)| *changed == name);
        (name, other.map_or(value, |(_, value)| *value))
    });
    let fields = changed.iter().chain(added);
    Case {
        source,
        fields: fields
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: None,
        trailer: Vec::new(),
        ends: Ends::Reset,
        seen: Seen::Nothing,
    }
}

/// A request with a field more.
fn field(source: &'static str, name: &str, value: &str) -> Case {
    post(source, &[], &[(name, value)])
}

/// A request with another pseudo field.
fn pseudo(source: &'static str, name: &str, value: &str) -> Case {
    post(source, &[(name, value)], &[])
}

fn answered(status: &'static str, case: Case) -> Case {
    Case {
        ends: Ends::Answer(status),
        ..case
    }
}

/// With a body, which must not reach the service but as one.
fn with_body(body: &str, seen: Seen, case: Case) -> Case {
    Case {
        body: Some(body.to_owned()),
        seen,
        ..case
    }
}

fn injected() -> Vec<Case> {
    let split = "x\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: demo.otter.local";
    let lines = "x\r\nTransfer-Encoding: chunked";
    vec![
        // H2.TE, and the fields of HTTP/1.1's connections.
        field(KETTLE21, "transfer-encoding", "chunked"),
        field(RFC2, "connection", "transfer-encoding"),
        field(RFC2, "keep-alive", "timeout=5"),
        field(RFC2, "proxy-connection", "keep-alive"),
        field(RFC2, "upgrade", "h2c"),
        field(RFC2, "te", "chunked"),
        field(RFC2, "Transfer-Encoding", "chunked"),
        // Line ends in values and names.
        field(KETTLE21, "x", lines),
        field(KETTLE21, "x", split),
        field(KETTLE21, "cookie", lines),
        field(RFC2, "x", "y\nz: w"),
        field(RFC2, "x", "y\rz"),
        field(RFC2, "x", "y\0"),
        field(RFC2, "x", " y"),
        field(RFC2, "x", "y\t"),
        field(KETTLE21, "x: y\r\ntransfer-encoding", "chunked"),
        field(KETTLE21, "transfer-encoding: chunked\r\nx", "y"),
        field(KETTLE21, "transfer-encoding: chunked", ""),
        field(RFC2, "x\n", "y"),
        field(RFC2, "x y", "z"),
        field(RFC2, "", "y"),
        field(RFC2, "x\0", "y"),
        // Pseudo fields: each becomes a part of the request line or of Host.
        pseudo(KETTLE21, ":method", "GET /smuggled HTTP/1.1\r\nX: "),
        pseudo(
            KETTLE21,
            ":method",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nx: x",
        ),
        pseudo(RFC2, ":method", "PO ST"),
        pseudo(RFC2, ":method", ""),
        pseudo(
            KETTLE21,
            ":path",
            "/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nx: x",
        ),
        pseudo(KETTLE21, ":scheme", "https://demo.otter.local/smuggled?"),
        pseudo(KETTLE21, ":scheme", "https\r\nx: y"),
        pseudo(
            KETTLE21,
            ":authority",
            "demo.otter.local\r\nTransfer-Encoding: chunked",
        ),
        pseudo(RFC2, ":path", ""),
        field(RFC2, ":path", "/again"),
        field(RFC2, ":method", "GET"),
        field(RFC2, ":status", "200"),
        field(RFC2, ":protocol", "websocket"),
        answered("400", pseudo(KETTLE21, ":path", "/ HTTP/1.1")),
        answered("400", pseudo(RFC2, ":path", "c")),
        answered("400", pseudo(RFC2, ":path", "*")),
        answered("400", pseudo(RFC2, ":path", "http://other/c")),
        answered("400", pseudo(RFC2, ":authority", "a@demo.otter.local")),
        answered("400", pseudo(RFC2, ":authority", "demo.otter.local/x")),
        answered("400", pseudo(RFC2, ":authority", "demo.otter.local x")),
        answered("405", pseudo(RFC2, ":method", "CONNECT")),
        answered("405", pseudo(RFC2, ":method", "TRACE")),
        answered("400", field(KETTLE21, "host", "other.otter.local")),
        answered(
            "400",
            post(
                RFC2,
                &[],
                &[("host", "demo.otter.local"), ("host", "other")],
            ),
        ),
        answered("417", field(RFC2, "expect", "y")),
    ]
}

fn lengths() -> Vec<Case> {
    let line = "POST /c HTTP/1.1\r\nHost: demo.otter.local\r\n";
    let head = |length: &str| format!("{line}Content-Length: {length}\r\n{END}");
    let cut = |length: &str, body: &str| Seen::AtMost(format!("{}{body}", head(length)));
    let with = |length: &str| field(KETTLE21, "content-length", length);
    let size = SMUGGLED.len();
    let coded =
        format!("{line}Transfer-Encoding: chunked\r\n{END}{size:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
    let refused = |case: Case| {
        let case = with_body(SMUGGLED, Seen::Nothing, case);
        answered("400", case)
    };
    vec![
        // H2.CL: the length says less, or more, than comes.
        with_body(SMUGGLED, cut("0", ""), with("0")),
        with_body(SMUGGLED, cut("4", &SMUGGLED[..4]), with("4")),
        with_body("abc", cut("99", "abc"), with("99")),
        refused(with("+54")),
        refused(with("0x36")),
        refused(with("5, 5")),
        refused(with("")),
        refused(post(
            RFC2,
            &[],
            &[("content-length", "54"), ("content-length", "54")],
        )),
        answered("400", field(KETTLE21, "content-length", "5")),
        // One that is whole arrives as a body, whatever it looks like.
        answered(
            "200",
            with_body(SMUGGLED, Seen::Exactly(coded), post(KETTLE21, &[], &[])),
        ),
        answered(
            "200",
            with_body(
                SMUGGLED,
                Seen::Exactly(format!("{}{SMUGGLED}", head(&size.to_string()))),
                with(&size.to_string()),
            ),
        ),
        // Fields after the body are none before it.
        answered(
            "200",
            Case {
                trailer: vec![("content-length", "99"), ("x", "y")],
                ..with_body(
                    "hello",
                    Seen::Exactly(format!("{}hello", head("5"))),
                    with("5"),
                )
            },
        ),
        answered(
            "200",
            Case {
                seen: Seen::Exactly(head("0")),
                ..field(RFC2, "content_length", "99")
            },
        ),
    ]
}

#[test]
fn no_request_is_smuggled_from_http2() {
    let door = Door::with_demo(&nobody());
    let (mut played, mut wrong) = (Vec::new(), Vec::new());
    for case in injected().into_iter().chain(lengths()) {
        let recorder = record(&door);
        let ended = play(&door, &case);
        let what = format!("{}: {:?} {:?}", case.source, case.fields, case.body);
        if ended != format!("{:?}", case.ends) {
            wrong.push(format!("{what}: {ended} instead of {:?}", case.ends));
        }
        played.push((what, case.seen, recorder));
    }
    assert!(played.len() > 50, "{} cases", played.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    door.close();
    for (what, seen, recorder) in played {
        seen.check(&what, &recorder.finish());
    }
}

/// Plays an attempt, and says how it ended.
fn play(door: &Door, case: &Case) -> String {
    let fields = case.fields.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let fields = section(&fields.collect::<Vec<_>>());
    let mut peer = Peer::new(door);
    match &case.body {
        None => peer.send(&frame(HEADERS, WHOLE, 1, &fields)),
        Some(body) => {
            peer.send(&frame(HEADERS, END_HEADERS, 1, &fields));
            let last = if case.trailer.is_empty() {
                END_STREAM
            } else {
                0
            };
            peer.send(&frame(DATA, last, 1, body.as_bytes()));
        }
    }
    if !case.trailer.is_empty() {
        peer.send(&frame(HEADERS, WHOLE, 1, &section(&case.trailer)));
    }
    let end = peer.until(|frame| [HEADERS, RST_STREAM, GOAWAY].contains(&frame.kind));
    match end {
        Err(error) => error.to_string(),
        Ok(frame) if frame.kind == RST_STREAM => format!("{:?}", Ends::Reset),
        Ok(frame) if frame.kind == HEADERS => {
            format!("Answer({:?})", status(&frame.payload))
        }
        Ok(frame) => format!("{frame:?}"),
    }
}

/// The status at the start of a field section: one of those of HPACK's table, or a literal.
fn status(section: &[u8]) -> String {
    // The first section after SETTINGS begins with the table's size.
    match section.strip_prefix(&[0x20]).unwrap_or(section) {
        [0x88, ..] => "200".to_owned(),
        [0x8c, ..] => "400".to_owned(),
        [_, 3, digits @ ..] => String::from_utf8_lossy(&digits[..3.min(digits.len())]).into_owned(),
        other => format!("{:?}", other.escape_ascii().to_string()),
    }
}
