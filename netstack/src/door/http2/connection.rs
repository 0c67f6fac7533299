//! One client's connection: frames in, frames out, and everything that must stay bounded.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use super::{
    super::{
        access::Served,
        flow::Side,
        limits::{Limits, MAX_REQUEST_HEAD, OUTPUT_HIGH},
        request::Origin,
        session::Wait,
        site::Site,
        vhost::Entry,
    },
    frame::{self, Code, Fatal, Head},
    hpack::{Decoder, NO_TABLE},
    patience::{self, Patience},
    stream::{Stream, Wrote},
};

mod incoming;

/// A connection that speaks HTTP/2.
pub(in super::super) struct Connection {
    /// The frames, both ways.
    pub(in super::super) side: Side,
    entry: Entry,
    origin: Origin,
    decoder: Decoder,
    streams: BTreeMap<u32, Box<Stream>>,
    ready: VecDeque<u32>,
    sending: VecDeque<u32>,
    /// The client's preface was seen, and since then its first frame.
    greeting: Greeting,
    /// A field section of which more is to come.
    partial: Option<Partial>,
    /// When the client began to send something that it has not finished.
    began: Option<Instant>,
    /// The highest stream that the client has opened.
    last: u32,
    /// From this one on it has left none out.
    unbroken: u32,
    /// The highest stream that is looked at, as far as the client was told: never more again.
    promised: u32,
    /// How much the client takes, on all streams and on a new one.
    window: i64,
    first_window: i64,
    /// How much the client may still send, and what was passed on of it without telling.
    receivable: i64,
    credit: u32,
    patience: Patience,
    /// Streams that ended before their requests: what still comes for them is the past's.
    forgotten: VecDeque<Forgotten>,
    has_written_section: bool,
    end: Option<End>,
    /// Connections to places that nobody needs any more.
    orphans: Vec<usize>,
    served: Vec<Served>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    Preface,
    Settings,
    Done,
}

/// How the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Once the streams that there are have been answered.
    Soon,
    /// As soon as what is written is sent; `whole` if that is the proper end.
    Now { whole: bool },
}

struct Forgotten {
    stream: u32,
    /// The client was told to send no more of it.
    is_reset: bool,
}

struct Partial {
    stream: u32,
    ends_stream: bool,
    block: Vec<u8>,
    frames: u32,
}

impl Connection {
    /// A connection that begins now; the server's preface is written.
    pub(in super::super) fn new(entry: Entry, origin: Origin, now: Instant) -> Self {
        let mut side = Side::new(now);
        let mut settings = Vec::with_capacity(18);
        for (name, value) in [
            (MAX_CONCURRENT_STREAMS, STREAMS as u32),
            (INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (MAX_HEADER_LIST_SIZE, MAX_REQUEST_HEAD as u32),
        ] {
            settings.extend_from_slice(&name.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame::write(frame::SETTINGS, 0, 0, &settings, &mut side.output);
        let more = CONNECTION_WINDOW - DEFAULT_WINDOW as u32;
        frame::window_update(0, more, &mut side.output);
        Self {
            side,
            entry,
            origin,
            decoder: Decoder::default(),
            streams: BTreeMap::new(),
            ready: VecDeque::new(),
            sending: VecDeque::new(),
            greeting: Greeting::Preface,
            partial: None,
            began: Some(now),
            last: 0,
            unbroken: 0,
            promised: frame::MAX_STREAM,
            window: DEFAULT_WINDOW,
            first_window: DEFAULT_WINDOW,
            receivable: i64::from(CONNECTION_WINDOW),
            credit: 0,
            patience: Patience::new(now),
            forgotten: VecDeque::new(),
            has_written_section: false,
            end: None,
            orphans: Vec::new(),
            served: Vec::new(),
        }
    }

    /// Takes the frames that have arrived in whole.
    pub(in super::super) fn receive(&mut self, site: &Site, now: Instant) {
        let mut input = std::mem::take(&mut self.side.input);
        while self.side.output.len() < OUTPUT_HIGH && !matches!(self.end, Some(End::Now { .. })) {
            match self.next(input.bytes(), site, now) {
                Ok(0) => break,
                Ok(count) => input.consume(count),
                Err(Fatal(code)) => self.fail(code, now),
            }
        }
        let rest = Head::parse(input.bytes());
        let in_data = self.partial.is_none() && rest.is_some_and(|head| head.kind == frame::DATA);
        let owes = !input.is_empty() || self.partial.is_some() || self.greeting != Greeting::Done;
        self.began = (owes && !in_data).then(|| self.began.unwrap_or(now));
        self.side.input = input;
        if self.side.eof {
            self.end = Some(End::Now { whole: false });
        }
    }

    /// How many streams may have something to do.
    pub(in super::super) fn count_ready(&self) -> usize {
        self.ready.len()
    }

    /// A stream that may have something to do.
    pub(in super::super) fn next_ready(&mut self) -> Option<u32> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_ready = false;
                return Some(id);
            }
        }
        None
    }

