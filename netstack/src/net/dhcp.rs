//! The DHCPv4 client (RFC 2131) as a state machine: messages and the time go in, messages and the
//! next deadline come out. It has no socket and no clock, so a week of renewals is a unit test.
//!
//! It must never give up and never panic: whatever arrives, or does not, it is on its way to a
//! lease. A lease it holds is kept until it ends or a server takes it back, also while the cable is
//! out or the server silent: an address that still is ours is better than none.

pub(crate) mod lease;
pub(crate) mod message;
mod rivals;
pub(crate) mod routes;
#[cfg(test)]
mod simulation;

use std::{net::Ipv4Addr, time::Duration};

use lease::Lease;
use message::{Kind, Message, Options};
use rivals::Rivals;

use super::{clock::Now, frame::Mac, random::Random};

/// A client on one link.
#[derive(Debug)]
pub(crate) struct Client {
    mac: Mac,
    hostname: Option<String>,
    random: Random,
    state: State,
    /// The lease held: confirmed or, before a server has said so, still believed in.
    lease: Option<Lease>,
    transaction: u32,
    /// When this transaction began.
    began: Now,
    /// When the request was last sent: the grant counts from here.
    asked_at: Now,
    /// Refusals since the last lease.
    refusals: u32,
    /// Addresses declined since the last one that nobody disputed.
    declined: u32,
    /// Who answered when servers were last looked for.
    rivals: Rivals,
    outgoing: Option<Transmit>,
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub(crate) source: Ipv4Addr,
    /// The server; none is every station.
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) message: Vec<u8>,
}

/// The states of RFC 2131, figure 5. INIT and INIT-REBOOT are passed through at once.
#[derive(Debug)]
enum State {
    /// No carrier.
    Idle,
    /// Looking for servers.
    Selecting {
        retry: Retry,
    },
    /// Asking for what a server offered.
    Requesting {
        offer: Box<Lease>,
        retry: Retry,
    },
    /// Asking whether the lease of before still holds.
    Rebooting {
        retry: Retry,
    },
    Bound,
    /// Asking the server for more time.
    Renewing {
        next: Now,
    },
    /// Asking any server for more time.
    Rebinding {
        next: Now,
    },
}

/// The times of repetition: 4 s, doubling up to 64 s, each a second more or less (RFC 2131, 4.1).
#[derive(Clone, Copy, Debug)]
struct Retry {
    sent: u32,
    next: Now,
}

impl Client {
    /// A client that waits for [`carrier`](Self::carrier).
    pub(crate) fn new(mac: Mac, hostname: Option<String>, random: Random) -> Self {
        Self {
            mac,
            hostname,
            random,
            state: State::Idle,
            lease: None,
            transaction: 0,
            began: Now::ZERO,
            asked_at: Now::ZERO,
            refusals: 0,
            declined: 0,
            rivals: Rivals::default(),
            outgoing: None,
        }
    }

