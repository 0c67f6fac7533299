//! Requests over HTTP/1.1 and older, as bytes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    END, FUNKY, KETTLE19, KETTLE22, KETTLE25, KLEIN, LINHART, RFC, SMUGGLED, Seen, record,
};
use crate::{
    client::Client,
    open::{Door, nobody, until},
    upstream::Upstream,
};

/// One attempt, and what must come of it.
struct Case {
    source: &'static str,
    what: String,
    sent: String,
    /// The answers' statuses, in their order.
    answers: Vec<u16>,
    /// The door ends the connection after them.
    closes: bool,
    seen: Seen,
}

/// A request that is not taken, with another one behind it that nobody may ever see.
fn refused(source: &'static str, what: &str, status: u16, sent: &str) -> Case {
    Case {
        source,
        what: what.to_owned(),
        sent: format!("{sent}{SMUGGLED}"),
        answers: vec![status],
        closes: true,
        seen: Seen::Nothing,
    }
}

/// A POST with these fields.
fn fields(source: &'static str, status: u16, fields: &str) -> Case {
    let sent = format!("POST /c HTTP/1.1\r\nHost: demo.otter.local\r\n{fields}\r\n\r\n");
    refused(source, fields, status, &sent)
}

/// A chunked body that is cut where it is damaged: `good` is what may have been passed on.
fn chunks(source: &'static str, chunks: &str, good: &str) -> Case {
    let sent = format!("{CHUNKED}\r\n{chunks}");
    let head = format!("{CHUNKED}{END}{good}");
    Case {
        seen: Seen::AtMost(head),
        ..refused(source, chunks, 400, &sent)
    }
}

/// A request that can mean only one thing, and is passed on as such.
fn taken(source: &'static str, sent: &str, seen: &str) -> Case {
    Case {
        source,
        what: sent.to_owned(),
        sent: sent.to_owned(),
        answers: vec![200],
        closes: false,
        seen: Seen::Exactly(seen.to_owned()),
    }
}

