//! Request smuggling: every known way to have two servers disagree about where a message ends, with
//! its source. What the service saw is compared byte for byte.
//!
//! | module | what it tries |
//! |---|---|
//! | [`recorder`] | a service that keeps every byte it was sent |
//! | [`http1`] | requests over HTTP/1.1 and older |
//! | [`http2`] | HTTP/2 requests that would be others once written as HTTP/1.1 |
//! | [`answers`] | services that lie about their answers |

mod answers;
mod http1;
mod http2;
mod recorder;

use crate::open::Door;
use recorder::Recorder;

/// Where an attack or a rule is described.
const RFC: &str = "RFC 9112";
const RFC2: &str = "RFC 9113";
/// Kettle, "HTTP Desync Attacks: Request Smuggling Reborn", 2019.
const KETTLE19: &str = "HTTP Desync Attacks";
/// Kettle, "HTTP/2: The Sequel is Always Worse", 2021.
const KETTLE21: &str = "HTTP/2: The Sequel is Always Worse";
/// Kettle, "Browser-Powered Desync Attacks", 2022.
const KETTLE22: &str = "Browser-Powered Desync Attacks";
/// Kettle, "HTTP/1.1 must die: the desync endgame", 2025.
const KETTLE25: &str = "HTTP/1.1 must die";
/// Weikop, "Funky chunks: abusing ambiguous chunk line terminators", 2025.
const FUNKY: &str = "Funky chunks";
/// Linhart and others, "HTTP Request Smuggling", Watchfire, 2005.
const LINHART: &str = "HTTP Request Smuggling (2005)";
/// Klein, "HTTP Request Smuggling in 2020".
const KLEIN: &str = "HTTP Request Smuggling in 2020";

/// What a service may have seen when all is over; [`END`] stands for the fields that the door adds.
#[derive(Clone, Debug)]
enum Seen {
    /// Some beginning of this: the request was cut where it was damaged.
    AtMost(String),
    /// This and nothing else.
    Exactly(String),
    Nothing,
}

impl Seen {
    fn check(&self, what: &str, seen: &[u8]) {
        let seen = String::from_utf8_lossy(seen);
        match self {
            Self::AtMost(most) => {
                let most = most.replace(END, FORWARDED);
                assert!(most.starts_with(&*seen), "{what}: {seen:?} of {most:?}");
            }
            Self::Exactly(all) => assert_eq!(seen, all.replace(END, FORWARDED), "{what}"),
            Self::Nothing => assert_eq!(seen, "", "{what}"),
        }
    }
}

/// Sends what demo is asked to a recorder of its own from now on.
fn record(door: &Door) -> Recorder {
    let recorder = Recorder::start();
    let mut config = door.config.clone();
    config.routes[0].upstream = recorder.at.clone();
    door.configure(config);
    recorder
}

/// The second request of an attack.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: demo.otter.local\r\n\r\n";
const END: &str = "{end}";
const FORWARDED: &str = "Forwarded: for=127.0.0.1;host=\"demo.otter.local\";proto=https\r\n\
                         X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: demo.otter.local\r\n\
                         X-Forwarded-Proto: https\r\n\r\n";
