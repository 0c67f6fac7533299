//! TLS towards servers that are asked (RFC 7858, RFC 8310).

use std::{
    collections::HashMap,
    io,
    sync::{Arc, LazyLock},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::config::{NameServer, Privacy};

/// What connections begin with; each comes back to the session of the one before.
#[derive(Debug, Default)]
pub(super) struct Tls {
    configs: HashMap<Privacy, Arc<ClientConfig>>,
}

impl Tls {
    /// The client's end of a new connection.
    ///
    /// # Errors
    /// When the server's name or its authority is none.
    pub(super) fn connect(&mut self, server: &NameServer) -> io::Result<ClientConnection> {
        let name = match &server.privacy {
            Privacy::Strict { name, .. } => {
                ServerName::try_from(name.clone()).map_err(io::Error::other)?
            }
            Privacy::None | Privacy::Opportunistic => server.address.into(),
        };
        let config = match self.configs.get(&server.privacy) {
            Some(config) => config.clone(),
            None => {
                let config = Arc::new(config(&server.privacy)?);
                if self.configs.len() >= CONFIGS_MAX {
                    self.configs.clear();
                }
                self.configs.insert(server.privacy.clone(), config.clone());
                config
            }
        };
        ClientConnection::new(config, name).map_err(io::Error::other)
    }
}

fn config(privacy: &Privacy) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match privacy {
        Privacy::Strict { authority, .. } => {
            let mut roots = RootCertStore::empty();
            match authority {
                Some(der) => roots
                    .add(CertificateDer::from(der.clone()))
                    .map_err(io::Error::other)?,
                None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            }
            builder.with_root_certificates(roots)
        }
        Privacy::None | Privacy::Opportunistic => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody)),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"dot".to_vec()];
    Ok(config)
}

/// Takes whoever answers for the server: nobody on the way reads along, unless he takes part.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &PROVIDER.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER
            .signature_verification_algorithms
            .supported_schemes()
    }
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(ring::default_provider()));

/// More servers are never asked at once.
const CONFIGS_MAX: usize = 64;
