//! Where a message's body ends: by length, by chunks, or with the connection.
//!
//! Chunked bodies are passed through as they come, but every byte of their framing is checked:
//! what one server might read in another way than the next (bare line feeds, signs, overlong sizes)
//! is refused, because that is how requests are smuggled. Trailers are dropped.

use super::buffer::Buffer;

/// A body on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Chunked transfer coding.
    Chunked(Chunks),
    /// From HTTP/2, which needs no framing of ours; put into chunks for the place.
    Chunking {
        /// The last chunk is written.
        done: bool,
    },
    /// So many bytes to come; 0 when there is none or no more.
    Length(u64),
    /// All until the connection ends.
    UntilClose,
}

/// Chunk framing that can't be trusted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunked framing of the body is damaged")]
pub(super) struct BadChunk;

impl Body {
    /// No body.
    pub(super) const NONE: Self = Self::Length(0);

    /// Moves what belongs to the body from `from` to `to`, at most about `room` bytes.
    pub(super) fn relay(
        &mut self,
        from: &mut Buffer,
        to: &mut Buffer,
        room: usize,
    ) -> Result<(), BadChunk> {
        match self {
            Self::Chunked(chunks) => chunks.relay(from, to, room)?,
            Self::Chunking { .. } => {
                let count = from.len().min(room);
                if count > 0 {
                    to.push(format!("{count:x}\r\n").as_bytes());
                    from.pass(count, to);
                    to.push(b"\r\n");
                }
            }
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = count.min(room).min(from.len());
                from.pass(count, to);
                *left -= count as u64;
            }
            Self::UntilClose => from.pass(from.len().min(room), to),
        }
        Ok(())
    }

    /// Nothing more will come: ends what has no other end.
    pub(super) fn finish(&mut self, to: &mut Buffer) {
        if let Self::Chunking { done: done @ false } = self {
            *done = true;
            to.push(b"0\r\n\r\n");
        }
    }

    /// Whether the last byte has passed. Never true for a body that ends with its connection.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Chunked(chunks) => chunks.state == State::Done,
            Self::Chunking { done } => *done,
            Self::Length(left) => *left == 0,
            Self::UntilClose => false,
        }
    }
}

/// Where in the chunked coding a body is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    state: State,
    /// The size being read, or the data bytes left.
    size: u64,
    /// Bytes of the size line or trailer section so far, against endless ones.
    line: usize,
    /// Only the data are passed on: for HTTP/2, which frames them anew.
    bare: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    Data,
    DataCr,
    DataLf,
    Done,
    EndLf,
    Extension,
    #[default]
    Size,
    SizeLf,
    Trailer,
    TrailerLf,
    TrailerStart,
}

impl Chunks {
    /// Chunks of which only the data are passed on.
    pub(super) fn bare() -> Self {
        Self {
            bare: true,
            ..Self::default()
        }
    }

    fn relay(
        &mut self,
        from: &mut Buffer,
        to: &mut Buffer,
        mut room: usize,
    ) -> Result<(), BadChunk> {
        while room > 0 && !from.is_empty() && self.state != State::Done {
            let before = from.len();
            if self.state == State::Data {
                self.data(from, to, room);
            } else {
                self.framing(from, to)?;
            }
            room = room.saturating_sub(before - from.len());
        }
        Ok(())
    }

    fn data(&mut self, from: &mut Buffer, to: &mut Buffer, room: usize) {
        let left = usize::try_from(self.size).unwrap_or(usize::MAX);
        let count = left.min(room).min(from.len());
        from.pass(count, to);
        self.size -= count as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
    }

