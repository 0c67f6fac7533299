//! Frames that the client sent: what each may say, and what comes of it.

use std::time::Instant;

use super::{
    super::{
        super::{limits::MAX_REQUEST_HEAD, site::Site},
        frame::{self, Code, Fatal, Head},
        message::{Section, Wrong},
        patience,
        stream::Stream,
    },
    Connection, Forgotten, Greeting, INITIAL_WINDOW_SIZE, Partial, STREAM_WINDOW, STREAMS,
};

impl Connection {
    /// Takes what `bytes` begin with; how many bytes that was, 0 when it is not all there.
    pub(super) fn next(&mut self, bytes: &[u8], site: &Site, now: Instant) -> Result<usize, Fatal> {
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
            let stream = self.late(head.stream, Code::StreamClosed, now)?;
            // One reset says it; more of the data may be on its way (RFC 9113, 5.4.2).
            if !ends && !std::mem::replace(&mut stream.is_reset, true) {
                frame::reset(head.stream, Code::NoError, &mut self.side.output);
            }
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
            if id > self.last + 2 {
                self.unbroken = id;
            }
            self.last = id;
            return self.open(id, ends, &section, site, now);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            // One that was left out can't be opened any more (RFC 9113, 5.1.1).
            let was_left_out = id < self.unbroken;
            let unexpected = if was_left_out {
                Code::Protocol
            } else {
                Code::StreamClosed
            };
            return self.late(id, unexpected, now).map(drop);
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
            self.forget(id, true);
            return Ok(());
        }
        let mut stream = match section.request(!ends) {
            Ok(request) => Stream::new(request, self.entry, self.origin, site, now),
            Err(Wrong::Refused(refusal)) => Stream::refused(refusal, self.origin, now),
            Err(Wrong::Malformed) => {
                self.spend(patience::RESET, now)?;
                frame::reset(id, Code::Protocol, &mut self.side.output);
                self.forget(id, true);
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
        self.forget(id, true);
        Ok(())
    }

    pub(super) fn forget(&mut self, stream: u32, is_reset: bool) {
        if self.forgotten.len() >= STREAMS {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(Forgotten { stream, is_reset });
    }

    /// The stream that is no more; what comes for it ends the connection for `unexpected` unless
    /// it may be forgiven.
    fn late(&mut self, id: u32, unexpected: Code, now: Instant) -> Result<&mut Forgotten, Fatal> {
        let at = self.forgotten.iter().position(|gone| gone.stream == id);
        let at = at.ok_or(Fatal(unexpected))?;
        self.spend(patience::FRAME, now)?;
        Ok(&mut self.forgotten[at])
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

/// What no window may exceed (RFC 9113, 6.9.1).
const MAX_WINDOW: i64 = 0x7fff_ffff;
/// A window opened by less is more work than it allows.
const WORTHWHILE: i64 = 1024;
/// Frames of one section: 32 KiB need three.
const MAX_SECTION_FRAMES: u32 = 16;

const ENABLE_PUSH: u16 = 2;
const MAX_FRAME_SIZE: u16 = 5;
