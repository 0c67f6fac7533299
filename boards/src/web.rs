//! A small HTTP client for asking the box: it trusts the box's own authority and nobody else, and
//! needs no name resolution, since every name of the box leads to localhost here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names as sent, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The box's own authority, as the only one trusted.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// From the authority's certificate, as `/ca.crt` gives it.
    ///
    /// # Errors
    /// When the text holds no certificate.
    pub fn pem(pem: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.context("the authority's certificate can't be read")?)?;
        }
        if roots.is_empty() {
            bail!("the box gave no certificate of its authority");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

/// GET over plain HTTP from a port of localhost.
///
/// # Errors
/// When there is no whole answer within `patience`.
pub fn http(port: u16, host: &str, path: &str, patience: Duration) -> Result<Response> {
    let deadline = Instant::now() + patience;
    exchange(&mut connect(port, deadline)?, host, path, "close", deadline)
}

/// GET over TLS from a port of localhost, as `host`, whose certificate must be of the box.
///
/// # Errors
/// When there is no whole answer within `patience`, or the certificate is not trusted.
pub fn https(
    port: u16,
    host: &str,
    path: &str,
    trust: &Trust,
    patience: Duration,
) -> Result<Response> {
    let deadline = Instant::now() + patience;
    let mut session = Session::open(port, host, trust, patience)?;
    exchange(&mut session.stream, host, path, "close", deadline)
}

/// Sends a whole request, as written in `text`, over TLS to a port of localhost.
///
/// # Errors
/// As [`https`].
pub fn say(
    port: u16,
    host: &str,
    text: &str,
    trust: &Trust,
    patience: Duration,
) -> Result<Response> {
    let localhost = (Ipv4Addr::LOCALHOST, port).into();
    say_to(localhost, host, text, trust, patience)
}

/// GET over a connection that is there already: by TLS if somebody is trusted.
///
/// # Errors
/// When there is no whole answer within `patience`, or the certificate is not trusted.
pub fn over(
    mut socket: TcpStream,
    host: &str,
    path: &str,
    trust: Option<&Trust>,
    patience: Duration,
) -> Result<Response> {
    let deadline = Instant::now() + patience;
    be_patient(&socket, deadline)?;
    let Some(trust) = trust else {
        return exchange(&mut socket, host, path, "close", deadline);
    };
    let name = ServerName::try_from(host.to_owned()).context("not a host name")?;
    let connection = ClientConnection::new(Arc::clone(&trust.0), name)?;
    let mut stream = StreamOwned::new(connection, socket);
    exchange(&mut stream, host, path, "close", deadline)
}

/// The same to an address anywhere, as `host`.
///
/// # Errors
/// As [`https`].
pub fn say_to(
    address: SocketAddr,
    host: &str,
    text: &str,
    trust: &Trust,
    patience: Duration,
) -> Result<Response> {
    let deadline = Instant::now() + patience;
    let mut session = Session::to(address, host, trust, patience)?;
    ask(&mut session.stream, text, deadline)
}

/// Calls a method of the box's API over TLS, with the setup code for what changes something.
///
/// # Errors
/// When there is no whole answer within `patience`, or the box refuses, in its own words.
pub fn call(
    port: u16,
    trust: &Trust,
    code: Option<&str>,
    call: (&str, Value),
    patience: Duration,
) -> Result<Value> {
    let localhost = (Ipv4Addr::LOCALHOST, port).into();
    call_at(localhost, trust, code, call, patience)
}

/// The same at an address anywhere.
///
/// # Errors
/// As [`call`].
pub fn call_at(
    address: SocketAddr,
    trust: &Trust,
    code: Option<&str>,
    (method, params): (&str, Value),
    patience: Duration,
) -> Result<Value> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let code = code.map_or_else(String::new, |code| {
        format!("Authorization: Bearer {code}\r\n")
    });
    let request = format!(
        "POST /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{code}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = say_to(address, "localhost", &request, trust, patience)?;
    let mut answer: Value = serde_json::from_slice(&response.body)
        .with_context(|| format!("status {}: {}", response.status, response.text()))?;
    if let Some(why) = answer["error"]["message"].as_str() {
        bail!("{why}");
    }
    Ok(answer["result"].take())
}

/// A TLS connection that is kept for more than one request.
pub struct Session {
    stream: StreamOwned<ClientConnection, TcpStream>,
    host: String,
}

impl Session {
    /// Connects to a port of localhost, as `host`; TLS begins with the first request.
    ///
    /// # Errors
    /// When there is no connection within `patience`.
    pub fn open(port: u16, host: &str, trust: &Trust, patience: Duration) -> Result<Self> {
        Self::to((Ipv4Addr::LOCALHOST, port).into(), host, trust, patience)
    }

    /// The same to an address anywhere.
    ///
    /// # Errors
    /// When there is no connection within `patience`.
    pub fn to(address: SocketAddr, host: &str, trust: &Trust, patience: Duration) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned()).context("not a host name")?;
        let connection = ClientConnection::new(Arc::clone(&trust.0), name)?;
        let socket = connect_to(address, Instant::now() + patience)?;
        Ok(Self {
            stream: StreamOwned::new(connection, socket),
            host: host.to_owned(),
        })
    }

    /// GET. After an error the session is of no use any more.
    ///
    /// # Errors
    /// When there is no whole answer within `patience`, or the certificate is not trusted.
    pub fn get(&mut self, path: &str, patience: Duration) -> Result<Response> {
        let deadline = Instant::now() + patience;
        be_patient(&self.stream.sock, deadline)?;
        exchange(&mut self.stream, &self.host, path, "keep-alive", deadline)
    }
}

