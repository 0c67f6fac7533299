//! The conversation with rtnetlink: reads the kernel's state out, follows it, and asks for changes.
//!
//! Requests are acted on within `send`, under the kernel's own lock; nothing here waits for an
//! answer. When messages were lost, everything is read again.

use std::{collections::BTreeMap, os::fd::AsRawFd, os::fd::RawFd, time::Duration};

use rustix::io::Errno;

use super::{
    change::Change,
    clock::Now,
    kernel::{self, Kernel},
    netlink::{
        DONE, DUMP, DUMP_INTERRUPTED, Frame, Request, frames,
        socket::{Received, Socket},
    },
};

/// The kernel's network: what is known of it, and what was asked of it.
#[derive(Debug)]
pub(crate) struct Rtnl {
    socket: Socket,
    kernel: Kernel,
    sequence: u32,
    reading: Reading,
    /// From which part to read again when the present part is done: the kernel gives a socket one
    /// part at a time.
    stale: Option<usize>,
    /// Changes asked for and not yet answered, by their number.
    pending: BTreeMap<u32, Change>,
    refused: Vec<(Change, Refusal)>,
    /// When the oldest unanswered question was asked.
    asked_at: Option<Now>,
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
    tries: u32,
    retry_at: Now,
}

impl Rtnl {
    /// Opens the socket and begins to read.
    pub(crate) fn open(now: Now) -> Result<Self, Errno> {
        let mut rtnl = Self {
            socket: Socket::open(None, kernel::GROUPS)?,
            kernel: Kernel::default(),
            sequence: 0,
            reading: Reading::Done,
            stale: None,
            pending: BTreeMap::new(),
            refused: Vec::new(),
            asked_at: None,
        };
        rtnl.read_from(now, LINKS)?;
        Ok(rtnl)
    }

    /// Takes in what has arrived. True if there may be more.
    pub(crate) fn receive(&mut self, now: Now) -> Result<bool, Errno> {
        for _ in 0..BURST {
            let bytes = match self.socket.receive()? {
                Received::Empty => return Ok(false),
                Received::Stranger => continue,
                Received::Frames(bytes) => bytes.to_vec(),
                Received::Lost => {
                    self.pending.clear();
                    self.read_from(now, LINKS)?;
                    continue;
                }
            };
            for frame in frames(&bytes) {
                self.take(now, &frame)?;
            }
        }
        Ok(true)
    }

    /// Asks for those changes that were not refused just now.
    pub(crate) fn ask(&mut self, now: Now, changes: &[Change]) -> Result<(), Errno> {
        self.refused.retain(|(change, _)| changes.contains(change));
        for change in changes {
            let waiting = |(refused, refusal): &(Change, Refusal)| {
                refused == change && refusal.retry_at > now
            };
            if self.refused.iter().any(waiting) {
                continue;
            }
            let sequence = self.next();
            self.socket
                .send(&change.request(now).acknowledged(sequence))?;
            self.pending.insert(sequence, change.clone());
            self.asked_at.get_or_insert(now);
        }
        Ok(())
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

    /// The changes that the kernel would not make.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = &(Change, Refusal)> {
        self.refused.iter()
    }

    /// Reads from this part on, now or when the present part is done.
    fn read_from(&mut self, now: Now, part: usize) -> Result<(), Errno> {
        match self.reading {
            Reading::Part(..) => {
                self.stale = Some(self.stale.map_or(part, |stale| stale.min(part)));
                Ok(())
            }
            Reading::Done => self.read_part(now, part),
        }
    }

    fn read_part(&mut self, now: Now, part: usize) -> Result<(), Errno> {
        let part = self.stale.take().map_or(part, |stale| stale.min(part));
        let Some((kind, header_len)) = PARTS.get(part) else {
            self.reading = Reading::Done;
            self.asked_at = self.asked_at.filter(|_| !self.pending.is_empty());
            return Ok(());
        };
        match part {
            LINKS => self.kernel = Kernel::default(),
            ROUTES => self.kernel.routes.clear(),
            _ => self.kernel.addresses.clear(),
        }
        let sequence = self.next();
        self.reading = Reading::Part(part, sequence);
        self.asked_at = Some(now);
        let header = vec![kernel::UNSPECIFIED; *header_len];
        self.socket
            .send(&Request::new(*kind, DUMP, &header).numbered(sequence))
    }

