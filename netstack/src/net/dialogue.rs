//! The words of the conversation with rtnetlink, without the socket: datagrams and the time go in,
//! requests and the next deadline come out.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rustix::io::Errno;

use super::{
    change::Change,
    clock::Now,
    kernel::{self, Kernel},
    netlink::{DONE, DUMP, DUMP_INTERRUPTED, Frame, Request, frames},
    router::Announced,
};

/// What is known of the kernel's network, and what was asked of it.
#[derive(Debug)]
pub(crate) struct Dialogue {
    kernel: Kernel,
    announced: Announced,
    pub(super) sequence: u32,
    reading: Reading,
    /// From which part to read again when the present part is done: the kernel gives a socket one
    /// part at a time.
    stale: Option<usize>,
    /// Changes asked for and not yet answered, by their number.
    pending: BTreeMap<u32, Change>,
    refused: Vec<(Change, Refusal)>,
    /// When the oldest unanswered question was asked.
    asked_at: Option<Now>,
    /// Requests that are to be sent, in this order.
    outgoing: VecDeque<Vec<u8>>,
}

/// How far the kernel's state has been read out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// This part, by the number of its request.
    Part(usize, u32),
    Done,
}

/// A change that the kernel would not make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(super) tries: u32,
    retry_at: Now,
}

impl Dialogue {
    /// Begins to read.
    pub(crate) fn begin(now: Now) -> Self {
        let mut dialogue = Self {
            kernel: Kernel::default(),
            announced: Announced::default(),
            sequence: 0,
            reading: Reading::Done,
            stale: None,
            pending: BTreeMap::new(),
            refused: Vec::new(),
            asked_at: None,
            outgoing: VecDeque::new(),
        };
        dialogue.read_from(now, LINKS);
        dialogue
    }

    /// Takes in a datagram of the kernel's.
    pub(crate) fn hear(&mut self, now: Now, datagram: &[u8]) {
        for frame in frames(datagram) {
            self.take(now, &frame);
        }
    }

    /// Messages were lost, so everything is read again.
    pub(crate) fn lost(&mut self, now: Now) {
        self.pending.clear();
        self.read_from(now, LINKS);
    }

    /// Takes the next request to send.
    pub(crate) fn transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// Asks for those changes that were not refused just now.
    pub(crate) fn ask(&mut self, now: Now, changes: &[Change]) {
        self.refused.retain(|(change, _)| changes.contains(change));
        for change in changes {
            let waiting = |(refused, refusal): &(Change, Refusal)| {
                refused == change && refusal.retry_at > now
            };
            if self.refused.iter().any(waiting) {
                continue;
            }
            let sequence = self.next();
            let request = change.request(now).acknowledged(sequence);
            self.outgoing.push_back(request);
            self.pending.insert(sequence, change.clone());
            self.asked_at.get_or_insert(now);
        }
    }

    /// The deadline has come: without the answer, this conversation is over.
    pub(crate) fn tick(&self, now: Now) -> Result<(), Errno> {
        match self.asked_at {
            Some(at) if now.saturating_sub(at) >= ANSWER_WITHIN => Err(Errno::TIMEDOUT),
            _ => Ok(()),
        }
    }

