//! One request over HTTP/2 and its answer.

use std::time::Instant;

use super::{
    super::{
        access::Served,
        body::Body,
        buffer::Buffer,
        exchange::{Exchange, Progress},
        flow::Flow,
        head::Refusal,
        limits::Limits,
        page::Answer,
        request::{Origin, Request},
        session::{Ask, Wait},
        site::{Failure, Site, Way},
        vhost::Entry,
    },
    frame::{self, Code, DATA, END_STREAM, MAX_FRAME},
};

/// A request under way.
pub(in super::super) struct Stream {
    pub(in super::super) flow: Flow,
    phase: Phase,
    /// How much the client takes; may be negative (RFC 9113, 6.9.2).
    pub(super) window: i64,
    /// How much the client may still send.
    pub(super) receivable: i64,
    /// Bytes of the body that were passed on and not yet told to the client.
    credit: u32,
    /// What of the input was not passed on when that was last looked at.
    unread: usize,
    /// Bytes of the body that are still to come, if that was announced.
    expected: Option<u64>,
    /// It waits for its turn to be served, or to write.
    pub(super) is_ready: bool,
    pub(super) is_sending: bool,
    served: Option<Served>,
}

enum Phase {
    /// All of the answer is in the flow.
    Answered,
    /// There is no answer, or no end of it.
    Broken(Code),
    Working(Box<Exchange>),
}

/// What came of an attempt to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    /// The client takes no more on any stream.
    Full,
    /// There may be more to write.
    More,
    /// Nothing, until something happens to this stream.
    Nothing,
    /// Its last frame; it is over.
    Last,
}

impl Stream {
    /// The stream of a request that was understood.
    pub(super) fn new(
        request: Request,
        entry: Entry,
        origin: Origin,
        site: &Site,
        now: Instant,
    ) -> Self {
        let mut stream = Self::empty(now);
        stream.expected = match request.body {
            Body::Length(length) => Some(length),
            Body::Chunked(_) | Body::Chunking { .. } | Body::UntilClose => None,
        };
        match site.way(entry, &request, now) {
            Way::Place(place) => {
                let exchange = Exchange::new(request, place, origin, now);
                stream.phase = Phase::Working(Box::new(exchange));
            }
            Way::Answer(answer) => {
                stream.answer(&answer, request.method == "HEAD");
                stream.served = Some(Served::by_door(request, origin, &answer, now));
            }
        }
        stream
    }

    /// The stream of a request that is not taken.
    pub(super) fn refused(refusal: Refusal, origin: Origin, now: Instant) -> Self {
        let mut stream = Self::empty(now);
        stream.answer(&Answer::refused(refusal), false);
        stream.served = Some(Served::refused(origin, refusal.status, now));
        stream
    }

    /// Takes a piece of the body; `is_last` when it is the last.
    ///
    /// # Errors
    /// With the code to reset the stream with.
    pub(super) fn receive(&mut self, data: &[u8], is_last: bool, now: Instant) -> Result<(), Code> {
        self.unread += data.len();
        if let Some(expected) = &mut self.expected {
            let left = expected.checked_sub(data.len() as u64);
            *expected = left.ok_or(Code::Protocol)?;
            if is_last && *expected > 0 {
                return Err(Code::Protocol);
            }
        }
        // An answer that is complete before its request leaves the rest without a reader.
        if self.is_working() {
            self.flow.client.input.push(data);
        }
        self.flow.client.eof |= is_last;
        self.flow.client.moved = now;
        Ok(())
    }

    /// Goes as far as the bytes there are allow.
    pub(in super::super) fn advance(&mut self, site: &Site, now: Instant) -> Ask {
        let Phase::Working(exchange) = &mut self.phase else {
            return Ask::Nothing;
        };
        let progress = exchange.advance(&mut self.flow);
        match progress {
            Progress::Dial { place, pooled } => Ask::Dial { place, pooled },
            Progress::Wait => Ask::Nothing,
            Progress::Lost(failure) => {
                self.failed(failure, site, now);
                Ask::Release { reuse: false }
            }
            Progress::BadBody | Progress::Broken | Progress::Upgraded => {
                self.abort(Code::Internal, now);
                Ask::Release { reuse: false }
            }
            Progress::Done { reuse, .. } => {
                self.served = Some(exchange.served(None, now));
                self.phase = Phase::Answered;
                Ask::Release { reuse }
            }
        }
    }

    /// The connection asked for is there or on its way.
    pub(in super::super) fn linked(&mut self, pooled: bool, now: Instant) {
        self.flow.begin_up(now);
        if let Phase::Working(exchange) = &mut self.phase {
            exchange.linked(pooled, &mut self.flow.up.output);
        }
    }

    /// The connection asked for is complete.
    pub(in super::super) fn connected(&mut self, now: Instant) {
        self.flow.up.moved = now;
        if let Phase::Working(exchange) = &mut self.phase {
            exchange.connected();
        }
    }

    /// The connection to the place can't be had, or was lost: why.
    pub(in super::super) fn failed(&mut self, failure: Failure, site: &Site, now: Instant) {
        if let Phase::Working(exchange) = &mut self.phase
            && exchange.tries_again(failure, now)
        {
            return self.flow.up.output.clear();
        }
        self.flow.up.eof = true;
        self.give_up(failure, site, now);
    }

    /// When waiting ends, and for what it waits.
    pub(super) fn deadline(&self, limits: &Limits) -> (Instant, Wait) {
        match &self.phase {
            Phase::Working(exchange) if self.flow.client.output.is_empty() => {
                exchange.deadline(&self.flow, limits)
            }
            _ => (self.flow.client.moved + limits.stall, Wait::Stall),
        }
    }

