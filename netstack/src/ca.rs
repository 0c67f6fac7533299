//! The box's own certificate authority: one root that the owner trusts, leaves for the names and
//! addresses that the box answers to.
//!
//! ECDSA P-256 throughout: every browser takes it, and the door's handshakes stay cheap. Clocks of
//! boxes without a battery are wrong at first boot, so the root is valid from a fixed day in the
//! past, and no leaf is ever dated before the day this was written.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};

use crate::door::Identity;

/// A certificate authority: its certificate and its private key.
pub struct Authority {
    certificate_pem: String,
    certificate_der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// Why an authority could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The stored certificate or key is damaged.
    #[error("The stored certificate authority can't be read ({0}). Restore it, or make a new one.")]
    Load(String),
    /// A name can't stand in a certificate.
    #[error("{0:?} can't stand in a certificate: it is neither a host name nor an address.")]
    Name(String),
    /// The random source or the signing failed.
    #[error("A certificate could not be made: {0}.")]
    Sign(rcgen::Error),
}

impl Authority {
    /// A new authority for the box called `box_name`, with a new key, valid for twenty years
    /// from `now` (or from the day this was written, if the clock is behind that).
    ///
    /// # Errors
    /// When the random source fails or `box_name` is no text for a certificate.
    pub fn create(box_name: &str, now: SystemTime) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(CaError::Sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("{box_name} (Pilotlight)"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now) + CA_LIFETIME;
        let certificate = params.self_signed(&key).map_err(CaError::Sign)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority that [`Self::pem`] and [`Self::key_pem`] were taken from.
    ///
    /// # Errors
    /// When either is not what it should be, or the key is not the certificate's.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let unreadable = |error: &dyn std::fmt::Display| CaError::Load(error.to_string());
        let key = KeyPair::from_pem(key_pem).map_err(|e| unreadable(&e))?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| unreadable(&e))?;
        if !contains(&der, key.public_key_raw()) {
            return Err(unreadable(&"the key is not the certificate's"));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| unreadable(&e))?;
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            certificate_der: der.to_vec(),
            issuer,
        })
    }

    /// A leaf for `names` (host names and IP addresses) with a new key, valid around `now`.
    ///
    /// Issue a new one when less than a third of [`LEAF_AHEAD`] is left, or when names change.
    ///
    /// # Errors
    /// [`CaError::Name`] for what is neither host name nor address, [`CaError::Sign`] otherwise.
    pub fn issue(&self, names: &[String], now: SystemTime) -> Result<Identity, CaError> {
        let key = KeyPair::generate().map_err(CaError::Sign)?;
        let now = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now);
        let mut params = leaf_params(names)?;
        params.not_before = now - LEAF_BEHIND;
        params.not_after = now + LEAF_AHEAD;
        params.use_authority_key_identifier_extension = true;
        let leaf = params
            .signed_by(&key, &self.issuer)
            .map_err(CaError::Sign)?;
        Ok(Identity {
            chain_der: vec![leaf.der().to_vec(), self.certificate_der.clone()],
            key_der: key.serialize_der(),
        })
    }

    /// The certificate, to be given to everyone.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key as PKCS#8, to be kept where only the manager reads.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// SHA-256 over the certificate as browsers show it: `4F:9A:…`, 95 characters.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate_der)
    }
}

/// SHA-256 over a DER certificate as browsers show it.
#[must_use]
pub fn fingerprint(certificate_der: &[u8]) -> String {
    let digest = Sha256::digest(certificate_der);
    let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}

/// An identity that nobody vouches for: what the door shows before it has a real one.
///
/// # Errors
/// As [`Authority::issue`].
pub fn throw_away(names: &[String], now: SystemTime) -> Result<Identity, CaError> {
    let key = KeyPair::generate().map_err(CaError::Sign)?;
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(now);
    let mut params = leaf_params(names)?;
    params.not_before = now - LEAF_BEHIND;
    params.not_after = now + LEAF_AHEAD;
    let leaf = params.self_signed(&key).map_err(CaError::Sign)?;
    Ok(Identity {
        chain_der: vec![leaf.der().to_vec()],
        key_der: key.serialize_der(),
    })
}

fn leaf_params(names: &[String]) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(names.first().map_or("pilotlight", String::as_str));
    params.subject_alt_names = names
        .iter()
        .map(|name| alt_name(name))
        .collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    Ok(params)
}