fn heads() -> Vec<Case> {
    let host = "Host: demo.otter.local\r\n";
    let line = |source, status, line: &str| {
        refused(source, line, status, &format!("{line}\r\n{host}\r\n"))
    };
    let whole = |source, status, head: &str| refused(source, head, status, head);
    vec![
        // 2.2: line ends.
        whole(RFC, 400, "GET /c HTTP/1.1\nHost: demo.otter.local\n\n"),
        whole(RFC, 400, "GET /c HTTP/1.1\r\nHost: demo.otter.local\n\r\n"),
        whole(
            RFC,
            400,
            "GET /c HTTP/1.1\rHost: demo.otter.local\r\r\n\r\n",
        ),
        whole(
            RFC,
            400,
            &format!("GET /c HTTP/1.1\r\n{host}X: y\rZ: w\r\n\r\n"),
        ),
        whole(
            RFC,
            400,
            &format!("GET /c HTTP/1.1\r\n{host}X: y\r\r\n\r\n"),
        ),
        whole(RFC, 400, &format!("GET /c HTTP/1.1\r\n {host}\r\n")),
        whole(RFC, 400, &format!("GET /c HTTP/1.1\r\n\t{host}\r\n")),
        whole(
            KLEIN,
            400,
            &format!("GET /c HTTP/1.1\r\n{host}X: y\r\n\nZ: w\r\n\r\n"),
        ),
        // 2.3 and 3: versions and the request line.
        whole("RFC 1945", 400, "GET /c\r\n\r\n"),
        line(RFC, 505, "GET /c HTTP/2.0"),
        line(RFC, 505, "GET /c HTTP/1.2"),
        line(RFC, 400, "GET /c HTTP/1.10"),
        line(RFC, 505, "GET /c http/1.1"),
        line(RFC, 505, "GET /c HTTP/01.1"),
        line(RFC, 505, "GET /c HTTP /1.1"),
        line(RFC, 400, "GET /c HTTP/1.1 "),
        line(RFC, 400, "GET  /c HTTP/1.1"),
        line(RFC, 400, " GET /c HTTP/1.1"),
        line(RFC, 400, "GET\t/c HTTP/1.1"),
        line(RFC, 400, "GET /c\tHTTP/1.1"),
        line(RFC, 505, "GET /c /d HTTP/1.1"),
        line(RFC, 400, "GET /c\u{b}d HTTP/1.1"),
        line(RFC, 400, "GET /c\0 HTTP/1.1"),
        line(RFC, 400, "GET /c\rX HTTP/1.1"),
        line(RFC, 400, "G@T /c HTTP/1.1"),
        line(RFC, 400, "GE\0T /c HTTP/1.1"),
        // 3.2: targets and hosts.
        line(RFC, 400, "GET c HTTP/1.1"),
        line(RFC, 400, "GET * HTTP/1.1"),
        line(RFC, 400, "GET /c#d HTTP/1.1"),
        line(RFC, 400, "GET demo.otter.local:443 HTTP/1.1"),
        line(RFC, 400, "GET ftp://demo.otter.local/c HTTP/1.1"),
        line(RFC, 400, "GET http:///c HTTP/1.1"),
        line(RFC, 400, "GET http://other.otter.local/c HTTP/1.1"),
        line(RFC, 400, "GET http://a@demo.otter.local/c HTTP/1.1"),
        line(RFC, 400, "GET http://demo.otter.local@other/c HTTP/1.1"),
        line(RFC, 405, "CONNECT demo.otter.local:443 HTTP/1.1"),
        line(RFC, 405, "TRACE /c HTTP/1.1"),
        whole(RFC, 400, "GET /c HTTP/1.1\r\n\r\n"),
        whole(RFC, 400, &format!("GET /c HTTP/1.1\r\n{host}{host}\r\n")),
        whole(
            RFC,
            400,
            &format!("GET /c HTTP/1.1\r\n{host}Host: other\r\n\r\n"),
        ),
        whole(
            RFC,
            400,
            "GET /c HTTP/1.1\r\nHost: demo.otter.local, other\r\n\r\n",
        ),
        whole(
            RFC,
            400,
            "GET /c HTTP/1.1\r\nHost: demo.otter.local other\r\n\r\n",
        ),
        whole(
            RFC,
            400,
            "GET /c HTTP/1.1\r\nHost: a@demo.otter.local\r\n\r\n",
        ),
        whole(
            RFC,
            400,
            "GET /c HTTP/1.1\r\nHost: demo.otter.local/x\r\n\r\n",
        ),
        whole(
            RFC,
            400,
            "GET /c HTTP/1.1\r\nHost: demo.otter.local:443:80\r\n\r\n",
        ),
        whole(
            RFC,
            400,
            "GET /c HTTP/1.1\r\nHost : demo.otter.local\r\n\r\n",
        ),
        whole(
            RFC,
            400,
            "GET /c HTTP/1.1\r\nHost:\r\n demo.otter.local\r\n\r\n",
        ),
    ]
}

