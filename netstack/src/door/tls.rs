//! TLS towards clients: rustls with ring (and graviola for X25519), and an identity that can be changed at any time.
//!
//! A new identity is a new configuration for new connections; live ones keep what they began with.
//! So nothing is locked. Tickets and session cache are carried over.

use std::{io, sync::Arc, time::SystemTime};

use rustls::{
    CipherSuite, NamedGroup, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::UnbufferedServerConnection,
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{DoorError, config::Identity, secure::Secure, x25519};
use crate::ca;

/// What new TLS connections begin with.
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    shown: Option<Identity>,
}

impl Tls {
    /// TLS with an identity of the door's own that nobody vouches for.
    pub(super) fn throw_away() -> Result<Self, DoorError> {
        let names = ["pilotlight.local", "localhost"].map(str::to_owned);
        let identity = ca::throw_away(&names, SystemTime::now())?;
        let mut provider = ring::default_provider();
        // AES-128 is the cheapest, and as safe. Clients that would rather have ChaCha20 are phones
        // of ten years ago; scanners want the order to be the server's.
        provider.cipher_suites.sort_by_key(|suite| {
            let cheap = [CipherSuite::TLS13_AES_128_GCM_SHA256, ECDSA_AES_128];
            !cheap.contains(&suite.suite())
        });
        for group in &mut provider.kx_groups {
            if group.name() == NamedGroup::X25519 {
                *group = x25519::group();
            }
        }
        let provider = Arc::new(provider);
        let key = certified(&identity, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(DoorError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.ignore_client_order = true;
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        // Each connection hands on to the next: browsers that have HTTP/2 open one at a time.
        config.send_tls13_tickets = 1;
        config.ticketer = ring::Ticketer::new().map_err(DoorError::Tls)?;
        Ok(Self {
            config: Arc::new(config),
            shown: None,
        })
    }

    /// Shows `identity` from now on.
    ///
    /// # Errors
    /// When key and certificate do not fit; the former identity stays.
    pub(super) fn show(&mut self, identity: &Identity) -> Result<(), DoorError> {
        if self.shown.as_ref() == Some(identity) {
            return Ok(());
        }
        let key = certified(identity, self.config.crypto_provider())?;
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::new(SingleCertAndKey::from(key));
        self.config = Arc::new(config);
        self.shown = Some(identity.clone());
        Ok(())
    }

    /// The server's end of a new connection.
    pub(super) fn accept(&self) -> io::Result<Secure> {
        let connection = UnbufferedServerConnection::new(Arc::clone(&self.config));
        Ok(Secure::new(connection.map_err(io::Error::other)?))
    }
}

fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey, DoorError> {
    let chain = identity
        .chain_der
        .iter()
        .cloned()
        .map(CertificateDer::from)
        .collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key_der.clone()));
    CertifiedKey::from_der(chain, key, provider).map_err(DoorError::Identity)
}

/// HTTP/2 in the language of ALPN.
pub(super) const HTTP2: &[u8] = b"h2";
const ECDSA_AES_128: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