    /// Believes in a lease that the kernel has from a predecessor, until a server denies it.
    pub(crate) fn adopt(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// The link's carrier came or went.
    pub(crate) fn carrier(&mut self, now: Now, present: bool) {
        match (&self.state, present) {
            (State::Idle, true) if self.lease.is_some() => self.reboot(now),
            (State::Idle, true) => self.discover(now, Duration::ZERO),
            (State::Idle, false) => {}
            (_, true) => {}
            (_, false) => {
                self.state = State::Idle;
                self.rivals.begin();
                self.outgoing = None;
            }
        }
    }

    /// A message arrived. What is not for us, or makes no sense now, changes nothing.
    pub(crate) fn receive(&mut self, now: Now, bytes: &[u8]) {
        let Some(message) = Message::parse(bytes) else {
            return;
        };
        let ours =
            message.reply && message.transaction == self.transaction && message.mac == self.mac;
        let (true, Some(kind)) = (ours, message.kind()) else {
            return;
        };
        match kind {
            Kind::Offer => self.offered(now, &message),
            Kind::Ack => self.granted(now, &message),
            Kind::Nak => self.refused(now, &message),
            Kind::Discover | Kind::Request | Kind::Decline | Kind::Release | Kind::Inform => {}
        }
    }

    /// The deadline has come; earlier calls do nothing.
    pub(crate) fn tick(&mut self, now: Now) {
        self.rivals.tick(now);
        if self.expires().is_some_and(|end| end <= now) {
            self.lease = None;
            if !matches!(self.state, State::Idle | State::Selecting { .. }) {
                self.discover(now, Duration::ZERO);
            }
        }
        match self.state {
            State::Idle => {}
            State::Selecting { retry } if retry.next <= now => self.discover_again(now, retry),
            State::Requesting { retry, .. } if retry.next <= now => {
                if retry.sent < REQUEST_TRIES {
                    self.request_again(now);
                } else {
                    self.discover(now, Duration::ZERO);
                }
            }
            State::Rebooting { retry } if retry.next <= now => {
                if retry.sent < REBOOT_TRIES {
                    self.reboot_again(now, retry);
                } else {
                    self.discover(now, Duration::ZERO);
                }
            }
            State::Bound if self.renew_at().is_some_and(|at| at <= now) => {
                self.begin(now);
                self.extend(now);
            }
            State::Renewing { next } | State::Rebinding { next } if next <= now => self.extend(now),
            State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Bound
            | State::Renewing { .. }
            | State::Rebinding { .. } => {}
        }
    }

    /// Takes the message to send, if there is one.
    pub(crate) fn transmit(&mut self) -> Option<Transmit> {
        self.outgoing.take()
    }

    /// Gives the lease back: the message for its server. The client is idle then.
    pub(crate) fn release(&mut self, now: Now) -> Option<Transmit> {
        let lease = self.lease.take()?;
        self.state = State::Idle;
        self.rivals.begin();
        let server = lease.server?;
        self.begin(now);
        let options = self
            .options(Kind::Release)
            .with(message::SERVER, &server.octets());
        Some(Transmit {
            source: lease.address,
            server: Some(server),
            message: self.message(now, lease.address, options),
        })
    }

    /// Another host has the address of the lease: tells the server, and looks for another address
    /// after a pause (RFC 2131, 3.1.5).
    pub(crate) fn decline(&mut self, now: Now) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        let pause = DECLINE_PAUSE * (1 << self.declined.min(DECLINE_DOUBLINGS_MAX));
        self.declined = self.declined.saturating_add(1);
        self.discover(now, pause);
        let mut options = self
            .options(Kind::Decline)
            .with(message::REQUESTED_ADDRESS, &lease.address.octets());
        if let Some(server) = lease.server {
            options = options.with(message::SERVER, &server.octets());
        }
        self.broadcast(now, Ipv4Addr::UNSPECIFIED, options);
    }

    /// The network may be another one than the lease's: asks whether it still holds, and keeps it
    /// until a server says that it does not (RFC 2131, 3.2).
    pub(crate) fn doubt(&mut self, now: Now) {
        if self.confirmed() {
            self.reboot(now);
        }
    }

    /// Nobody disputes the address of the lease.
    pub(crate) fn undisputed(&mut self) {
        self.declined = 0;
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let step = match &self.state {
            State::Idle => None,
            State::Selecting { retry }
            | State::Requesting { retry, .. }
            | State::Rebooting { retry } => Some(retry.next),
            State::Bound => self.renew_at(),
            State::Renewing { next } | State::Rebinding { next } => Some(*next),
        };
        let listening = self.rivals.deadline();
        step.into_iter()
            .chain(self.expires())
            .chain(listening)
            .min()
    }

    /// The lease to live by.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Who else gives leases on this link, with other settings, as a sentence.
    pub(crate) fn rivals(&self) -> Option<String> {
        self.rivals
            .told(self.lease.as_ref().filter(|_| self.confirmed())?)
    }

    /// Whether a server on this link has granted the lease, rather than one of before.
    pub(crate) fn confirmed(&self) -> bool {
        match self.state {
            State::Bound | State::Renewing { .. } | State::Rebinding { .. } => true,
            State::Idle
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { .. } => false,
        }
    }

    /// Whether answers may come to an address that the link does not have yet, or to none.
    pub(crate) fn needs_raw_frames(&self) -> bool {
        match self.state {
            State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Rebinding { .. } => true,
            State::Bound => self.rivals.deadline().is_some(),
            State::Idle | State::Renewing { .. } => false,
        }
    }

    /// Whether answers come to the lease's own address and port.
    pub(crate) fn needs_datagrams(&self) -> bool {
        matches!(self.state, State::Renewing { .. })
    }