    /// The deadline has come.
    pub(super) fn expire(&mut self, wait: Wait, site: &Site, now: Instant) {
        match wait {
            Wait::Answer => self.give_up(Failure::Silent, site, now),
            Wait::Connect => self.failed(Failure::Unreachable, site, now),
            Wait::Head | Wait::Idle | Wait::Stall => self.abort(Code::Cancel, now),
            Wait::Redial => {
                if let Phase::Working(exchange) = &mut self.phase {
                    exchange.redial();
                }
            }
        }
    }

    /// Nothing can be saved of this request.
    pub(super) fn abort(&mut self, code: Code, now: Instant) {
        if let Phase::Working(exchange) = &mut self.phase {
            self.served = Some(exchange.served(None, now));
        }
        self.phase = Phase::Broken(code);
    }

    /// Whether it has not been answered in full yet.
    pub(super) fn is_working(&self) -> bool {
        matches!(self.phase, Phase::Working(_))
    }

    /// Whether its end is a reset.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.phase, Phase::Broken(_))
    }

    /// Whether it has frames to write, as far as its own window allows.
    pub(super) fn is_eager(&self) -> bool {
        let data = !self.flow.client.output.is_empty();
        match self.phase {
            Phase::Broken(_) => true,
            Phase::Answered if !data => true,
            Phase::Answered | Phase::Working(_) => {
                !self.flow.sections.is_empty() || (data && self.window > 0)
            }
        }
    }

    /// The line for the access log, once.
    pub(super) fn served(&mut self) -> Option<Served> {
        self.served.take()
    }

    /// Padding came, which is nothing to pass on.
    pub(super) fn skip(&mut self, padding: usize) {
        self.credit += padding as u32;
    }

    /// Bytes of the body that [`Self::consumed`] has not told of.
    pub(super) fn unread(&self) -> u32 {
        self.unread as u32
    }

    /// Bytes of the body that were passed on since the last call.
    pub(super) fn consumed(&mut self) -> u32 {
        let left = self.flow.client.input.len();
        let consumed = self.unread.saturating_sub(left) as u32;
        self.unread = left;
        self.credit += consumed;
        consumed
    }

    /// By how much the client's window is to be opened again, once that is worth a frame.
    pub(super) fn take_credit(&mut self, least: u32) -> Option<u32> {
        if self.credit < least || self.flow.client.eof {
            return None;
        }
        let credit = std::mem::take(&mut self.credit);
        self.receivable += i64::from(credit);
        Some(credit)
    }

    /// Writes sections and at most one frame of data for stream `id`; `window` is the connection's.
    pub(super) fn write(
        &mut self,
        id: u32,
        window: &mut i64,
        to: &mut Buffer,
        now: Instant,
    ) -> Wrote {
        if let Phase::Broken(code) = self.phase {
            frame::reset(id, code, to);
            return Wrote::Last;
        }
        let is_whole = matches!(self.phase, Phase::Answered);
        if !self.flow.sections.is_empty() {
            self.flow.client.moved = now;
        }
        let bodiless = is_whole && self.flow.client.output.is_empty();
        let mut sections = std::mem::take(&mut self.flow.sections)
            .into_iter()
            .peekable();
        while let Some(section) = sections.next() {
            let ends = bodiless && sections.peek().is_none();
            frame::section(id, &section, ends, to);
            if ends {
                return Wrote::Last;
            }
        }
        self.write_data(id, window, is_whole, to, now)
    }

    fn write_data(
        &mut self,
        id: u32,
        window: &mut i64,
        is_whole: bool,
        to: &mut Buffer,
        now: Instant,
    ) -> Wrote {
        let output = &mut self.flow.client.output;
        if output.is_empty() {
            if is_whole {
                frame::write(DATA, END_STREAM, id, &[], to);
                return Wrote::Last;
            }
            return Wrote::Nothing;
        }
        let open = usize::try_from(self.window.min(*window)).unwrap_or(0);
        let count = output.len().min(MAX_FRAME).min(open);
        if count == 0 {
            return if self.window > 0 {
                Wrote::Full
            } else {
                Wrote::Nothing
            };
        }
        let is_last = is_whole && count == output.len();
        frame::head(count, DATA, if is_last { END_STREAM } else { 0 }, id, to);
        to.push(&output.bytes()[..count]);
        output.consume(count);
        self.window -= count as i64;
        *window -= count as i64;
        self.flow.client.moved = now;
        if is_last { Wrote::Last } else { Wrote::More }
    }

    fn give_up(&mut self, failure: Failure, site: &Site, now: Instant) {
        let Phase::Working(exchange) = &mut self.phase else {
            return;
        };
        if exchange.has_answered() {
            return self.abort(Code::Internal, now);
        }
        let answer = site.failed(exchange.place(), failure, now);
        self.served = Some(exchange.served(Some(answer.status), now));
        let is_head = exchange.is_head();
        self.answer(&answer, is_head);
    }

    fn answer(&mut self, answer: &Answer, is_head: bool) {
        self.flow.sections.push(answer.section());
        if !is_head {
            self.flow.client.output.push(answer.body());
        }
        self.phase = Phase::Answered;
    }

    fn empty(now: Instant) -> Self {
        Self {
            flow: Flow::new(now),
            phase: Phase::Answered,
            window: 0,
            receivable: 0,
            credit: 0,
            unread: 0,
            expected: None,
            is_ready: false,
            is_sending: false,
            served: None,
        }
    }
}