fn framing() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        // Both: CL.TE and TE.CL, in either order.
        (KETTLE19, "Content-Length: 6\r\nTransfer-Encoding: chunked"),
        (KETTLE19, "Transfer-Encoding: chunked\r\nContent-Length: 4"),
        (KETTLE19, "Content-Length: 0\r\nTransfer-Encoding: chunked"),
        // Codings that some see and others do not: TE.TE.
        (KETTLE19, "Transfer-Encoding : chunked"),
        (KETTLE19, "Transfer-Encoding\t: chunked"),
        (KETTLE19, "Transfer-Encoding\u{b}: chunked"),
        (KETTLE19, "Transfer-Encoding\r\n : chunked"),
        (KETTLE19, "Transfer-Encoding:\r\n chunked"),
        (KETTLE19, "Transfer-Encoding:\u{b}chunked"),
        (KETTLE19, "Transfer-Encoding: \0chunked"),
        (KETTLE19, " Transfer-Encoding: chunked"),
        (KETTLE19, "X: y\nTransfer-Encoding: chunked"),
        (KETTLE19, "X: y\r\n\tTransfer-Encoding: chunked"),
        (KETTLE19, "X: y\rTransfer-Encoding: chunked"),
        (KETTLE19, "Transfer\0-Encoding: chunked"),
        (KETTLE22, "Transfer-Encoding\0: chunked"),
        (KLEIN, "Content Length: 5"),
        (KLEIN, "Content-Length\r: 5"),
        (KLEIN, "\r\nContent-Length: 5".trim_start_matches('\n')),
        // Lengths that some read in another way.
        (LINHART, "Content-Length: 0\r\nContent-Length: 60"),
        (LINHART, "Content-Length: 5\r\nContent-Length: 5"),
        (RFC, "Content-Length: 5, 5"),
        (RFC, "Content-Length: 0, 60"),
        (RFC, "Content-Length: +5"),
        (RFC, "Content-Length: -1"),
        (RFC, "Content-Length: 0x5"),
        (RFC, "Content-Length: 5 5"),
        (RFC, "Content-Length: 5;"),
        (RFC, "Content-Length: 1e1"),
        (RFC, "Content-Length: 1_0"),
        (RFC, "Content-Length: 5.0"),
        (RFC, "Content-Length: \"5\""),
        (RFC, "Content-Length: ٣"),
        (RFC, "Content-Length:"),
        (RFC, "Content-Length: 5\0"),
        (RFC, "Content-Length: 18446744073709551616"),
        (RFC, "Content-Length: 99999999999999999999999999"),
        (KETTLE25, "Content-Length : 5"),
        (KETTLE25, "Content-Length:\r\n 5"),
        (KETTLE25, "Content-Length\u{85}: 5"),
        (KETTLE25, " Content-Length: 5"),
        // 5: fields that are none.
        (RFC, "X"),
        (RFC, ": y"),
        (RFC, "X y: z"),
        (RFC, "X(y): z"),
        (RFC, "X: \u{1}"),
        (RFC, "X: \u{7f}"),
    ]
    .into_iter()
    // One is an empty line in disguise, which ends the head: what follows is not of it.
    .filter(|(_, text)| !text.starts_with('\r'))
    .map(|(source, text)| fields(source, 400, text))
    .collect();
    cases.extend(
        [
            (KETTLE19, "Transfer-Encoding: xchunked"),
            (
                KETTLE19,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
            ),
            (
                KETTLE19,
                "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
            ),
            (
                KETTLE19,
                "Transfer-Encoding: chunked\r\nTransfer-encoding: cow",
            ),
            (KETTLE19, "Transfer-Encoding: identity, chunked"),
            (KETTLE19, "Transfer-Encoding: \"chunked\""),
            (KLEIN, "Transfer-Encoding: chunked, identity"),
            (RFC, "Transfer-Encoding: identity"),
            (RFC, "Transfer-Encoding: chunked, chunked"),
            (
                RFC,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            ),
            (RFC, "Transfer-Encoding: gzip, chunked"),
            (RFC, "Transfer-Encoding: chunked;q=1"),
            (RFC, "Transfer-Encoding: chunked,"),
            (RFC, "Transfer-Encoding:"),
        ]
        .map(|(source, text)| fields(source, 501, text)),
    );
    cases.extend(
        [
            (KETTLE25, "Expect: y 100-continue\r\nContent-Length: 5"),
            (KETTLE25, "Expect: 100-continue, y\r\nContent-Length: 5"),
            (KETTLE25, "Expect: \"100-continue\"\r\nContent-Length: 5"),
            (KETTLE25, "Expect: y\r\nExpect: 100-continue"),
        ]
        .map(|(source, text)| fields(source, 417, text)),
    );
    let old = "POST /c HTTP/1.0\r\nHost: demo.otter.local\r\nTransfer-Encoding: chunked\r\n\r\n";
    cases.push(refused(RFC, "a coding in HTTP/1.0", 400, old));
    cases
}

