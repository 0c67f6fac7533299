//! One request passed on to a place behind the door, and its answer passed back.

use std::{rc::Rc, time::Instant};

use super::{
    access::Served,
    body::Body,
    buffer::Buffer,
    flow::Flow,
    head::{self, Lines},
    limits::{Limits, MAX_INTERIMS, MAX_RESPONSE_HEAD, OUTPUT_HIGH, REDIAL_PAUSE},
    request::{Origin, Request, Version},
    response::{Asked, Response},
    session::Wait,
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
    /// Its body may be left unread by a place that answers all the same.
    expects: bool,
    /// Asking twice does no harm, so a connection used before may be tried.
    repeatable: bool,
    redialled: bool,
    /// Interim answers so far.
    interims: usize,
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
    pub(super) fn new(
        mut request: Request,
        place: Rc<Place>,
        origin: Origin,
        now: Instant,
    ) -> Self {
        Self {
            asked: Asked {
                is_head: request.method == "HEAD",
                version: request.version,
            },
            head: request.forward(origin),
            repeatable: request.is_repeatable(),
            keep: request.keep_alive,
            upgrade: request.upgrade.is_some(),
            expects: request.expects,
            reply: Reply::Head { seen: 0 },
            link: Link::Wanted,
            redialled: false,
            interims: 0,
            status: None,
            request: std::mem::replace(&mut request.body, Body::NONE),
            served: Served::begin(request, origin, Some(Rc::clone(&place)), now),
            place,
        }
    }

    /// Moves what can be moved between the flow's buffers.
    pub(super) fn advance(&mut self, flow: &mut Flow) -> Progress {
        match self.link {
            Link::Wanted => {
                self.link = Link::Dialling;
                return Progress::Dial {
                    place: Rc::clone(&self.place),
                    pooled: self.repeatable && !self.redialled,
                };
            }
            // What is passed on before the connection is complete would be lost with it.
            Link::Connecting | Link::Dialling | Link::Pausing { .. } => return Progress::Wait,
            Link::Up { .. } => {}
        }
        let room = OUTPUT_HIGH.saturating_sub(flow.up.output.len());
        let (from, to) = (&mut flow.client.input, &mut flow.up.output);
        if !flow.up.eof && self.request.relay(from, to, room).is_err() {
            return Progress::BadBody;
        }
        // A place that has closed takes no more, but its answer may be there.
        if flow.client.eof && flow.client.input.is_empty() && !flow.up.eof {
            self.request.finish(&mut flow.up.output);
            if !self.request.is_done() {
                return Progress::Broken;
            }
        }
        self.answer(flow)
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
    pub(super) fn deadline(&self, flow: &Flow, limits: &Limits) -> (Instant, Wait) {
        let begun = matches!(self.reply, Reply::Body { .. });
        match self.link {
            Link::Pausing { until } => (until, Wait::Redial),
            Link::Connecting | Link::Dialling | Link::Wanted => {
                (flow.up.moved + limits.connect, Wait::Connect)
            }
            Link::Up { .. } if begun => (flow.up.moved + limits.answer, Wait::Stall),
            Link::Up { .. } if !self.request.is_done() => (
                flow.client.moved.max(flow.up.moved) + limits.stall,
                Wait::Stall,
            ),
            Link::Up { .. } if self.place.is_dashboard && self.repeatable => {
                (flow.up.moved + limits.dashboard_answer, Wait::Answer)
            }
            Link::Up { .. } => (flow.up.moved + limits.answer, Wait::Answer),
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

    fn answer(&mut self, flow: &mut Flow) -> Progress {
        loop {
            match &mut self.reply {
                Reply::Head { seen } => {
                    let mut looked = *seen;
                    let found = head::end(flow.up.input.bytes(), &mut looked, Lines::Tolerant);
                    *seen = looked;
                    let Ok(Some(length)) = found else {
                        return self.without_head(flow);
                    };
                    if let Some(progress) = self.head(length, flow) {
                        return progress;
                    }
                }
                Reply::Body { .. } => return self.body(flow),
            }
        }
    }

    /// What the lack of a whole head means.
    fn without_head(&self, flow: &Flow) -> Progress {
        if flow.up.input.len() >= MAX_RESPONSE_HEAD {
            return Progress::Lost(Failure::Nonsense("Its answer's head is too large."));
        }
        match (flow.up.eof, flow.up.input.is_empty()) {
            (true, true) => Progress::Lost(Failure::Ended),
            (true, false) => Progress::Lost(Failure::Nonsense("Its answer breaks off.")),
            (false, _) => Progress::Wait,
        }
    }

    /// Takes one head; `None` when there is more to do.
    fn head(&mut self, length: usize, flow: &mut Flow) -> Option<Progress> {
        let parsed = Response::parse(&flow.up.input.bytes()[..length], self.asked);
        flow.up.input.consume(length);
        let response = match parsed {
            Ok(response) => response,
            Err(refusal) => return Some(Progress::Lost(Failure::Nonsense(refusal.why))),
        };
        self.reply = Reply::Head { seen: 0 };
        if response.is_interim() {
            self.interims += 1;
            if self.interims > MAX_INTERIMS {
                let why = "It sends interim answers without end.";
                return Some(Progress::Lost(Failure::Nonsense(why)));
            }
            if self.asked.version != Version::Http10 {
                self.pass(&response, true, flow);
            }
            return None;
        }
        self.status = Some(response.status);
        if response.status == 101 {
            if !self.upgrade {
                let why = "It changed to a protocol that nobody asked for.";
                return Some(Progress::Lost(Failure::Nonsense(why)));
            }
            self.pass(&response, true, flow);
            return Some(Progress::Upgraded);
        }
        // A body that ends with its connection must end the client's too.
        self.keep &= response.body != Body::UntilClose && self.request.is_done();
        self.pass(&response, self.keep, flow);
        // A place that answers before the end of the body may take the rest for another request
        // (Kettle, "HTTP/1.1 must die", 2025): nobody else gets that connection.
        self.reply = Reply::Body {
            body: response.body,
            reuse: response.keep_alive && self.request.is_done() && !self.expects,
        };
        None
    }

    /// Passes a head on, in the client's dialect.
    fn pass(&self, response: &Response, keep: bool, flow: &mut Flow) {
        if self.asked.version == Version::Http2 {
            return flow.sections.push(response.section());
        }
        response.write(self.asked, keep, flow.client.output.tail());
    }

    fn body(&mut self, flow: &mut Flow) -> Progress {
        let Reply::Body { body, reuse } = &mut self.reply else {
            return Progress::Wait;
        };
        let room = OUTPUT_HIGH.saturating_sub(flow.client.output.len());
        let before = flow.up.input.len();
        if body
            .relay(&mut flow.up.input, &mut flow.client.output, room)
            .is_err()
        {
            return Progress::Broken;
        }
        self.served.count(before - flow.up.input.len());
        let ended = flow.up.eof && flow.up.input.is_empty();
        let until_close = *body == Body::UntilClose;
        if body.is_done() || (until_close && ended && !flow.up.reset) {
            let clean = flow.up.input.is_empty() && flow.up.output.is_empty() && !flow.up.eof;
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
