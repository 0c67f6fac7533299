//! A response's head: read from a service, and written anew for the client.

use std::io::Write as _;

use super::{
    body::{Body, Chunks},
    head::{self, Connection, Framing, Refusal, bad},
    http2::hpack,
    request::Version,
};

/// A response's head, understood.
#[derive(Debug)]
pub(super) struct Response {
    /// The status.
    pub(super) status: u16,
    /// The body to come.
    pub(super) body: Body,
    /// The service keeps the connection for a next request.
    pub(super) keep_alive: bool,
    reason: String,
    framing: Framing,
    upgrade: Option<Vec<u8>>,
    fields: Vec<u8>,
}

/// What of its request a response depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// It was a HEAD: no body comes, whatever the head says.
    pub(super) is_head: bool,
    /// What the client speaks.
    pub(super) version: Version,
}

impl Response {
    /// Reads the head in `bytes`, which end where the head does ([`head::end`]).
    pub(super) fn parse(bytes: &[u8], asked: Asked) -> Result<Self, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; head::MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) | Err(_) => return Err(bad("Its answer's head can't be understood.")),
        }
        let Some(status) = parsed.code.filter(|code| (100..1000).contains(code)) else {
            return Err(bad("Its answer has no status."));
        };
        let mut response = Self {
            status,
            body: Body::NONE,
            keep_alive: false,
            reason: parsed.reason.unwrap_or_default().to_owned(),
            framing: Framing::default(),
            upgrade: None,
            fields: Vec::with_capacity(bytes.len()),
        };
        let mut connection = Connection::default();
        let all = parsed.headers.iter();
        all.filter(|header| header.name.eq_ignore_ascii_case("connection"))
            .for_each(|header| connection.note(header.value));
        for header in parsed.headers.iter() {
            response.take(header, &connection)?;
        }
        response.body = response.framed(asked)?;
        response.keep_alive = parsed.version == Some(1) && !connection.close;
        Ok(response)
    }

    /// The head for the client. `keep` is whether its connection is kept.
    pub(super) fn write(&self, asked: Asked, keep: bool, out: &mut Vec<u8>) {
        let version = match asked.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 | Version::Http2 => "HTTP/1.1",
        };
        // Writing to memory does not fail.
        let _ = write!(out, "{version} {} {}\r\n", self.status, self.reason);
        out.extend_from_slice(&self.fields);
        if !self.is_bodiless() {
            if self.framing.chunked {
                head::line("Transfer-Encoding", b"chunked", out);
            } else if let Some(length) = self.framing.length {
                head::number_line("Content-Length", length, out);
            }
        }
        match &self.upgrade {
            Some(protocol) if self.status == 101 => {
                head::line("Connection", b"Upgrade", out);
                head::line("Upgrade", protocol, out);
            }
            Some(_) | None if !keep && !self.is_interim() => {
                head::line("Connection", b"close", out);
            }
            Some(_) | None => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The head as a field section for an HTTP/2 client.
    pub(super) fn section(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.fields.len() + 32);
        hpack::encode_status(self.status, &mut out);
        let mut rest = self.fields.as_slice();
        let mut lower = Vec::new();
        while let Some((name, value, after)) = head::split_line(rest) {
            lower.clear();
            lower.extend(name.iter().map(u8::to_ascii_lowercase));
            hpack::encode(&lower, value, &mut out);
            rest = after;
        }
        if let Some(length) = self.framing.length.filter(|_| !self.is_bodiless()) {
            hpack::encode(b"content-length", length.to_string().as_bytes(), &mut out);
        }
        out
    }

    /// Whether another head follows this one: 100, 103 and their like.
    pub(super) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    fn take(&mut self, header: &httparse::Header<'_>, hop: &Connection) -> Result<(), Refusal> {
        let (name, value) = (header.name, header.value.trim_ascii());
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        if is("content-length") {
            self.framing.content_length(value)?;
        } else if is("transfer-encoding") {
            self.framing.transfer_encoding(value)?;
        } else if is("upgrade") {
            self.upgrade = Some(value.to_vec());
        } else if !head::is_hop_by_hop(name) && !hop.names(name) {
            head::line(name, value, &mut self.fields);
        }
        Ok(())
    }

    fn framed(&self, asked: Asked) -> Result<Body, Refusal> {
        let announced = self.framing.body()?;
        if asked.is_head || self.is_bodiless() || self.status == 304 {
            return Ok(Body::NONE);
        }
        Ok(match (announced, asked.version) {
            (Some(Body::Chunked(_)), Version::Http10) => {
                return Err(bad("It answered an HTTP/1.0 request in chunks."));
            }
            (Some(Body::Chunked(_)), Version::Http2) => Body::Chunked(Chunks::bare()),
            (Some(body), _) => body,
            (None, _) => Body::UntilClose,
        })
    }

    /// Statuses that never have a body, nor fields that announce one.
    fn is_bodiless(&self) -> bool {
        self.status < 200 || self.status == 204
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Asked = Asked {
        is_head: false,
        version: Version::Http11,
    };

    fn written(head: &str, asked: Asked, keep: bool) -> String {
        let mut out = Vec::new();
        let response = Response::parse(head.as_bytes(), asked).unwrap();
        response.write(asked, keep, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hop_by_hop_fields_stay_behind() {
        let head = "HTTP/1.1 200 Fine\r\nConnection: close, X-Y\r\nX-Y: 1\r\nKeep-Alive: 5\r\n\
                    Content-Length: 5\r\nA: b\r\n\r\n";
        assert_eq!(
            written(head, GET, true),
            "HTTP/1.1 200 Fine\r\nA: b\r\nContent-Length: 5\r\n\r\n"
        );
        assert!(!Response::parse(head.as_bytes(), GET).unwrap().keep_alive);
    }

    #[test]
    fn the_body_is_framed_as_the_standard_says() {
        let body = |head: &str, asked| Response::parse(head.as_bytes(), asked).unwrap().body;
        let head = Asked {
            is_head: true,
            ..GET
        };
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(body(plain, GET), Body::Length(7));
        assert_eq!(body(plain, head), Body::NONE);
        assert!(written(plain, head, true).contains("Content-Length: 7"));
        assert_eq!(
            body("HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n", GET),
            Body::NONE
        );
        assert_eq!(body("HTTP/1.1 204 No\r\n\r\n", GET), Body::NONE);
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\n", GET), Body::UntilClose);
    }

    #[test]
    fn doubtful_answers_are_refused() {
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(Response::parse(both.as_bytes(), GET).is_err());
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let old = Asked {
            version: Version::Http10,
            ..GET
        };
        assert!(Response::parse(chunked, GET).is_ok());
        assert!(Response::parse(chunked, old).is_err());
    }

    #[test]
    fn a_change_of_protocol_is_passed_on() {
        let head = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        assert_eq!(
            written(head, GET, true),
            "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
    }
}
