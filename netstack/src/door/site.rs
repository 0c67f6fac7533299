//! What the door knows when it answers a request: routing table, certificate, view of the box.

use std::{cell::Cell, rc::Rc, time::Instant};

use super::{
    config::{DoorConfig, RouteKind, Upstream},
    emergency::{self, OWNER_PATHS},
    page::{Answer, escape},
    request::Request,
    vhost::{Entry, Place, Table, Target},
    view::{EmergencyView, LineState},
};

/// The door's knowledge; replaced piece by piece, never waited for.
pub(super) struct Site {
    pub(super) table: Table,
    ca_pem: Option<String>,
    view: Option<(EmergencyView, Instant)>,
    owners: Option<Rc<Place>>,
    began: Instant,
    pub(super) tally: Tally,
    /// The door is about to close: every answer over HTTP/1.1 is its connection's last.
    pub(super) is_closing: bool,
}

/// What the door has done since it opened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    handshakes: u64,
    resumed: u64,
}

impl Tally {
    /// One more handshake.
    pub(super) fn count(&mut self, is_resumed: bool) {
        self.handshakes += 1;
        self.resumed += u64::from(is_resumed);
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Way {
    /// The door answers it itself.
    Answer(Answer),
    /// It is passed on.
    Place(Rc<Place>),
}

/// Why a place could not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It has more requests at once than one place may have.
    Crowded,
    /// It ended the connection without an answer.
    Ended,
    /// Its answer can't be understood: why.
    Nonsense(&'static str),
    /// It took the request and did not answer in time.
    Silent,
    /// It could not be connected to.
    Unreachable,
}

impl Site {
    /// A site that knows nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            table: Table::new(&DoorConfig::default()),
            ca_pem: None,
            view: None,
            owners: None,
            began: now,
            tally: Tally::default(),
            is_closing: false,
        }
    }

    /// Takes routes and certificate from `config`.
    pub(super) fn configure(&mut self, config: &DoorConfig) {
        self.table = Table::new(config);
        self.ca_pem.clone_from(&config.ca_pem);
    }

    /// Takes a new view of the box.
    pub(super) fn look(&mut self, view: EmergencyView, now: Instant) {
        self.view = Some((view, now));
    }

    /// Has owners go to `upstream` from the emergency page.
    pub(super) fn let_owners_in(&mut self, upstream: Upstream) {
        self.owners = Some(Rc::new(Place {
            busy: Cell::new(0),
            name: "emergency page".to_owned(),
            upstream,
            is_dashboard: false,
            kind: RouteKind::Http,
        }));
    }

    /// What becomes of `request`, which came in by `entry`.
    pub(super) fn way(&self, entry: Entry, request: &Request, now: Instant) -> Way {
        let path = request.target.split('?').next().unwrap_or_default();
        match self.table.route(entry, &request.authority) {
            None => Way::Answer(Answer::refused(super::head::bad(
                "Host is not a host name.",
            ))),
            Some(Target::Plain { host }) => Way::Answer(self.plain(&host, path, request, now)),
            Some(Target::Probe) if path == HEALTH => Way::Answer(self.health(now)),
            Some(Target::Probe) => Way::Answer(not_found("There is nothing here but /health.")),
            Some(Target::Place(place)) if place.is_dashboard && path == HEALTH => {
                Way::Answer(self.health(now))
            }
            Some(Target::Place(place)) if place.is_dashboard && path == HEARTBEAT => {
                Way::Answer(self.heartbeat(now))
            }
            Some(Target::Place(place)) if place.is_dashboard && path == EMERGENCY => {
                Way::Answer(self.emergency(now))
            }
            Some(Target::Place(place)) if place.is_dashboard && is_owners(path) => {
                match &self.owners {
                    Some(owners) => Way::Place(Rc::clone(owners)),
                    None => Way::Answer(not_found("There is nothing here but /emergency.")),
                }
            }
            Some(Target::Place(place)) if place.kind == RouteKind::PassThrough => {
                Way::Answer(misdirected())
            }
            Some(Target::Place(place)) => Way::Place(place),
            Some(Target::UnknownService(name)) => {
                let name = escape(&name);
                Way::Answer(not_found(&format!(
                    "There is no service “{name}” on this server."
                )))
            }
            Some(Target::UnknownPort) => Way::Answer(not_found(
                "The service that had this port is not on this server.",
            )),
            Some(Target::Stranger) => Way::Answer(stranger(self.table.hostname())),
        }
    }

    /// The page that says why `place` did not answer.
    pub(super) fn failed(&self, place: &Place, failure: Failure, now: Instant) -> Answer {
        if place.is_dashboard {
            return self.dashboard_failed(failure, now);
        }
        let name = escape(&place.name);
        let line = self.view.as_ref().and_then(|(view, _)| {
            view.services
                .iter()
                .find(|line| line.name.eq_ignore_ascii_case(&place.name))
        });
        let state = line.map(|line| line.state);
        if failure == Failure::Unreachable && state == Some(LineState::Starting) {
            let html = format!("“{name}” is starting. Try again in a moment.");
            return Answer::trouble(503, &format!("{name} is starting"), &html)
                .with("Retry-After", RETRY_AFTER_S.to_string());
        }
        let why = why(failure);
        let known = line
            .filter(|line| line.state != LineState::Running)
            .map(|line| {
                let detail = escape(&line.detail);
                format!(
                    " It is {}. {detail}",
                    line.state.word().to_ascii_lowercase()
                )
            });
        let html = format!("The service “{name}” {why}.{}", known.unwrap_or_default());
        let answer = Answer::trouble(status(failure), &format!("{name} does not answer"), &html);
        match failure {
            Failure::Crowded | Failure::Unreachable => {
                answer.with("Retry-After", RETRY_AFTER_S.to_string())
            }
            Failure::Ended | Failure::Nonsense(_) | Failure::Silent => answer,
        }
    }

