//! A file at its mirrors: bytes of it in order, whatever breaks on the way.

use std::{
    io,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use crate::{
    http::{
        address::Url,
        cancel::Cancel,
        client::{Client, Exchange, Settings},
        error::FetchError,
        limits,
        mirrors::Mirrors,
        range::{Answer, Asked, Version},
        response::{Framing, Violation},
    },
    limits::HEADER_SIZE,
};

/// Where fetched bytes go: their offset in the file, and the bytes.
pub(crate) type Sink<'a> = dyn FnMut(u64, &[u8]) -> io::Result<()> + 'a;

/// One file at one or several servers.
#[derive(Debug)]
pub(crate) struct Origin {
    client: Client,
    mirrors: Mirrors,
    cancel: Cancel,
    length: Option<u64>,
    /// The file's first bytes, as far as they are known: [`HEADER_SIZE`] in the end. A package's
    /// header holds the hash that stands for all of it.
    header: Vec<u8>,
    /// How far the bytes will certainly be needed: one request asks for all of them.
    ahead: u64,
    live: Option<Body>,
    received: u64,
    requests: u64,
}

/// A body that is being read.
#[derive(Debug)]
struct Body {
    exchange: Exchange,
    position: u64,
    /// None if it ends where the connection says so.
    end: Option<u64>,
    whole: bool,
}

impl Origin {
    pub(crate) fn new(urls: &[Url], settings: &Settings) -> Result<Self, FetchError> {
        Ok(Self {
            client: Client::new(settings)?,
            mirrors: Mirrors::new(urls, settings)?,
            cancel: settings.cancel.clone(),
            length: None,
            header: Vec::new(),
            ahead: 0,
            live: None,
            received: 0,
            requests: 0,
        })
    }

    /// Goes on with a file that was begun before, if a server still has it.
    ///
    /// # Errors
    /// [`FetchError::Changed`] if none has it any more, and whatever else goes wrong with each.
    pub(crate) fn resume(&mut self, length: u64, header: &[u8]) -> Result<(), FetchError> {
        self.length = Some(length);
        self.header = header.to_vec();
        loop {
            match self.identify() {
                Ok(whole) => {
                    self.live = whole;
                    return Ok(());
                }
                Err(error) => self.failed(error)?,
            }
        }
    }

    /// Asks for the first `lead` bytes, which are to be fetched next. Gives the file's length, if a
    /// server says it.
    pub(crate) fn learn(&mut self, lead: u64) -> Result<Option<u64>, FetchError> {
        loop {
            match self.open(0, lead) {
                Ok(body) => {
                    self.put_back(body);
                    return Ok(self.length);
                }
                Err(error) => self.failed(error)?,
            }
        }
    }

    /// Fetches a file whose length nobody says; gives the length.
    pub(crate) fn fetch_all(&mut self, sink: &mut Sink<'_>) -> Result<u64, FetchError> {
        let mut from = 0;
        self.persist(&mut from, u64::MAX, sink)?;
        Ok(from)
    }

    /// Fetches the bytes in `range`, which lies within the file, in order.
    pub(crate) fn fetch(
        &mut self,
        range: Range<u64>,
        sink: &mut Sink<'_>,
    ) -> Result<(), FetchError> {
        let mut from = range.start;
        self.persist(&mut from, range.end, sink)
    }

    /// Foretells that the bytes up to `end` will be fetched next.
    pub(crate) fn look_ahead(&mut self, end: u64) {
        self.ahead = end;
    }

    /// What the server that sent last sent was wrong: it is not asked again.
    pub(crate) fn damaged(&mut self, path: &str) -> Result<(), FetchError> {
        self.live = None;
        let url = self.mirrors.now().url.to_string();
        let path = path.to_owned();
        self.failed(FetchError::Damaged { url, path })
    }

    /// Where the body stands that has all of the file, if that is what a server without ranges is
    /// sending: what is skipped of it has to be fetched from its beginning again.
    pub(crate) fn flows_from(&self) -> Option<u64> {
        let whole = self.live.as_ref().filter(|live| live.whole);
        whole.map(|live| live.position)
    }

    /// Bytes of bodies received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Requests made, redirections apart.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// The place of the server that is asked now among the URLs given.
    pub(crate) fn server(&self) -> usize {
        self.mirrors.place()
    }

    /// Tries until `from` has reached `to` or the file's end.
    fn persist(&mut self, from: &mut u64, to: u64, sink: &mut Sink<'_>) -> Result<(), FetchError> {
        loop {
            self.cancel.check()?;
            let before = self.received;
            let error = match self.attempt(from, to, sink) {
                Ok(true) => return Ok(()),
                Ok(false) => continue,
                Err(error) => error,
            };
            if self.received - before >= PROGRESS {
                self.mirrors.progressed();
            }
            self.failed(error)?;
        }
    }

    /// Waits before the server that is to be asked now.
    fn failed(&mut self, error: FetchError) -> Result<(), FetchError> {
        let pause = self.mirrors.failed(error)?;
        rest(pause, &self.cancel)
    }

    /// Reads one body up to `to`; whether that, or the file's end, was reached.
    fn attempt(
        &mut self,
        from: &mut u64,
        to: u64,
        sink: &mut Sink<'_>,
    ) -> Result<bool, FetchError> {
        if self.length.is_some_and(|length| *from >= to.min(length)) {
            return Ok(true);
        }
        let mut body = match self.live.take().filter(|live| live.leads_to(*from)) {
            Some(live) => live,
            None => self.open(*from, to)?,
        };
        loop {
            // Of unknown length: the end is where it ends.
            let to = self.length.map_or(u64::MAX, |length| to.min(length));
            if *from >= to {
                self.put_back(body);
                self.mirrors.progressed();
                return Ok(true);
            }
            if body.end.is_some_and(|end| body.position >= end) {
                self.put_back(body);
                return Ok(false);
            }
            if !self.step(&mut body, from, to, sink)? {
                return self.ended(body, *from).map(|()| true);
            }
        }
    }

    /// Takes the next piece of a body; false if there is none.
    fn step(
        &mut self,
        body: &mut Body,
        from: &mut u64,
        to: u64,
        sink: &mut Sink<'_>,
    ) -> Result<bool, FetchError> {
        let position = body.position;
        let skipped = position < *from;
        let most = if skipped {
            *from - position
        } else {
            to - position
        };
        let piece = body
            .exchange
            .read(usize::try_from(most).unwrap_or(usize::MAX))?;
        let count = piece.len() as u64;
        if count == 0 {
            return Ok(false);
        }
        self.received += count;
        if !check_header(&mut self.header, position, piece) {
            return Err(changed(&body.exchange.url));
        }
        body.position += count;
        if !skipped {
            sink(position, piece).map_err(FetchError::Keep)?;
            *from = body.position;
        }
        if body.whole && self.length.is_none() && *from > limits::UNSIZED {
            return Err(FetchError::Endless {
                url: body.exchange.url.to_string(),
                limit: limits::UNSIZED,
            });
        }
        if position < HEADER_SIZE && body.position >= HEADER_SIZE {
            self.mirrors.now().identified = true;
        }
        Ok(true)
    }

    /// A body is at its end before the bytes wanted: the file's end, if its length was not known.
    fn ended(&mut self, body: Body, from: u64) -> Result<(), FetchError> {
        if self.length.is_none() && body.end.is_none() && body.position == from {
            self.length = Some(from);
            return Ok(());
        }
        let url = body.exchange.url.to_string();
        let violation = Violation::Short;
        Err(FetchError::Answer { url, violation })
    }

    /// Asks the server for bytes from `from` on.
    fn open(&mut self, from: u64, to: u64) -> Result<Body, FetchError> {
        let is_known = self.header.len() as u64 == HEADER_SIZE;
        // A body that begins at the file's start shows itself what file it is of.
        if is_known
            && from > 0
            && !self.mirrors.now().identified
            && let Some(whole) = self.identify()?
        {
            return Ok(whole);
        }
        let end = self.length.unwrap_or(u64::MAX).min(to.max(self.ahead));
        let version = self.mirrors.now().version.clone();
        match self.request(from..end, version)? {
            Some(body) => Ok(body),
            // Another tag of the same bytes is no other file: look at the bytes.
            None if is_known && from > 0 => {
                if let Some(whole) = self.identify()? {
                    return Ok(whole);
                }
                let body = self.request(from..end, None)?;
                body.ok_or_else(|| changed(&self.mirrors.now().url))
            }
            None => {
                self.mirrors.now().version = None;
                let body = self.request(from..end, None)?;
                body.ok_or_else(|| changed(&self.mirrors.now().url))
            }
        }
    }

    /// Compares the server's copy with the header. Gives a body of the whole file, if the server
    /// sends no less.
    fn identify(&mut self) -> Result<Option<Body>, FetchError> {
        self.mirrors.now().version = None;
        let Some(mut body) = self.request(0..HEADER_SIZE, None)? else {
            return Err(changed(&self.mirrors.now().url));
        };
        if body.whole {
            return Ok(Some(body));
        }
        let mut from = 0;
        while from < HEADER_SIZE {
            if !self.step(&mut body, &mut from, HEADER_SIZE, &mut |_, _| Ok(()))? {
                return self.ended(body, from).map(|()| None);
            }
        }
        self.put_back(body);
        Ok(None)
    }

    /// One request; none if the server has another file now.
    fn request(
        &mut self,
        range: Range<u64>,
        version: Option<Version>,
    ) -> Result<Option<Body>, FetchError> {
        self.requests += 1;
        let mirror = self.mirrors.now();
        let asked = Asked {
            range,
            length: self.length,
            version,
        };
        let (exchange, answer) = self.client.get(&mirror.url, &asked)?;
        let (position, end, length, whole) = match answer {
            Answer::Part { end, length } => (asked.range.start, Some(end), Some(length), false),
            Answer::Whole { length } => (0, length, length, true),
            _ => return Ok(None),
        };
        mirror.version = Some(exchange.head.version.clone());
        self.length = self.length.or(length);
        Ok(Some(Body {
            exchange,
            position,
            end,
            whole,
        }))
    }

    /// Keeps a body to read on, or its connection for the next request.
    fn put_back(&mut self, body: Body) {
        if body.end.is_none_or(|end| body.position < end) {
            self.live = Some(body);
        } else if matches!(body.exchange.head.framing, Framing::Sized(_)) {
            self.client.keep(body.exchange);
        }
    }
}

impl Body {
    /// Whether reading on comes to `from` at less cost than a request.
    fn leads_to(&self, from: u64) -> bool {
        let gap = from.checked_sub(self.position);
        let inside = self.end.is_none_or(|end| from < end);
        inside && gap.is_some_and(|gap| self.whole || gap <= GAP)
    }
}

/// Learns the file's first bytes, or compares them with those known.
fn check_header(header: &mut Vec<u8>, position: u64, piece: &[u8]) -> bool {
    let size = HEADER_SIZE as usize;
    let Ok(begin) = usize::try_from(position) else {
        return true;
    };
    if begin >= size {
        return true;
    }
    let piece = &piece[..piece.len().min(size - begin)];
    let known = header.get(begin..).unwrap_or_default();
    let both = known.len().min(piece.len());
    if known[..both] != piece[..both] {
        return false;
    }
    if begin + both == header.len() {
        header.extend_from_slice(&piece[both..]);
    }
    true
}

fn changed(url: &Url) -> FetchError {
    let url = url.to_string();
    FetchError::Changed { url }
}

/// Waits, unless cancelled.
fn rest(pause: Duration, cancel: &Cancel) -> Result<(), FetchError> {
    let until = Instant::now() + pause;
    loop {
        cancel.check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(TICK));
    }
}

/// Bytes to skip in a body rather than ask anew: about what a round trip costs.
pub(crate) const GAP: u64 = 64 << 10;
/// Bytes that make a broken connection one that has worked: less would let a server that always
/// breaks keep us for ever.
const PROGRESS: u64 = 32 << 10;
/// How often a pause looks whether it was cancelled.
const TICK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_learnt_once_and_compared_ever_after() {
        let mut header = Vec::new();
        let bytes: Vec<u8> = (0..=255).collect();
        assert!(check_header(&mut header, 0, &bytes[..100]));
        assert!(check_header(&mut header, 50, &bytes[50..]));
        assert_eq!(header, bytes[..155]);
        assert!(check_header(&mut header, 154, &bytes[154..]));
        assert!(check_header(&mut header, 155, b"anything"));
        assert!(check_header(&mut header, u64::MAX, b"anything"));
        assert!(!check_header(&mut header, 0, &bytes[1..]));
        assert!(!check_header(&mut header, 154, &bytes[155..]));
    }

    #[test]
    fn a_gap_in_the_learnt_header_is_not_filled_with_other_bytes() {
        let mut header = Vec::new();
        assert!(check_header(&mut header, 10, b"later"));
        assert!(header.is_empty());
    }
}
