//! One request passed on to a place behind the door, and its answer passed back.

use std::{rc::Rc, time::Instant};

use super::{
    access::Served,
    body::Body,
    buffer::Buffer,
    head::{self, Lines},
    limits::{Limits, MAX_RESPONSE_HEAD, OUTPUT_HIGH, REDIAL_PAUSE},
    request::{Origin, Request},
    response::{Asked, Response},
    session::{Moved, Session, Wait},
    site::Failure,
    vhost::Place,
};

/// A request on its way.
pub(super) struct Exchange {
    place: Rc<Place>,
    asked: Asked,
    /// The head as the place gets it, kept for a second attempt.
    head: Vec<u8>,
    request: Body,
    reply: Reply,
    link: Link,
    keep: bool,
    upgrade: bool,
    /// Asking twice does no harm, so a connection used before may be tried.
    repeatable: bool,
    redialled: bool,
    status: Option<u16>,
    served: Served,
}

/// What became of an exchange in one round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The request's body is damaged.
    BadBody,
    /// The answer broke off.
    Broken,
    /// A connection is needed.
    Dial {
        /// Where to.
        place: Rc<Place>,
        /// One that was used before will do.
        pooled: bool,
    },
    /// Request and answer are through.
    Done {
        /// The connection to the place can be used again.
        reuse: bool,
        /// The client's can.
        keep: bool,
    },
    /// There will be no answer.
    Lost(Failure),
    /// The connection is now a tunnel.
    Upgraded,
    /// Nothing more can be done with the bytes there are.
    Wait,
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Body { body: Body, reuse: bool },
    Head { seen: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Connecting,
    Dialling,
    Pausing { until: Instant },
    Up { pooled: bool },
    Wanted,
}

impl Exchange {
    /// An exchange that begins with asking for a connection.
    pub(super) fn new(request: Request, place: Rc<Place>, origin: Origin, now: Instant) -> Self {
        Self {
            asked: Asked {
                is_head: request.method == "HEAD",
                is_http11: request.is_http11,
            },
            head: request.forward(origin),
            repeatable: request.is_repeatable(),
            keep: request.keep_alive,
            upgrade: request.upgrade.is_some(),
            reply: Reply::Head { seen: 0 },
            link: Link::Wanted,
            redialled: false,
            status: None,
            served: Served::begin(&request, origin, &place.name, now),
            request: request.body,
            place,
        }
    }

    /// Moves what can be moved between the session's buffers.
    pub(super) fn advance(&mut self, session: &mut Session) -> Progress {
        match self.link {
            Link::Wanted => {
                self.link = Link::Dialling;
                return Progress::Dial {
                    place: Rc::clone(&self.place),
                    pooled: self.repeatable && !self.redialled,
                };
            }
            Link::Dialling | Link::Pausing { .. } => return Progress::Wait,
            Link::Connecting | Link::Up { .. } => {}
        }
        let room = OUTPUT_HIGH.saturating_sub(session.up_out.len());
        let (from, to) = (&mut session.client_in, &mut session.up_out);
        if !session.up_eof && self.request.relay(from, to, room).is_err() {
            return Progress::BadBody;
        }
        if session.client_eof && session.client_in.is_empty() && !self.request.is_done() {
            return Progress::Broken;
        }
        self.answer(session)
    }

    /// A connection is there; `pooled` if it was used before. The head goes first.
    pub(super) fn linked(&mut self, pooled: bool, up_out: &mut Buffer) {
        self.link = if pooled {
            Link::Up { pooled }
        } else {
            Link::Connecting
        };
        up_out.push(&self.head);
    }

    /// The new connection is complete.
    pub(super) fn connected(&mut self) {
        self.link = Link::Up { pooled: false };
    }

    /// Whether a second attempt will be made after `failure`: once, and only if the first can have
    /// had no effect.
    pub(super) fn tries_again(&mut self, failure: Failure, now: Instant) -> bool {
        if self.redialled || self.has_answered() {
            return false;
        }
        let stale = failure == Failure::Ended && self.link == Link::Up { pooled: true };
        let refused = failure == Failure::Unreachable;
        self.redialled = stale || refused;
        if stale {
            self.link = Link::Wanted;
        } else if refused {
            let until = now + REDIAL_PAUSE;
            self.link = Link::Pausing { until };
        }
        self.redialled
    }

    /// The pause before the second attempt is over.
    pub(super) fn redial(&mut self) {
        if matches!(self.link, Link::Pausing { .. }) {
            self.link = Link::Wanted;
        }
    }

