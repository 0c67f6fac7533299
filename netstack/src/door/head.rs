//! What request and response heads have in common: finding their end, and what is not passed on.

use std::io::Write as _;

use super::body::Body;

/// Why a message is not taken, with the status that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// Why, as a sentence.
    pub(super) why: &'static str,
}

/// How strictly line ends are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// CR LF only: what others may read in another way is refused.
    Strict,
    /// A bare LF too, as old services send; the head is written anew anyway.
    Tolerant,
}

/// The length of the head that `bytes` begin with, if its end is there.
///
/// `seen` is how far an earlier call has looked, and is moved on.
///
/// # Errors
/// A bare LF when lines are taken strictly.
pub(super) fn end(bytes: &[u8], seen: &mut usize, lines: Lines) -> Result<Option<usize>, Refusal> {
    while let Some(offset) = bytes[*seen..].iter().position(|&byte| byte == b'\n') {
        let line_end = *seen + offset;
        let before = &bytes[..line_end];
        if lines == Lines::Strict && before.last() != Some(&b'\r') {
            return Err(bad("A line of the request's head does not end in CR LF."));
        }
        *seen = line_end + 1;
        let before = before.strip_suffix(b"\r").unwrap_or(before);
        if before.last() == Some(&b'\n') {
            return Ok(Some(*seen));
        }
    }
    *seen = bytes.len();
    Ok(None)
}

/// A 400 with its reason.
pub(super) fn bad(why: &'static str) -> Refusal {
    Refusal { status: 400, why }
}

/// The framing fields of one message, gathered while its header is read.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Content-Length, if there was one.
    pub(super) length: Option<u64>,
    /// Transfer-Encoding was there, and it was `chunked` and nothing else.
    pub(super) chunked: bool,
}

impl Framing {
    /// Notes a Content-Length. More than one is refused, even if they agree.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let digits = std::str::from_utf8(value).ok().filter(|text| {
            !text.is_empty() && text.len() < 19 && text.bytes().all(|b| b.is_ascii_digit())
        });
        let length = digits.and_then(|text| text.parse().ok());
        let Some(length) = length.filter(|_| self.length.is_none()) else {
            return Err(bad("Content-Length is not one plain number."));
        };
        self.length = Some(length);
        Ok(())
    }

    /// Notes a Transfer-Encoding. Only a single `chunked` is understood.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            let why = "Only the transfer coding \"chunked\" is understood, once.";
            return Err(Refusal { status: 501, why });
        }
        self.chunked = true;
        Ok(())
    }

    /// The body that they announce, if any does.
    ///
    /// # Errors
    /// Both at once: two servers may disagree about where such a message ends.
    pub(super) fn body(&self) -> Result<Option<Body>, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(bad(
                "Content-Length and Transfer-Encoding exclude each other.",
            )),
            (true, None) => Ok(Some(Body::Chunked(super::body::Chunks::default()))),
            (false, length) => Ok(length.map(Body::Length)),
        }
    }
}

/// What the Connection field says.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// It says `close`.
    pub(super) close: bool,
    /// It says `keep-alive`.
    pub(super) keep_alive: bool,
    /// It says `upgrade`.
    pub(super) upgrade: bool,
    /// Fields that it declares to be for the next hop only, in lower case.
    pub(super) fields: Vec<String>,
}

impl Connection {
    /// Notes one Connection field's value.
    pub(super) fn note(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            match option.trim_ascii().to_ascii_lowercase().as_slice() {
                b"" => {}
                b"close" => self.close = true,
                b"keep-alive" => self.keep_alive = true,
                b"upgrade" => self.upgrade = true,
                other => self
                    .fields
                    .push(String::from_utf8_lossy(other).into_owned()),
            }
        }
    }

    /// Whether it declares `name` to be for the next hop only.
    pub(super) fn names(&self, name: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|field| field.eq_ignore_ascii_case(name))
    }
}

/// Whether the field `name` is for the next hop only, by the standard's list.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    let fields = [
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    fields.iter().any(|field| field.eq_ignore_ascii_case(name))
}

/// Appends `Name: value` and a line end.
pub(super) fn line(name: &str, value: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(value);
    to.extend_from_slice(b"\r\n");
}

/// The same for a number.
pub(super) fn number_line(name: &str, number: u64, to: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(to, "{name}: {number}\r\n");
}

/// Splits the first of the lines that [`line`] wrote from the rest: name, value, rest.
pub(super) fn split_line(lines: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let colon = lines.iter().position(|&byte| byte == b':')?;
    let (name, rest) = lines.split_at(colon);
    let end = rest.iter().position(|&byte| byte == b'\r')?;
    Some((name, rest.get(2..end)?, rest.get(end + 2..)?))
}

/// As many fields as a head may have; browsers send about 20.
pub(super) const MAX_FIELDS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_in_any_pieces() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n";
        for size in 1..head.len() {
            let (mut seen, mut found) = (0, None);
            for until in (size..head.len()).step_by(size).chain([head.len()]) {
                found = end(&head[..until], &mut seen, Lines::Strict).unwrap();
                if found.is_some() {
                    break;
                }
            }
            assert_eq!(found, Some(27), "pieces of {size}");
        }
    }

    #[test]
    fn bare_line_feeds_are_for_services_only() {
        let head = b"HTTP/1.0 200 OK\nA: b\n\nx";
        assert_eq!(end(head, &mut 0, Lines::Tolerant), Ok(Some(22)));
        assert!(end(head, &mut 0, Lines::Strict).is_err());
    }

    #[test]
    fn doubtful_lengths_are_refused() {
        for value in [
            "",
            "+1",
            "-1",
            "1,1",
            "1 1",
            "0x1",
            "99999999999999999999",
            "1.0",
        ] {
            let length = Framing::default().content_length(value.as_bytes());
            assert!(length.is_err(), "{value:?}");
        }
        let mut twice = Framing::default();
        twice.content_length(b"5").unwrap();
        assert!(twice.content_length(b"5").is_err());
    }
}
