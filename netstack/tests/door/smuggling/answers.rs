//! Services whose answers would split, or be taken for others'. Whatever they say, it ends with the
//! connection that they said it on: the next request is answered by what it asked for.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::{FUNKY, RFC};
use crate::{
    client::Client,
    open::{Door, Folder, until},
    upstream::Upstream,
};

/// What a service answers, and what the client must get of it.
struct Case {
    source: &'static str,
    method: &'static str,
    says: String,
    gets: Gets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// A whole answer with that body.
    Body(u16, &'static str),
    /// An answer that begins and visibly breaks off.
    Broken,
}

fn case(source: &'static str, says: &str, gets: Gets) -> Case {
    Case {
        source,
        method: "GET",
        says: says.to_owned(),
        gets,
    }
}

/// What the door says in the service's stead.
const REFUSED: Gets = Gets::Body(502, "");
/// A second answer that nobody may get.
const SECOND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

fn heads() -> Vec<Case> {
    let refused = |says: &str| case(RFC, says, REFUSED);
    let field = |field: &str| refused(&format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n{SECOND}"));
    vec![
        field("Content-Length: 4\r\nContent-Length: 0"),
        field("Content-Length: 0\r\nContent-Length: 0"),
        field("Content-Length: 0\r\nTransfer-Encoding: chunked"),
        field("Content-Length: -1"),
        field("Content-Length: 0x0"),
        field("Content-Length: 0, 4"),
        field("Content-Length : 0"),
        field("Content-Length:\r\n 0"),
        field("Transfer-Encoding: identity"),
        field("Transfer-Encoding: chunked, chunked"),
        field("Transfer-Encoding: xchunked"),
        field("X: y\rContent-Length: 0"),
        field("X: \0"),
        field("X y: z"),
        field("X"),
        field(": y"),
        refused(&format!("HTTP/1.1 20 OK\r\n\r\n{SECOND}")),
        refused(&format!("HTTP/1.1 2000 OK\r\n\r\n{SECOND}")),
        refused(&format!("HTTP/1.1 099 OK\r\n\r\n{SECOND}")),
        refused(&format!("HTTP/1.1 +20 OK\r\n\r\n{SECOND}")),
        refused(&format!("HTTP/3.1 200 OK\r\n\r\n{SECOND}")),
        refused(&format!("ICY 200 OK\r\n\r\n{SECOND}")),
        refused(&format!("\n\n{SECOND}")),
        // 15.2: interim answers.
        refused(&format!(
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n{SECOND}"
        )),
        refused(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(20)),
    ]
}

fn bodies() -> Vec<Case> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let broken = |source, chunks: &str| {
        case(
            source,
            &format!("{ok}{chunked}{chunks}{SECOND}"),
            Gets::Broken,
        )
    };
    let then_second = |answer: &str, gets| case(RFC, &format!("{answer}{SECOND}"), gets);
    vec![
        // An answer too many.
        then_second(
            &format!("{ok}Content-Length: 2\r\n\r\nok"),
            Gets::Body(200, "ok"),
        ),
        then_second(
            &format!("{ok}{chunked}2\r\nok\r\n0\r\n\r\n"),
            Gets::Body(200, "ok"),
        ),
        then_second(
            "HTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\n",
            Gets::Body(204, ""),
        ),
        then_second(
            "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
            Gets::Body(204, ""),
        ),
        then_second(
            "HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n",
            Gets::Body(304, ""),
        ),
        Case {
            method: "HEAD",
            ..then_second(
                &format!("{ok}Content-Length: 2\r\n\r\nok"),
                Gets::Body(200, ""),
            )
        },
        // An interim answer has no body, whatever it announces.
        case(
            RFC,
            &format!(
                "HTTP/1.1 103 Hints\r\nContent-Length: 99\r\n\r\n{ok}Content-Length: 2\r\n\r\nok"
            ),
            Gets::Body(200, "ok"),
        ),
        // Chunks that can be read in two ways.
        broken(RFC, "2\r\nokay\r\n0\r\n\r\n"),
        broken(RFC, "0x2\r\nok\r\n0\r\n\r\n"),
        broken(RFC, "2 \r\nok\r\n0\r\n\r\n"),
        broken(RFC, "10000000000000002\r\nok\r\n"),
        broken(FUNKY, "2\nok\r\n0\r\n\r\n"),
        broken(FUNKY, "2;\nok\r\n0\r\n\r\n"),
        broken(FUNKY, "2;\rx\r\nok\r\n0\r\n\r\n"),
        broken(FUNKY, "2\r\nok\n0\r\n\r\n"),
        broken(RFC, "0\r\nX: y\n\r\n"),
    ]
}

#[test]
fn no_answer_is_taken_for_another() {
    let says = Arc::<Mutex<String>>::default();
    let evil = Arc::clone(&says);
    let demo = Upstream::tcp(move |mut connection| {
        while let Some(request) = connection.request() {
            if request.path == "/evil" {
                let says = evil.lock().unwrap().clone();
                connection.say(&says);
            } else {
                connection.answer("200 OK", &request.path);
            }
        }
    });
    let door = Door::with_demo(&demo.at);
    for (index, case) in heads().into_iter().chain(bodies()).enumerate() {
        says.lock().unwrap().clone_from(&case.says);
        let what = format!("{}: {} {:?}", case.source, case.method, case.says);
        let mut client = door.client();
        let (method, host) = (case.method, "demo.otter.local");
        client
            .send(format!("{method} /evil HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .unwrap();
        check(&mut client, &case, &what);
        // Whoever asks next, on that connection if it is kept or on another.
        let next = format!("/next-{index}");
        let answer = client.get(host, &next);
        let answer = answer.or_else(|_| door.client().get(host, &next)).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.body), next, "{what}");
    }
    door.close();
}

fn check(client: &mut Client, case: &Case, what: &str) {
    let answer = loop {
        let answer = match case.method {
            "HEAD" => client.head().map(|(status, _)| (status, Vec::new())),
            _ => client.answer().map(|answer| (answer.status, answer.body)),
        };
        match answer {
            Ok((100..200, _)) => {}
            other => break other,
        }
    };
    match (case.gets, answer) {
        (Gets::Body(502, _), Ok((502, _))) => {}
        (Gets::Body(status, body), Ok((got, text))) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            assert_eq!((got, text.as_str()), (status, body), "{what}");
        }
        (Gets::Broken, Err(_)) => {}
        (gets, answer) => panic!("{what}: {answer:?} instead of {gets:?}"),
    }
}

/// A second answer that comes late finds nobody who would take it for its own.
#[test]
fn what_an_idle_service_says_is_for_nobody() {
    let (folder, said) = (Folder::new("idle"), Arc::new(AtomicUsize::new(0)));
    let (says, may_say) = (Arc::clone(&said), Arc::new(AtomicUsize::new(0)));
    let asked = Arc::clone(&may_say);
    let demo = Upstream::unix(&folder.0.join("demo"), move |mut connection| {
        while let Some(request) = connection.request() {
            connection.answer("200 OK", &request.path);
            if request.path == "/evil" {
                until("the answer's end", || {
                    asked.load(Ordering::SeqCst) > says.load(Ordering::SeqCst)
                });
                connection.say(SECOND);
                says.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let door = Door::with_demo(&demo.at);
    let mut client = door.client();
    for turn in 1..=5 {
        let evil = client.get("demo.otter.local", "/evil").unwrap();
        assert_eq!(evil.body, b"/evil");
        may_say.fetch_add(1, Ordering::SeqCst);
        until("the second answer", || said.load(Ordering::SeqCst) == turn);
        let next = client.get("demo.otter.local", "/next").unwrap();
        assert_eq!(next.body, b"/next", "turn {turn}");
    }
    door.close();
}
