//! IPv6 addresses that say nothing of the hardware, and are the same each time on the same network
//! (RFC 7217). The kernel makes them, of a secret that the box keeps.

use std::{fmt, io, net::Ipv6Addr, time::Duration};

use serde::{Deserialize, Serialize};

use super::clock::Now;

/// What the addresses are made of, beside the network: 128 bits that nobody else knows.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSecret([u8; 16]);

impl AddressSecret {
    /// A secret of these bits.
    pub fn new(bits: [u8; 16]) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for AddressSecret {
    /// It is not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressSecret")
    }
}

/// The kernel's secret, as far as it is the box's.
#[derive(Debug, Default)]
pub(crate) struct Privacy {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// It has this one.
    Set(AddressSecret),
    /// Why not, and when it is tried again.
    Failed(String, Now),
    /// The kernel has no IPv6.
    Needless,
    /// It has none of ours.
    #[default]
    Unset,
}

impl Privacy {
    /// Gives the kernel the secret, unless it has it or would not take it just now. True if links are
    /// to make their addresses of it.
    pub(crate) fn keep(&mut self, now: Now, secret: Option<AddressSecret>) -> bool {
        let Some(secret) = secret else {
            return false;
        };
        match &self.state {
            State::Set(there) if *there == secret => return true,
            State::Failed(_, retry_at) if *retry_at > now => return false,
            State::Needless => return false,
            State::Set(_) | State::Failed(..) | State::Unset => {}
        }
        // It is written in the form of an address, as the kernel has it.
        let written = std::fs::write(SECRET, Ipv6Addr::from(secret.0).to_string());
        self.state = match written {
            Ok(()) => State::Set(secret),
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::Needless,
            Err(error) => State::Failed(error.to_string(), now + RETRY_PAUSE),
        };
        matches!(self.state, State::Set(_))
    }

    /// Has it given anew, next time.
    pub(crate) fn doubt(&mut self) {
        self.state = State::Unset;
    }

    /// When [`keep`](Self::keep) is needed again.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Failed(_, retry_at) => Some(retry_at),
            State::Set(_) | State::Needless | State::Unset => None,
        }
    }

    /// What does not work, as a sentence.
    pub(crate) fn problem(&self) -> Option<String> {
        let State::Failed(why, _) = &self.state else {
            return None;
        };
        Some(format!(
            "The kernel does not take the secret for IPv6 addresses ({why}), so they tell the \
             hardware's; it is tried again."
        ))
    }
}

/// The secret of every link that has none of its own.
const SECRET: &str = "/proc/sys/net/ipv6/conf/default/stable_secret";

const RETRY_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_none_is_no_work() {
        let secret = AddressSecret::new([7; 16]);
        assert_eq!(format!("{:?}", Some(secret)), "Some(AddressSecret)");
        let mut privacy = Privacy::default();
        assert!(!privacy.keep(Now::ZERO, None));
        assert_eq!((privacy.deadline(), privacy.problem()), (None, None));
    }

    #[test]
    fn a_kernel_that_would_not_take_it_is_asked_again_later() {
        let mut privacy = Privacy {
            state: State::Failed("no leave".to_owned(), RETRY_PAUSE),
        };
        assert!(!privacy.keep(Now::ZERO, Some(AddressSecret::new([7; 16]))));
        assert_eq!(privacy.deadline(), Some(RETRY_PAUSE));
        assert!(
            privacy
                .problem()
                .is_some_and(|text| text.contains("no leave"))
        );
        privacy.doubt();
        assert_eq!(privacy.deadline(), None);
    }
}
