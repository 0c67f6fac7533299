//! Whether another host has the address that DHCP gave (RFC 2131, 2.2; RFC 5227), asked while the
//! address is already in use: a box that waits for the answer is unreachable for seconds at each
//! start, and collisions are rare.
//!
//! Only while it asks does it hear ARP: no traffic of the LAN wakes a box at rest.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    clock::Now,
    frame::{Arp, Mac},
};

/// The question about one address.
#[derive(Debug)]
pub(crate) struct Question {
    mac: Mac,
    address: Ipv4Addr,
    sent: u32,
    next: Now,
    outgoing: Option<Arp>,
}

/// What came of a [`Question`] so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody has answered yet.
    Asking,
    /// Nobody has answered in time.
    Free,
}

impl Question {
    /// Begins to ask, at once.
    pub(crate) fn new(now: Now, mac: Mac, address: Ipv4Addr) -> Self {
        Self {
            mac,
            address,
            sent: 0,
            next: now,
            outgoing: None,
        }
    }

    /// The deadline has come; earlier calls do nothing.
    pub(crate) fn tick(&mut self, now: Now) -> Verdict {
        if self.next > now {
            return Verdict::Asking;
        }
        if self.sent == PROBES {
            return Verdict::Free;
        }
        self.sent += 1;
        self.next = now + PAUSE;
        // From no address: whoever hears it must not take it for a claim (RFC 5227, 1.1).
        self.outgoing = Some(Arp {
            request: true,
            sender_mac: self.mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target: self.address,
        });
        Verdict::Asking
    }

    /// Whether an ARP packet says that another host has the address.
    pub(crate) fn is_answered_by(&self, arp: &Arp) -> bool {
        arp.sender_mac != self.mac && arp.sender == self.address
    }

    /// The address in question.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Takes the packet to send, if there is one.
    pub(crate) fn transmit(&mut self) -> Option<Arp> {
        self.outgoing.take()
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Now {
        self.next
    }
}

/// As RFC 5227 (1.1) has it.
const PROBES: u32 = 3;

/// Between two packets and after the last: a host on the same link answers in milliseconds.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    #[test]
    fn it_asks_thrice_from_no_address_and_then_believes() {
        let mut question = Question::new(Now::ZERO, MAC, ADDRESS);
        let (mut sent, mut now) = (Vec::new(), Now::ZERO);
        while question.tick(now) == Verdict::Asking {
            sent.extend(question.transmit());
            now = question.deadline();
        }
        assert_eq!(sent.len(), 3);
        assert!(
            sent.iter()
                .all(|arp| arp.sender.is_unspecified() && arp.target == ADDRESS)
        );
        assert_eq!(now, Duration::from_secs(3));
    }

    #[test]
    fn only_another_host_that_has_the_address_answers() {
        let question = Question::new(Now::ZERO, MAC, ADDRESS);
        let arp = Arp {
            request: false,
            sender_mac: OTHER,
            sender: ADDRESS,
            target: Ipv4Addr::UNSPECIFIED,
        };
        assert!(question.is_answered_by(&arp));
        let ours = Arp {
            sender_mac: MAC,
            ..arp
        };
        let other_address = Arp {
            sender: Ipv4Addr::new(10, 0, 0, 8),
            ..arp
        };
        assert!(!question.is_answered_by(&ours));
        assert!(!question.is_answered_by(&other_address));
    }
}
