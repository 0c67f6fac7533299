//! A request's head: read strictly, and written anew for the service behind.
//!
//! Nothing of it is passed on by copying bytes that were not understood. A head that two servers
//! might read differently is refused.

use std::{io::Write as _, net::IpAddr};

use super::{
    body::Body,
    head::{self, Connection, Framing, Refusal, bad},
};

/// A request's head, understood.
#[derive(Debug)]
pub(super) struct Request {
    /// The method, as sent.
    pub(super) method: String,
    /// Path and query, or `*`.
    pub(super) target: String,
    /// The host it is for, as sent; empty when an HTTP/1.0 client named none.
    pub(super) authority: String,
    /// What the client speaks.
    pub(super) version: Version,
    /// The body to come.
    pub(super) body: Body,
    /// The client wants the connection kept.
    pub(super) keep_alive: bool,
    /// The protocol to change to, when that is asked for.
    pub(super) upgrade: Option<String>,
    /// The body is announced with `Expect`, so it may never be read.
    pub(super) expects: bool,
    /// The fields to pass on, each line as it will be written.
    fields: Vec<u8>,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
    Http2,
}

/// A request as an HTTP/2 field section describes it; every field checked for its characters.
#[derive(Debug)]
pub(super) struct Described<'h> {
    pub(super) method: &'h str,
    pub(super) path: &'h str,
    pub(super) authority: Option<&'h [u8]>,
    pub(super) fields: &'h [httparse::Header<'h>],
    /// A body follows.
    pub(super) is_open: bool,
}

/// Who asks, in what the service behind is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The client's address.
    pub(super) peer: IpAddr,
    /// Whether it came by TLS.
    pub(super) is_tls: bool,
}

impl Request {
    /// Reads the head in `bytes`, which end where the head does ([`head::end`]).
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; head::MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut fields);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
            Err(httparse::Error::Version) => return Err(VERSION),
            Ok(_) | Err(_) => return Err(bad("The request's head can't be understood.")),
        }
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
            return Err(bad("The request line can't be understood."));
        };
        let version = match parsed.version {
            Some(1) => Version::Http11,
            _ => Version::Http10,
        };
        refuse_proxying(method)?;
        let gathered = Fields::gather(parsed.headers, version)?;
        let (authority, target) = split_target(method, target, gathered.host)?;
        gathered.into_request(method, target, authority, version)
    }

    /// The request that an HTTP/2 client describes.
    pub(super) fn described(by: &Described<'_>) -> Result<Self, Refusal> {
        refuse_proxying(by.method)?;
        let gathered = Fields::gather(by.fields, Version::Http2)?;
        let host = match (by.authority, gathered.host) {
            (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => {
                return Err(bad("Host and :authority name different hosts."));
            }
            (None, None) => return Err(bad("There is no Host.")),
            (authority, host) => authority.or(host),
        };
        if !by.path.starts_with('/') && (by.path, by.method) != ("*", "OPTIONS") {
            return Err(bad(":path is not a path."));
        }
        let (authority, target) = split_target(by.method, by.path, host)?;
        let length = gathered.framing.length;
        let mut request = gathered.into_request(by.method, target, authority, Version::Http2)?;
        match length {
            None if by.is_open => request.body = Body::Chunking { done: false },
            Some(1..) if !by.is_open => {
                return Err(bad("Content-Length announces a body that does not come."));
            }
            _ => {}
        }
        Ok(request)
    }

    /// The head for the service behind.
    pub(super) fn forward(&self, origin: Origin) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.fields.len() + 256);
        let version: &[u8] = match self.version {
            Version::Http10 => b" HTTP/1.0\r\n",
            Version::Http11 | Version::Http2 => b" HTTP/1.1\r\n",
        };
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(version);
        head::line("Host", self.authority.as_bytes(), &mut out);
        out.extend_from_slice(&self.fields);
        match &self.body {
            Body::Chunked(_) | Body::Chunking { .. } => {
                head::line("Transfer-Encoding", b"chunked", &mut out)
            }
            Body::Length(0) if !matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") => {}
            Body::Length(length) => {
                head::number_line("Content-Length", *length, &mut out);
            }
            Body::UntilClose => {}
        }
        if let Some(protocol) = &self.upgrade {
            head::line("Connection", b"Upgrade", &mut out);
            head::line("Upgrade", protocol.as_bytes(), &mut out);
        }
        self.forwarded(origin, &mut out);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Whether asking twice does no harm: the method is idempotent and nothing of a body is lost.
    pub(super) fn is_repeatable(&self) -> bool {
        let idempotent = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"];
        self.body.is_done() && self.upgrade.is_none() && idempotent.contains(&self.method.as_str())
    }

    fn forwarded(&self, origin: Origin, out: &mut Vec<u8>) {
        let (peer, host) = (origin.peer.to_canonical(), self.authority.as_str());
        let proto = if origin.is_tls { "https" } else { "http" };
        let (open, close) = match peer {
            IpAddr::V4(_) => ("", ""),
            IpAddr::V6(_) => ("\"[", "]\""),
        };
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "Forwarded: for={open}{peer}{close};host=\"{host}\";proto={proto}\r\n\
             X-Forwarded-For: {peer}\r\n"
        );
        head::line("X-Forwarded-Host", host.as_bytes(), out);
        head::line("X-Forwarded-Proto", proto.as_bytes(), out);
    }
}

