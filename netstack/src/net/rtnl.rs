//! The conversation with rtnetlink: reads the kernel's state out, follows it, and asks for changes.
//!
//! Requests are acted on within `send`, under the kernel's own lock; nothing here waits for an
//! answer. When messages were lost, everything is read again.

use std::os::fd::{AsRawFd, RawFd};

use rustix::io::Errno;

use super::{
    change::Change,
    clock::Now,
    dialogue::{Dialogue, Refusal},
    kernel::{self, Kernel},
    netlink::socket::{Received, Socket},
    router::{self, Announced},
};

/// The kernel's network: what is known of it, and the way to it.
#[derive(Debug)]
pub(crate) struct Rtnl {
    socket: Socket,
    dialogue: Dialogue,
}

impl Rtnl {
    /// Opens the socket and begins to read.
    pub(crate) fn open(now: Now) -> Result<Self, Errno> {
        let mut rtnl = Self {
            socket: Socket::open(None, kernel::GROUPS | router::GROUP)?,
            dialogue: Dialogue::begin(now),
        };
        rtnl.send()?;
        Ok(rtnl)
    }

    /// Takes in what has arrived. True if there may be more.
    pub(crate) fn receive(&mut self, now: Now) -> Result<bool, Errno> {
        for _ in 0..BURST {
            match self.socket.receive()? {
                Received::Empty => return Ok(false),
                Received::Stranger => continue,
                Received::Frames(bytes) => self.dialogue.hear(now, bytes),
                Received::Lost => self.dialogue.lost(now),
            }
            self.send()?;
        }
        Ok(true)
    }

    /// Asks for those changes that were not refused just now.
    pub(crate) fn ask(&mut self, now: Now, changes: &[Change]) -> Result<(), Errno> {
        self.dialogue.ask(now, changes);
        self.send()
    }

    /// The deadline has come: without the answer, this conversation is over.
    pub(crate) fn tick(&self, now: Now) -> Result<(), Errno> {
        self.dialogue.tick(now)
    }

    /// When [`tick`](Self::tick), or another try of a refused change, is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.dialogue.deadline()
    }

    /// What is known, once all of it is and no change is under way.
    pub(crate) fn settled(&self) -> Option<&Kernel> {
        self.dialogue.settled()
    }

    /// What IPv6 routers have announced.
    pub(crate) fn announced(&self) -> &Announced {
        self.dialogue.announced()
    }

    /// The changes that the kernel would not make.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = &(Change, Refusal)> {
        self.dialogue.refusals()
    }

    fn send(&mut self) -> Result<(), Errno> {
        while let Some(request) = self.dialogue.transmit() {
            self.socket.send(&request)?;
        }
        Ok(())
    }
}

impl AsRawFd for Rtnl {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Datagrams taken before others have their turn.
const BURST: usize = 64;

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread, time::Duration};

    use super::{
        super::dialogue::{ANSWER_WITHIN, LINKS, ROUTES},
        *,
    };

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
            rtnl.dialogue.read_from(Duration::ZERO, part);
        }
        rtnl.send().expect("sent");
        assert!(rtnl.settled().is_none());
        settle(&mut rtnl);
        assert_eq!(
            rtnl.dialogue.sequence, 5,
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
        let before = rtnl.dialogue.sequence;
        rtnl.ask(Duration::ZERO, std::slice::from_ref(&change))
            .expect("nothing to send");
        assert_eq!(rtnl.dialogue.sequence, before, "its time has not come");
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
