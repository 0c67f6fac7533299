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
    message::{Section, Wrong},
    patience::{self, Patience},
    stream::{Stream, Wrote},
};

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
    /// How much the client takes, on all streams and on a new one.
    window: i64,
    first_window: i64,
    /// How much the client may still send, and what was passed on of it without telling.
    receivable: i64,
    credit: u32,
    patience: Patience,
    /// Streams that ended before their requests: what still comes for them is the past's.
    forgotten: VecDeque<u32>,
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
            frame::go_away(self.last, Code::NoError, &mut self.side.output);
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
            self.forget(id);
        }
    }

    /// The whole connection ends for `code`.
    fn fail(&mut self, code: Code, now: Instant) {
        frame::go_away(self.last, code, &mut self.side.output);
        for stream in self.streams.values_mut() {
            stream.abort(code, now);
            self.served.extend(stream.served());
            self.orphans.extend(stream.flow.link.take());
        }
        self.streams.clear();
        self.end = Some(End::Now { whole: true });
    }

    /// Takes what `bytes` begin with; how many bytes that was, 0 when it is not all there.
    fn next(&mut self, bytes: &[u8], site: &Site, now: Instant) -> Result<usize, Fatal> {
        if self.greeting == Greeting::Preface {
            let length = bytes.len().min(frame::PREFACE.len());
            if bytes[..length] != frame::PREFACE[..length] {
                return Err(Fatal(Code::Protocol));
            }
            if length < frame::PREFACE.len() {
                return Ok(0);
            }
            self.greeting = Greeting::Settings;
            return Ok(length);
        }
        let Some(head) = Head::parse(bytes) else {
            return Ok(0);
        };
        if head.length > frame::MAX_FRAME {
            return Err(Fatal(Code::FrameSize));
        }
        let Some(payload) = bytes.get(frame::HEAD..frame::HEAD + head.length) else {
            return Ok(0);
        };
        let in_section = self.partial.as_ref().map(|partial| partial.stream);
        let goes_on = (head.kind == frame::CONTINUATION).then_some(head.stream);
        let greets = head.kind == frame::SETTINGS && !head.has(frame::ACK);
        if in_section != goes_on || (self.greeting == Greeting::Settings && !greets) {
            return Err(Fatal(Code::Protocol));
        }
        self.frame(head, payload, site, now)?;
        Ok(frame::HEAD + head.length)
    }

    fn frame(
        &mut self,
        head: Head,
        payload: &[u8],
        site: &Site,
        now: Instant,
    ) -> Result<(), Fatal> {
        match head.kind {
            frame::DATA => self.data(head, payload, now),
            frame::HEADERS => self.headers(head, payload, site, now),
            frame::CONTINUATION => self.continuation(head, payload, site, now),
            frame::WINDOW_UPDATE => self.window_update(head, payload, now),
            frame::SETTINGS => self.settings(head, payload, now),
            frame::PING => self.ping(head, payload, now),
            frame::RST_STREAM => self.reset(head, payload, now),
            frame::PRIORITY => self.priority(head, payload, now),
            frame::GOAWAY if head.stream != 0 => Err(Fatal(Code::Protocol)),
            frame::GOAWAY if payload.len() < 8 => Err(Fatal(Code::FrameSize)),
            frame::GOAWAY => {
                self.go_away();
                Ok(())
            }
            frame::PUSH_PROMISE => Err(Fatal(Code::Protocol)),
            _ => self.spend(patience::FRAME, now),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        self.known(head.stream)?;
        let data = frame::unpadded(head, payload)?;
        let length = payload.len() as i64;
        if length > self.receivable {
            return Err(Fatal(Code::FlowControl));
        }
        self.receivable -= length;
        let ends = head.has(frame::END_STREAM);
        if data.is_empty() && !ends {
            self.spend(patience::FRAME, now)?;
        }
        let Some(stream) = self.streams.get_mut(&head.stream) else {
            self.credit += payload.len() as u32;
            self.is_late(head.stream, now)?;
            frame::reset(head.stream, Code::NoError, &mut self.side.output);
            return Ok(());
        };
        if stream.flow.client.eof {
            return Err(Fatal(Code::StreamClosed));
        }
        if length > stream.receivable {
            self.credit += payload.len() as u32;
            return self.reset_stream(head.stream, Code::FlowControl, now);
        }
        stream.receivable -= length;
        let padding = payload.len() - data.len();
        self.credit += padding as u32;
        stream.skip(padding);
        match stream.receive(data, ends, now) {
            Ok(()) => self.wake(head.stream),
            Err(code) => return self.reset_stream(head.stream, code, now),
        }
        Ok(())
    }

    fn headers(
        &mut self,
        head: Head,
        payload: &[u8],
        site: &Site,
        now: Instant,
    ) -> Result<(), Fatal> {
        if head.stream.is_multiple_of(2) {
            return Err(Fatal(Code::Protocol));
        }
        let mut block = frame::unpadded(head, payload)?;
        if head.has(frame::PRIORITIZED) {
            let (priority, rest) = block.split_at_checked(5).ok_or(Fatal(Code::FrameSize))?;
            if depends_on(priority) == head.stream {
                return Err(Fatal(Code::Protocol));
            }
            block = rest;
        }
        let ends_stream = head.has(frame::END_STREAM);
        if head.has(frame::END_HEADERS) {
            return self.section(head.stream, ends_stream, block, site, now);
        }
        self.partial = Some(Partial {
            stream: head.stream,
            ends_stream,
            block: block.to_vec(),
            frames: 1,
        });
        Ok(())
    }

    fn continuation(
        &mut self,
        head: Head,
        payload: &[u8],
        site: &Site,
        now: Instant,
    ) -> Result<(), Fatal> {
        let Some(mut partial) = self.partial.take() else {
            return Err(Fatal(Code::Protocol));
        };
        partial.block.extend_from_slice(payload);
        partial.frames += 1;
        if partial.block.len() > MAX_REQUEST_HEAD || partial.frames > MAX_SECTION_FRAMES {
            return Err(Fatal(Code::Calm));
        }
        if head.has(frame::END_HEADERS) {
            let Partial {
                stream,
                ends_stream,
                block,
                ..
            } = partial;
            return self.section(stream, ends_stream, &block, site, now);
        }
        self.partial = Some(partial);
        Ok(())
    }

    fn section(
        &mut self,
        id: u32,
        ends: bool,
        block: &[u8],
        site: &Site,
        now: Instant,
    ) -> Result<(), Fatal> {
        let section = Section::decode(&mut self.decoder, block);
        let section = section.map_err(|_| Fatal(Code::Compression))?;
        if id > self.last {
            self.last = id;
            return self.open(id, ends, &section, site, now);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.is_late(id, now);
        };
        if stream.flow.client.eof {
            return Err(Fatal(Code::StreamClosed));
        }
        if !ends || !section.is_trailer() {
            return self.reset_stream(id, Code::Protocol, now);
        }
        if let Err(code) = stream.receive(&[], true, now) {
            return self.reset_stream(id, code, now);
        }
        self.wake(id);
        Ok(())
    }

    fn open(
        &mut self,
        id: u32,
        ends: bool,
        section: &Section,
        site: &Site,
        now: Instant,
    ) -> Result<(), Fatal> {
        if self.end.is_some() || self.streams.len() >= STREAMS {
            self.spend(patience::RESET, now)?;
            frame::reset(id, Code::Refused, &mut self.side.output);
            self.forget(id);
            return Ok(());
        }
        let mut stream = match section.request(!ends) {
            Ok(request) => Stream::new(request, self.entry, self.origin, site, now),
            Err(Wrong::Refused(refusal)) => Stream::refused(refusal, self.origin, now),
            Err(Wrong::Malformed) => {
                self.spend(patience::RESET, now)?;
                frame::reset(id, Code::Protocol, &mut self.side.output);
                self.forget(id);
                return Ok(());
            }
        };
        stream.window = self.first_window;
        stream.receivable = i64::from(STREAM_WINDOW);
        stream.flow.client.eof = ends;
        self.streams.insert(id, Box::new(stream));
        self.wake(id);
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        let by = i64::from(word(payload)? & 0x7fff_ffff);
        if head.stream == 0 {
            self.window += by;
            if by == 0 {
                return Err(Fatal(Code::Protocol));
            }
            if self.window > MAX_WINDOW {
                return Err(Fatal(Code::FlowControl));
            }
        } else {
            self.known(head.stream)?;
            if let Some(stream) = self.streams.get_mut(&head.stream) {
                stream.window += by;
                if by == 0 || stream.window > MAX_WINDOW {
                    let code = if by == 0 {
                        Code::Protocol
                    } else {
                        Code::FlowControl
                    };
                    return self.reset_stream(head.stream, code, now);
                }
                self.settle(head.stream);
            }
        }
        if by < WORTHWHILE {
            return self.spend(patience::FRAME, now);
        }
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(Fatal(Code::Protocol));
        }
        if !payload.len().is_multiple_of(6) || (head.has(frame::ACK) && !payload.is_empty()) {
            return Err(Fatal(Code::FrameSize));
        }
        if head.has(frame::ACK) {
            return self.spend(patience::FRAME, now);
        }
        self.greeting = Greeting::Done;
        let settings = payload.chunks_exact(6);
        self.spend(patience::FRAME + settings.len() as u32, now)?;
        let before = self.first_window;
        for setting in settings {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            self.set(name, word(&setting[2..])?)?;
        }
        if self.first_window > before {
            let ids: Vec<u32> = self.streams.keys().copied().collect();
            ids.into_iter().for_each(|id| self.settle(id));
        }
        frame::write(frame::SETTINGS, frame::ACK, 0, &[], &mut self.side.output);
        Ok(())
    }

    fn set(&mut self, name: u16, value: u32) -> Result<(), Fatal> {
        match name {
            ENABLE_PUSH if value > 1 => Err(Fatal(Code::Protocol)),
            INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => Err(Fatal(Code::FlowControl)),
            INITIAL_WINDOW_SIZE => {
                let by = i64::from(value) - self.first_window;
                self.first_window = i64::from(value);
                for stream in self.streams.values_mut() {
                    stream.window += by;
                    if stream.window > MAX_WINDOW {
                        return Err(Fatal(Code::FlowControl));
                    }
                }
                Ok(())
            }
            MAX_FRAME_SIZE if !(frame::MAX_FRAME as u32..1 << 24).contains(&value) => {
                Err(Fatal(Code::Protocol))
            }
            _ => Ok(()),
        }
    }

    fn ping(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        if head.stream != 0 {
            return Err(Fatal(Code::Protocol));
        }
        if payload.len() != 8 {
            return Err(Fatal(Code::FrameSize));
        }
        self.spend(patience::FRAME, now)?;
        if !head.has(frame::ACK) {
            frame::write(frame::PING, frame::ACK, 0, payload, &mut self.side.output);
        }
        Ok(())
    }

    fn reset(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        self.known(head.stream)?;
        word(payload)?;
        self.spend(patience::RESET, now)?;
        if let Some(mut stream) = self.streams.remove(&head.stream) {
            self.credit += stream.unread();
            stream.abort(Code::Cancel, now);
            self.served.extend(stream.served());
            self.orphans.extend(stream.flow.link.take());
        }
        Ok(())
    }

    fn priority(&mut self, head: Head, payload: &[u8], now: Instant) -> Result<(), Fatal> {
        if head.stream == 0 {
            return Err(Fatal(Code::Protocol));
        }
        self.spend(patience::FRAME, now)?;
        let code = match payload.len() {
            5 if depends_on(payload) != head.stream => return Ok(()),
            5 => Code::Protocol,
            _ => Code::FrameSize,
        };
        if self.streams.contains_key(&head.stream) {
            return self.reset_stream(head.stream, code, now);
        }
        Err(Fatal(code))
    }

    /// Resets a stream for what the client did, which costs it as much as a reset of its own.
    fn reset_stream(&mut self, id: u32, code: Code, now: Instant) -> Result<(), Fatal> {
        self.spend(patience::RESET, now)?;
        if let Some(mut stream) = self.streams.remove(&id) {
            self.credit += stream.unread();
            stream.abort(code, now);
            self.served.extend(stream.served());
            self.orphans.extend(stream.flow.link.take());
        }
        frame::reset(id, code, &mut self.side.output);
        self.forget(id);
        Ok(())
    }

    fn forget(&mut self, id: u32) {
        if self.forgotten.len() >= STREAMS {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(id);
    }

    /// Whether something that comes for a stream that is no more may be forgiven.
    fn is_late(&mut self, id: u32, now: Instant) -> Result<(), Fatal> {
        if !self.forgotten.contains(&id) {
            return Err(Fatal(Code::StreamClosed));
        }
        self.spend(patience::FRAME, now)
    }

    /// Refuses frames for the connection, or for streams that were never opened.
    fn known(&self, id: u32) -> Result<(), Fatal> {
        if id == 0 || id > self.last || id.is_multiple_of(2) {
            return Err(Fatal(Code::Protocol));
        }
        Ok(())
    }

    fn spend(&mut self, tokens: u32, now: Instant) -> Result<(), Fatal> {
        let enough = self.patience.spend(tokens, now);
        enough.then_some(()).ok_or(Fatal(Code::Calm))
    }
}

/// A payload that is one word.
fn word(payload: &[u8]) -> Result<u32, Fatal> {
    let word = payload.try_into().map_err(|_| Fatal(Code::FrameSize))?;
    Ok(u32::from_be_bytes(word))
}

/// The stream that a priority depends on.
fn depends_on(priority: &[u8]) -> u32 {
    priority
        .first_chunk()
        .map_or(0, |word| u32::from_be_bytes(*word) & 0x7fff_ffff)
}

/// Requests that one connection may have under way: what browsers expect at least.
const STREAMS: usize = 100;
/// What a client may send on one stream before it was passed on.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all streams together: one slow service must not hold up the others.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// A window before anyone has said anything (RFC 9113, 6.9.2).
const DEFAULT_WINDOW: i64 = 65_535;
const MAX_WINDOW: i64 = 0x7fff_ffff;
/// A window opened by less is more work than it allows.
const WORTHWHILE: i64 = 1024;
/// Frames of one section: 32 KiB need three.
const MAX_SECTION_FRAMES: u32 = 16;

const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
