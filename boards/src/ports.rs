//! Ports of this machine that lead into the box.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One port of localhost and the port of the box behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// On 127.0.0.1.
    pub host: u16,
    /// In the box.
    pub guest: u16,
}

/// A free port of localhost for each of `guests`.
///
/// # Errors
/// When there are none.
pub fn forward(guests: &[u16]) -> Result<Vec<Forward>> {
    // All are held until all are known, so that none is given out twice.
    let held: Vec<_> = guests
        .iter()
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .context("no free port on localhost")?;
    held.iter()
        .zip(guests)
        .map(|(listener, &guest)| {
            Ok(Forward {
                host: listener.local_addr()?.port(),
                guest,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::forward;

    #[test]
    fn no_two_get_the_same() {
        let forwards = forward(&[443, 80, 8443]).unwrap();
        assert_ne!(forwards[0].host, forwards[1].host);
        assert_ne!(forwards[1].host, forwards[2].host);
        assert_eq!(forwards[2].guest, 8443);
    }
}
