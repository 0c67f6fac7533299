//! A small HTTP client that shows what really came: no retries, no pool, no leniency.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

/// A connection to the door.
pub(crate) struct Client {
    stream: Box<dyn ReadWrite>,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
}

/// Plain or TLS.
pub(crate) trait ReadWrite: Read + Write + Send {}

impl<T: Read + Write + Send> ReadWrite for T {}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Connects without TLS.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self::over(connect(address))
    }

    /// Connects with TLS to `name`, trusting the authority in `ca_pem` only.
    pub(crate) fn tls(address: SocketAddr, name: &str, ca_pem: &str) -> io::Result<Self> {
        Self::tls_over(connect(address), name, ca_pem)
    }

    /// Connects with TLS for HTTP/2.
    pub(crate) fn http2(address: SocketAddr, name: &str, ca_pem: &str) -> io::Result<Self> {
        Self::tls_for(connect(address), name, ca_pem, &[b"h2"])
    }

    /// The same over a socket that is connected already.
    pub(crate) fn tls_over(socket: TcpStream, name: &str, ca_pem: &str) -> io::Result<Self> {
        Self::tls_for(socket, name, ca_pem, &[])
    }

    fn tls_for(socket: TcpStream, name: &str, ca_pem: &str, alpn: &[&[u8]]) -> io::Result<Self> {
        Self::configured(socket, name, Arc::new(config(ca_pem, alpn)))
    }

    /// The same with a configuration, which keeps the tickets of earlier connections.
    pub(crate) fn configured(
        mut socket: TcpStream,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Self::over(StreamOwned::new(connection, socket)))
    }

    /// Speaks over `stream`.
    pub(crate) fn over(stream: impl ReadWrite + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            rest: Vec::new(),
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// GETs `path` of `host`.
    pub(crate) fn get(&mut self, host: &str, path: &str) -> io::Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        self.answer()
    }

    /// The next answer, whole.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let (status, fields) = self.head()?;
        let length = fields
            .get("content-length")
            .map(|length| length.parse().unwrap());
        let chunked = fields.contains_key("transfer-encoding");
        let body = match (status, length, chunked) {
            (100..200 | 204 | 304, _, _) => Vec::new(),
            (_, _, true) => self.chunks()?,
            (_, Some(length), false) => self.exactly(length)?,
            (_, None, false) => {
                let mut body = std::mem::take(&mut self.rest);
                self.stream.read_to_end(&mut body)?;
                body
            }
        };
        Ok(Answer {
            status,
            fields,
            body,
        })
    }

    /// The next answer's status and fields, names in lower case.
    pub(crate) fn head(&mut self) -> io::Result<(u16, HashMap<String, String>)> {
        let text = loop {
            if let Some(end) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.rest.drain(..end + 4).collect();
                break String::from_utf8(head).unwrap();
            }
            self.more()?;
        };
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Ok((status.parse().unwrap(), fields.collect()))
    }

    /// The next `count` bytes.
    pub(crate) fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < count {
            self.more()?;
        }
        Ok(self.rest.drain(..count).collect())
    }

    /// Whether the door ends the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && self.more().is_err()
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.exactly(1)?);
            }
            let size = String::from_utf8(line).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            body.extend(self.exactly(size)?);
            assert_eq!(self.exactly(2)?, b"\r\n");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.rest.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }
}

/// Trusts the authority in `ca_pem` only, and speaks `alpn`.
pub(crate) fn config(ca_pem: &str, alpn: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// A socket that gives up after a while rather than hold up the tests.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Far more than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