fn bodies() -> Vec<Case> {
    vec![
        // 7.1: sizes.
        chunks(RFC, "0x5\r\nhello\r\n0\r\n\r\n", "0"),
        chunks(RFC, "+5\r\nhello\r\n0\r\n\r\n", ""),
        chunks(RFC, "-1\r\n\r\n", ""),
        chunks(RFC, " 5\r\nhello\r\n0\r\n\r\n", ""),
        chunks(RFC, "5 \r\nhello\r\n0\r\n\r\n", "5"),
        chunks(RFC, "5\t\r\nhello\r\n0\r\n\r\n", "5"),
        chunks(RFC, "0_5\r\nhello\r\n0\r\n\r\n", "0"),
        chunks(RFC, "5g\r\nhello\r\n0\r\n\r\n", "5"),
        chunks(RFC, "\r\n0\r\n\r\n", ""),
        chunks(
            RFC,
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "100000000000000",
        ),
        chunks(
            RFC,
            "0000000000000000000005\r\nhello\r\n0\r\n\r\n",
            "000000000000000",
        ),
        chunks(LINHART, "5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhello"),
        chunks(LINHART, "6\r\nhello\r\n0\r\n\r\n", "6\r\nhello\r"),
        // Line ends within the framing: TERM.EXT, EXT.TERM and their like.
        chunks(FUNKY, "5\nhello\r\n0\r\n\r\n", "5"),
        chunks(FUNKY, "5\rhello\r\n0\r\n\r\n", "5\r"),
        chunks(FUNKY, "5\r\r\nhello\r\n0\r\n\r\n", "5\r"),
        chunks(FUNKY, "2\n;\r\nxx\r\n0\r\n\r\n", "2"),
        chunks(FUNKY, "2;\nxx\r\n4c\r\n0\r\n\r\n", "2;"),
        chunks(FUNKY, "2;\rxx\r\n0\r\n\r\n", "2;\r"),
        chunks(FUNKY, "2;a\nb\r\nxx\r\n0\r\n\r\n", "2;a"),
        chunks(FUNKY, "2;a=\"\nb\"\r\nxx\r\n0\r\n\r\n", "2;a=\""),
        chunks(FUNKY, "2;a=\"\r\nb\"\r\nxx\r\n0\r\n\r\n", "2;a=\"\r\nb\""),
        chunks(FUNKY, "2;a\u{b}\r\nxx\r\n0\r\n\r\n", "2;a"),
        chunks(FUNKY, "5\r\nhello\n0\r\n\r\n", "5\r\nhello"),
        chunks(FUNKY, "5\r\nhello\r0\r\n\r\n", "5\r\nhello\r"),
        chunks(FUNKY, "5\r\nhello0\r\n\r\n", "5\r\nhello"),
        chunks(FUNKY, "5\r\nhelloXX0\r\n\r\n", "5\r\nhello"),
        // The end, and trailers.
        chunks(RFC, "0\n\n", "0"),
        chunks(RFC, "0\r\n\n", "0\r\n"),
        chunks(RFC, "0\r\nX: y\n\r\n", "0\r\n"),
        chunks(RFC, "0\r\nX: \0\r\n\r\n", "0\r\n"),
        chunks(FUNKY, "0;\n\r\n\r\n", "0;"),
    ]
}

