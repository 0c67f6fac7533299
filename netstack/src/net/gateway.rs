//! Whether the gateway of a lease is there: a router that was replaced, or came back with another
//! subnet, behind a switch that never lost its carrier, would otherwise be noticed only when the
//! lease is to be rebound, hours later.
//!
//! It costs one ARP packet in half a minute, and one in five seconds where another uplink could take
//! over.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    clock::Now,
    frame::{Arp, Mac},
};

/// The watch over whichever gateway a link has.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    gateway: Option<Gateway>,
    /// Our address and the router's that were last watched.
    watched: Option<(Ipv4Addr, Ipv4Addr)>,
    /// How often in a row the gateway did not answer.
    silences: u32,
    closely: bool,
}

impl Watch {
    /// Our address and the router's, as they are now.
    pub(crate) fn settle(&mut self, now: Now, mac: Mac, ends: Option<(Ipv4Addr, Ipv4Addr)>) {
        if self.gateway.as_ref().map(Gateway::ends) != ends {
            self.gateway = ends.map(|ends| Gateway::new(now, mac, ends, self.closely));
            if ends.is_some() && ends != self.watched {
                self.watched = ends;
                self.silences = 0;
            }
        }
    }

    /// Whether it matters to know soon that the gateway is silent.
    pub(crate) fn closely(&mut self, now: Now, closely: bool) {
        if self.closely != closely {
            self.closely = closely;
            if let Some(gateway) = &mut self.gateway {
                gateway.watch(now, closely);
            }
        }
    }

    /// An ARP packet was heard on the link.
    pub(crate) fn receive(&mut self, now: Now, arp: &Arp) {
        let gateway = self.gateway.as_mut();
        if gateway.is_some_and(|gateway| gateway.receive(now, arp)) {
            self.silences = 0;
        }
    }

    /// The deadline has come; earlier calls do nothing. When the gateway turns out to be silent, how
    /// often in a row that was.
    pub(crate) fn tick(&mut self, now: Now) -> Option<u32> {
        let gateway = self.gateway.as_mut();
        let silent = gateway.is_some_and(|gateway| gateway.tick(now));
        silent.then(|| {
            self.silences = self.silences.saturating_add(1);
            self.silences
        })
    }

    /// The link is on another network, perhaps.
    pub(crate) fn forget(&mut self) {
        self.silences = 0;
    }

    /// Takes the packet to send, if there is one.
    pub(crate) fn transmit(&mut self) -> Option<Arp> {
        self.gateway.as_mut()?.transmit()
    }

    /// Whether the gateway did not answer when it was last asked.
    pub(crate) fn is_silent(&self) -> bool {
        self.silences > 0
    }

    /// Whether ARP packets are to be heard.
    pub(crate) fn is_asking(&self) -> bool {
        self.gateway.as_ref().is_some_and(Gateway::is_asking)
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.gateway.as_ref().map(Gateway::deadline)
    }
}

/// The watch over the gateway of one lease.
#[derive(Debug)]
pub(crate) struct Gateway {
    mac: Mac,
    ours: Ipv4Addr,
    router: Ipv4Addr,
    period: Duration,
    state: State,
    outgoing: Option<Arp>,
}

#[derive(Debug)]
enum State {
    /// It is asked again then.
    Resting { next: Now },
    /// It has been asked so often.
    Asking { sent: u32, next: Now },
}

impl Gateway {
    /// Watches a router from an address of ours.
    pub(crate) fn new(
        now: Now,
        mac: Mac,
        (ours, router): (Ipv4Addr, Ipv4Addr),
        closely: bool,
    ) -> Self {
        let period = if closely { PERIOD_CLOSE } else { PERIOD };
        Self {
            mac,
            ours,
            router,
            period,
            state: State::Resting { next: now + period },
            outgoing: None,
        }
    }