/// What the fields of a request say, in one pass over them.
#[derive(Default)]
struct Fields<'h> {
    host: Option<&'h [u8]>,
    framing: Framing,
    connection: Connection,
    upgrade: Option<&'h [u8]>,
    expects: bool,
    passed: Vec<u8>,
}

impl<'h> Fields<'h> {
    fn gather(headers: &[httparse::Header<'h>], version: Version) -> Result<Self, Refusal> {
        let mut fields = Self {
            passed: Vec::with_capacity(512),
            ..Self::default()
        };
        for header in headers {
            if header.name.eq_ignore_ascii_case("connection") {
                fields.connection.note(header.value);
            }
        }
        for header in headers {
            fields.take(header, version)?;
        }
        Ok(fields)
    }

    fn take(&mut self, header: &httparse::Header<'h>, version: Version) -> Result<(), Refusal> {
        let (name, value) = (header.name, header.value.trim_ascii());
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        if is("host") {
            if self.host.replace(value).is_some() {
                return Err(bad("There is more than one Host."));
            }
        } else if is("content-length") {
            self.framing.content_length(value)?;
        } else if is("transfer-encoding") {
            if version == Version::Http10 {
                return Err(bad("HTTP/1.0 has no Transfer-Encoding."));
            }
            self.framing.transfer_encoding(value)?;
        } else if is("upgrade") {
            self.upgrade = Some(value);
        } else if is("expect") && !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(EXPECTATION);
        } else if is("expect") && version == Version::Http10 {
            // It had no such thing.
        } else if is("expect") {
            self.expects = true;
            head::line(name, value, &mut self.passed);
        } else if !head::is_hop_by_hop(name) && !self.connection.names(name) && !is_ours(name) {
            head::line(name, value, &mut self.passed);
        }
        Ok(())
    }

    fn into_request(
        self,
        method: &str,
        target: String,
        authority: String,
        version: Version,
    ) -> Result<Request, Refusal> {
        if version == Version::Http11 && self.host.is_none() {
            return Err(bad("There is no Host."));
        }
        let body = self.framing.body()?.unwrap_or(Body::NONE);
        let upgrade = self.upgrade.filter(|protocol| {
            self.connection.upgrade
                && version == Version::Http11
                && body.is_done()
                && is_upgradable(protocol)
        });
        Ok(Request {
            method: method.to_owned(),
            target,
            authority,
            version,
            body,
            keep_alive: version != Version::Http10 && !self.connection.close,
            upgrade: upgrade.map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            expects: self.expects,
            fields: self.passed,
        })
    }
}

/// Methods that ask a proxy for more than an answer of the service.
fn refuse_proxying(method: &str) -> Result<(), Refusal> {
    if method == "CONNECT" || method == "TRACE" {
        let why = "This method is not for a server like this.";
        return Err(Refusal { status: 405, why });
    }
    Ok(())
}

/// Splits a request target into authority and path. An absolute target names the host that the Host
/// field names, if there is one (RFC 9112, 3.2.2); servers behind differ in which of two they take.
fn split_target(
    method: &str,
    target: &str,
    host: Option<&[u8]>,
) -> Result<(String, String), Refusal> {
    let doubtful = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'#';
    if target.bytes().any(doubtful) {
        return Err(bad("The request's target holds what no target may."));
    }
    let host = std::str::from_utf8(host.unwrap_or_default())
        .map_err(|_| bad("Host is not a host name."))?;
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((host.to_owned(), target.to_owned()));
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(rest) = rest else {
        return Err(bad(
            "The request's target is neither a path nor an http address.",
        ));
    };
    let path = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path);
    if authority.is_empty() || !(host.is_empty() || host.eq_ignore_ascii_case(authority)) {
        return Err(bad("Host and the request's target name different hosts."));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((authority.to_owned(), format!("{slash}{path}")))
}

