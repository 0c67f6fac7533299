//! Whether another host has the address that DHCP gave, and which one did last.

use std::net::Ipv4Addr;

use super::super::{
    clock::Now,
    collision::{Question, Verdict},
    frame::{Arp, Mac},
    report::spell_mac,
};

/// The question for the leased address, once for each time it is confirmed anew.
#[derive(Debug, Default)]
pub(super) struct Dispute {
    state: State,
    /// The last address that DHCP gave and another host has, until one is undisputed.
    disputed: Option<(Ipv4Addr, Mac)>,
}

#[derive(Debug, Default)]
enum State {
    /// There is no confirmed lease.
    #[default]
    Idle,
    Asking(Question),
    /// Nobody has this address but us.
    Undisputed(Ipv4Addr),
}

impl Dispute {
    /// The confirmed lease's address, as it is now.
    pub(super) fn settle(&mut self, now: Now, mac: Mac, leased: Option<Ipv4Addr>) {
        let asked = match &self.state {
            State::Idle => None,
            State::Asking(question) => Some(question.address()),
            State::Undisputed(address) => Some(*address),
        };
        if leased != asked {
            self.state = match leased {
                Some(address) => State::Asking(Question::new(now, mac, address)),
                None => State::Idle,
            };
        }
    }

    /// An ARP packet arrived. True if it says that another host has the address.
    pub(super) fn receive(&mut self, arp: &Arp) -> bool {
        let answered =
            matches!(&self.state, State::Asking(question) if question.is_answered_by(arp));
        if answered {
            self.disputed = Some((arp.sender, arp.sender_mac));
        }
        answered
    }

    /// The deadline has come; earlier calls do nothing. True when nobody else has the address.
    pub(super) fn tick(&mut self, now: Now) -> bool {
        let State::Asking(question) = &mut self.state else {
            return false;
        };
        let free = question.tick(now) == Verdict::Free;
        if free {
            self.disputed = None;
            self.state = State::Undisputed(question.address());
        }
        free
    }

    /// The link is on another network, perhaps.
    pub(super) fn forget(&mut self) {
        self.disputed = None;
    }

    /// Takes the packet to send, if there is one.
    pub(super) fn transmit(&mut self) -> Option<Arp> {
        match &mut self.state {
            State::Asking(question) => question.transmit(),
            State::Idle | State::Undisputed(_) => None,
        }
    }

    /// Whether ARP packets are to be heard.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking(_))
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(super) fn deadline(&self) -> Option<Now> {
        match &self.state {
            State::Asking(question) => Some(question.deadline()),
            State::Idle | State::Undisputed(_) => None,
        }
    }

    /// What is wrong, as a sentence.
    pub(super) fn problem(&self) -> Option<String> {
        let (address, mac) = self.disputed?;
        let mac = spell_mac(mac);
        Some(format!(
            "Another host ({mac}) has {address}, which the DHCP server gave to the box; the box \
             asks for another address."
        ))
    }
}