    /// Whether some stream may have something to do.
    pub(in super::super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Something has happened to stream `id`.
    pub(in super::super) fn wake(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// The stream of that number.
    pub(in super::super) fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        self.streams.get_mut(&id).map(Box::as_mut)
    }

    /// Stream `id` has gone as far as it can for now: what is to be written is, when its turn comes.
    pub(in super::super) fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.served.extend(stream.served());
        self.credit += stream.consumed();
        if let Some(by) = stream.take_credit(STREAM_WINDOW / 2) {
            frame::window_update(id, by, &mut self.side.output);
        }
        if stream.is_eager() && !std::mem::replace(&mut stream.is_sending, true) {
            self.sending.push_back(id);
        }
        self.tell_credit();
    }

    /// Writes frames of the streams, one of each in turn, as long as there is room.
    pub(in super::super) fn send(&mut self, now: Instant) {
        let mut waiting = self.sending.len();
        while waiting > 0 && self.side.output.len() < OUTPUT_HIGH {
            let Some(id) = self.sending.pop_front() else {
                break;
            };
            match self.send_one(id, now) {
                Wrote::Full => {
                    self.sending.push_back(id);
                    waiting -= 1;
                }
                Wrote::More => {
                    self.sending.push_back(id);
                    self.wake_if_working(id);
                    waiting = self.sending.len();
                }
                Wrote::Nothing => {
                    self.wake_if_working(id);
                    waiting = waiting.saturating_sub(1);
                }
                Wrote::Last => {
                    self.finish(id);
                    waiting = waiting.saturating_sub(1);
                }
            }
        }
        self.tell_credit();
    }

    /// Requests that were finished since the last call.
    pub(in super::super) fn served(&mut self) -> Vec<Served> {
        std::mem::take(&mut self.served)
    }

