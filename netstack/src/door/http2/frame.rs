//! HTTP/2 frames (RFC 9113, section 4 and 6): their heads read, and whole ones written.

use super::super::buffer::Buffer;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// The head that `bytes` begin with, if it is all there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s0, s1, s2, s3, ..] = *bytes else {
            return None;
        };
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_STREAM,
        })
    }

    /// Whether `flag` is set.
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Why a stream or a connection is ended (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    Refused = 7,
    Cancel = 8,
    Compression = 9,
    Calm = 11,
}

/// The end of the whole connection, with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fatal(pub(super) Code);

/// Appends a frame whose payload is short.
pub(super) fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], to: &mut Buffer) {
    head(payload.len(), kind, flags, stream, to);
    to.push(payload);
}

/// Appends a frame's head; `length` bytes of payload must follow.
pub(super) fn head(length: usize, kind: u8, flags: u8, stream: u32, to: &mut Buffer) {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    to.push(&[a, b, c, kind, flags, s0, s1, s2, s3]);
}

/// Appends RST_STREAM.
pub(super) fn reset(stream: u32, code: Code, to: &mut Buffer) {
    write(RST_STREAM, 0, stream, &(code as u32).to_be_bytes(), to);
}

/// Appends WINDOW_UPDATE; stream 0 is the connection.
pub(super) fn window_update(stream: u32, by: u32, to: &mut Buffer) {
    write(WINDOW_UPDATE, 0, stream, &by.to_be_bytes(), to);
}

/// Appends GOAWAY: no stream after `last` was looked at.
pub(super) fn go_away(last: u32, code: Code, to: &mut Buffer) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last.to_be_bytes());
    payload[4..].copy_from_slice(&(code as u32).to_be_bytes());
    write(GOAWAY, 0, 0, &payload, to);
}

/// Appends a field section for `stream`, in as many frames as it takes.
pub(super) fn section(stream: u32, section: &[u8], ends: bool, to: &mut Buffer) {
    let mut parts = section.chunks(MAX_FRAME).peekable();
    let (mut kind, mut flags) = (HEADERS, if ends { END_STREAM } else { 0 });
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            flags |= END_HEADERS;
        }
        write(kind, flags, stream, part, to);
        (kind, flags) = (CONTINUATION, 0);
    }
}

/// The payload without its padding, if it is padded as the standard says.
pub(super) fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Fatal> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Fatal(Code::FrameSize))?;
    let kept = rest.len().checked_sub(usize::from(padding));
    kept.map(|kept| &rest[..kept]).ok_or(Fatal(Code::Protocol))
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of SETTINGS and PING.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITIZED: u8 = 0x20;

/// What a client's connection begins with (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;
/// The largest payload both ways: the standard's first value, which no setting of ours changes.
pub(super) const MAX_FRAME: usize = 16 * 1024;
/// Stream identifiers have 31 bits; the highest of the 32 says nothing.
pub(super) const MAX_STREAM: u32 = 0x7fff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_were_written() {
        let mut out = Buffer::default();
        window_update(3, 7, &mut out);
        assert_eq!(Head::parse(&out.bytes()[..8]), None);
        let head = Head::parse(out.bytes()).unwrap();
        assert_eq!((head.length, head.kind, head.stream), (4, WINDOW_UPDATE, 3));
    }

    #[test]
    fn long_sections_go_on_in_continuations() {
        let mut out = Buffer::default();
        section(1, &vec![0; MAX_FRAME + 1], true, &mut out);
        let first = Head::parse(out.bytes()).unwrap();
        assert_eq!((first.kind, first.flags), (HEADERS, END_STREAM));
        let second = Head::parse(&out.bytes()[HEAD + MAX_FRAME..]).unwrap();
        let expected = Head {
            length: 1,
            kind: CONTINUATION,
            flags: END_HEADERS,
            stream: 1,
        };
        assert_eq!(second, expected);
    }

    #[test]
    fn padding_longer_than_the_frame_is_refused() {
        let head = Head {
            length: 3,
            kind: DATA,
            flags: PADDED,
            stream: 1,
        };
        assert_eq!(unpadded(head, &[1, 7, 0]), Ok(&[7][..]));
        assert_eq!(unpadded(head, &[3, 0, 0]), Err(Fatal(Code::Protocol)));
        assert_eq!(unpadded(head, &[]), Err(Fatal(Code::FrameSize)));
    }
}