    /// Takes framing up to the next data, the end of the body, or the end of what is there.
    fn framing(&mut self, from: &mut Buffer, to: &mut Buffer) -> Result<(), BadChunk> {
        let mut run = 0;
        for index in 0..from.len() {
            if matches!(self.state, State::Data | State::Done) {
                break;
            }
            let byte = from.bytes()[index];
            let before = self.state;
            self.step(byte)?;
            run = index + 1;
            if self.bare || !before.passes(byte) {
                // What came before this byte is passed on, the byte itself is not.
                from.pass(index, to);
                from.consume(1);
                return Ok(());
            }
        }
        from.pass(run, to);
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(BadChunk);
        }
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (State::Size, b';') if self.line > 1 => State::Extension,
            (State::Size | State::Extension, b'\r') if self.line > 1 => State::SizeLf,
            (State::Extension, b'\t' | b' '..=b'~') => State::Extension,
            (State::SizeLf, b'\n') => self.size_is_known(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::Size
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(BadChunk),
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<State, BadChunk> {
        if self.line > MAX_SIZE_DIGITS {
            return Err(BadChunk);
        }
        let digit = char::from(byte).to_digit(16).ok_or(BadChunk)?;
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn size_is_known(&mut self) -> State {
        self.line = 0;
        if self.size == 0 {
            State::TrailerStart
        } else {
            State::Data
        }
    }
}

impl State {
    /// Whether a framing byte read in this state is passed on: all but trailer lines are.
    fn passes(self, byte: u8) -> bool {
        match self {
            Self::Trailer | Self::TrailerLf => false,
            Self::TrailerStart => byte == b'\r',
            Self::Data
            | Self::DataCr
            | Self::DataLf
            | Self::Done
            | Self::EndLf
            | Self::Extension
            | Self::Size
            | Self::SizeLf => true,
        }
    }
}

/// 15 hexadecimal digits are an exabyte: more than anyone sends, and no overflow of 64 bits.
const MAX_SIZE_DIGITS: usize = 15;
/// Chunk extensions and trailers are hardly used by anyone; this is ample, and stops endless ones.
const MAX_LINE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of the given lengths (the last repeated) and gives what passed.
    fn run(input: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, bool, usize), BadChunk> {
        let mut body = Body::Chunked(Chunks::default());
        let (mut from, mut to, mut out) = (Buffer::default(), Buffer::default(), Vec::new());
        let (mut at, mut piece) = (0, pieces.iter().cycle());
        while at < input.len() {
            let count = (*piece.next().unwrap()).clamp(1, input.len() - at);
            from.push(&input[at..at + count]);
            at += count;
            body.relay(&mut from, &mut to, 1 + count % 5)?;
            while !from.is_empty() && !body.is_done() {
                body.relay(&mut from, &mut to, 3)?;
            }
            out.extend_from_slice(to.bytes());
            to.clear();
        }
        Ok((out, body.is_done(), from.len()))
    }

    #[test]
    fn a_good_body_passes_unchanged_however_it_is_split() {
        let body = b"5\r\nhello\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n";
        for size in 1..body.len() + 1 {
            let got = run(body, &[size, 1, 7]).unwrap();
            assert_eq!(got, (body.to_vec(), true, 0), "pieces of {size}");
        }
    }

    #[test]
    fn trailers_are_dropped_and_what_follows_is_left() {
        let body = b"1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\nGET ";
        for size in 1..body.len() + 1 {
            let mut chunks = Body::Chunked(Chunks::default());
            let (mut from, mut to) = (Buffer::default(), Buffer::default());
            for piece in body.chunks(size) {
                from.push(piece);
                chunks.relay(&mut from, &mut to, usize::MAX).unwrap();
            }
            assert!(chunks.is_done());
            assert_eq!(to.bytes(), b"1\r\nx\r\n0\r\n\r\n");
            assert_eq!(from.bytes(), b"GET ");
        }
    }

    #[test]
    fn bare_chunks_leave_only_the_data() {
        let mut body = Body::Chunked(Chunks::bare());
        let (mut from, mut to) = (Buffer::default(), Buffer::default());
        from.push(b"5;x=y\r\nhello\r\n2\r\n, \r\n0\r\nA: b\r\n\r\nrest");
        body.relay(&mut from, &mut to, usize::MAX).unwrap();
        assert!(body.is_done());
        assert_eq!((to.bytes(), from.bytes()), (&b"hello, "[..], &b"rest"[..]));
    }

    #[test]
    fn a_body_without_framing_is_put_into_chunks() {
        let mut body = Body::Chunking { done: false };
        let (mut from, mut to) = (Buffer::default(), Buffer::default());
        for part in [&b"0123456789abcdef!"[..], b"", b"x"] {
            from.push(part);
            body.relay(&mut from, &mut to, usize::MAX).unwrap();
        }
        body.finish(&mut to);
        body.finish(&mut to);
        let expected = b"11\r\n0123456789abcdef!\r\n1\r\nx\r\n0\r\n\r\n";
        assert!(body.is_done() && to.bytes() == expected);
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        let bad: [&[u8]; 12] = [
            b"5\nhello\r\n",
            b"\r\n",
            b";x\r\n",
            b"+5\r\n",
            b"0x5\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n",
            b"ffffffffffffffff1\r\n",
            b"1;\x00\r\nx\r\n",
            b"0\r\nA: b\n\r\n",
        ];
        for body in bad {
            assert_eq!(run(body, &[1]), Err(BadChunk), "{:?}", body.escape_ascii());
            assert_eq!(run(body, &[64]), Err(BadChunk), "{:?}", body.escape_ascii());
        }
    }

    #[test]
    fn an_endless_extension_or_trailer_is_refused() {
        let mut extension = b"5;".to_vec();
        extension.resize(MAX_LINE + 10, b'a');
        assert_eq!(run(&extension, &[100]), Err(BadChunk));
        let mut trailer = b"0\r\n".to_vec();
        (0..1000).for_each(|_| trailer.extend_from_slice(b"Aa: b\r\n"));
        assert_eq!(run(&trailer, &[100]), Err(BadChunk));
    }

    #[test]
    fn a_length_is_kept_to_the_byte() {
        let (mut from, mut to) = (Buffer::default(), Buffer::default());
        let mut body = Body::Length(5);
        from.push(b"hello, world");
        body.relay(&mut from, &mut to, 3).unwrap();
        assert!(!body.is_done());
        body.relay(&mut from, &mut to, 30).unwrap();
        assert!(body.is_done());
        assert_eq!((to.bytes(), from.bytes()), (&b"hello"[..], &b", world"[..]));
    }
}
