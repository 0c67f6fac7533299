//! IPv4 link-local addresses (RFC 3927) as a state machine: a direct cable between the box and a
//! laptop is enough to reach it, with no server anywhere.
//!
//! It claims an address only after asking three times whether anybody has it, and gives it up when
//! somebody insists. Time and ARP packets in, ARP packets and the next deadline out.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    clock::Now,
    frame::{Arp, Mac},
    random::Random,
};

/// The claim of one link to one address.
#[derive(Debug)]
pub(crate) struct LinkLocal {
    mac: Mac,
    /// For addresses: seeded with the hardware address, so that a box finds its old one again.
    candidates: Random,
    /// For pauses: must differ between boxes that were switched on together.
    jitter: Random,
    address: Ipv4Addr,
    state: State,
    conflicts: u32,
    outgoing: Option<Arp>,
}

#[derive(Debug)]
enum State {
    /// Asking whether anybody has the address.
    Probing { sent: u32, next: Now },
    /// It is ours; telling everybody.
    Announcing { sent: u32, next: Now },
    /// It is ours; last defended then.
    Claimed { defended: Option<Now> },
}

impl LinkLocal {
    /// Begins to look for an address.
    pub(crate) fn new(now: Now, mac: Mac, jitter: Random) -> Self {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(&mac);
        let mut local = Self {
            mac,
            candidates: Random::new(u64::from_le_bytes(bytes)),
            jitter,
            address: Ipv4Addr::UNSPECIFIED,
            state: State::Claimed { defended: None },
            conflicts: 0,
            outgoing: None,
        };
        local.choose(now);
        local
    }

    /// Goes on with an address that the kernel has from a predecessor: it was asked for then, and
    /// is announced again.
    pub(crate) fn adopted(now: Now, mac: Mac, jitter: Random, address: Ipv4Addr) -> Self {
        Self {
            address,
            state: State::Announcing { sent: 0, next: now },
            ..Self::new(now, mac, jitter)
        }
    }

    /// The deadline has come; earlier calls do nothing.
    pub(crate) fn tick(&mut self, now: Now) {
        match self.state {
            State::Probing { sent, next } if next <= now => self.probe(now, sent),
            State::Announcing { sent, next } if next <= now => {
                self.outgoing = Some(self.packet(self.address));
                self.state = match sent + 1 {
                    ANNOUNCEMENTS.. => State::Claimed { defended: None },
                    sent => State::Announcing {
                        sent,
                        next: now + ANNOUNCE_PAUSE,
                    },
                };
            }
            State::Probing { .. } | State::Announcing { .. } | State::Claimed { .. } => {}
        }
    }

    /// An ARP packet was heard on the link.
    pub(crate) fn receive(&mut self, now: Now, arp: &Arp) {
        if arp.sender_mac == self.mac {
            return;
        }
        let theirs = arp.sender == self.address;
        let probed_too = arp.request && arp.sender.is_unspecified() && arp.target == self.address;
        match self.state {
            State::Probing { .. } if theirs || probed_too => self.give_way(now),
            State::Announcing { .. } if theirs => self.defend(now, None),
            State::Claimed { defended } if theirs => self.defend(now, defended),
            State::Probing { .. } | State::Announcing { .. } | State::Claimed { .. } => {}
        }
    }

    /// Takes the packet to send, if there is one.
    pub(crate) fn transmit(&mut self) -> Option<Arp> {
        self.outgoing.take()
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Probing { next, .. } | State::Announcing { next, .. } => Some(next),
            State::Claimed { .. } => None,
        }
    }

    /// The address, once it is ours.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        match self.state {
            State::Probing { .. } => None,
            State::Announcing { .. } | State::Claimed { .. } => Some(self.address),
        }
    }

    fn choose(&mut self, now: Now) {
        // 169.254.1.0 to 169.254.254.255: the rest of the block is reserved (RFC 3927, 2.1).
        let host = 0x0100 + self.candidates.below(0xfe00) as u16;
        let [high, low] = host.to_be_bytes();
        self.address = Ipv4Addr::new(169, 254, high, low);
        let pause = match self.conflicts {
            CONFLICTS_MAX.. => CONFLICT_PAUSE,
            _ => self.jitter.between(Duration::ZERO, PROBE_WAIT),
        };
        self.state = State::Probing {
            sent: 0,
            next: now + pause,
        };
    }

    fn probe(&mut self, now: Now, sent: u32) {
        if sent == PROBES {
            self.state = State::Announcing { sent: 0, next: now };
            return self.tick(now);
        }
        self.outgoing = Some(self.packet(Ipv4Addr::UNSPECIFIED));
        let pause = if sent + 1 == PROBES {
            ANNOUNCE_WAIT
        } else {
            self.jitter.between(PROBE_PAUSE_LEAST, PROBE_PAUSE_MOST)
        };
        self.state = State::Probing {
            sent: sent + 1,
            next: now + pause,
        };
    }

    fn give_way(&mut self, now: Now) {
        self.conflicts = self.conflicts.saturating_add(1);
        self.choose(now);
    }

    /// One conflict is answered; a second within ten seconds is a host that insists.
    fn defend(&mut self, now: Now, defended: Option<Now>) {
        if defended.is_some_and(|at| now.saturating_sub(at) < DEFEND_INTERVAL) {
            return self.give_way(now);
        }
        self.outgoing = Some(self.packet(self.address));
        self.state = State::Claimed {
            defended: Some(now),
        };
    }

    fn packet(&self, sender: Ipv4Addr) -> Arp {
        Arp {
            request: true,
            sender_mac: self.mac,
            sender,
            target: self.address,
        }
    }
}

