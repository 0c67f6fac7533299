//! Keeps the packet filter in force: applies it, hears whether it took, tries again, and puts it back
//! when somebody removes or changes it.

use std::{os::fd::AsRawFd as _, time::Duration};

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::{io::Errno, net::netlink::NETFILTER};

use super::{
    clock::Now,
    netlink::{
        Frame, frames,
        socket::{Received, Socket},
    },
    nft::{self, Batch, Ownership, Rules, Verdict},
    status::FilterStatus,
};

/// One table of the filter's and its way into the kernel.
#[derive(Debug)]
pub(crate) struct Filter<R> {
    socket: Option<Socket>,
    token: Token,
    sequence: u32,
    wanted: Option<R>,
    ownership: Ownership,
    /// Whether the table in force may not be the last one of ours.
    anew: bool,
    state: State,
    tries: u32,
    /// Until then what somebody changes is not put right at once: he may be about to change more.
    patient_until: Now,
}

#[derive(Debug)]
enum State {
    /// To be applied then.
    Due(Now, Option<String>),
    /// Applied, if the kernel says so by then.
    Applying(Batch, Now),
    Applied,
}

impl<R: Rules> Filter<R> {
    /// A filter that does not yet know what is wanted; its socket's events have `token`.
    pub(crate) fn new(token: Token) -> Self {
        Self {
            socket: None,
            token,
            sequence: 0,
            wanted: None,
            ownership: Ownership::Ours,
            anew: true,
            state: State::Applied,
            tries: 0,
            patient_until: Duration::ZERO,
        }
    }

    /// What should be in force.
    pub(crate) fn want(&mut self, now: Now, rules: R) {
        let wanted = rules.is_needed().then_some(rules);
        if self.wanted != wanted {
            self.wanted = wanted;
            self.tries = 0;
            self.state = State::Due(now, None);
        }
    }

    /// Applies what is due.
    pub(crate) fn tick(&mut self, now: Now, registry: &Registry) {
        match &self.state {
            State::Due(at, _) if *at <= now => {
                if let Err(errno) = self.apply(now, registry) {
                    self.failed(now, &Verdict::Refused(errno, "the connection"));
                }
            }
            State::Applying(_, until) if *until <= now => {
                self.failed(now, &Verdict::Refused(Errno::TIMEDOUT, "the transaction"));
            }
            State::Due(..) | State::Applying(..) | State::Applied => {}
        }
    }

    /// Takes in what has arrived. True if there may be more.
    pub(crate) fn receive(&mut self, now: Now) -> bool {
        for _ in 0..BURST {
            let Some(socket) = &mut self.socket else {
                return false;
            };
            let bytes = match socket.receive() {
                Ok(Received::Empty) => return false,
                Ok(Received::Stranger) => continue,
                Ok(Received::Frames(bytes)) => bytes.to_vec(),
                // What was lost may have been the table's removal.
                Ok(Received::Lost) => {
                    self.anew = true;
                    self.state = State::Due(now, None);
                    continue;
                }
                Err(errno) => {
                    self.failed(now, &Verdict::Refused(errno, "the connection"));
                    return false;
                }
            };
            self.hear(now, &bytes);
        }
        true
    }

    /// Takes in a datagram of the kernel's.
    pub(crate) fn hear(&mut self, now: Now, datagram: &[u8]) {
        for frame in frames(datagram) {
            self.take(now, &frame);
        }
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match &self.state {
            State::Due(at, _) => Some(*at),
            State::Applying(_, until) => Some(*until),
            State::Applied => None,
        }
    }

    /// How it stands.
    pub(crate) fn status(&self) -> FilterStatus {
        match (&self.state, &self.wanted) {
            (State::Applied, Some(_)) => FilterStatus::Applied,
            (State::Due(_, Some(why)), Some(_)) => FilterStatus::Failed(why.clone()),
            (State::Due(_, None) | State::Applying(..), Some(_)) => FilterStatus::Pending,
            (_, None) => FilterStatus::Off,
        }
    }

    /// The rules as text, while they are in force.
    pub(crate) fn rules(&self) -> Vec<String> {
        match (&self.state, &self.wanted) {
            (State::Applied, Some(rules)) => rules.listing(),
            _ => Vec::new(),
        }
    }

