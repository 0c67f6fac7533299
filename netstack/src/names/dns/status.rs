//! What is: how the resolver does, and how those do whom it asks.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// How the resolver does, since its process began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsStatus {
    /// Whom it asks, in the order of their use.
    pub servers: Vec<ServerStatus>,
    /// Questions of all kinds.
    pub questions: u64,
    /// Answered from what is kept.
    pub from_cache: u64,
    /// Answered with what is out of date, as nobody could be asked.
    pub stale: u64,
    /// Answered by itself: services' names.
    pub own: u64,
    /// Given to others, or joined with what was given to them.
    pub forwarded: u64,
    /// Not answered, as nobody knew or could be asked.
    pub failed: u64,
    /// Refused: of clients or kinds that are not served.
    pub refused: u64,
    /// Answers that are kept.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
}

/// How a server does that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Where it is asked.
    pub address: SocketAddr,
    /// Whether that is by TLS.
    pub tls: bool,
    /// The domain that it is asked about; `None` is all.
    pub domain: Option<String>,
    /// For how long it has not answered, if it does not.
    pub silent_for: Option<Duration>,
    /// How long its answers take.
    pub round_trip: Option<Duration>,
    /// How often it answered.
    pub answers: u64,
    /// How often it did not, in time.
    pub silences: u64,
    /// How often something came in place of its answer.
    pub forged: u64,
}

impl DnsStatus {
    /// Whether somebody answers.
    pub fn works(&self) -> bool {
        self.servers
            .iter()
            .any(|server| server.silent_for.is_none())
    }

    /// Whether it says the same of who answers; numbers may differ.
    pub fn is_like(&self, other: &Self) -> bool {
        let health = |status: &Self| {
            let servers = status.servers.iter();
            let health = servers.map(|s| (s.address, s.tls, s.silent_for.is_some()));
            health.collect::<Vec<_>>()
        };
        health(self) == health(other)
    }
}
