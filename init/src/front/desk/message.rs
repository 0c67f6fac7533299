//! A request as the door writes it, and the answer. One a connection: owners are few.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use super::{page, session::Id};

#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without a query.
    pub(super) path: String,
    /// Whose tries are counted together: an IPv4 address, or an IPv6 network of 64 bits.
    pub(super) from: IpAddr,
    /// A browser says that another site's page asks this.
    pub(super) is_foreign: bool,
    cookies: String,
    body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: String,
}

impl Request {
    /// Reads one, until `deadline` at the latest.
    ///
    /// # Errors
    /// With the answer that says what is wrong with it.
    pub(super) fn read(stream: &mut UnixStream, deadline: Instant) -> Result<Self, Answer> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            more(stream, &mut bytes, MAX_HEAD, deadline)?;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut body = bytes.split_off(end + 4);
        let (mut request, length) = Self::of_head(&head)?;
        while body.len() < length {
            more(stream, &mut body, length, deadline)?;
        }
        body.truncate(length);
        request.body = body;
        Ok(request)
    }

    /// A field of the form that it sends.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let fields = self.body.split(|byte| *byte == b'&');
        fields.into_iter().find_map(|field| {
            let equals = field.iter().position(|byte| *byte == b'=')?;
            let (found, value) = field.split_at(equals);
            (found == name.as_bytes()).then(|| decoded(&value[1..]))?
        })
    }

    /// The session that its cookie names.
    pub(super) fn session(&self) -> Option<Id> {
        let mut cookies = self.cookies.split(';');
        cookies.find_map(|cookie| Id::of_cookie(cookie.trim()))
    }

    fn of_head(head: &str) -> Result<(Self, usize), Answer> {
        let nonsense = || page::trouble(400, "This request can’t be understood.");
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(nonsense());
        };
        let mut request = Self {
            method: method.to_owned(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            from: Ipv4Addr::UNSPECIFIED.into(),
            is_foreign: false,
            cookies: String::new(),
            body: Vec::new(),
        };
        let mut length = 0;
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or_else(nonsense)?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().map_err(|_| nonsense())?,
                "cookie" => request.cookies = value.to_owned(),
                "sec-fetch-site" => request.is_foreign = value != "same-origin",
                "transfer-encoding" => {
                    return Err(page::trouble(411, "The request does not say its length."));
                }
                "x-forwarded-for" => {
                    request.from = value.parse().map(network).map_err(|_| nonsense())?;
                }
                _ => {}
            }
        }
        if length > MAX_BODY {
            return Err(page::trouble(413, "The request is too large."));
        }
        Ok((request, length))
    }
}

impl Answer {
    /// A page.
    pub(super) fn html(status: u16, body: String) -> Self {
        Self {
            status,
            fields: Vec::new(),
            body,
        }
    }

    /// Sends the browser to another page, to GET it.
    pub(super) fn see_other(to: &str) -> Self {
        Self::html(303, String::new()).with("Location", to.to_owned())
    }

    /// The same with one more field.
    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Writes it, and that it is the last. A door that does not take it does without.
    pub(super) fn write(&self, stream: &mut UnixStream, patience: Duration) {
        let mut text = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\nContent-Security-Policy: {POLICY}\r\n",
            self.status,
            reason(self.status),
            self.body.len()
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        let _ = stream.set_write_timeout(Some(patience));
        let _ = stream.write_all(text.as_bytes());
    }
}

/// Reads what is there, at least a byte.
fn more(
    stream: &mut UnixStream,
    to: &mut Vec<u8>,
    most: usize,
    deadline: Instant,
) -> Result<(), Answer> {
    let late = || page::trouble(408, "The request took too long to arrive.");
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(late());
    }
    let _ = stream.set_read_timeout(Some(left));
    let mut piece = [0; 4096];
    match stream.read(&mut piece) {
        Ok(0) => Err(page::trouble(400, "The request breaks off.")),
        Ok(_) if to.len() >= most => Err(page::trouble(431, "The request is too large.")),
        Ok(count) => {
            to.extend_from_slice(&piece[..count]);
            Ok(())
        }
        Err(_) => Err(late()),
    }
}

/// A value of a form (application/x-www-form-urlencoded); none if it is no text.
fn decoded(value: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}

/// Nothing is loaded and nothing runs, and forms go nowhere else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
                      form-action 'self'; base-uri 'none'";
/// The door takes no longer heads than this, and adds little to them.
const MAX_HEAD: usize = 40 * 1024;
/// A code and a token are short, however they are written.
const MAX_BODY: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded_and_nonsense_is_none() {
        let text = |value: &str| decoded(value.as_bytes());
        assert_eq!(text("a+b%20c%C3%A9").as_deref(), Some("a b cé"));
        for wrong in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
    }
}
