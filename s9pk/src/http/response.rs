//! Reading a response: bytes in, head and pieces of the body out. No I/O, and no more memory than
//! [`limits::HEAD_SIZE`], whatever the server sends.

use std::{ops::Range, str, time::Duration};

use crate::http::{
    limits,
    range::{self, ContentRange, Version},
};

/// Status line and headers, as far as they matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code, 200 to 999.
    pub status: u16,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection can be used again after the body.
    pub keep_alive: bool,
    /// Which part of the file the body is.
    pub content_range: Option<ContentRange>,
    /// Which state of the file it is of.
    pub version: Version,
    /// Where the file is instead.
    pub location: Option<String>,
    /// How long the server wishes not to be asked again.
    pub retry_after: Option<Duration>,
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Sized(u64),
    /// By an empty chunk.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// What a server may not send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The head is no HTTP.
    #[error("its answer is not HTTP/1.1 ({0})")]
    Malformed(&'static str),
    /// The head does not end.
    #[error("the headers of its answer are longer than {} KiB", limits::HEAD_SIZE >> 10)]
    HeadTooLong,
    /// More headers than any server sends.
    #[error("its answer has more than {} headers", limits::HEADERS)]
    TooManyHeaders,
    /// Interim answers without end.
    #[error("it announces an answer again and again and sends none")]
    Interim,
    /// Two lengths, or a length that is no number.
    #[error("it gives no single length of its answer")]
    Length,
    /// A coding that was not asked for.
    #[error("it sends the file in a coding ({0}) that was not asked for")]
    Coding(String),
    /// The chunks are damaged.
    #[error("the chunks of its answer are damaged")]
    Chunk,
    /// No range, or one that is no range.
    #[error("it does not say which part of the file it sends (Content-Range)")]
    ContentRange,
    /// Bytes of another place.
    #[error(
        "it sends bytes {} to {} of the file, asked for were {} to {}",
        got.start, got.end, wanted.start, wanted.end
    )]
    WrongRange {
        /// What was asked for.
        wanted: Range<u64>,
        /// What came.
        got: Range<u64>,
    },
    /// Nobody knows how long the file is.
    #[error("it does not say how long the file is")]
    UnknownLength,
    /// A redirection to nowhere.
    #[error("it says that the file is elsewhere, but not where")]
    Location,
    /// The connection ended within the head or the body.
    #[error("the connection ended before its answer did")]
    Short,
}

/// What the bytes taken are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing yet: give it more.
    More,
    /// Status and headers are complete.
    Head(Head),
    /// The next bytes of the body.
    Body(&'a [u8]),
    /// The body is complete. No further byte belongs to this response.
    End,
}

/// Reads one response to a GET request.
#[derive(Debug, Default)]
pub struct Receiver {
    state: State,
    /// A head or a line that is not complete yet.
    pending: Vec<u8>,
    interim: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Sized(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    End,
}

impl Receiver {
    /// Waits for a status line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input`; says how many, and what they are. Call it again with
    /// the rest until nothing is taken and the event is [`Event::More`], or [`Event::End`] came.
    ///
    /// # Errors
    /// When they are no HTTP/1.1 or beyond a limit. The connection is of no use afterwards.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), Violation> {
        match self.state {
            State::Head => self.head(input),
            State::Sized(0) => {
                self.state = State::End;
                Ok((0, Event::End))
            }
            State::Sized(left) => {
                let (body, left) = split(input, left);
                self.state = State::Sized(left);
                Ok(piece(body))
            }
            State::UntilClose => Ok(piece(input)),
            State::ChunkSize => self.chunk_size(input),
            State::ChunkData(left) => {
                let (body, left) = split(input, left);
                self.state = match left {
                    0 => State::ChunkEnd,
                    left => State::ChunkData(left),
                };
                Ok(piece(body))
            }
            State::ChunkEnd => self.chunk_end(input),
            State::Trailer => self.trailer(input),
            State::End => Ok((0, Event::End)),
        }
    }

    /// The connection has ended: whether that was the body's end.
    ///
    /// # Errors
    /// [`Violation::Short`] if more was to come.
    pub fn close(&self) -> Result<(), Violation> {
        match self.state {
            State::End | State::UntilClose | State::Sized(0) => Ok(()),
            _ => Err(Violation::Short),
        }
    }