    fn offered(&mut self, now: Now, message: &Message) {
        let Some(offer) = Lease::from_message(message, now) else {
            return;
        };
        match self.state {
            State::Selecting { .. } | State::Requesting { .. } => self.rivals.note(now, &offer),
            State::Bound if self.rivals.deadline().is_some() => self.rivals.note(now, &offer),
            State::Idle
            | State::Rebooting { .. }
            | State::Bound
            | State::Renewing { .. }
            | State::Rebinding { .. } => return,
        }
        let State::Selecting { .. } = self.state else {
            return;
        };
        self.state = State::Requesting {
            offer: Box::new(offer),
            retry: Retry { sent: 0, next: now },
        };
        self.request_again(now);
    }

    fn granted(&mut self, now: Now, message: &Message) {
        let Some(lease) = Lease::from_message(message, self.asked_at) else {
            return;
        };
        let at_once = message.options.bytes(message::RAPID_COMMIT).is_some();
        match &self.state {
            State::Requesting { offer, .. } if offer.server != lease.server => return,
            // The answer to the search itself (RFC 4039).
            State::Selecting { retry } if at_once && retry.sent > 0 => {
                self.rivals.note(now, &lease);
            }
            State::Requesting { .. }
            | State::Rebooting { .. }
            | State::Renewing { .. }
            | State::Rebinding { .. } => {}
            State::Bound if at_once && self.rivals.deadline().is_some() => {
                return self.rivals.note(now, &lease);
            }
            State::Idle | State::Selecting { .. } | State::Bound => return,
        }
        if lease.expires.is_some_and(|end| end <= now) {
            return;
        }
        self.lease = Some(lease);
        self.refusals = 0;
        self.state = State::Bound;
    }

    fn refused(&mut self, now: Now, message: &Message) {
        let server = message.options.address(message::SERVER);
        match &self.state {
            State::Requesting { offer, .. } if offer.server != server => return,
            // The offer is void; a lease of before is not.
            State::Requesting { .. } => {}
            State::Rebooting { .. } | State::Renewing { .. } | State::Rebinding { .. } => {
                self.lease = None;
            }
            State::Idle | State::Selecting { .. } | State::Bound => return,
        }
        // A server that offers and refuses in turn must not keep the box busy.
        let pause = match self.refusals {
            0 => Duration::ZERO,
            n => Duration::from_secs(1 << n.min(RETRY_DOUBLINGS_MAX + 2)),
        };
        self.refusals = self.refusals.saturating_add(1);
        self.discover(now, pause);
    }

    /// Looks for servers, after a pause.
    fn discover(&mut self, now: Now, pause: Duration) {
        self.begin(now);
        self.rivals.begin();
        self.outgoing = None;
        let retry = Retry {
            sent: 0,
            next: now + pause,
        };
        self.state = State::Selecting { retry };
        if pause.is_zero() {
            self.discover_again(now, retry);
        }
    }

    fn discover_again(&mut self, now: Now, retry: Retry) {
        let mut options = self
            .options(Kind::Discover)
            .with(message::RAPID_COMMIT, &[]);
        if let Some(lease) = &self.lease {
            options = options.with(message::REQUESTED_ADDRESS, &lease.address.octets());
        }
        self.broadcast(now, Ipv4Addr::UNSPECIFIED, options);
        let retry = retry.after(now, &mut self.random);
        self.state = State::Selecting { retry };
    }

    fn request_again(&mut self, now: Now) {
        let State::Requesting { offer, retry } = &mut self.state else {
            return;
        };
        *retry = retry.after(now, &mut self.random);
        let (address, server) = (offer.address, offer.server);
        let server = server.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let options = self
            .options(Kind::Request)
            .with(message::REQUESTED_ADDRESS, &address.octets())
            .with(message::SERVER, &server.octets());
        self.broadcast(now, Ipv4Addr::UNSPECIFIED, options);
    }

    fn reboot(&mut self, now: Now) {
        self.begin(now);
        self.reboot_again(now, Retry { sent: 0, next: now });
    }

    fn reboot_again(&mut self, now: Now, retry: Retry) {
        let Some(lease) = &self.lease else {
            return self.discover(now, Duration::ZERO);
        };
        let wanted = lease.address.octets();
        let options = self
            .options(Kind::Request)
            .with(message::REQUESTED_ADDRESS, &wanted);
        self.broadcast(now, Ipv4Addr::UNSPECIFIED, options);
        let retry = retry.after(now, &mut self.random);
        self.state = State::Rebooting { retry };
    }