    /// Asks more often, or less.
    pub(crate) fn watch(&mut self, now: Now, closely: bool) {
        self.period = if closely { PERIOD_CLOSE } else { PERIOD };
        if let State::Resting { next } = &mut self.state {
            *next = (*next).min(now + self.period);
        }
    }

    /// The deadline has come; earlier calls do nothing. True each time it turns out to be silent.
    pub(crate) fn tick(&mut self, now: Now) -> bool {
        let sent = match self.state {
            State::Resting { next } if next <= now => 0,
            State::Asking { sent, next } if next <= now => sent,
            State::Resting { .. } | State::Asking { .. } => return false,
        };
        if sent == TRIES {
            self.state = State::Resting {
                next: now + self.period,
            };
            return true;
        }
        self.state = State::Asking {
            sent: sent + 1,
            next: now + ANSWER_WITHIN,
        };
        self.outgoing = Some(Arp {
            request: true,
            sender_mac: self.mac,
            sender: self.ours,
            target: self.router,
        });
        false
    }

    /// An ARP packet was heard on the link. True if it is the answer.
    pub(crate) fn receive(&mut self, now: Now, arp: &Arp) -> bool {
        let asking = matches!(self.state, State::Asking { .. });
        let answers = asking && arp.sender == self.router;
        if answers {
            self.state = State::Resting {
                next: now + self.period,
            };
        }
        answers
    }

    /// Takes the packet to send, if there is one.
    pub(crate) fn transmit(&mut self) -> Option<Arp> {
        self.outgoing.take()
    }

    /// Whether ARP packets are to be heard.
    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Now {
        match self.state {
            State::Resting { next } | State::Asking { next, .. } => next,
        }
    }

    /// Our address and the router's.
    pub(crate) fn ends(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.ours, self.router)
    }
}

const PERIOD: Duration = Duration::from_secs(30);
const PERIOD_CLOSE: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    /// Lets the deadlines come; gives how often it asked until it was silent, and when that was.
    fn until_silent(gateway: &mut Gateway) -> (usize, Now) {
        let mut sent = 0;
        loop {
            let now = gateway.deadline();
            if gateway.tick(now) {
                return (sent, now);
            }
            sent += gateway.transmit().iter().count();
        }
    }

    #[test]
    fn a_router_that_answers_is_asked_twice_a_minute_and_heard_only_then() {
        let mut gateway = Gateway::new(Now::ZERO, MAC, (OURS, ROUTER), false);
        let answer = Arp {
            request: false,
            sender_mac: [2; 6],
            sender: ROUTER,
            target: OURS,
        };
        assert!(!gateway.receive(Now::ZERO, &answer), "nobody asked");
        for round in 1..=10 {
            let now = gateway.deadline();
            assert_eq!(now, PERIOD * round);
            assert!(!gateway.tick(now) && gateway.is_asking());
            assert_eq!(gateway.transmit().map(|arp| arp.target), Some(ROUTER));
            assert!(gateway.receive(now, &answer) && !gateway.is_asking());
        }
    }

    #[test]
    fn a_router_that_is_watched_closely_is_asked_sooner_from_then_on() {
        let mut gateway = Gateway::new(Now::ZERO, MAC, (OURS, ROUTER), false);
        gateway.watch(Duration::from_secs(10), true);
        assert_eq!(gateway.deadline(), Duration::from_secs(15));
        let (_, at) = until_silent(&mut gateway);
        assert_eq!(gateway.deadline(), at + PERIOD_CLOSE);
        gateway.watch(at, false);
        assert_eq!(gateway.deadline(), at + PERIOD_CLOSE, "not put off");
    }

    #[test]
    fn a_silent_router_is_asked_thrice_each_time() {
        let mut gateway = Gateway::new(Now::ZERO, MAC, (OURS, ROUTER), false);
        for round in 1..=3 {
            let (sent, at) = until_silent(&mut gateway);
            assert_eq!((sent, at), (3, (PERIOD + ANSWER_WITHIN * 3) * round));
        }
    }
}