/// Fields that only the door may write. An underscore is read as a dash, because many frameworks
/// read it so.
fn is_ours(name: &str) -> bool {
    let read = |byte: u8| match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    };
    let begins = |known: &str| {
        name.len() >= known.len()
            && name
                .bytes()
                .map(read)
                .zip(known.bytes())
                .all(|(a, b)| a == b)
    };
    let ours = [
        "forwarded",
        "x-real-ip",
        "host",
        "content-length",
        "transfer-encoding",
    ];
    let is = |known: &&str| name.len() == known.len() && begins(known);
    begins("x-forwarded-") || ours.iter().any(is)
}

/// Anything but another version of HTTP, which would smuggle requests past the door.
fn is_upgradable(protocol: &[u8]) -> bool {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"-._/".contains(b);
    let lower = protocol.to_ascii_lowercase();
    !protocol.is_empty()
        && protocol.iter().all(token)
        && !lower.starts_with(b"h2")
        && !lower.starts_with(b"http")
}

/// What 431 says.
pub(super) const TOO_LARGE: Refusal = Refusal {
    status: 431,
    why: "The request's head is too large.",
};
const VERSION: Refusal = Refusal {
    status: 505,
    why: "Only HTTP/1.1 and HTTP/1.0 are spoken here.",
};
const EXPECTATION: Refusal = Refusal {
    status: 417,
    why: "Only the expectation \"100-continue\" is understood.",
};

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin {
        peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
        is_tls: true,
    };

    fn parse(head: &str) -> Result<Request, Refusal> {
        Request::parse(head.as_bytes())
    }

    fn forwarded(head: &str) -> String {
        String::from_utf8(parse(head).unwrap().forward(ORIGIN)).unwrap()
    }

    #[test]
    fn the_head_is_written_anew() {
        let head = forwarded(
            "GET /a?b HTTP/1.1\r\nHost: otter.local:8443\r\nConnection: keep-alive, X-Hop\r\n\
             X-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nX-Forwarded-For: 6.6.6.6\r\n\
             x_forwarded_proto: http\r\nForwarded: for=6.6.6.6\r\nCookie: a=b\r\n\r\n",
        );
        let expected = "GET /a?b HTTP/1.1\r\nHost: otter.local:8443\r\nCookie: a=b\r\n\
             Forwarded: for=192.0.2.7;host=\"otter.local:8443\";proto=https\r\n\
             X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: otter.local:8443\r\n\
             X-Forwarded-Proto: https\r\n\r\n";
        assert_eq!(head, expected);
    }

    #[test]
    fn connection_can_not_take_the_framing_away() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length, host\r\n\
                    Content-Length: 3\r\n\r\n";
        let head = forwarded(head);
        assert!(head.contains("Content-Length: 3\r\n") && head.contains("Host: a\r\n"));
    }

    #[test]
    fn smuggling_is_refused() {
        let bad = [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n",
        ];
        for head in bad {
            assert!(parse(head).is_err(), "{head:?}");
        }
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let request = parse("GET http://b.local?x HTTP/1.1\r\nHost: B.local\r\n\r\n").unwrap();
        assert_eq!((&*request.authority, &*request.target), ("b.local", "/?x"));
        assert!(parse("GET http://b.local?x HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
        let request = parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!((&*request.authority, &*request.target), ("a", "*"));
    }

    #[test]
    fn upgrades_pass_but_not_to_another_http() {
        let ask = |protocol| {
            let head = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 HTTP2-Settings: AAMA\r\nUpgrade: {protocol}\r\n\r\n"
            );
            parse(&head).unwrap()
        };
        assert_eq!(ask("websocket").upgrade.as_deref(), Some("websocket"));
        assert_eq!(ask("h2c").upgrade, None);
        assert_eq!(ask("HTTP/2.0").upgrade, None);
        assert_eq!(ask("websocket, h2c").upgrade, None);
        assert!(
            !ask("h2c")
                .forward(ORIGIN)
                .windows(7)
                .any(|w| w == b"Upgrade")
        );
    }

    #[test]
    fn only_harmless_requests_are_repeatable() {
        let repeatable = |head: &str| parse(head).unwrap().is_repeatable();
        assert!(repeatable("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!repeatable(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        assert!(!repeatable(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"
        ));
    }
}
