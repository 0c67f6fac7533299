//! TLS towards servers that are asked (RFC 7858, RFC 8310).

use std::{
    collections::HashMap,
    io,
    sync::{Arc, LazyLock},
};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::config::{NameServer, Privacy};

/// What connections begin with; each comes back to the session of the one before.
#[derive(Debug, Default)]
pub(super) struct Tls {
    configs: HashMap<Privacy, Arc<ClientConfig>>,
    clock_is_right: bool,
}

impl Tls {
    /// Whether the clock is known to be right. While it is not, certificates are taken whose time
    /// it is not: servers of the time are found by name, and else the clock could never be set.
    pub(super) fn clock_is_right(&mut self, is_right: bool) {
        if self.clock_is_right != is_right {
            self.clock_is_right = is_right;
            // With them go the sessions that new connections would come back to.
            self.configs.clear();
        }
    }

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
                let config = Arc::new(config(&server.privacy, self.clock_is_right)?);
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

fn config(privacy: &Privacy, clock_is_right: bool) -> io::Result<ClientConfig> {
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
            let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), PROVIDER.clone())
                .build()
                .map_err(io::Error::other)?;
            match clock_is_right {
                true => builder.with_webpki_verifier(inner),
                false => builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(AnyTime(inner))),
            }
        }
        Privacy::None | Privacy::Opportunistic => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody)),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"dot".to_vec()];
    Ok(config)
}

/// Takes whoever the trusted authority says is the server, or said, or will say: name and signatures
/// are verified as ever, at a time at which the certificates are good.
#[derive(Debug)]
struct AnyTime(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyTime {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        mut now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        for _ in 0..CERTIFICATES_MAX {
            let verified = self
                .0
                .verify_server_cert(end_entity, intermediates, name, ocsp, now);
            now = match verified {
                Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) => not_before,
                Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                    not_after,
                    ..
                })) => not_after,
                verified => return verified,
            };
        }
        Err(CertificateError::Expired.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
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
/// A chain has two or three, each good at times of its own.
const CERTIFICATES_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    /// Whether a server's certificate that is good from the first to the second year is taken in
    /// 2026, by the clock and without one.
    fn taken(from: i32, until: i32, name: &'static str) -> [bool; 2] {
        let key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&key).unwrap();
        let issuer = Issuer::new(authority, key);
        let mut leaf = CertificateParams::new(["dns.example".to_owned()]).unwrap();
        leaf.not_before = date_time_ymd(from, 1, 1);
        leaf.not_after = date_time_ymd(until, 1, 1);
        let own = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&own, &issuer).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let by_clock = WebPkiServerVerifier::builder_with_provider(roots.into(), PROVIDER.clone())
            .build()
            .unwrap();
        let without = AnyTime(by_clock.clone());
        let in_2026 = UnixTime::since_unix_epoch(Duration::from_secs(1_780_000_000));
        let name = ServerName::try_from(name).unwrap();
        let verifiers: [&dyn ServerCertVerifier; 2] = [&*by_clock, &without];
        verifiers.map(|verifier| {
            let verified = verifier.verify_server_cert(leaf.der(), &[], &name, &[], in_2026);
            verified.is_ok()
        })
    }

    #[test]
    fn without_a_clock_a_certificate_is_good_at_its_own_time_and_for_its_own_name() {
        assert_eq!(taken(2020, 2030, "dns.example"), [true, true]);
        assert_eq!(taken(2010, 2011, "dns.example"), [false, true], "old");
        assert_eq!(taken(2040, 2041, "dns.example"), [false, true], "new");
        assert_eq!(taken(2010, 2011, "other.example"), [false, false]);
        assert_eq!(taken(2020, 2030, "other.example"), [false, false]);
    }
}
