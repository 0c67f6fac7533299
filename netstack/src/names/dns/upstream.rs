//! A server that is asked: how well it is, by its answers alone, and how it is best spoken to.

use std::{net::SocketAddr, time::Duration};

use super::config::{NameServer, Privacy};
use crate::net::clock::Now;

/// Which of the servers; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServerId(pub(super) u32);

/// How a message goes to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Via {
    Udp,
    Tcp,
    Tls,
}

/// A server and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub(super) server: NameServer,
    /// The domain on the wire that it is asked about; `None` is all.
    pub(super) domain: Option<Vec<u8>>,
    /// How often in a row it did not answer in time.
    misses: u32,
    /// Since when it does not.
    silent_since: Option<Now>,
    /// When it is next asked although it is silent.
    probe_at: Now,
    round_trip: Option<Duration>,
    /// It does not know EDNS, or says so, until then.
    plain_until: Now,
    /// It does not speak TLS, or did not, until then.
    open_until: Now,
    pub(super) answers: u64,
    pub(super) silences: u64,
    pub(super) forged: u64,
}

impl Upstream {
    /// One of which nothing is known.
    pub(super) fn new(server: NameServer, domain: Option<Vec<u8>>) -> Self {
        Self {
            server,
            domain,
            misses: 0,
            silent_since: None,
            probe_at: Now::ZERO,
            round_trip: None,
            plain_until: Now::ZERO,
            open_until: Now::ZERO,
            answers: 0,
            silences: 0,
            forged: 0,
        }
    }

    /// It answered; after so long, if that was in time.
    pub(super) fn heard(&mut self, took: Option<Duration>) {
        self.answers += 1;
        self.misses = 0;
        self.silent_since = None;
        if let Some(took) = took {
            let before = self.round_trip.unwrap_or(took);
            self.round_trip = Some((before * 7 + took) / 8);
        }
    }

    /// It did not answer in time.
    pub(super) fn missed(&mut self, now: Now) {
        self.silences += 1;
        self.misses += 1;
        if !self.is_well() && self.silent_since.is_none() {
            self.silent_since = Some(now);
            self.probe_at = now + PROBE_EVERY;
        }
    }

    /// It can't do EDNS.
    pub(super) fn lacks_edns(&mut self, now: Now) {
        self.plain_until = now + LACK_KEPT;
    }

    /// It does not do TLS, as far as can be seen.
    pub(super) fn lacks_tls(&mut self, now: Now) {
        self.open_until = now + OPEN_FOR;
    }

    /// Whether it is time to see how a silent one is; then it is not for a while.
    pub(super) fn take_probe(&mut self, now: Now) -> bool {
        let is_due = !self.is_well() && now >= self.probe_at;
        if is_due {
            self.probe_at = now + PROBE_EVERY;
        }
        is_due
    }

    /// Whether it answers: one packet may be lost.
    pub(super) fn is_well(&self) -> bool {
        self.misses < MISSES_MAX
    }

    /// Since when it does not answer.
    pub(super) fn silent_since(&self) -> Option<Now> {
        self.silent_since
    }

    /// How long its answers take.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Whether it is asked with EDNS.
    pub(super) fn has_edns(&self, now: Now) -> bool {
        now >= self.plain_until
    }

    /// How it is asked first.
    pub(super) fn via(&self, now: Now) -> Via {
        match self.server.privacy {
            Privacy::Strict { .. } => Via::Tls,
            Privacy::Opportunistic if now >= self.open_until => Via::Tls,
            Privacy::Opportunistic | Privacy::None => Via::Udp,
        }
    }

    /// Where it is asked.
    pub(super) fn address(&self, via: Via) -> SocketAddr {
        match via {
            Via::Tls => self.server.private(),
            Via::Tcp | Via::Udp => self.server.open(),
        }
    }

    /// After how long the next one is asked beside it.
    pub(super) fn patience(&self, via: Via) -> Duration {
        match (via, self.round_trip) {
            (Via::Udp, Some(usual)) => (usual * 4).clamp(PATIENCE_MIN, PATIENCE),
            (Via::Udp, None) => PATIENCE,
            // There may be handshakes before it.
            (Via::Tcp | Via::Tls, _) => STREAM_PATIENCE,
        }
    }
}

const MISSES_MAX: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(1);
/// The server itself may have to ask around.
const PATIENCE_MIN: Duration = Duration::from_millis(400);
const STREAM_PATIENCE: Duration = Duration::from_secs(2);
/// Often enough that a router that was restarted is used again soon.
const PROBE_EVERY: Duration = Duration::from_secs(5);
const LACK_KEPT: Duration = Duration::from_secs(3600);
/// RFC 7858, 3.1 wants an hour; a router that is updated is tried again sooner.
const OPEN_FOR: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_silent_after_two_misses_and_well_with_the_first_answer() {
        let mut upstream = Upstream::new(NameServer::plain([192, 0, 2, 1].into()), None);
        let now = Duration::from_secs(100);
        upstream.missed(now);
        assert!(upstream.is_well());
        upstream.missed(now);
        assert_eq!(upstream.silent_since(), Some(now));
        assert!(!upstream.take_probe(now));
        assert!(upstream.take_probe(now + PROBE_EVERY));
        assert!(!upstream.take_probe(now + PROBE_EVERY));
        upstream.heard(Some(Duration::from_millis(200)));
        assert!(upstream.is_well() && upstream.silent_since().is_none());
        assert_eq!(upstream.patience(Via::Udp), Duration::from_millis(800));
    }

    #[test]
    fn tls_is_left_for_a_while_where_it_may_be() {
        let server = |privacy| NameServer {
            privacy,
            ..NameServer::plain([192, 0, 2, 1].into())
        };
        let strict = Privacy::Strict {
            name: "dns.example".to_owned(),
            authority: None,
        };
        for (privacy, after) in [(Privacy::Opportunistic, Via::Udp), (strict, Via::Tls)] {
            let mut upstream = Upstream::new(server(privacy), None);
            let now = Duration::from_secs(100);
            assert_eq!(upstream.via(now), Via::Tls);
            assert_eq!(upstream.address(Via::Tls).port(), 853);
            upstream.lacks_tls(now);
            assert_eq!(upstream.via(now), after);
            assert_eq!(upstream.via(now + OPEN_FOR), Via::Tls);
        }
    }
}