    fn head<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), Violation> {
        let Some(taken) = self.collect(input, limits::HEAD_SIZE, ends_head) else {
            return self.more(input, limits::HEAD_SIZE, Violation::HeadTooLong);
        };
        let head = Head::parse_any(&self.pending);
        self.pending.clear();
        let Some(head) = head? else {
            self.interim += 1;
            if self.interim > limits::INTERIM {
                return Err(Violation::Interim);
            }
            return Ok((taken, Event::More));
        };
        self.state = match head.framing {
            Framing::Sized(size) => State::Sized(size),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Ok((taken, Event::Head(head)))
    }

    fn chunk_size<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), Violation> {
        let Some(taken) = self.collect(input, limits::CHUNK_LINE, ends_line) else {
            return self.more(input, limits::CHUNK_LINE, Violation::Chunk);
        };
        let size = match httparse::parse_chunk_size(&self.pending) {
            Ok(httparse::Status::Complete((used, size))) if used == self.pending.len() => size,
            _ => return Err(Violation::Chunk),
        };
        self.pending.clear();
        self.state = match size {
            0 => State::Trailer,
            size => State::ChunkData(size),
        };
        Ok((taken, Event::More))
    }

    fn chunk_end<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), Violation> {
        let Some(taken) = self.collect(input, CRLF.len(), ends_line) else {
            return self.more(input, CRLF.len(), Violation::Chunk);
        };
        if self.pending != CRLF {
            return Err(Violation::Chunk);
        }
        self.pending.clear();
        self.state = State::ChunkSize;
        Ok((taken, Event::More))
    }

    /// Fields behind the last chunk are skipped, up to an empty line.
    fn trailer<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Event<'a>), Violation> {
        let ends = |bytes: &[u8], from| match bytes {
            [b'\r', b'\n', ..] => Some(CRLF.len()),
            _ => ends_head(bytes, from),
        };
        let Some(taken) = self.collect(input, limits::TRAILER_SIZE, ends) else {
            return self.more(input, limits::TRAILER_SIZE, Violation::Chunk);
        };
        self.pending.clear();
        self.state = State::End;
        Ok((taken, Event::End))
    }

    /// Moves bytes to `pending` up to where `ends` sees the end (given the bytes and from where on
    /// they are new), and says how many of `input` that took. Moves `limit` bytes at most.
    fn collect(
        &mut self,
        input: &[u8],
        limit: usize,
        ends: impl Fn(&[u8], usize) -> Option<usize>,
    ) -> Option<usize> {
        let before = self.pending.len();
        let room = limit.saturating_sub(before).min(input.len());
        self.pending.extend_from_slice(&input[..room]);
        let end = ends(&self.pending, before)?;
        self.pending.truncate(end);
        Some(end - before)
    }

    /// All of `input` was moved and there is no end yet, or there will be none.
    fn more<'a>(
        &self,
        input: &'a [u8],
        limit: usize,
        too_long: Violation,
    ) -> Result<(usize, Event<'a>), Violation> {
        if self.pending.len() >= limit {
            return Err(too_long);
        }
        Ok((input.len(), Event::More))
    }
}

/// Reads a whole response that comes in pieces of `step` bytes and then ends: its head and how many
/// bytes of body it has. For tests and fuzzing; the outcome does not depend on `step`.
///
/// # Errors
/// As [`Receiver::next`] and [`Receiver::close`].
pub fn read_all(bytes: &[u8], step: usize) -> Result<(Option<Head>, u64), Violation> {
    let mut receiver = Receiver::new();
    let (mut head, mut body) = (None, 0);
    for piece in bytes.chunks(step.max(1)) {
        let mut rest = piece;
        loop {
            let (taken, event) = receiver.next(rest)?;
            rest = &rest[taken..];
            match event {
                Event::More if rest.is_empty() => break,
                Event::More => {}
                Event::Head(parsed) => head = Some(parsed),
                Event::Body(part) => body += part.len() as u64,
                Event::End => return Ok((head, body)),
            }
        }
    }
    receiver.close().map(|()| (head, body))
}

impl Head {
    /// Parses the head of a response that is no interim one.
    ///
    /// # Errors
    /// When it is no HTTP/1.1, or says contradictory things.
    pub fn parse(bytes: &[u8]) -> Result<Self, Violation> {
        Self::parse_any(bytes)?.ok_or(Violation::Interim)
    }

