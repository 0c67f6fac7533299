//! A field section as a request: checked as RFC 9113, section 8, asks, so that nothing in it can
//! mean another thing to the HTTP/1.1 server behind.

use super::{
    super::{
        head::{MAX_FIELDS, Refusal},
        limits::MAX_REQUEST_HEAD,
        request::{Described, Request, TOO_LARGE},
    },
    hpack::{BadSection, Decoder},
};

/// The fields of one section.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// Names and values, one after the other.
    text: Vec<u8>,
    /// Where each name and each value ends in `text`.
    ends: Vec<(usize, usize)>,
    /// How many of them are pieces of the one cookie field.
    crumbs: usize,
    /// There was more than is taken of any request.
    overflowed: bool,
}

/// Why a section is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It breaks the rules of HTTP/2: the stream is reset.
    Malformed,
    /// It is understood, and not taken.
    Refused(Refusal),
}

impl Section {
    /// Decodes `block`. What is too much is counted and dropped, so that the decoder stays right.
    pub(super) fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Self, BadSection> {
        let mut section = Self {
            text: Vec::with_capacity(512),
            ends: Vec::with_capacity(16),
            ..Self::default()
        };
        decoder.decode(block, |name, value| section.push(name, value))?;
        Ok(section)
    }

    /// The request that it describes; `is_open` when a body follows.
    pub(super) fn request(&self, is_open: bool) -> Result<Request, Wrong> {
        if self.overflowed {
            return Err(Wrong::Refused(TOO_LARGE));
        }
        let mut pseudo = Pseudo::default();
        let mut fields = Vec::with_capacity(self.ends.len());
        let mut cookies = Vec::new();
        for (name, value) in self.fields() {
            if !is_value(value) {
                return Err(Wrong::Malformed);
            }
            if name.starts_with(b":") {
                pseudo.take(name, value, fields.is_empty() && cookies.is_empty())?;
                continue;
            }
            let name = field_name(name, value).ok_or(Wrong::Malformed)?;
            if name == "cookie" {
                // Clients split it for better compression (RFC 9113, 8.2.3).
                let between: &[u8] = if cookies.is_empty() { b"" } else { b"; " };
                cookies.extend_from_slice(between);
                cookies.extend_from_slice(value);
            } else {
                fields.push(httparse::Header { name, value });
            }
        }
        if !cookies.is_empty() {
            let (name, value) = ("cookie", cookies.as_slice());
            fields.push(httparse::Header { name, value });
        }
        let described = pseudo.describe(&fields, is_open)?;
        Request::described(&described).map_err(Wrong::Refused)
    }

    /// Whether it may stand after a body.
    pub(super) fn is_trailer(&self) -> bool {
        self.fields()
            .all(|(name, value)| field_name(name, value).is_some() && is_value(value))
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        let size = self.text.len() + name.len() + value.len();
        let is_crumb = name == b"cookie";
        let counted = self.ends.len() - self.crumbs;
        let is_full = !is_crumb && counted >= MAX_FIELDS + PSEUDO_FIELDS;
        if size > MAX_REQUEST_HEAD || is_full {
            self.overflowed = true;
            return;
        }
        self.crumbs += usize::from(is_crumb);
        self.text.extend_from_slice(name);
        let end = self.text.len();
        self.text.extend_from_slice(value);
        self.ends.push((end, self.text.len()));
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts
            .zip(&self.ends)
            .map(|(start, (name, value))| (&self.text[start..*name], &self.text[*name..*value]))
    }
}

#[derive(Default)]
struct Pseudo<'s> {
    method: Option<&'s [u8]>,
    scheme: Option<&'s [u8]>,
    path: Option<&'s [u8]>,
    authority: Option<&'s [u8]>,
}

impl<'s> Pseudo<'s> {
    fn take(&mut self, name: &[u8], value: &'s [u8], is_early: bool) -> Result<(), Wrong> {
        let slot = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            _ => return Err(Wrong::Malformed),
        };
        if !is_early || slot.replace(value).is_some() {
            return Err(Wrong::Malformed);
        }
        Ok(())
    }

    fn describe<'h>(
        &self,
        fields: &'h [httparse::Header<'h>],
        is_open: bool,
    ) -> Result<Described<'h>, Wrong>
    where
        's: 'h,
    {
        let text = |value: Option<&'s [u8]>| {
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            text.filter(|text| !text.is_empty()).ok_or(Wrong::Malformed)
        };
        let method = text(self.method)?;
        if !method.bytes().all(is_token) {
            return Err(Wrong::Malformed);
        }
        if method == "CONNECT" {
            let why = "This method is not for a server like this.";
            return Err(Wrong::Refused(Refusal { status: 405, why }));
        }
        let scheme = text(self.scheme)?;
        if !["http", "https"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
        {
            return Err(Wrong::Malformed);
        }
        Ok(Described {
            method,
            path: text(self.path)?,
            authority: self.authority,
            fields,
            is_open,
        })
    }
}

/// `name` as a text, unless it can't be a field of HTTP/2 with that value.
fn field_name<'n>(name: &'n [u8], value: &[u8]) -> Option<&'n str> {
    let plain = |&byte: &u8| is_token(byte) && !byte.is_ascii_uppercase();
    let name = std::str::from_utf8(name).ok()?;
    if name.is_empty() || !name.as_bytes().iter().all(plain) {
        return None;
    }
    match name {
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => None,
        "te" if !value.eq_ignore_ascii_case(b"trailers") => None,
        _ => Some(name),
    }
}

fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    let allowed = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    value.iter().all(allowed) && !blank(value.first()) && !blank(value.last())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `:method`, `:scheme`, `:path`, `:authority`.
const PSEUDO_FIELDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::request::Origin;

    fn request(fields: &[(&str, &str)], is_open: bool) -> Result<Request, Wrong> {
        let mut section = Section::default();
        for (name, value) in fields {
            section.push(name.as_bytes(), value.as_bytes());
        }
        section.request(is_open)
    }

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/a?b"),
        (":authority", "otter.local"),
    ];

    fn with<'f>(more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
        [&GET, more].concat()
    }

    fn forwarded(fields: &[(&str, &str)], is_open: bool) -> String {
        let origin = Origin {
            peer: [192, 0, 2, 7].into(),
            is_tls: true,
        };
        let request = request(fields, is_open).unwrap();
        String::from_utf8(request.forward(origin)).unwrap()
    }

    #[test]
    fn a_request_is_written_as_http11() {
        let fields = with(&[
            ("cookie", "a=b"),
            ("te", "trailers"),
            ("x", "y"),
            ("cookie", "c=d"),
        ]);
        let head = forwarded(&fields, false);
        let expected = "GET /a?b HTTP/1.1\r\nHost: otter.local\r\nx: y\r\ncookie: a=b; c=d\r\n";
        assert!(head.starts_with(expected), "{head}");
        assert!(!head.contains("te:") && head.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_body_without_a_length_goes_in_chunks() {
        let post = |more: &[(&'static str, &'static str)]| {
            let mut fields = with(more);
            fields[0].1 = "POST";
            fields
        };
        assert!(forwarded(&post(&[]), true).contains("Transfer-Encoding: chunked\r\n"));
        let head = forwarded(&post(&[("content-length", "3")]), true);
        assert!(head.contains("Content-Length: 3\r\n") && !head.contains("chunked"));
        assert!(forwarded(&post(&[]), false).contains("Content-Length: 0\r\n"));
        let announced = request(&post(&[("content-length", "3")]), false);
        assert!(matches!(announced, Err(Wrong::Refused(_))));
    }

    /// RFC 9113, 8.2 and 8.3; and "HTTP/2: The Sequel is Always Worse" (Kettle, 2021), whose
    /// attacks put line ends, colons and framing fields into HTTP/2 fields.
    #[test]
    fn malformed_and_smuggling_sections_are_no_requests() {
        for field in [
            ("X", "y"),
            ("", "y"),
            ("a b", "y"),
            ("a:b", "y"),
            ("a\r\nb", "y"),
            ("a", "y\r\nTransfer-Encoding: chunked"),
            ("a", "y\n"),
            ("a", "y\0"),
            ("a", " y"),
            ("a", "y\t"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            (":path", "/again"),
            (":status", "200"),
            (":unknown", "x"),
        ] {
            let got = request(&with(&[field]), false).map(drop);
            assert_eq!(got, Err(Wrong::Malformed), "{field:?}");
        }
        for missing in 0..3 {
            let mut fields = GET.to_vec();
            fields.remove(missing);
            assert_eq!(request(&fields, false).map(drop), Err(Wrong::Malformed));
        }
        let late = [&[("a", "b")][..], &GET].concat();
        assert_eq!(request(&late, false).map(drop), Err(Wrong::Malformed));
        for (at, value) in [(0, "GET /x HTTP/1.1\r\nX:"), (0, ""), (1, "ftp"), (2, "")] {
            let mut fields = GET.to_vec();
            fields[at].1 = value;
            assert_eq!(
                request(&fields, false).map(drop),
                Err(Wrong::Malformed),
                "{value:?}"
            );
        }
    }

    #[test]
    fn doubtful_requests_are_refused_with_a_reason() {
        for (at, value) in [
            (0, "CONNECT"),
            (0, "TRACE"),
            (2, "a"),
            (2, "http://otter.local/"),
            (2, "/a b"),
            (2, "/a#b"),
            (2, "*"),
        ] {
            let mut fields = GET.to_vec();
            fields[at].1 = value;
            let got = request(&fields, false);
            assert!(matches!(got, Err(Wrong::Refused(_))), "{value:?}");
        }
        for fields in [
            with(&[("host", "other.local")]),
            with(&[("content-length", "1"), ("content-length", "2")]),
            with(&[("content-length", "+1")]),
            with(&[("expect", "more")]),
            GET[..3].to_vec(),
        ] {
            assert!(
                matches!(request(&fields, true), Err(Wrong::Refused(_))),
                "{fields:?}"
            );
        }
        assert!(request(&with(&[("host", "Otter.local")]), false).is_ok());
    }

    #[test]
    fn too_many_fields_are_refused_and_do_not_fill_memory() {
        let mut section = Section::default();
        (0..100_000).for_each(|_| section.push(b"a", &[b'b'; 4000]));
        assert!(section.text.len() <= MAX_REQUEST_HEAD);
        assert_eq!(
            section.request(false).map(drop),
            Err(Wrong::Refused(TOO_LARGE))
        );
    }

    /// A browser splits its cookies into as many fields (RFC 9113, 8.2.3).
    #[test]
    fn cookies_are_one_field_in_however_many_pieces() {
        let crumbs = vec![("cookie", "a=b"); 150];
        let head = forwarded(&with(&crumbs), false);
        let expected = format!("\r\ncookie: {}a=b\r\n", "a=b; ".repeat(149));
        assert!(head.contains(&expected), "{head}");
        let too_many = request(&with(&[("x", "y"); 101]), false);
        assert_eq!(too_many.map(drop), Err(Wrong::Refused(TOO_LARGE)));
        let mut section = Section::default();
        (0..100_000).for_each(|_| section.push(b"cookie", b""));
        assert!(section.ends.len() <= MAX_REQUEST_HEAD / 6);
        assert_eq!(
            section.request(false).map(drop),
            Err(Wrong::Refused(TOO_LARGE))
        );
    }
}
