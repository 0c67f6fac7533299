//! TLS connections of the load: TLS 1.3 with X25519 and AES-128-GCM, as browsers choose it.

use std::{
    io::{self, BufRead as _, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use mio::net::TcpStream;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup,
    SignatureScheme,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Whether connections are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    Forgets,
    Keeps,
}

/// The configuration of all connections of a measure.
pub(crate) fn config(alpn: &str, memory: Memory) -> Result<Arc<ClientConfig>> {
    let mut provider = ring::default_provider();
    let suite = CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider
        .cipher_suites
        .retain(|known| known.suite() == suite);
    provider
        .kx_groups
        .retain(|group| group.name() == NamedGroup::X25519);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config.resumption = match memory {
        Memory::Forgets => Resumption::disabled(),
        Memory::Keeps => Resumption::store(Arc::new(Tickets::default())),
    };
    Ok(Arc::new(config))
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) tls: ClientConnection,
    is_closed: bool,
}

impl Client {
    /// A connection that begins, from one of many addresses, as the door limits each.
    pub(crate) fn begin(to: SocketAddr, nth: usize, config: &Arc<ClientConfig>) -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let own = Ipv4Addr::new(127, 0, 1, (nth % ADDRESSES) as u8 + 1);
        bind(&socket, &SocketAddrV4::new(own, 0))?;
        match connect(&socket, &to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error).context("connect"),
        }
        let stream = TcpStream::from_std(socket.into());
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let mut tls = ClientConnection::new(Arc::clone(config), name)?;
        tls.set_buffer_limit(None);
        Ok(Self {
            stream,
            tls,
            is_closed: false,
        })
    }

    /// Reads what there is and gives it to `take`; whether the connection is still open.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<bool> {
        while !self.is_closed {
            let count = match self.stream.read(scratch) {
                Ok(count) => count,
                Err(error) if is_early(&error) => break,
                Err(error) => return Err(error.into()),
            };
            self.is_closed = count == 0;
            let mut bytes = &scratch[..count];
            while !bytes.is_empty() {
                self.tls.read_tls(&mut bytes)?;
                let mut left = self.tls.process_new_packets()?.plaintext_bytes_to_read();
                while left > 0 {
                    let mut reader = self.tls.reader();
                    let plain = reader.fill_buf()?;
                    let count = plain.len();
                    take(plain)?;
                    reader.consume(count);
                    left -= count;
                }
            }
            if count < scratch.len() {
                break;
            }
        }
        Ok(!self.is_closed)
    }

    /// Writes what there is to write.
    pub(crate) fn write(&mut self) -> Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if is_early(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Queues `bytes`.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.tls.writer().write_all(bytes)?)
    }
}

/// The socket is not connected, or has nothing now.
fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}

/// Checks nothing: a load generator that does not would only be slower.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// All tickets that servers gave; rustls's own store keeps eight.
#[derive(Debug, Default)]
struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < TICKETS {
            all.push(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.pop()
    }
}

/// Each may hold a thousand connections at the door.
const ADDRESSES: usize = 100;
/// More than are ever on their way.
const TICKETS: usize = 1000;