/// The block's prefix length.
pub(crate) const PREFIX: u8 = 16;

// All from RFC 3927, section 9.
const PROBES: u32 = 3;
const PROBE_WAIT: Duration = Duration::from_secs(1);
const PROBE_PAUSE_LEAST: Duration = Duration::from_secs(1);
const PROBE_PAUSE_MOST: Duration = Duration::from_secs(2);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(2);
const CONFLICTS_MAX: u32 = 10;
const CONFLICT_PAUSE: Duration = Duration::from_secs(60);
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];

    fn claim() -> LinkLocal {
        LinkLocal::new(Now::ZERO, MAC, Random::new(1))
    }

    /// Lets the deadlines come until the address is ours; gives what was sent and when it was.
    fn settle(local: &mut LinkLocal) -> (Vec<Arp>, Now) {
        let (mut sent, mut now) = (Vec::new(), Now::ZERO);
        while let Some(at) = local.deadline() {
            now = at;
            local.tick(now);
            sent.extend(local.transmit());
            assert!(sent.len() < 100, "it never settles");
        }
        (sent, now)
    }

    #[test]
    fn an_address_is_probed_thrice_then_announced_twice() {
        let mut local = claim();
        let (sent, now) = settle(&mut local);
        let senders: Vec<_> = sent.iter().map(|arp| arp.sender.is_unspecified()).collect();
        assert_eq!(senders, [true, true, true, false, false]);
        assert!(
            now >= Duration::from_secs(6) && now <= Duration::from_secs(9),
            "{now:?}"
        );
        assert!(local.address().expect("ours").is_link_local());
    }

    #[test]
    fn a_box_finds_its_old_address_again() {
        let (mut one, mut two) = (claim(), LinkLocal::new(Now::ZERO, MAC, Random::new(99)));
        settle(&mut one);
        settle(&mut two);
        assert_eq!(one.address(), two.address());
    }

    #[test]
    fn a_taken_address_is_not_claimed_nor_one_that_another_asks_for() {
        for request in [false, true] {
            let mut local = claim();
            let first = local.address;
            local.tick(Duration::from_secs(1));
            let sender = if request {
                Ipv4Addr::UNSPECIFIED
            } else {
                first
            };
            let arp = Arp {
                request,
                sender_mac: OTHER,
                sender,
                target: first,
            };
            local.receive(Duration::from_secs(1), &arp);
            settle(&mut local);
            assert_ne!(local.address(), Some(first));
        }
    }

    #[test]
    fn an_address_is_defended_once_then_given_up() {
        let mut local = claim();
        let (_, now) = settle(&mut local);
        let first = local.address().expect("ours");
        let arp = Arp {
            request: false,
            sender_mac: OTHER,
            sender: first,
            target: first,
        };
        local.receive(now, &arp);
        assert_eq!(local.transmit().expect("a defence").sender, first);
        assert_eq!(local.address(), Some(first));
        local.receive(now + Duration::from_secs(11), &arp);
        assert_eq!(local.address(), Some(first), "much later is not insisting");
        local.receive(now + Duration::from_secs(12), &arp);
        assert_eq!(local.address(), None);
    }

    #[test]
    fn our_own_packets_are_no_conflict_and_many_conflicts_slow_it_down() {
        let mut local = claim();
        let own = local.packet(local.address);
        local.receive(Now::ZERO, &own);
        assert_eq!(local.conflicts, 0);
        for _ in 0..12 {
            let arp = Arp {
                sender_mac: OTHER,
                ..local.packet(local.address)
            };
            local.receive(Now::ZERO, &arp);
        }
        assert_eq!(local.deadline(), Some(CONFLICT_PAUSE));
    }
}