    fn dashboard_failed(&self, failure: Failure, now: Instant) -> Answer {
        let (view, age) = self.view(now);
        let sentence = emergency::sentence(view, age);
        let why = why(failure);
        let html = format!(
            "{sentence} Asked for this page, it {why}. Your services may still be running. \
             <a href=/emergency>Open the plain status page</a>"
        );
        Answer::trouble(503, "The dashboard does not answer", &html)
            .with("Retry-After", RETRY_AFTER_S.to_string())
    }

    fn plain(&self, host: &str, path: &str, request: &Request, now: Instant) -> Answer {
        match (path, &self.ca_pem) {
            (HEALTH, _) => self.health(now),
            (CA_FILE, Some(pem)) => {
                Answer::file("application/x-x509-ca-cert", "ca.crt", pem.clone())
            }
            (CA_FILE, None) => not_found("This server has no certificate authority yet."),
            _ => {
                let host = if host.is_empty() {
                    self.table.hostname()
                } else {
                    host
                };
                // The target was checked when the head was read: it can't end this field.
                Answer::redirect(format!(
                    "https://{host}{}",
                    request.target.trim_start_matches('*')
                ))
            }
        }
    }

    fn health(&self, now: Instant) -> Answer {
        let up = now.saturating_duration_since(self.began).as_secs();
        let Tally {
            handshakes,
            resumed,
        } = self.tally;
        let version = env!("CARGO_PKG_VERSION");
        Answer::json(format!(
            "{{\"ok\":true,\"part\":\"front\",\"version\":\"{version}\",\"up_s\":{up},\
             \"handshakes\":{handshakes},\"resumed\":{resumed}}}\n"
        ))
    }

    /// For dashboards that are open: how the manager is, told by who does not need it.
    fn heartbeat(&self, now: Instant) -> Answer {
        let (view, age) = self.view(now);
        let told_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let Some(view) = view else {
            return Answer::json("{\"manager\":null}\n".to_owned());
        };
        let silent = view.silent_ms.map(|silent| silent.saturating_add(told_ms));
        let silent = silent.map_or_else(|| "null".to_owned(), |silent| silent.to_string());
        let state = view.control.state.word().to_ascii_lowercase();
        Answer::json(format!(
            "{{\"manager\":{{\"state\":\"{state}\",\"generation\":{},\"silentMs\":{silent}}},\
             \"toldMs\":{told_ms}}}\n",
            view.generation
        ))
    }

    fn emergency(&self, now: Instant) -> Answer {
        let (view, age) = self.view(now);
        Answer::html(200, emergency::page(view, age, self.owners.is_some()))
    }

    fn view(&self, now: Instant) -> (Option<&EmergencyView>, std::time::Duration) {
        match &self.view {
            Some((view, at)) => (Some(view), now.saturating_duration_since(*at)),
            None => (None, std::time::Duration::ZERO),
        }
    }
}

/// Whether owners are talked to there.
fn is_owners(path: &str) -> bool {
    OWNER_PATHS.iter().any(|below| path.starts_with(below))
}

fn why(failure: Failure) -> String {
    match failure {
        Failure::Crowded => "has too many open requests already".into(),
        Failure::Ended => "ended the connection without an answer".into(),
        Failure::Nonsense(why) => format!("gave no proper answer: {}", escape(why)),
        Failure::Silent => "took the request but has not answered in time".into(),
        Failure::Unreachable => "takes no connections at the moment".into(),
    }
}

fn status(failure: Failure) -> u16 {
    match failure {
        Failure::Crowded | Failure::Unreachable => 503,
        Failure::Ended | Failure::Nonsense(_) => 502,
        Failure::Silent => 504,
    }
}

fn not_found(html: &str) -> Answer {
    Answer::trouble(404, "Nothing here", html)
}

/// The client came by a name that ends here and asks for one that does not (RFC 9110, 15.5.20).
fn misdirected() -> Answer {
    let html = "This service answers for itself. Open it in a connection of its own.";
    Answer::trouble(421, "Not by this connection", html)
}

fn stranger(hostname: &str) -> Answer {
    let hostname = escape(hostname);
    let html = format!("This server does not go by that name. Try https://{hostname}.local/.");
    Answer::trouble(421, "Not this server’s name", &html)
}

const HEALTH: &str = "/health";
const HEARTBEAT: &str = "/heartbeat";
const EMERGENCY: &str = "/emergency";
const CA_FILE: &str = "/ca.crt";
/// When to ask again for what is starting: soon, but not so that everyone hammers at it.
const RETRY_AFTER_S: u32 = 2;
