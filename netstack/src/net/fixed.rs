//! One link with fixed addresses: nothing is asked of anyone but whether its gateway is there.
//! Pure.

use super::{
    clock::Now,
    config::Addressing,
    failover::{Fault, Sight},
    frame::{Arp, Mac},
    gateway::Watch,
    reconcile::Wanted,
};

/// A link as its owner set it.
#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) mac: Mac,
    pub(crate) addressing: Addressing,
    carrier: bool,
    gateway: Watch,
}

impl Fixed {
    /// A link without carrier.
    pub(crate) fn new(mac: Mac, addressing: Addressing) -> Self {
        Self {
            mac,
            addressing,
            carrier: false,
            gateway: Watch::default(),
        }
    }

    /// The link's carrier, as it is now.
    pub(crate) fn carrier(&mut self, now: Now, present: bool) {
        if present != self.carrier {
            self.carrier = present;
            self.gateway.forget();
            let ends = match &self.addressing {
                Addressing::Static {
                    address,
                    gateway: Some(gateway),
                    ..
                } if present => Some((*address, *gateway)),
                _ => None,
            };
            self.gateway.settle(now, self.mac, ends);
        }
    }

    /// Whether another uplink could take over, so that the gateway is watched closely.
    pub(crate) fn watch_closely(&mut self, now: Now, closely: bool) {
        self.gateway.closely(now, closely);
    }

    /// An ARP packet arrived.
    pub(crate) fn receive_arp(&mut self, now: Now, arp: &Arp) {
        self.gateway.receive(now, arp);
    }

    /// The deadline has come; earlier calls do nothing.
    pub(crate) fn tick(&mut self, now: Now) {
        self.gateway.tick(now);
    }

    /// Takes the next packet to send.
    pub(crate) fn transmit(&mut self) -> Option<Arp> {
        self.gateway.transmit()
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.gateway.deadline()
    }

    /// Whether ARP packets are to be heard.
    pub(crate) fn needs_arp(&self) -> bool {
        self.gateway.is_asking()
    }

    /// What the link should have.
    pub(crate) fn wanted(&self) -> Wanted {
        self.addressing.wanted()
    }

    /// How it is as an uplink of that metric; none without a gateway.
    pub(crate) fn sight(&self, metric: u32) -> Option<Sight> {
        let gateway = self.wanted().gateway?;
        let fault = if !self.carrier {
            Some(Fault::NoCarrier)
        } else if self.gateway.is_silent() {
            Some(Fault::Silent)
        } else {
            None
        };
        Some(Sight {
            metric,
            gateway: Some(gateway),
            fault,
        })
    }

    /// What is wrong, as a sentence.
    pub(crate) fn problem(&self) -> Option<String> {
        let gateway = self.wanted().gateway?;
        let silent = self.carrier && self.gateway.is_silent();
        silent.then(|| {
            format!(
                "The gateway {gateway}, which was set by hand, does not answer; look whether it \
                 is on and has that address."
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn fixed(gateway: Option<[u8; 4]>) -> Fixed {
        let addressing = Addressing::Static {
            address: [192, 168, 1, 7].into(),
            prefix: 24,
            gateway: gateway.map(Into::into),
            dns: Vec::new(),
        };
        Fixed::new(MAC, addressing)
    }

    #[test]
    fn a_gateway_that_does_not_answer_is_a_fault_until_it_does() {
        let mut link = fixed(Some([192, 168, 1, 1]));
        let fault = |link: &Fixed| link.sight(100).expect("an uplink").fault;
        assert_eq!(fault(&link), Some(Fault::NoCarrier));
        link.watch_closely(Duration::ZERO, true);
        link.carrier(Duration::ZERO, true);
        assert_eq!(fault(&link), None, "nothing is wrong yet");
        let mut asked = 0;
        while fault(&link).is_none() {
            link.tick(link.deadline().expect("it is watched"));
            asked += link.transmit().iter().count();
        }
        assert_eq!((asked, fault(&link)), (3, Some(Fault::Silent)));
        assert!(
            link.problem()
                .is_some_and(|said| said.contains("192.168.1.1"))
        );

        while !link.needs_arp() {
            link.tick(link.deadline().expect("it is watched"));
        }
        let answer = Arp {
            request: false,
            sender_mac: [2; 6],
            sender: [192, 168, 1, 1].into(),
            target: [192, 168, 1, 7].into(),
        };
        link.receive_arp(Duration::from_secs(20), &answer);
        assert_eq!((fault(&link), link.problem()), (None, None));
    }

    #[test]
    fn without_a_gateway_it_is_no_uplink_and_asks_nobody() {
        let mut link = fixed(None);
        link.carrier(Duration::ZERO, true);
        assert_eq!((link.sight(100), link.deadline()), (None, None));
    }
}
