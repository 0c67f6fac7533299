//! One client connection's conversation, from bytes in to bytes out, without any I/O.
//!
//! The driver ([`super::link`]) fills the inputs of its flow from sockets and empties the outputs into
//! them. In between it calls [`Session::advance`], which answers with what it asks
//! for: a connection to a service, the end of one, or the end of all. Time is passed in. So every
//! conversation can be replayed byte by byte in a test.

use std::{rc::Rc, time::Instant};

use super::{
    access::Served,
    exchange::{Exchange, Progress},
    flow::Flow,
    head::{self, Lines, Refusal},
    http2::Connection,
    limits::{Limits, MAX_REQUEST_HEAD, OUTPUT_HIGH},
    page::Answer,
    request::{Origin, Request, TOO_LARGE},
    site::{Failure, Site, Way},
    vhost::{Entry, Place},
};

/// A conversation with one client.
pub(super) struct Session {
    entry: Entry,
    origin: Origin,
    pub(super) flow: Flow,
    phase: Phase,
    served: Option<Served>,
}

/// What a session asks its driver for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A connection to this place; a used one only if `pooled`.
    Dial {
        /// Where to.
        place: Rc<Place>,
        /// A connection that was used before will do.
        pooled: bool,
    },
    /// Once all is written, the end of the connection.
    End {
        /// The last answer is whole, so the end may be a proper one.
        whole: bool,
    },
    /// Nothing, until something has moved.
    Nothing,
    /// The connection to the place back.
    Release {
        /// It is fit for another request.
        reuse: bool,
    },
}

/// What a session waits for, when its deadline comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// The place's answer.
    Answer,
    /// The connection to the place.
    Connect,
    /// The rest of a request's head.
    Head,
    /// Another request, or nothing at all any more.
    Idle,
    /// The moment for a second attempt to connect.
    Redial,
    /// A peer that takes or gives nothing.
    Stall,
}

enum Phase {
    /// No more is read; what is written is the last.
    Ended {
        whole: bool,
    },
    Exchange(Box<Exchange>),
    /// Between requests, or in the head of one.
    Head {
        seen: usize,
        began: Option<Instant>,
    },
    /// On the way to a tunnel: a connection to `place` is asked for or begun.
    Passing {
        place: Rc<Place>,
        is_asked: bool,
    },
    /// Bytes pass both ways, their meaning is not ours.
    Tunnel,
}

impl Session {
    /// A conversation that begins now.
    pub(super) fn new(entry: Entry, origin: Origin, now: Instant) -> Self {
        Self {
            entry,
            origin,
            flow: Flow::new(now),
            phase: Phase::HEAD,
            served: None,
        }
    }

    /// The way by which the client came in.
    pub(super) fn entry(&self) -> Entry {
        self.entry
    }

    /// Passes the client on to `place` undeciphered, beginning with what it has said already.
    pub(super) fn pass_through(&mut self, place: Rc<Place>, said: &[u8]) {
        self.flow.client.input.push(said);
        self.phase = Phase::Passing {
            place,
            is_asked: false,
        };
    }

    /// The same conversation over HTTP/2, before anything was said.
    pub(super) fn to_http2(&self, now: Instant) -> Connection {
        Connection::new(self.entry, self.origin, now)
    }

