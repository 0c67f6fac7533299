//! The netlink wire format: frames, and attributes nested in them, written and read.
//!
//! Written here rather than taken from a library for two reasons. nftables has no library that is
//! free of C or `unsafe`, so the encoder is needed anyway. And a library that decodes every
//! attribute of a message refuses the whole message when one of them is newer than the library: a
//! link that a newer kernel describes better would become invisible, and the box silent. The
//! reader below looks only at what is asked for and never fails on the rest.
//!
//! Bytes are the kernel's, in native order; lengths are checked before they are believed.

pub(crate) mod socket;

/// A request in the making: one frame, to be numbered when it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Begins a frame of `kind` with the family's fixed header.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(header);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(crate) fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTR_HEADER_LEN + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a 32-bit attribute in the machine's byte order (rtnetlink).
    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Adds a 32-bit attribute in network byte order (nftables).
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Adds a text, with the zero byte that the kernel expects.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Adds an attribute that holds those that `fill` adds.
    pub(crate) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ATTR_HEADER_LEN]);
        self = fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }

    /// The frame's bytes, numbered `sequence`, asking for an acknowledgement.
    pub(crate) fn acknowledged(mut self, sequence: u32) -> Vec<u8> {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | ACK;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.numbered(sequence)
    }

    /// The frame's bytes, numbered `sequence`.
    pub(crate) fn numbered(mut self, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// One frame received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// What an `ERROR` frame says: `Ok` is an acknowledgement. `None` for other frames.
    pub(crate) fn verdict(&self) -> Option<Result<(), rustix::io::Errno>> {
        if self.kind != ERROR {
            return None;
        }
        Some(match i32_at(self.payload, 0).unwrap_or(0) {
            0 => Ok(()),
            code => Err(errno(code)),
        })
    }
}

/// The kernel's negative number of an error; any other number is an error too.
fn errno(code: i32) -> rustix::io::Errno {
    match code.checked_neg() {
        Some(number @ 1..=MAX_ERRNO) => rustix::io::Errno::from_raw_os_error(number),
        _ => rustix::io::Errno::IO,
    }
}

/// The frames of a datagram. Ends at the first that is cut short.
pub(crate) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let payload = bytes.get(HEADER_LEN..length)?;
        let frame = Frame {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload,
        };
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(frame)
    })
}

/// The attributes in `bytes`, kinds without their flags. Ends at the first that is cut short.
pub(crate) fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND_MASK;
        let value = bytes.get(ATTR_HEADER_LEN..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attribute of `kind` in `bytes`.
pub(crate) fn attr(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}

/// A text attribute's text, without its zero byte.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The number at `offset`, if it is there.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*field))
}

/// The number at `offset`, if it is there.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

fn i32_at(bytes: &[u8], offset: usize) -> Option<i32> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(i32::from_ne_bytes(*field))
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
const ACK: u16 = 4;
/// `NLM_F_DUMP_INTR`: the kernel's table changed while it was read out.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_REPLACE`, for requests that make something.
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_DUMP`, for requests that read.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub(crate) const DONE: u16 = 3;
/// The kernel's own bound (include/linux/err.h).
const MAX_ERRNO: i32 = 4095;
const HEADER_LEN: usize = 16;
const ATTR_HEADER_LEN: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// All but `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const KIND_MASK: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let bytes = Request::new(16, CREATE, &[1, 2, 3, 4])
            .text(3, "pilot0")
            .nest(18, |r| r.text(1, "bridge").u32(2, 7))
            .acknowledged(9);
        let frame = frames(&bytes).next().expect("one frame");
        assert_eq!((frame.kind, frame.sequence), (16, 9));
        assert_eq!(frame.flags, REQUEST | ACK | CREATE);
        let body = &frame.payload[4..];
        assert_eq!(text(attr(body, 3).expect("name")), "pilot0");
        let nest = attr(body, 18).expect("nest");
        assert_eq!(text(attr(nest, 1).expect("kind")), "bridge");
        assert_eq!(attr(nest, 2), Some(&7u32.to_ne_bytes()[..]));
        assert_eq!(frames(&bytes).count(), 1);
    }

    #[test]
    fn an_error_frame_is_a_verdict() {
        let refused = Request::new(ERROR, 0, &(-17i32).to_ne_bytes()).numbered(1);
        let frame = frames(&refused).next().expect("frame");
        assert_eq!(frame.verdict(), Some(Err(rustix::io::Errno::EXIST)));
        for strange in [1, i32::MIN, -70_000] {
            let refused = Request::new(ERROR, 0, &i32::to_ne_bytes(strange)).numbered(1);
            let frame = frames(&refused).next().expect("frame");
            assert_eq!(frame.verdict(), Some(Err(rustix::io::Errno::IO)));
        }
        let accepted = Request::new(ERROR, 0, &[0; 4]).numbered(1);
        assert_eq!(
            frames(&accepted).next().expect("frame").verdict(),
            Some(Ok(()))
        );
    }

    #[test]
    fn any_bytes_end_somewhere() {
        let mut random = crate::net::random::Random::new(7);
        for _ in 0..20_000 {
            let length = random.below(80) as usize;
            let bytes: Vec<u8> = (0..length).map(|_| random.below(24) as u8).collect();
            assert!(frames(&bytes).count() <= length);
            assert!(attrs(&bytes).count() <= length);
        }
    }
}
