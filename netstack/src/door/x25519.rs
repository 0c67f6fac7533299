//! X25519 by graviola, at half the price of ring's: a third of what a whole handshake costs is this.
//!
//! graviola asks for instructions that small and old processors lack (and QEMU's plain ones); there
//! ring does it.

use graviola::key_agreement::x25519::{PrivateKey, PublicKey};
use rustls::{
    Error, NamedGroup, PeerMisbehaved,
    crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup, ring},
};

/// The key exchange that this processor does best.
pub(super) fn group() -> &'static dyn SupportedKxGroup {
    if graviola::util::is_cpu_supported() {
        &Graviola
    } else {
        ring::kx_group::X25519
    }
}

#[derive(Debug)]
struct Graviola;

impl SupportedKxGroup for Graviola {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private = PrivateKey::new_random().map_err(|_| Error::FailedToGetRandomBytes)?;
        let public = private.public_key().as_bytes();
        Ok(Box::new(Exchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// Our half of one exchange.
struct Exchange {
    private: PrivateKey,
    public: [u8; 32],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let wrong = |_| Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer = PublicKey::try_from_slice(peer).map_err(wrong)?;
        let shared = self.private.diffie_hellman(&peer).map_err(wrong)?;
        Ok(SharedSecret::from(&shared.0[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_come_to_the_same_secret() {
        for (one, other) in [
            (group(), ring::kx_group::X25519),
            (ring::kx_group::X25519, group()),
        ] {
            let begun = one.start().unwrap();
            let answered = other.start_and_complete(begun.pub_key()).unwrap();
            let secret = begun.complete(&answered.pub_key).unwrap();
            assert_eq!(secret.secret_bytes(), answered.secret.secret_bytes());
        }
    }

    /// Keys of small order give a secret that anyone knows (RFC 7748, 6.1).
    #[test]
    fn keys_that_are_none_are_refused() {
        let mut order_two = [0; 32];
        order_two[0] = 1;
        for key in [&[0; 32][..], &order_two, &[9; 31], &[9; 33], &[]] {
            let refused = group().start_and_complete(key).err();
            assert_eq!(
                refused,
                Some(PeerMisbehaved::InvalidKeyShare.into()),
                "{key:?}"
            );
        }
    }
}