    /// Goes as far as the bytes there are allow.
    pub(super) fn advance(&mut self, site: &Site, now: Instant) -> Ask {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Ended { whole: false }) {
                Phase::Ended { whole } => {
                    self.phase = Phase::Ended { whole };
                    return Ask::End { whole };
                }
                Phase::Passing { place, is_asked } => {
                    self.phase = Phase::Passing {
                        place: Rc::clone(&place),
                        is_asked: true,
                    };
                    let pooled = false;
                    return match is_asked {
                        true => Ask::Nothing,
                        false => Ask::Dial { place, pooled },
                    };
                }
                Phase::Tunnel => {
                    self.phase = Phase::Tunnel;
                    return self.tunnel();
                }
                Phase::Head { seen, began } => {
                    if !self.head(seen, began, site, now) {
                        return Ask::Nothing;
                    }
                }
                Phase::Exchange(exchange) => {
                    if let Some(ask) = self.exchange(exchange, site, now) {
                        return ask;
                    }
                }
            }
        }
    }

    /// The connection asked for is there or on its way.
    pub(super) fn linked(&mut self, pooled: bool, now: Instant) {
        self.flow.begin_up(now);
        if let Phase::Exchange(exchange) = &mut self.phase {
            exchange.linked(pooled, &mut self.flow.up.output);
        }
    }

    /// The connection asked for is complete.
    pub(super) fn connected(&mut self, now: Instant) {
        self.flow.up.moved = now;
        match &mut self.phase {
            Phase::Exchange(exchange) => exchange.connected(),
            Phase::Passing { .. } => self.phase = Phase::Tunnel,
            Phase::Ended { .. } | Phase::Head { .. } | Phase::Tunnel => {}
        }
    }

    /// The connection to the place can't be had, or was lost: why.
    pub(super) fn failed(&mut self, failure: Failure, site: &Site, now: Instant) {
        if let Phase::Exchange(exchange) = &mut self.phase
            && exchange.tries_again(failure, now)
        {
            self.flow.up.output.clear();
            return;
        }
        self.flow.up.eof = true;
        self.give_up(failure, site, now);
    }

    /// Whether the whole of the last request was answered and no other has begun.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head { .. })
            && self.flow.client.input.is_empty()
            && self.flow.client.output.is_empty()
    }

    /// The request that was finished last, once.
    pub(super) fn served(&mut self) -> Option<Served> {
        self.served.take()
    }

    /// When waiting ends, and for what it waits.
    pub(super) fn deadline(&self, limits: &Limits) -> (Instant, Wait) {
        let (client, upstream) = (self.flow.client.moved, self.flow.up.moved);
        if !self.flow.client.output.is_empty() && !matches!(self.phase, Phase::Tunnel) {
            return (client + limits.stall, Wait::Stall);
        }
        match &self.phase {
            Phase::Ended { .. } => (client + limits.linger, Wait::Stall),
            Phase::Passing { .. } => (upstream + limits.connect, Wait::Connect),
            // Half closed is nearly always closed: the rest is not waited for as long.
            Phase::Tunnel if self.flow.client.eof => {
                (client.max(upstream) + limits.stall, Wait::Stall)
            }
            Phase::Tunnel => (client.max(upstream) + limits.tunnel, Wait::Stall),
            Phase::Head {
                began: Some(at), ..
            } => (*at + limits.head, Wait::Head),
            Phase::Head { began: None, .. } => (client + limits.idle, Wait::Idle),
            Phase::Exchange(exchange) => exchange.deadline(&self.flow, limits),
        }
    }

    /// The deadline has come.
    pub(super) fn expire(&mut self, wait: Wait, site: &Site, now: Instant) {
        match wait {
            Wait::Idle => self.phase = Phase::Ended { whole: true },
            Wait::Head => self.refuse(TIMEOUT, now),
            Wait::Stall => self.abort(now),
            Wait::Connect => self.failed(Failure::Unreachable, site, now),
            Wait::Answer => self.give_up(Failure::Silent, site, now),
            Wait::Redial => {
                if let Phase::Exchange(exchange) = &mut self.phase {
                    exchange.redial();
                }
            }
        }
    }

    /// Nothing can be saved of this conversation: its connection is lost.
    pub(super) fn abort(&mut self, now: Instant) {
        if let Phase::Exchange(exchange) = &mut self.phase {
            self.served = Some(exchange.served(None, now));
        }
        self.flow.client.output.clear();
        self.phase = Phase::Ended { whole: false };
    }

    /// Reads a head if it is all there; whether anything came of it.
    fn head(&mut self, mut seen: usize, began: Option<Instant>, site: &Site, now: Instant) -> bool {
        // A client may send one empty line between requests (RFC 9112, 2.2).
        if seen == 0 && self.flow.client.input.bytes().starts_with(b"\r\n") {
            self.flow.client.input.consume(2);
        }
        match head::end(self.flow.client.input.bytes(), &mut seen, Lines::Strict) {
            Err(refusal) => self.refuse(refusal, now),
            Ok(Some(length)) if length <= MAX_REQUEST_HEAD => self.request(length, site, now),
            Ok(None) if self.flow.client.input.len() < MAX_REQUEST_HEAD => {
                let whole = self.flow.client.input.is_empty();
                if self.flow.client.eof {
                    self.phase = Phase::Ended { whole };
                    return true;
                }
                let began = began.or((!whole).then_some(now));
                self.phase = Phase::Head { seen, began };
                return false;
            }
            Ok(_) => self.refuse(TOO_LARGE, now),
        }
        true
    }

    fn request(&mut self, length: usize, site: &Site, now: Instant) {
        let parsed = Request::parse(&self.flow.client.input.bytes()[..length]);
        self.flow.client.input.consume(length);
        let mut request = match parsed {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal, now),
        };
        request.keep_alive &= !site.is_closing;
        match site.way(self.entry, &request, now) {
            Way::Place(place) => {
                let exchange = Exchange::new(request, place, self.origin, now);
                self.phase = Phase::Exchange(Box::new(exchange));
            }
            Way::Answer(answer) => {
                let whole = request.keep_alive && request.body.is_done() && !self.flow.client.eof;
                let keep = whole && answer.status != 400;
                self.answer(&answer, request.method == "HEAD", keep);
                self.served = Some(Served::by_door(request, self.origin, &answer, now));
            }
        }
    }

    /// One round of an exchange; `None` when it has ended and something else has begun.
    fn exchange(&mut self, mut exchange: Box<Exchange>, site: &Site, now: Instant) -> Option<Ask> {
        let progress = exchange.advance(&mut self.flow);
        self.phase = Phase::Exchange(exchange);
        match progress {
            Progress::Dial { place, pooled } => Some(Ask::Dial { place, pooled }),
            Progress::Wait => Some(Ask::Nothing),
            Progress::Lost(failure) => {
                self.failed(failure, site, now);
                Some(Ask::Release { reuse: false })
            }
            Progress::BadBody => {
                self.end_badly(now);
                Some(Ask::Release { reuse: false })
            }
            Progress::Broken => {
                self.cut(now);
                Some(Ask::Release { reuse: false })
            }
            Progress::Upgraded => {
                self.note_served(now);
                self.phase = Phase::Tunnel;
                None
            }
            Progress::Done { reuse, keep } => {
                self.note_served(now);
                let keep = keep && !self.flow.client.eof;
                self.phase = if keep {
                    Phase::HEAD
                } else {
                    Phase::Ended { whole: true }
                };
                self.flow.client.moved = now;
                Some(Ask::Release { reuse })
            }
        }
    }

    fn tunnel(&mut self) -> Ask {
        let room = OUTPUT_HIGH.saturating_sub(self.flow.up.output.len());
        let count = self.flow.client.input.len().min(room);
        self.flow.client.input.pass(count, &mut self.flow.up.output);
        let room = OUTPUT_HIGH.saturating_sub(self.flow.client.output.len());
        let count = self.flow.up.input.len().min(room);
        self.flow.up.input.pass(count, &mut self.flow.client.output);
        if self.flow.up.eof && self.flow.up.input.is_empty() {
            self.phase = Phase::Ended { whole: true };
            return Ask::Release { reuse: false };
        }
        Ask::Nothing
    }

    /// Whether the client has said all it will in a tunnel, and all of it was passed on.
    pub(super) fn half_closed(&self) -> bool {
        matches!(self.phase, Phase::Tunnel)
            && self.flow.client.eof
            && self.flow.client.input.is_empty()
            && self.flow.up.output.is_empty()
    }

    /// The place will not answer: a page says so, unless an answer has begun.
    fn give_up(&mut self, failure: Failure, site: &Site, now: Instant) {
        let Phase::Exchange(exchange) = &mut self.phase else {
            self.phase = Phase::Ended { whole: false };
            return;
        };
        if exchange.has_answered() {
            return self.cut(now);
        }
        let answer = site.failed(exchange.place(), failure, now);
        self.served = Some(exchange.served(Some(answer.status), now));
        let (is_head, keep) = (
            exchange.is_head(),
            exchange.keeps() && !self.flow.client.eof,
        );
        self.answer(&answer, is_head, keep);
    }

    /// The request's body is damaged.
    fn end_badly(&mut self, now: Instant) {
        match &self.phase {
            Phase::Exchange(exchange) if !exchange.has_answered() => {
                self.note_served(now);
                self.refuse(BAD_BODY, now);
            }
            _ => self.cut(now),
        }
    }

    /// An answer can't be completed: what there is of it is sent, and its end is no proper one.
    fn cut(&mut self, now: Instant) {
        self.note_served(now);
        self.phase = Phase::Ended { whole: false };
    }

    fn note_served(&mut self, now: Instant) {
        if let Phase::Exchange(exchange) = &mut self.phase {
            self.served = Some(exchange.served(None, now));
        }
    }

    fn refuse(&mut self, refusal: Refusal, now: Instant) {
        let answer = Answer::refused(refusal);
        self.answer(&answer, false, false);
        let served = Served::refused(self.origin, answer.status, now);
        self.served.get_or_insert(served);
    }

    fn answer(&mut self, answer: &Answer, is_head: bool, keep: bool) {
        answer.write(is_head, keep, self.flow.client.output.tail());
        self.phase = if keep {
            Phase::HEAD
        } else {
            Phase::Ended { whole: true }
        };
    }
}

impl Phase {
    const HEAD: Self = Self::Head {
        seen: 0,
        began: None,
    };
}

const TIMEOUT: Refusal = Refusal {
    status: 408,
    why: "The request took too long to arrive.",
};
const BAD_BODY: Refusal = Refusal {
    status: 400,
    why: "The chunked framing of the request's body is damaged.",
};