fn connect(port: u16, deadline: Instant) -> Result<TcpStream> {
    connect_to((Ipv4Addr::LOCALHOST, port).into(), deadline)
}

fn connect_to(address: SocketAddr, deadline: Instant) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, left(deadline)).context("no connection")?;
    be_patient(&stream, deadline)?;
    Ok(stream)
}

/// One silence may last as long as the whole answer; a trickle ends at the deadline in [`exchange`].
fn be_patient(stream: &TcpStream, deadline: Instant) -> Result<()> {
    stream.set_read_timeout(Some(left(deadline)))?;
    stream.set_write_timeout(Some(left(deadline)))?;
    Ok(())
}

fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(SHORTEST)
}

fn exchange(
    stream: &mut (impl Read + Write),
    host: &str,
    path: &str,
    connection: &str,
    deadline: Instant,
) -> Result<Response> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n");
    ask(stream, &request, deadline)
}

fn ask(stream: &mut (impl Read + Write), request: &str, deadline: Instant) -> Result<Response> {
    stream
        .write_all(request.as_bytes())
        .context("the request can't be sent")?;
    let mut answer = Vec::new();
    let mut part = vec![0; 16 << 10];
    loop {
        if let Some(response) = parse(&answer, false)? {
            return Ok(response);
        }
        if Instant::now() > deadline || answer.len() > LONGEST {
            bail!("the answer does not end");
        }
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend(&part[..read]),
            // A peer that closes without TLS's goodbye: what counts is whether the answer is whole.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error).context("no answer"),
        }
    }
    parse(&answer, true)?.context("the answer was cut short")
}

/// The response, once all of it is there. `ended` says that no more will come.
fn parse(answer: &[u8], ended: bool) -> Result<Option<Response>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(answer)? else {
        return Ok(None);
    };
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|header| {
            (
                header.name.into(),
                String::from_utf8_lossy(header.value).into_owned(),
            )
        })
        .collect();
    let mut response = Response {
        status: head.code.unwrap_or(0),
        headers,
        body: answer[length..].to_vec(),
    };
    if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().context("not a content length")?;
        return Ok((response.body.len() >= length).then_some(response));
    }
    if response
        .header("transfer-encoding")
        .is_some_and(|coding| coding == "chunked")
    {
        return Ok(unchunk(&response.body)?.map(|body| {
            response.body = body;
            response
        }));
    }
    Ok(ended.then_some(response))
}

fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let parsed = httparse::parse_chunk_size(rest);
        let Ok(parsed) = parsed else {
            bail!("a chunk's size can't be read");
        };
        let httparse::Status::Complete((start, size)) = parsed else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some(body));
        }
        let size = usize::try_from(size)?;
        let Some(chunk) = start.checked_add(size).and_then(|end| rest.get(start..end)) else {
            return Ok(None);
        };
        body.extend(chunk);
        rest = rest.get(start + size + 2..).unwrap_or_default();
    }
}

/// A time-out of zero would mean none at all.
const SHORTEST: Duration = Duration::from_millis(1);
/// More than any page of ours: an answer that never ends is an error, not a full memory.
const LONGEST: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_length_ends_an_answer() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert!(parse(&whole[..whole.len() - 1], false).unwrap().is_none());
        assert_eq!(parse(whole, false).unwrap().unwrap().text(), "ok");
    }

    #[test]
    fn chunks_are_joined() {
        let whole =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n";
        assert!(parse(&whole[..whole.len() - 10], false).unwrap().is_none());
        assert_eq!(parse(whole, false).unwrap().unwrap().text(), "ok!");
    }

    #[test]
    fn without_a_length_the_end_of_the_connection_ends_it() {
        let whole = b"HTTP/1.0 404 Not Found\r\n\r\nno";
        assert!(parse(whole, false).unwrap().is_none());
        assert_eq!(parse(whole, true).unwrap().unwrap().status, 404);
    }

    #[test]
    fn a_chunk_of_absurd_size_does_not_panic() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx";
        let _ = parse(head.as_bytes(), true);
    }
}