    /// Asks for more time: the lease's server or, late, any. Repeats after half of what is left,
    /// not sooner than a minute (RFC 2131, 4.4.5).
    fn extend(&mut self, now: Now) {
        let Some(lease) = &self.lease else {
            return self.discover(now, Duration::ZERO);
        };
        let rebinding = lease.rebind_at.is_none_or(|at| at <= now);
        let end = if rebinding {
            lease.expires
        } else {
            lease.rebind_at
        }
        .unwrap_or(Now::MAX);
        let half = end.saturating_sub(now) / 2;
        let next = end.min(now + half.max(EXTEND_PAUSE));
        let (address, server) = (lease.address, lease.server);
        self.state = if rebinding {
            State::Rebinding { next }
        } else {
            State::Renewing { next }
        };
        self.asked_at = now;
        let options = self.options(Kind::Request);
        self.outgoing = Some(Transmit {
            source: address,
            server: server.filter(|_| !rebinding),
            message: self.message(now, address, options),
        });
    }

    fn begin(&mut self, now: Now) {
        self.transaction = self.random.next() as u32;
        self.began = now;
    }

    fn broadcast(&mut self, now: Now, client: Ipv4Addr, options: Options) {
        self.asked_at = now;
        self.outgoing = Some(Transmit {
            source: client,
            server: None,
            message: self.message(now, client, options),
        });
    }

    fn message(&self, now: Now, client: Ipv4Addr, options: Options) -> Vec<u8> {
        let seconds = now.saturating_sub(self.began).as_secs();
        let message = Message {
            reply: false,
            transaction: self.transaction,
            seconds: u16::try_from(seconds).unwrap_or(u16::MAX),
            client,
            yours: Ipv4Addr::UNSPECIFIED,
            mac: self.mac,
            options,
        };
        message.encode()
    }

    fn options(&self, kind: Kind) -> Options {
        let identity = [&[1][..], &self.mac].concat();
        let options = Options::of(kind).with(message::CLIENT_ID, &identity);
        if matches!(kind, Kind::Decline | Kind::Release) {
            return options;
        }
        let options = options
            .with(message::PARAMETERS, &WANTED)
            .with(message::MAX_SIZE, &MESSAGE_MAX.to_be_bytes());
        match &self.hostname {
            Some(name) => options.with(message::HOST_NAME, name.as_bytes()),
            None => options,
        }
    }

    fn renew_at(&self) -> Option<Now> {
        self.lease.as_ref()?.renew_at
    }

    fn expires(&self) -> Option<Now> {
        self.lease.as_ref()?.expires
    }
}

impl Retry {
    fn after(self, now: Now, random: &mut Random) -> Self {
        let pause = RETRY_FIRST * (1 << self.sent.min(RETRY_DOUBLINGS_MAX));
        let jitter = RETRY_JITTER;
        Self {
            sent: self.sent.saturating_add(1),
            next: now + random.between(pause - jitter, pause + jitter),
        }
    }
}

/// What a lease should tell (option 55), most wanted first; routes before the router (RFC 3442).
const WANTED: [u8; 11] = [
    message::SUBNET_MASK,
    message::CLASSLESS_ROUTES,
    message::ROUTER,
    message::DNS,
    message::DOMAIN_NAME,
    message::DOMAIN_SEARCH,
    message::HOST_NAME,
    message::NTP,
    message::MTU,
    message::RENEWAL_TIME,
    message::REBINDING_TIME,
];

/// What fits an Ethernet frame whole.
const MESSAGE_MAX: u16 = 1472;

const RETRY_FIRST: Duration = Duration::from_secs(4);
const RETRY_JITTER: Duration = Duration::from_secs(1);
/// Up to 64 s.
const RETRY_DOUBLINGS_MAX: u32 = 4;

/// 4, 8, 16 and 32 s: the minute after which RFC 2131 (3.1.5) says to start over.
const REQUEST_TRIES: u32 = 4;

/// 4 and 8 s: then it is likelier that this is another network than that the server is slow.
const REBOOT_TRIES: u32 = 2;

/// The least that RFC 2131 (3.1.5) allows.
const DECLINE_PAUSE: Duration = Duration::from_secs(10);
/// Up to 320 s: whoever disputes every address must not have a message every 10 s for it.
const DECLINE_DOUBLINGS_MAX: u32 = 5;

/// The shortest pause between two requests for more time.
const EXTEND_PAUSE: Duration = Duration::from_secs(60);
