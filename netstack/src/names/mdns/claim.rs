//! How a name becomes ours: three probes that nobody objects to, then two announcements
//! (RFC 6762, 8).

use crate::net::{clock::Now, random::Random};

/// How far the claim to a part's names has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Asking whether anybody has them.
    Probing { sent: u32, next: Now },
    /// Telling everybody.
    Announcing { sent: u32, next: Now },
    /// Ours.
    Settled,
}

/// What is to be sent for a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Announce,
    Probe,
}

impl Claim {
    /// A claim that begins after a moment, so that boxes that start together don't speak at once.
    pub(super) fn begin(now: Now, random: &mut Random) -> Self {
        Self::Probing {
            sent: 0,
            next: now + random.between(Now::ZERO, PROBE_PAUSE),
        }
    }

    /// Begins again after another's claim, made at the same time, has won (RFC 6762, 8.2).
    pub(super) fn defer(now: Now) -> Self {
        Self::Probing {
            sent: 0,
            next: now + DEFER_PAUSE,
        }
    }

    /// The claim stands, but what it says has changed.
    pub(super) fn renew(self, now: Now) -> Self {
        match self {
            Self::Probing { .. } => self,
            Self::Announcing { .. } | Self::Settled => Self::Announcing { sent: 0, next: now },
        }
    }

    /// Whether the names may be used.
    pub(super) fn stands(self) -> bool {
        !matches!(self, Self::Probing { .. })
    }

    /// When [`step`](Self::step) is next needed.
    pub(super) fn deadline(self) -> Option<Now> {
        match self {
            Self::Probing { next, .. } | Self::Announcing { next, .. } => Some(next),
            Self::Settled => None,
        }
    }

    /// Goes on, if it is time.
    pub(super) fn step(&mut self, now: Now) -> Option<Step> {
        if self.deadline()? > now {
            return None;
        }
        let (next, step) = match *self {
            Self::Probing { sent, .. } if sent < PROBES => {
                let (sent, next) = (sent + 1, now + PROBE_PAUSE);
                (Self::Probing { sent, next }, Step::Probe)
            }
            Self::Probing { .. } => {
                let next = now + ANNOUNCE_PAUSE;
                (Self::Announcing { sent: 1, next }, Step::Announce)
            }
            Self::Announcing { sent, .. } if sent + 1 < ANNOUNCEMENTS => {
                let (sent, next) = (sent + 1, now + ANNOUNCE_PAUSE);
                (Self::Announcing { sent, next }, Step::Announce)
            }
            Self::Announcing { .. } => (Self::Settled, Step::Announce),
            Self::Settled => return None,
        };
        *self = next;
        Some(step)
    }
}

/// RFC 6762, 8.1.
const PROBES: u32 = 3;
const PROBE_PAUSE: Now = Now::from_millis(250);
/// RFC 6762, 8.2.
const DEFER_PAUSE: Now = Now::from_secs(1);
/// RFC 6762, 8.3: at least two, a second apart.
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_PAUSE: Now = Now::from_secs(1);