    /// As [`parse`](Self::parse); none for an interim response.
    fn parse_any(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let mut headers = [httparse::EMPTY_HEADER; limits::HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Violation::Malformed("it has no end")),
            Err(httparse::Error::TooManyHeaders) => return Err(Violation::TooManyHeaders),
            Err(error) => return Err(Violation::Malformed(reason(error))),
        }
        let status = response.code.unwrap_or_default();
        match status {
            // Switching protocols was not asked for, so 101 is no interim response.
            100 | 102..=199 => return Ok(None),
            0..=199 => return Err(Violation::Malformed("its status is none of an answer")),
            _ => {}
        }
        let fields = Fields(response.headers);
        let framing = fields.framing(status)?;
        let old = response.version == Some(0);
        let keep_alive =
            !old && framing != Framing::UntilClose && !fields.has("connection", "close");
        let content_range = fields.one("content-range")?.map(ContentRange::parse);
        Ok(Some(Self {
            status,
            framing,
            keep_alive,
            content_range: content_range.transpose()?,
            version: Version::from_headers(
                fields.first("etag"),
                fields.first("last-modified"),
                fields.first("date"),
            ),
            location: fields.one("location")?.map(str::to_owned),
            retry_after: fields
                .first("retry-after")
                .and_then(range::number)
                .map(Duration::from_secs),
        }))
    }
}

/// The headers of a response.
struct Fields<'a, 'b>(&'a [httparse::Header<'b>]);

impl<'b> Fields<'_, 'b> {
    /// The values of a header; one that is no text is nothing that anybody takes.
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'b str> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| str::from_utf8(header.value).unwrap_or("\u{fffd}").trim())
    }

    fn first(&self, name: &'static str) -> Option<&'b str> {
        self.all(name).next()
    }

    /// The value of a header that decides something, and so must not be there twice.
    fn one(&self, name: &'static str) -> Result<Option<&'b str>, Violation> {
        let mut all = self.all(name);
        let first = all.next();
        match all.next() {
            Some(_) => Err(Violation::Malformed("it says one thing twice")),
            None => Ok(first),
        }
    }

    /// Whether a header that is a list has this member.
    fn has(&self, name: &'static str, member: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(member))
    }

    /// How the body ends (RFC 9112, section 6.3), where a response that can be read in two ways is
    /// refused.
    fn framing(&self, status: u16) -> Result<Framing, Violation> {
        if let Some(coding) = self.all("content-encoding").find(|it| !is_identity(it)) {
            return Err(Violation::Coding(short(coding)));
        }
        let mut lengths = self.all("content-length");
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(Violation::Length);
        }
        if status == 204 || status == 304 {
            return Ok(Framing::Sized(0));
        }
        let mut codings = self.all("transfer-encoding");
        match (codings.next(), codings.next(), length) {
            (None, _, None) => Ok(Framing::UntilClose),
            (None, _, Some(length)) => {
                let length = range::number(length).ok_or(Violation::Length)?;
                Ok(Framing::Sized(length))
            }
            (Some(_), _, Some(_)) => Err(Violation::Length),
            (Some(coding), None, None) if coding.eq_ignore_ascii_case("chunked") => {
                Ok(Framing::Chunked)
            }
            (Some(coding), _, None) => Err(Violation::Coding(short(coding))),
        }
    }
}

fn is_identity(coding: &str) -> bool {
    coding.is_empty() || coding.eq_ignore_ascii_case("identity")
}

/// A stranger's word that is shown: a few plain letters of it.
fn short(word: &str) -> String {
    let plain = word.chars().filter(char::is_ascii_graphic);
    plain.take(SHOWN).collect()
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header's name",
        httparse::Error::HeaderValue => "a header's value",
        httparse::Error::NewLine => "a line's end",
        httparse::Error::Status => "its status",
        httparse::Error::Token => "its first line",
        httparse::Error::Version => "its version",
        httparse::Error::TooManyHeaders => "its headers",
    }
}

fn split(input: &[u8], left: u64) -> (&[u8], u64) {
    let count = left.min(input.len() as u64);
    (&input[..count as usize], left - count)
}

fn piece(body: &[u8]) -> (usize, Event<'_>) {
    match body {
        [] => (0, Event::More),
        body => (body.len(), Event::Body(body)),
    }
}

/// Where the empty line ends that ends a head; `from` bytes were looked at before.
fn ends_head(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.saturating_sub(BLANK_LINE - 1);
    (from..bytes.len()).find_map(|at| match &bytes[at..] {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + BLANK_LINE),
        _ => None,
    })
}