    fn take(&mut self, now: Now, frame: &Frame<'_>) -> Result<(), Errno> {
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
            return Ok(());
        }
        self.kernel.learn(now, frame);
        // With its last address, or set down, a link loses its routes, of which nothing is said.
        if self.kernel.may_have_lost_routes(frame) {
            self.read_from(now, ROUTES)?;
        }
        Ok(())
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

impl AsRawFd for Rtnl {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What is read out, in this order: requests and the length of their headers.
const PARTS: [(u16, usize); 3] = [
    (kernel::GET_LINK, kernel::LINK_HEADER_LEN),
    (kernel::GET_ADDRESS, kernel::ADDRESS_HEADER_LEN),
    (kernel::GET_ROUTE, kernel::ROUTE_HEADER_LEN),
];

/// The parts by their place above.
const LINKS: usize = 0;
const ROUTES: usize = 2;

/// Datagrams taken before others have their turn.
const BURST: usize = 64;

/// The kernel answers within the call; this is for the answer that was dropped.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Up to 64 s.
const RETRY_DOUBLINGS_MAX: u32 = 6;

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread};

    use super::*;

    /// Reading needs no privilege; the kernel asked is this machine's own.
    fn settle(rtnl: &mut Rtnl) {
        for _ in 0..500 {
            rtnl.receive(Duration::ZERO).expect("the kernel answers");
            if rtnl.settled().is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it is never settled: {rtnl:?}");
    }

    #[test]
    fn a_reading_that_is_asked_for_amid_another_comes_after_it() {
        let mut rtnl = Rtnl::open(Duration::ZERO).expect("a socket");
        for part in [ROUTES, LINKS, ROUTES] {
            rtnl.read_from(Duration::ZERO, part).expect("taken");
        }
        assert!(rtnl.settled().is_none());
        settle(&mut rtnl);
        assert_eq!(
            rtnl.sequence, 4,
            "one part was dropped for the three that followed"
        );
        let kernel = rtnl.settled().expect("settled");
        assert!(kernel.links.values().any(|link| link.loopback));
        assert_eq!(rtnl.deadline(), None);
    }

    #[test]
    fn a_change_that_is_refused_is_told_and_waits_longer_each_time() {
        let mut rtnl = Rtnl::open(Duration::ZERO).expect("a socket");
        settle(&mut rtnl);
        // On a link that no machine has: refused with and without privilege.
        let change = Change::RemoveAddress {
            link: 0x7fff_fff0,
            ip: Ipv4Addr::LOCALHOST,
            prefix: 8,
        };
        for tries in 1..4 {
            let now = rtnl.deadline().unwrap_or_default();
            rtnl.ask(now, std::slice::from_ref(&change)).expect("sent");
            settle(&mut rtnl);
            let (_, refusal) = rtnl.refusals().next().expect("refused");
            assert_eq!(refusal.tries, tries);
        }
        let before = rtnl.sequence;
        rtnl.ask(Duration::ZERO, std::slice::from_ref(&change))
            .expect("nothing to send");
        assert_eq!(rtnl.sequence, before, "its time has not come");
        rtnl.ask(Duration::ZERO, &[]).expect("nothing to send");
        assert_eq!(rtnl.refusals().count(), 0, "nobody wants it any more");
    }

    #[test]
    fn an_answer_that_never_comes_ends_the_conversation() {
        let rtnl = Rtnl::open(Duration::ZERO).expect("a socket");
        assert!(rtnl.tick(ANSWER_WITHIN / 2).is_ok());
        assert_eq!(rtnl.tick(ANSWER_WITHIN), Err(Errno::TIMEDOUT));
    }
}
