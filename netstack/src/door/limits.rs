//! How much the door takes on, and how long it waits: every number with its reason.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::secure::{MAX_PARTIAL, OVERHEAD};

/// The door's limits. [`Limits::default`] is what a box uses; tests and benchmarks set their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections in all.
    pub connections: usize,
    /// Client connections from one IPv4 address or IPv6 /64.
    pub per_address: usize,
    /// Memory for bytes on their way, over all connections together.
    pub bytes: usize,
    /// Requests under way at one service.
    pub per_place: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From the first to the last byte of a request's head.
    pub head: Duration,
    /// A kept connection without a request.
    pub idle: Duration,
    /// To connect to a service.
    pub connect: Duration,
    /// From the whole of a request without a body to the first byte of the dashboard's answer.
    pub dashboard_answer: Duration,
    /// The same for a service, and for the dashboard when a body was sent.
    pub answer: Duration,
    /// In the middle of a message, without a byte moving.
    pub stall: Duration,
    /// A WebSocket or other tunnel without a byte in either direction.
    pub tunnel: Duration,
    /// An idle connection to a service, kept for the next request.
    pub pooled: Duration,
    /// After the last answer, until the client has taken it.
    pub linger: Duration,
    /// After [`Shutdown`](super::Command::Shutdown), for requests under way.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 7 to 10 KiB each: about 120 MiB at the most, on a box of 1 GiB and more.
            connections: 12_000,
            // A browser opens 6 to a host; a household behind one address has some dozens of
            // browsers; a load balancer or tunnel in front of the box may need this many.
            per_address: 1_024,
            // Half of what the front may use: with 12 000 connections at 7 KiB it stays within.
            bytes: 80 << 20,
            // One service that hangs must not take the connections of all.
            per_place: 4_000,
            // A handshake is two round trips: ten seconds are a very bad line.
            handshake: Duration::from_secs(10),
            // Heads are a packet or two; who takes longer than this wants to hold a place.
            head: Duration::from_secs(10),
            // A little over the 60 s after which browsers let go themselves.
            idle: Duration::from_secs(75),
            // Services are on this machine, but one whose queue is full for a moment drops the
            // first try, and the kernel repeats it after 1, 3 and 7 s.
            connect: Duration::from_secs(10),
            // Its socket is PID 1's, so a dead manager looks like a slow one; the owner should
            // see the emergency page before losing patience.
            dashboard_answer: Duration::from_secs(5),
            // Long polls and slow exports are honest; two minutes without a byte hardly are.
            answer: Duration::from_secs(120),
            // TCP itself gives up a dead peer much later.
            stall: Duration::from_secs(60),
            // WebSockets ping every half minute or so; raw tunnels may be quiet for long.
            tunnel: Duration::from_secs(3600),
            // Shorter than the 60 s and more of common servers: we close before they do.
            pooled: Duration::from_secs(20),
            // So that a last answer is not lost to a reset (RFC 9112, 9.6).
            linger: Duration::from_secs(2),
            // The successor already accepts; what takes longer is cut.
            drain: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// The same with no limit for one address: load generators have only one.
    #[must_use]
    pub fn generous() -> Self {
        Self {
            per_address: usize::MAX,
            ..Self::default()
        }
    }

    /// The same with no more connections than the process has descriptors for: each client may need
    /// a second one, towards the service that answers.
    pub(super) fn within_descriptors(mut self) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let clients = descriptors.saturating_sub(OWN_DESCRIPTORS) / 2;
        let clients = usize::try_from(clients).unwrap_or(usize::MAX).max(1);
        self.connections = self.connections.min(clients);
        self
    }
}

/// Descriptors that are not for clients: listeners, control, log, the loop's own.
const OWN_DESCRIPTORS: u64 = 64;
/// The most bytes of a request's head: 4 times what Apache allows one field.
pub(super) const MAX_REQUEST_HEAD: usize = 32 * 1024;
/// The most bytes of a response's head: some services set very large cookies.
pub(super) const MAX_RESPONSE_HEAD: usize = 64 * 1024;
/// Interim answers to one request: a `100 Continue` and some hints, with much to spare.
pub(super) const MAX_INTERIMS: usize = 8;
/// Bytes read from a socket at once: less costs half as much again per byte, more gains nothing.
/// Enciphered it is still less than 64 KiB with its headers, the most that the kernel takes in one
/// piece; what is over would travel as a small one of its own.
pub(super) const READ: usize = 64 * 1024 - 256;
/// Memory in which one connection's bytes are read, deciphered and enciphered.
pub(super) const SCRATCH: usize = READ + MAX_PARTIAL;
/// Unread input is held back in the kernel beyond this.
pub(super) const INPUT_HIGH: usize = 64 * 1024;
/// The same while memory is short; the largest head and the largest frame still fit.
pub(super) const INPUT_LOW: usize = MAX_REQUEST_HEAD + 4 * 1024;
/// Output waiting for a slow peer; beyond it the other side is not read.
pub(super) const OUTPUT_HIGH: usize = 128 * 1024;
/// Bytes that one connection may move before others have their turn.
pub(super) const TURN_BYTES: usize = 512 * 1024;
/// Handshakes that may be worked on in one turn: each costs as much as ten requests.
pub(super) const HANDSHAKES_A_TURN: usize = 4;
/// Connections accepted in one turn.
pub(super) const ACCEPTS_A_TURN: usize = 16;
/// The last places are kept for addresses that hold few: so the owner gets in while one address
/// fills the box.
pub(super) const RESERVED: usize = 64;
/// How many connections an address may hold to have one of the reserved places: a browser's six
/// and two to spare.
pub(super) const FEW: usize = 8;
/// How many idle connections are given up at once when places run out.
pub(super) const SHED_AT_ONCE: usize = 32;
/// Before a refused connect is tried once more: a listener's full backlog empties in less.
pub(super) const REDIAL_PAUSE: Duration = Duration::from_millis(100);
/// The most that is read and thrown away while a client takes its last answer.
pub(super) const LINGER_BYTES: usize = 1024 * 1024;

const _: () = assert!(OVERHEAD <= MAX_PARTIAL, "what is enciphered must fit too");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_few_descriptors_takes_few_clients() {
        let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let greedy = Limits {
            connections: usize::MAX,
            ..Limits::default()
        };
        let clients = greedy.within_descriptors().connections as u64;
        assert!(clients >= 1 && clients <= open / 2, "{clients} of {open}");
        let modest = Limits {
            connections: 1,
            ..Limits::default()
        };
        assert_eq!(modest.within_descriptors().connections, 1);
    }
}