fn ends_line(bytes: &[u8], from: usize) -> Option<usize> {
    let end = bytes[from..].iter().position(|byte| *byte == b'\n')?;
    Some(from + end + 1)
}

const CRLF: &[u8] = b"\r\n";
/// Bytes of a line's end and an empty line.
const BLANK_LINE: usize = 3;
/// Letters of a stranger's word that are shown.
const SHOWN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nhel\r\n2;ext=\"x\"\r\nlo\r\n0\r\nTrailer: x\r\n\r\n";

    #[test]
    fn a_response_is_the_same_however_it_is_cut() {
        for (text, body) in [
            (PLAIN, 5),
            (CHUNKED, 5),
            ("HTTP/1.0 200 OK\r\n\r\nuntil the end", 13),
            ("HTTP/1.1 204 No Content\r\n\r\n", 0),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 1\n\nx",
                1,
            ),
        ] {
            let whole = read_all(text.as_bytes(), usize::MAX).unwrap();
            assert_eq!(whole.1, body, "{text}");
            for step in 1..text.len() {
                let cut = read_all(text.as_bytes(), step);
                assert_eq!(cut.as_ref(), Ok(&whole), "{text}");
            }
        }
    }

    #[test]
    fn a_response_that_is_cut_short_is_noticed_wherever() {
        for text in [PLAIN, CHUNKED] {
            for end in 0..text.len() {
                let cut = read_all(&text.as_bytes()[..end], usize::MAX);
                assert_eq!(cut, Err(Violation::Short), "{}", &text[..end]);
            }
        }
    }

    #[test]
    fn what_follows_a_response_is_left() {
        let mut receiver = Receiver::new();
        let bytes = format!("{PLAIN}HTTP/1.1 404 Not Found\r\n");
        let (head, event) = receiver.next(bytes.as_bytes()).unwrap();
        assert!(matches!(event, Event::Head(_)));
        let rest = &bytes.as_bytes()[head..];
        assert_eq!(receiver.next(rest), Ok((5, Event::Body(&b"hello"[..]))));
        assert_eq!(receiver.next(&rest[5..]), Ok((0, Event::End)));
        assert_eq!(receiver.next(&rest[5..]), Ok((0, Event::End)));
    }

    #[test]
    fn contradictory_and_hostile_heads_are_refused() {
        let many = "X: y\r\n".repeat(limits::HEADERS + 1);
        let long = format!("X: {}\r\n", "y".repeat(limits::HEAD_SIZE));
        for headers in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Encoding: gzip\r\n",
            "Content-Range: bytes 5-4/9\r\n",
            "Content-Range: bytes 1-4/9\r\nContent-Range: bytes 1-5/9\r\n",
            "Location: a\r\nLocation: b\r\n",
            "No colon\r\n",
            " Folded: x\r\n",
            &many,
            &long,
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\nhello");
            assert!(read_all(text.as_bytes(), usize::MAX).is_err(), "{headers}");
            assert!(read_all(text.as_bytes(), 1).is_err(), "{headers}");
        }
        for text in [
            "\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 099 x\r\n\r\n",
        ] {
            assert!(read_all(text.as_bytes(), usize::MAX).is_err(), "{text}");
        }
    }

    #[test]
    fn damaged_chunks_are_refused() {
        for chunks in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "10000000000000000\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nab\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert!(read_all(text.as_bytes(), usize::MAX).is_err(), "{chunks}");
        }
        let endless = format!("3;{}", "x".repeat(limits::CHUNK_LINE));
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{endless}");
        assert_eq!(read_all(text.as_bytes(), 1), Err(Violation::Chunk));
        let trailer = format!("0\r\n{}", "a: b\r\n".repeat(limits::TRAILER_SIZE / 6 + 1));
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{trailer}");
        assert_eq!(read_all(text.as_bytes(), 1), Err(Violation::Chunk));
    }

    #[test]
    fn interim_responses_end_some_time() {
        let text = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(usize::from(limits::INTERIM) + 1);
        assert_eq!(
            read_all(text.as_bytes(), usize::MAX),
            Err(Violation::Interim)
        );
    }

    #[test]
    fn a_connection_is_kept_only_when_both_sides_know_where_the_body_ends() {
        let keeps = |text: &str| Head::parse(text.as_bytes()).unwrap().keep_alive;
        assert!(keeps("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n\r\n"
        ));
    }
}