    /// When waiting ends, and for what.
    pub(super) fn deadline(&self, moved: Moved, limits: &Limits) -> (Instant, Wait) {
        let begun = matches!(self.reply, Reply::Body { .. });
        match self.link {
            Link::Pausing { until } => (until, Wait::Redial),
            Link::Connecting | Link::Dialling | Link::Wanted => {
                (moved.upstream + limits.connect, Wait::Connect)
            }
            Link::Up { .. } if begun => (moved.upstream + limits.answer, Wait::Stall),
            Link::Up { .. } if !self.request.is_done() => {
                (moved.client.max(moved.upstream) + limits.stall, Wait::Stall)
            }
            Link::Up { .. } if self.place.is_dashboard && self.repeatable => {
                (moved.upstream + limits.dashboard_answer, Wait::Answer)
            }
            Link::Up { .. } => (moved.upstream + limits.answer, Wait::Answer),
        }
    }

    /// Whether the client has got anything of the final answer.
    pub(super) fn has_answered(&self) -> bool {
        matches!(self.reply, Reply::Body { .. })
    }

    /// Whether the client can send another request after this one.
    pub(super) fn keeps(&self) -> bool {
        self.keep && self.request.is_done()
    }

    /// Whether it was a HEAD.
    pub(super) fn is_head(&self) -> bool {
        self.asked.is_head
    }

    /// Where it went.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The line for the access log; `status` when the door answered in the place's stead.
    pub(super) fn served(&mut self, status: Option<u16>, now: Instant) -> Served {
        let mut served = std::mem::take(&mut self.served);
        served.end(status.or(self.status), now);
        served
    }

    fn answer(&mut self, session: &mut Session) -> Progress {
        loop {
            match &mut self.reply {
                Reply::Head { seen } => {
                    let mut looked = *seen;
                    let found = head::end(session.up_in.bytes(), &mut looked, Lines::Tolerant);
                    *seen = looked;
                    let Ok(Some(length)) = found else {
                        return self.without_head(session);
                    };
                    if let Some(progress) = self.head(length, session) {
                        return progress;
                    }
                }
                Reply::Body { .. } => return self.body(session),
            }
        }
    }

    /// What the lack of a whole head means.
    fn without_head(&self, session: &Session) -> Progress {
        if session.up_in.len() >= MAX_RESPONSE_HEAD {
            return Progress::Lost(Failure::Nonsense("Its answer's head is too large."));
        }
        match (session.up_eof, session.up_in.is_empty()) {
            (true, true) => Progress::Lost(Failure::Ended),
            (true, false) => Progress::Lost(Failure::Nonsense("Its answer breaks off.")),
            (false, _) => Progress::Wait,
        }
    }

    /// Takes one head; `None` when there is more to do.
    fn head(&mut self, length: usize, session: &mut Session) -> Option<Progress> {
        let parsed = Response::parse(&session.up_in.bytes()[..length], self.asked);
        session.up_in.consume(length);
        let response = match parsed {
            Ok(response) => response,
            Err(refusal) => return Some(Progress::Lost(Failure::Nonsense(refusal.why))),
        };
        let mut out = Vec::with_capacity(length + 64);
        self.reply = Reply::Head { seen: 0 };
        if response.is_interim() {
            if self.asked.is_http11 {
                response.write(self.asked, true, &mut out);
                session.client_out.push(&out);
            }
            return None;
        }
        self.status = Some(response.status);
        if response.status == 101 {
            if !self.upgrade {
                let why = "It changed to a protocol that nobody asked for.";
                return Some(Progress::Lost(Failure::Nonsense(why)));
            }
            response.write(self.asked, true, &mut out);
            session.client_out.push(&out);
            return Some(Progress::Upgraded);
        }
        // A body that ends with its connection must end the client's too.
        self.keep &= response.body != Body::UntilClose && self.request.is_done();
        response.write(self.asked, self.keep, &mut out);
        session.client_out.push(&out);
        self.reply = Reply::Body {
            body: response.body,
            reuse: response.keep_alive,
        };
        None
    }

    fn body(&mut self, session: &mut Session) -> Progress {
        let Reply::Body { body, reuse } = &mut self.reply else {
            return Progress::Wait;
        };
        let room = OUTPUT_HIGH.saturating_sub(session.client_out.len());
        let before = session.up_in.len();
        if body
            .relay(&mut session.up_in, &mut session.client_out, room)
            .is_err()
        {
            return Progress::Broken;
        }
        self.served.count(before - session.up_in.len());
        let ended = session.up_eof && session.up_in.is_empty();
        let until_close = *body == Body::UntilClose;
        if body.is_done() || (until_close && ended && !session.up_reset) {
            let clean = session.up_in.is_empty() && session.up_out.is_empty() && !session.up_eof;
            return Progress::Done {
                reuse: *reuse && clean && self.request.is_done(),
                keep: self.keep && self.request.is_done(),
            };
        }
        if ended {
            return Progress::Broken;
        }
        Progress::Wait
    }
}
