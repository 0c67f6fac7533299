//! Numbers that nobody can foresee who has seen those before: what a forged answer would have to
//! guess.

use sha2::{Digest as _, Sha256};

/// A stream of such numbers: a hash of a secret and how many there were.
#[derive(Clone)]
pub(super) struct Chance {
    secret: [u8; 32],
    drawn: u64,
    pool: Vec<u8>,
}

impl Chance {
    /// The stream of this secret.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            drawn: 0,
            pool: Vec::new(),
        }
    }

    /// One of the kernel's; of the clock, on a kernel that has no entropy yet.
    pub(super) fn seeded() -> Self {
        let mut secret = [0; 32];
        let flags = rustix::rand::GetRandomFlags::NONBLOCK;
        if rustix::rand::getrandom(&mut secret, flags) != Ok(32) {
            let now = crate::net::clock::now().as_nanos().to_ne_bytes();
            secret[..16].copy_from_slice(&now);
        }
        Self::new(secret)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> u8 {
        if self.pool.is_empty() {
            let mut hash = Sha256::new();
            hash.update(self.secret);
            hash.update(self.drawn.to_ne_bytes());
            self.drawn += 1;
            self.pool.extend_from_slice(&hash.finalize());
        }
        self.pool.pop().unwrap_or_default()
    }

    /// The next two bytes.
    pub(super) fn id(&mut self) -> u16 {
        u16::from_ne_bytes([self.byte(), self.byte()])
    }
}

impl std::fmt::Debug for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chance")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_do_not_repeat() {
        let mut one = Chance::new([1; 32]);
        let mut other = Chance::new([2; 32]);
        let ids = |chance: &mut Chance| (0..100).map(|_| chance.id()).collect::<Vec<_>>();
        let (first, second) = (ids(&mut one), ids(&mut one));
        assert_ne!(first, second);
        assert_ne!(first, ids(&mut other));
        let mut distinct = first;
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 90);
    }
}