fn unambiguous() -> Vec<Case> {
    let post = "POST /c HTTP/1.1\r\nHost: demo.otter.local\r\n";
    let get = "GET /c HTTP/1.1\r\nHost: demo.otter.local\r\n";
    let hello = "Content-Length: 5\r\n";
    let once = |fields: &str| format!("{post}{fields}{hello}\r\nhello");
    let plain = format!("{post}{hello}{END}hello");
    let coded = |fields: &str, body: &str| format!("{post}{fields}\r\n{body}");
    let chunked = |body: &str| format!("{CHUNKED}{END}{body}");
    let length = SMUGGLED.len();
    let mut cases = vec![
        // What only looks like framing never gets to the service.
        taken(KETTLE19, &once("Transfer_Encoding: chunked\r\n"), &plain),
        taken(KETTLE19, &once("Content_Length: 99\r\n"), &plain),
        taken(
            KETTLE19,
            &once("X_Forwarded_Host: x\r\nForwarded: for=x\r\n"),
            &plain,
        ),
        taken(
            KETTLE19,
            &once("TE: chunked\r\nTrailer: Content-Length\r\n"),
            &plain,
        ),
        taken(
            KETTLE22,
            &once("Connection: Content-Length, Host\r\n"),
            &plain,
        ),
        taken(
            KETTLE25,
            &once("Keep-Alive: 5\r\nConnection: Keep-Alive\r\n"),
            &plain,
        ),
        taken(
            RFC,
            &once("Upgrade: h2c\r\nConnection: Upgrade\r\n"),
            &plain,
        ),
        taken(
            RFC,
            &once("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
            &plain,
        ),
        // What may be written in several ways is passed on in one.
        taken(RFC, &format!("\r\n{}", once("")), &plain),
        taken(
            RFC,
            &format!("{post}Content-Length:\t 005 \t\r\n\r\nhello"),
            &plain,
        ),
        taken(
            RFC,
            &coded("tRANSFER-eNCODING:CHUNKED\r\n", "0\r\n\r\n"),
            &chunked("0\r\n\r\n"),
        ),
        taken(
            RFC,
            &coded(
                "Transfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\nHost: x\r\n\r\n",
            ),
            &chunked("5\r\nhello\r\n0\r\n\r\n"),
        ),
        taken(
            KLEIN,
            &coded(
                "Transfer-Encoding: chunked\r\n",
                "00\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n",
            ),
            &chunked("00\r\n\r\n"),
        ),
        taken(
            RFC,
            "GET http://demo.otter.local/c HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n",
            &format!("{get}{END}"),
        ),
        taken(
            RFC,
            "GET /%0d%0aX:%20y HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n",
            &format!("GET /%0d%0aX:%20y HTTP/1.1\r\nHost: demo.otter.local\r\n{END}"),
        ),
        // A body is a body, whatever it looks like and whatever the method: CL.0, 0.CL.
        taken(
            KETTLE22,
            &format!("{get}Content-Length: {length}\r\n\r\n{SMUGGLED}"),
            &format!("{get}Content-Length: {length}\r\n{END}{SMUGGLED}"),
        ),
        taken(
            KETTLE25,
            &format!("{post}Content-Length: {length}\r\n\r\n{SMUGGLED}"),
            &format!("{post}Content-Length: {length}\r\n{END}{SMUGGLED}"),
        ),
    ];
    // A next request is one of its own when its time has come.
    let second = format!("GET /smuggled HTTP/1.1\r\nHost: demo.otter.local\r\n{END}");
    cases.push(Case {
        what: "two requests".to_owned(),
        answers: vec![200, 200],
        ..taken(
            RFC,
            &format!(
                "{}{SMUGGLED}",
                coded("Transfer-Encoding: chunked\r\n", "0\r\n\r\n")
            ),
            &format!("{}{second}", chunked("0\r\n\r\n")),
        )
    });
    // HTTP/1.0 has one request a connection here, whatever it asks for (RFC 9112, C.2.2).
    cases.push(Case {
        what: "HTTP/1.0 that asks to be kept".to_owned(),
        closes: true,
        ..taken(
            RFC,
            &format!(
                "GET /c HTTP/1.0\r\nHost: demo.otter.local\r\nConnection: keep-alive\r\n\r\n\
                 {SMUGGLED}"
            ),
            &format!("GET /c HTTP/1.0\r\nHost: demo.otter.local\r\n{END}"),
        )
    });
    cases
}

#[test]
fn no_request_is_smuggled_to_a_service() {
    let door = Door::with_demo(&nobody());
    let cases = [heads(), framing(), bodies(), unambiguous()].map(Vec::into_iter);
    let (mut played, mut wrong) = (Vec::new(), Vec::new());
    for case in cases.into_iter().flatten() {
        let recorder = record(&door);
        if let Some(trouble) = play(&door, &case) {
            wrong.push(format!("{}: {:?}: {trouble}", case.source, case.what));
        }
        played.push((case, recorder));
    }
    let count = played.len();
    assert!(count > 150, "{count} cases");
    assert!(wrong.is_empty(), "{wrong:#?}");
    door.close();
    for (case, recorder) in played {
        let what = format!("{}: {:?}", case.source, case.what);
        case.seen.check(&what, &recorder.finish());
    }
}

/// Plays an attempt; what was wrong with the answers.
fn play(door: &Door, case: &Case) -> Option<String> {
    let mut client = door.client();
    // The door may have closed before all of it is sent.
    let _ = client.send(case.sent.as_bytes());
    for status in &case.answers {
        match client.answer() {
            Ok(answer) if answer.status == *status => {}
            Ok(answer) => return Some(format!("{} instead of {status}", answer.status)),
            Err(error) => return Some(format!("no {status}: {error}")),
        }
    }
    (case.closes && !client.is_closed()).then(|| "it goes on".to_owned())
}

/// Names no service: the dashboard is asked, not what was asked before.
#[test]
fn an_empty_host_is_the_dashboards() {
    let door = Door::with_demo(&nobody());
    let recorder = record(&door);
    let mut client = door.client();
    client
        .send(b"GET /health HTTP/1.1\r\nHost:\r\n\r\n")
        .unwrap();
    assert_eq!(client.answer().unwrap().status, 200);
    client.send(b"GET /c HTTP/1.1\r\nHost:\r\n\r\n").unwrap();
    assert_eq!(client.answer().unwrap().status, 503);
    drop(client);
    door.close();
    Seen::Nothing.check("an empty Host", &recorder.finish());
}

/// A service that answers before it has read the body may take it for a request (Kettle, 2025:
/// Expect and early-response gadgets): nobody else gets such a connection.
#[test]
fn a_connection_whose_body_may_be_unread_is_not_used_again() {
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let demo = Upstream::tcp(move |mut connection| {
        while let Some(head) = connection.head() {
            if head.starts_with("GET /smuggled ") {
                until("the end of the test", || is_over.load(Ordering::SeqCst));
            }
            connection.answer("200 OK", "hasty");
        }
    });
    let door = Door::with_demo(&demo.at);
    let length = SMUGGLED.len();
    let head =
        format!("POST /c HTTP/1.1\r\nHost: demo.otter.local\r\nContent-Length: {length}\r\n");
    let mut expecting = door.client();
    let sent = format!("{head}Expect: 100-continue\r\n\r\n{SMUGGLED}");
    expecting.send(sent.as_bytes()).unwrap();
    assert_eq!(expecting.answer().unwrap().body, b"hasty");
    let mut early = door.client();
    early.send(format!("{head}\r\n").as_bytes()).unwrap();
    assert_eq!(early.answer().unwrap().body, b"hasty");
    let _ = early.send(SMUGGLED.as_bytes());
    for turn in 0..3 {
        let mut other: Client = door.client();
        assert_eq!(other.get("demo.otter.local", "/next").unwrap().status, 200);
        let heads = demo.heads.lock().unwrap();
        let last = heads.last().unwrap();
        assert!(last.starts_with("GET /next "), "turn {turn}: {last}");
    }
    assert_eq!(
        demo.count(),
        3,
        "one of the two was used again, or the third was not"
    );
    door.close();
}

const CHUNKED: &str =
    "POST /c HTTP/1.1\r\nHost: demo.otter.local\r\nTransfer-Encoding: chunked\r\n";