fn alt_name(name: &str) -> Result<SanType, CaError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = || CaError::Name(name.to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*' | '_');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        return Err(wrong());
    }
    let name = name.try_into().map_err(|_| wrong())?;
    Ok(SanType::DnsName(name))
}

fn common_name(text: &str) -> DistinguishedName {
    // X.520 allows 64 characters; some clients refuse a certificate with more.
    let text: String = text.chars().take(64).collect();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn since_epoch(now: SystemTime) -> Duration {
    let claimed = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    claimed.max(WRITTEN)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle)
}

/// The longest host name that DNS allows.
const MAX_NAME: usize = 253;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// 2026-11-01: no clock that is right says less.
const WRITTEN: Duration = Duration::from_secs(1_793_491_200);
/// Longer than a box lives: replacing the root means every device has to trust again.
const CA_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// How far a client's clock may be behind ours.
pub const LEAF_BEHIND: Duration = DAY.saturating_mul(30);
/// With [`LEAF_BEHIND`] 365 days in all: the most that Mozilla's guidance allows any leaf.
pub const LEAF_AHEAD: Duration = DAY.saturating_mul(335);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        crypto::ring,
        pki_types::UnixTime,
    };

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + WRITTEN + DAY
    }

    #[test]
    fn a_stored_authority_signs_as_before() {
        let made = Authority::create("otter", now()).unwrap();
        let read = Authority::load(made.pem(), &made.key_pem()).unwrap();
        assert_eq!(made.fingerprint(), read.fingerprint());
        assert_eq!(read.fingerprint().len(), 95);
        let leaf = read.issue(&["otter.local".into()], now()).unwrap();
        assert_eq!(leaf.chain_der[1], made.certificate_der);
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let one = Authority::create("one", now()).unwrap();
        let other = Authority::create("other", now()).unwrap();
        assert!(Authority::load(one.pem(), &other.key_pem()).is_err());
        assert!(Authority::load("nonsense", &one.key_pem()).is_err());
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let ca = Authority::create("otter", now()).unwrap();
        for wrong in ["", "a b", "x/y", "ü.local"] {
            let issued = ca.issue(&[wrong.to_owned()], now());
            assert!(matches!(issued, Err(CaError::Name(_))), "{wrong:?}");
        }
    }

    #[test]
    fn certificates_are_valid_on_both_sides_of_a_step_of_ten_years() {
        let ten_years = DAY * 3652;
        let early = UNIX_EPOCH + WRITTEN - ten_years;
        let late = now() + ten_years;
        for (before, after) in [(early, now()), (now(), late), (late, now())] {
            let ca = Authority::create("otter", before).unwrap();
            assert!(is_valid(&ca, before, before), "{before:?}");
            assert!(is_valid(&ca, after, after), "{before:?}, then {after:?}");
            // The authority itself: from 2024 to the year 2046 or later.
            assert!(contains(&ca.certificate_der, b"\x17\x0d240101000000Z"));
            let until = [b"\x17\x0d46".as_slice(), b"\x18\x0f2056"];
            let mut until = until.into_iter();
            assert!(until.any(|year| contains(&ca.certificate_der, year)));
        }
        let ca = Authority::create("otter", now()).unwrap();
        assert!(!is_valid(&ca, now(), late), "so it must be renewed");
    }

    /// Whether a client whose clock shows `shown`, or the day this was written if that is later,
    /// takes a leaf that was issued at `issued`.
    fn is_valid(ca: &Authority, issued: SystemTime, shown: SystemTime) -> bool {
        let leaf = ca.issue(&["otter.local".into()], issued).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(leaf.chain_der[1].clone().into()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let leaf = leaf.chain_der[0].clone().into();
        let name = "otter.local".try_into().unwrap();
        let shown = UnixTime::since_unix_epoch(since_epoch(shown));
        verifier
            .verify_server_cert(&leaf, &[], &name, &[], shown)
            .is_ok()
    }

    #[test]
    fn a_clock_at_the_epoch_still_makes_valid_certificates() {
        let ca = Authority::create("otter", UNIX_EPOCH).unwrap();
        assert!(ca.issue(&["10.0.0.1".into()], UNIX_EPOCH).is_ok());
        assert_eq!(since_epoch(UNIX_EPOCH), WRITTEN);
    }
}