    /// Connections to places that are to be closed.
    pub(in super::super) fn orphans(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.orphans)
    }

    /// Whether the connection is to end now; with whether that is its proper end.
    pub(in super::super) fn is_over(&self) -> Option<bool> {
        match self.end {
            Some(End::Now { whole }) => Some(whole),
            Some(End::Soon) if self.streams.is_empty() => Some(true),
            Some(End::Soon) | None => None,
        }
    }

    /// Takes no new streams, and ends once those there are have been answered.
    pub(in super::super) fn go_away(&mut self) {
        if self.end.is_none() {
            self.end = Some(End::Soon);
            self.say_goodbye(Code::NoError);
        }
    }

    /// Whether nothing is under way.
    pub(in super::super) fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.side.input.is_empty() && self.side.output.is_empty()
    }

    /// The connection is lost: all streams end.
    pub(in super::super) fn abort(&mut self, now: Instant) {
        for stream in self.streams.values_mut() {
            stream.abort(Code::Cancel, now);
            self.served.extend(stream.served());
            self.orphans.extend(stream.flow.link.take());
        }
        self.streams.clear();
        self.side.output.clear();
        self.end = Some(End::Now { whole: false });
    }

    /// When waiting ends, and for what.
    pub(in super::super) fn deadline(&self, limits: &Limits) -> (Instant, Wait) {
        let own = self.own_deadline(limits);
        let streams = self.streams.values().map(|stream| stream.deadline(limits));
        let first = streams.chain(own).min_by_key(|(at, _)| *at);
        first.unwrap_or((self.side.moved + limits.idle, Wait::Idle))
    }

    /// Deadlines have come.
    pub(in super::super) fn expire(&mut self, site: &Site, limits: &Limits, now: Instant) {
        let own = self.own_deadline(limits);
        let idle = (self.side.moved + limits.idle, Wait::Idle);
        let own = own.or(self.streams.is_empty().then_some(idle));
        match own.filter(|(at, _)| *at <= now) {
            Some((_, Wait::Idle)) => self.go_away(),
            Some((_, Wait::Head)) => self.fail(Code::Calm, now),
            Some(_) => return self.abort(now),
            None => {}
        }
        let mut due = Vec::new();
        for (id, stream) in &mut self.streams {
            let (at, wait) = stream.deadline(limits);
            if at <= now {
                stream.expire(wait, site, now);
                if wait != Wait::Redial {
                    self.orphans.extend(stream.flow.link.take());
                }
                due.push(*id);
            }
        }
        due.into_iter().for_each(|id| self.wake(id));
    }

    /// Gives back memory that holds nothing.
    pub(in super::super) fn relax(&mut self) {
        self.side.relax();
        if self.streams.is_empty() {
            self.ready = VecDeque::new();
            self.sending = VecDeque::new();
        }
    }

    /// The memory it holds for bytes on their way.
    pub(in super::super) fn held(&self) -> usize {
        let streams: usize = self.streams.values().map(|stream| stream.flow.held()).sum();
        self.side.held() + streams
    }

    fn own_deadline(&self, limits: &Limits) -> Option<(Instant, Wait)> {
        if self.is_over().is_some() {
            return Some((self.side.moved + limits.linger, Wait::Stall));
        }
        let stall = (self.side.moved + limits.stall, Wait::Stall);
        let output = (!self.side.output.is_empty()).then_some(stall);
        output.or(self.began.map(|began| (began + limits.head, Wait::Head)))
    }

    /// Opens the connection's window again by what was passed on, or came for streams that ended.
    fn tell_credit(&mut self) {
        if self.credit >= CONNECTION_WINDOW / 8 {
            let credit = std::mem::take(&mut self.credit);
            self.receivable += i64::from(credit);
            frame::window_update(0, credit, &mut self.side.output);
        }
    }

    fn wake_if_working(&mut self, id: u32) {
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.is_working())
        {
            self.wake(id);
        }
    }

    fn send_one(&mut self, id: u32, now: Instant) -> Wrote {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Wrote::Nothing;
        };
        if !self.has_written_section
            && !stream.is_broken()
            && let Some(first) = stream.flow.sections.first_mut()
        {
            first.insert(0, NO_TABLE);
            self.has_written_section = true;
        }
        let wrote = stream.write(id, &mut self.window, &mut self.side.output, now);
        stream.is_sending = matches!(wrote, Wrote::Full | Wrote::More);
        wrote
    }

    /// The stream's last frame is written.
    fn finish(&mut self, id: u32) {
        let Some(mut stream) = self.streams.remove(&id) else {
            return;
        };
        self.patience.earn(patience::SERVED);
        self.served.extend(stream.served());
        self.orphans.extend(stream.flow.link.take());
        self.credit += stream.unread();
        if !stream.flow.client.eof {
            // More of the request may be on its way, though the stream was reset or the answer is
            // whole without it. In the latter case a reset at once would be within RFC 9113, 8.1,
            // but makes some clients forget the answer: only more data is reset.
            self.forget(id, stream.is_broken());
        }
    }

    /// Tells why the connection ends, and which streams are looked at: the ones that came after an
    /// earlier goodbye are not, and the client may have sent them again elsewhere (RFC 9113, 6.8).
    fn say_goodbye(&mut self, code: Code) {
        self.promised = self.promised.min(self.last);
        frame::go_away(self.promised, code, &mut self.side.output);
    }

    /// The whole connection ends for `code`.
    fn fail(&mut self, code: Code, now: Instant) {
        self.say_goodbye(code);
        for stream in self.streams.values_mut() {
            stream.abort(code, now);
            self.served.extend(stream.served());
            self.orphans.extend(stream.flow.link.take());
        }
        self.streams.clear();
        self.end = Some(End::Now { whole: true });
    }
}

/// Requests that one connection may have under way: what browsers expect at least.
const STREAMS: usize = 100;
/// What a client may send on one stream before it was passed on.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all streams together: one slow service must not hold up the others.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// A window before anyone has said anything (RFC 9113, 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;

const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_HEADER_LIST_SIZE: u16 = 6;