    /// Wants this, and waits for the kernel's answer to it.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn begin(&mut self, now: Now, rules: R) {
        self.want(now, rules);
        let batch = self.batch();
        self.state = State::Applying(batch, now + ANSWER_WITHIN);
    }

    fn batch(&mut self) -> Batch {
        let first = self.sequence.wrapping_add(1);
        self.sequence = first.wrapping_add(nft::FRAMES_MAX);
        match &self.wanted {
            Some(rules) => Batch::replace(rules, self.ownership, self.anew, first),
            None => Batch::remove::<R>(first),
        }
    }

    fn apply(&mut self, now: Now, registry: &Registry) -> Result<(), Errno> {
        let batch = self.batch();
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open(self.token, registry)?),
        };
        socket.send(&batch.bytes)?;
        self.state = State::Applying(batch, now + ANSWER_WITHIN);
        Ok(())
    }

    fn take(&mut self, now: Now, frame: &Frame<'_>) {
        match &mut self.state {
            State::Applying(batch, _) => match batch.answered(frame) {
                Some(Verdict::Applied) => {
                    self.tries = 0;
                    self.anew = self.wanted.is_none();
                    self.state = State::Applied;
                }
                Some(Verdict::Refused(_, nft::OWNED_TABLE)) => {
                    self.ownership = Ownership::Everybodys;
                    self.state = State::Due(now, None);
                }
                Some(refused @ Verdict::Refused(..)) => self.failed(now, &refused),
                None => {}
            },
            // Our own changes are told before they are acknowledged.
            State::Applied if self.wanted.is_some() && nft::tells_of_ours::<R>(frame) => {
                self.anew = true;
                self.state = State::Due(self.patient_until.max(now), None);
                self.patient_until = now.max(self.patient_until) + REPAIR_PAUSE;
            }
            State::Applied | State::Due(..) => {}
        }
    }

    fn failed(&mut self, now: Now, verdict: &Verdict) {
        let pause = RETRY_FIRST * (1 << self.tries.min(RETRY_DOUBLINGS_MAX));
        self.tries = self.tries.saturating_add(1);
        self.socket = None;
        self.anew = true;
        self.state = State::Due(now + pause, Some(sentence::<R>(verdict)));
    }
}

fn open(token: Token, registry: &Registry) -> Result<Socket, Errno> {
    let socket = Socket::open(Some(NETFILTER), GROUPS)?;
    registry
        .register(
            &mut SourceFd(&socket.as_raw_fd()),
            token,
            Interest::READABLE,
        )
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(socket)
}

fn sentence<R: Rules>(verdict: &Verdict) -> String {
    let without = R::WITHOUT;
    match verdict {
        Verdict::Applied => String::new(),
        Verdict::Refused(Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::NOENT, what) => format!(
            "{without}: the kernel lacks nf_tables or a part of it (for {what}). It is tried again, in \
             case a module is still being loaded."
        ),
        Verdict::Refused(errno, what) => {
            format!("{without}: the kernel refused {what} ({errno}). It is tried again.")
        }
    }
}

/// NFNLGRP_NFTABLES as a mask.
const GROUPS: u32 = 1 << 6;

/// Datagrams taken before others have their turn.
const BURST: usize = 64;

/// The kernel answers within the call; this is for the answer that was dropped.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// From one repair to the next: nobody who changes it again and again keeps `net` from its work.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);

const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Up to 64 s.
const RETRY_DOUBLINGS_MAX: u32 = 6;

#[cfg(test)]
mod tests {
    use super::{
        super::{config::NetConfig, netlink::Request, nft::Policy},
        *,
    };

    fn filter() -> Filter<Policy> {
        let mut filter = Filter::new(Token(0));
        filter.want(Duration::ZERO, Policy::of(&NetConfig::default()));
        filter
    }

    fn hear(filter: &mut Filter<Policy>, now: Now, request: Request) {
        let bytes = request.numbered(0);
        let frame = frames(&bytes).next().expect("a frame");
        filter.take(now, &frame);
    }

    #[test]
    fn a_kernel_without_nf_tables_is_told_plainly_and_asked_ever_more_rarely() {
        let mut filter = filter();
        let mut now = Duration::ZERO;
        for _ in 0..20 {
            now = filter.deadline().expect("another try");
            filter.failed(
                now,
                &Verdict::Refused(Errno::PROTONOSUPPORT, "the connection"),
            );
        }
        assert_eq!(filter.deadline(), Some(now + Duration::from_secs(64)));
        let FilterStatus::Failed(why) = filter.status() else {
            panic!("{:?}", filter.status());
        };
        assert!(why.contains("nf_tables") && why.ends_with('.'), "{why}");
    }

    #[test]
    fn the_removal_of_our_table_is_repaired_and_that_of_others_is_not() {
        let mut filter = filter();
        filter.state = State::Applied;
        hear(&mut filter, Duration::ZERO, nft::tests::removal("theirs"));
        assert_eq!(filter.status(), FilterStatus::Applied);
        let now = Duration::from_secs(100);
        hear(&mut filter, now, nft::tests::removal("pilot"));
        assert_eq!(filter.status(), FilterStatus::Pending);
        assert_eq!(filter.deadline(), Some(now), "at once");
        filter.state = State::Applied;
        hear(&mut filter, now, nft::tests::removal("pilot"));
        assert_eq!(filter.deadline(), Some(now + REPAIR_PAUSE), "not again");
    }

    #[test]
    fn a_kernel_without_owners_of_tables_is_given_one_without() {
        let mut filter = filter();
        filter.begin(Duration::ZERO, Policy::of(&NetConfig::default()));
        let refused = -Errno::OPNOTSUPP.raw_os_error();
        // After the beginning, and the old table made and deleted.
        let bytes = Request::new(2, 0, &refused.to_ne_bytes()).numbered(4);
        filter.hear(Duration::from_secs(1), &bytes);
        assert_eq!(filter.deadline(), Some(Duration::from_secs(1)));
        assert_eq!(filter.status(), FilterStatus::Pending);
        assert_eq!(filter.ownership, Ownership::Everybodys);
    }

    #[test]
    fn what_nobody_wants_is_off() {
        let mut filter = filter();
        filter.want(Duration::ZERO, Policy::default());
        assert_eq!(filter.status(), FilterStatus::Off);
    }
}