    /// When [`tick`](Self::tick), or another try of a refused change, is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let answer = self.asked_at.map(|at| at + ANSWER_WITHIN);
        let retries = self.refused.iter().map(|(_, refusal)| refusal.retry_at);
        retries.chain(answer).min()
    }

    /// What is known, once all of it is and no change is under way.
    pub(crate) fn settled(&self) -> Option<&Kernel> {
        let settled = self.reading == Reading::Done && self.pending.is_empty();
        settled.then_some(&self.kernel)
    }

    /// What IPv6 routers have announced.
    pub(crate) fn announced(&self) -> &Announced {
        &self.announced
    }

    /// The changes that the kernel would not make.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = &(Change, Refusal)> {
        self.refused.iter()
    }

    /// The number of the oldest question that is open.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn oldest(&self) -> u32 {
        match self.reading {
            Reading::Part(_, sequence) => sequence,
            Reading::Done => self.pending.keys().next().copied().unwrap_or_default(),
        }
    }

    /// Reads from this part on, now or when the present part is done.
    pub(super) fn read_from(&mut self, now: Now, part: usize) {
        match self.reading {
            Reading::Part(..) => {
                self.stale = Some(self.stale.map_or(part, |stale| stale.min(part)));
            }
            Reading::Done => self.read_part(now, part),
        }
    }

    fn read_part(&mut self, now: Now, part: usize) {
        let part = self.stale.take().map_or(part, |stale| stale.min(part));
        let Some((kind, header_len)) = PARTS.get(part) else {
            self.reading = Reading::Done;
            self.asked_at = self.asked_at.filter(|_| !self.pending.is_empty());
            return;
        };
        match part {
            LINKS => self.kernel = Kernel::default(),
            ROUTES => {
                self.kernel.routes.clear();
                self.kernel.classless.clear();
                self.kernel.tables.clear();
            }
            RULES => self.kernel.rules.clear(),
            _ => self.kernel.addresses.clear(),
        }
        let sequence = self.next();
        self.reading = Reading::Part(part, sequence);
        self.asked_at = Some(now);
        let header = vec![kernel::UNSPECIFIED; *header_len];
        let request = Request::new(*kind, DUMP, &header).numbered(sequence);
        self.outgoing.push_back(request);
    }

    fn take(&mut self, now: Now, frame: &Frame<'_>) {
        if let Reading::Part(part, sequence) = self.reading
            && frame.sequence == sequence
        {
            if frame.flags & DUMP_INTERRUPTED != 0 {
                self.stale = Some(LINKS);
            }
            // A kernel without IPv6, say, refuses a part: what there is, is known then.
            if frame.kind == DONE || frame.verdict().is_some() {
                return self.read_part(now, part + 1);
            }
        }
        if let Some(verdict) = frame.verdict() {
            self.answered(now, frame.sequence, verdict);
            return;
        }
        self.kernel.learn(now, frame);
        self.announced.learn(now, frame);
        self.forget_unplugged();
        // With its last address, or set down, a link loses its routes, of which nothing is said.
        if self.kernel.may_have_lost_routes(frame) {
            self.read_from(now, ROUTES);
        }
    }

    /// A link without a carrier may be plugged in elsewhere, and one that is gone has no routers.
    fn forget_unplugged(&mut self) {
        // While the links are read, those not yet read are missing.
        if matches!(self.reading, Reading::Part(LINKS, _)) {
            return;
        }
        for link in self.announced.links() {
            let there = self.kernel.links.get(&link);
            if !there.is_some_and(|link| link.up && link.carrier) {
                self.announced.forget(link);
            }
        }
    }

    fn answered(&mut self, now: Now, sequence: u32, verdict: Result<(), Errno>) {
        let Some(change) = self.pending.remove(&sequence) else {
            return;
        };
        if self.pending.is_empty() && self.reading == Reading::Done {
            self.asked_at = None;
        }
        let before = self
            .refused
            .iter()
            .position(|(refused, _)| *refused == change);
        let before = before.map(|at| self.refused.swap_remove(at).1);
        match verdict {
            Ok(()) => self.kernel.made(&change),
            Err(errno) => {
                let tries = before.map_or(0, |refusal| refusal.tries);
                let pause = RETRY_FIRST * (1 << tries.min(RETRY_DOUBLINGS_MAX));
                let refusal = Refusal {
                    errno,
                    tries: tries + 1,
                    retry_at: now + pause,
                };
                self.refused.push((change, refusal));
            }
        }
    }

    fn next(&mut self) -> u32 {
        // Zero is what the kernel's own notifications carry.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }
}

/// What is read out, in this order: requests and the length of their headers.
const PARTS: [(u16, usize); 4] = [
    (kernel::GET_LINK, kernel::LINK_HEADER_LEN),
    (kernel::GET_ADDRESS, kernel::ADDRESS_HEADER_LEN),
    (kernel::GET_ROUTE, kernel::ROUTE_HEADER_LEN),
    (kernel::GET_RULE, kernel::RULE_HEADER_LEN),
];

/// The parts by their place above.
pub(super) const LINKS: usize = 0;
pub(super) const ROUTES: usize = 2;
const RULES: usize = 3;

/// The kernel answers within the call; this is for the answer that was dropped.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Up to 64 s.
const RETRY_DOUBLINGS_MAX: u32 = 6;
