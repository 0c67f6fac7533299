//! One link that gets its addresses by itself: DHCP, and a link-local address beside it while no
//! server has confirmed anything. Pure, as its parts are.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    clock::Now,
    dhcp::{Client, Transmit, lease::Lease},
    frame::{Arp, Mac},
    linklocal::{self, LinkLocal},
    random::Random,
    reconcile::{LEASED_FOR_EVER, Wanted, WantedAddress},
    status::{LeaseStatus, spell},
};

/// The protocols of one link.
#[derive(Debug)]
pub(crate) struct Uplink {
    pub(crate) mac: Mac,
    client: Client,
    local: Option<LinkLocal>,
    random: Random,
    carrier: bool,
    /// Since when there has been a carrier and no confirmed lease.
    alone_since: Option<Now>,
}

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Arp(Arp),
    Dhcp(Transmit),
}

/// The sockets that the protocols need now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// ARP packets.
    pub(crate) arp: bool,
    /// DHCP answers at this address.
    pub(crate) datagrams: Option<Ipv4Addr>,
    /// DHCP answers as whole frames.
    pub(crate) frames: bool,
}

impl Uplink {
    /// An uplink without carrier and without an address.
    pub(crate) fn new(mac: Mac, hostname: Option<String>, mut random: Random) -> Self {
        Self {
            mac,
            client: Client::new(mac, hostname, Random::new(random.next())),
            local: None,
            random,
            carrier: false,
            alone_since: None,
        }
    }

    /// Goes on with the addresses that the kernel has from a predecessor. A carrier that is there
    /// must be told of in the same turn.
    pub(crate) fn adopt(&mut self, now: Now, lease: Option<Lease>, local: Option<Ipv4Addr>) {
        if let Some(lease) = lease {
            self.client.adopt(lease);
        }
        self.local = local.map(|address| {
            let jitter = Random::new(self.random.next());
            LinkLocal::adopted(now, self.mac, jitter, address)
        });
    }

    /// The link's carrier, as it is now.
    pub(crate) fn carrier(&mut self, now: Now, present: bool) {
        if present != self.carrier {
            self.carrier = present;
            self.client.carrier(now, present);
            self.settle(now);
        }
    }

    /// A DHCP message arrived.
    pub(crate) fn receive_dhcp(&mut self, now: Now, message: &[u8]) {
        self.client.receive(now, message);
        self.settle(now);
    }

    /// An ARP packet arrived.
    pub(crate) fn receive_arp(&mut self, now: Now, arp: &Arp) {
        if let Some(local) = &mut self.local {
            local.receive(now, arp);
        }
    }

    /// The deadline has come; earlier calls do nothing.
    pub(crate) fn tick(&mut self, now: Now) {
        self.client.tick(now);
        self.settle(now);
        if let Some(local) = &mut self.local {
            local.tick(now);
        }
    }

    /// Takes the next packet to send.
    pub(crate) fn transmit(&mut self) -> Option<Outgoing> {
        let dhcp = self.client.transmit().map(Outgoing::Dhcp);
        dhcp.or_else(|| self.local.as_mut()?.transmit().map(Outgoing::Arp))
    }

    /// Gives the lease back.
    pub(crate) fn release(&mut self, now: Now) -> Option<Transmit> {
        self.client.release(now)
    }

    /// When [`tick`](Self::tick) is next needed.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let fallback = match self.local {
            Some(_) => None,
            None => self.alone_since.map(|since| since + ALONE_AFTER),
        };
        let local = self.local.as_ref().and_then(LinkLocal::deadline);
        [self.client.deadline(), fallback, local]
            .into_iter()
            .flatten()
            .min()
    }

    /// The sockets needed now.
    pub(crate) fn needs(&self) -> Needs {
        let lease = self.client.lease().map(|lease| lease.address);
        Needs {
            arp: self.local.is_some(),
            datagrams: lease.filter(|_| self.client.needs_datagrams()),
            frames: self.client.needs_raw_frames(),
        }
    }

    /// What the link should have.
    pub(crate) fn wanted(&self) -> Wanted {
        let lease = self.client.lease();
        let leased = lease.map(|lease| WantedAddress {
            ip: lease.address,
            prefix: lease.prefix,
            expires: Some(lease.expires.unwrap_or(LEASED_FOR_EVER)),
        });
        let local = self.local.as_ref().and_then(LinkLocal::address);
        let local = local.map(|ip| WantedAddress {
            ip,
            prefix: linklocal::PREFIX,
            expires: None,
        });
        Wanted {
            addresses: leased.into_iter().chain(local).collect(),
            gateway: lease.and_then(|lease| lease.router),
            mtu: lease.and_then(|lease| lease.mtu),
        }
    }

    /// The lease to live by.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.client.lease()
    }

    /// The lease as others see it.
    pub(crate) fn lease_status(&self) -> Option<LeaseStatus> {
        let lease = self.client.lease()?;
        Some(LeaseStatus {
            address: lease.address,
            prefix: lease.prefix,
            server: lease.server,
            router: lease.router,
            lasts: lease.lasts,
            hostname: lease.hostname.clone(),
        })
    }

    /// Where the addresses are from, as a sentence.
    pub(crate) fn origin(&self) -> String {
        if !self.carrier {
            return "No cable, or nobody at its other end".to_owned();
        }
        let local = self.local.as_ref().and_then(LinkLocal::address).is_some();
        match self.client.lease() {
            Some(lease) if self.client.confirmed() => granted(lease),
            Some(_) if local => {
                "A lease of before and a link-local address: no DHCP server answers".to_owned()
            }
            Some(_) => "A lease of before, which the DHCP server is asked to confirm".to_owned(),
            None if local => "Link-local, since no DHCP server answers".to_owned(),
            None => "Asking for an address by DHCP".to_owned(),
        }
    }

    /// Starts the link-local address when DHCP has been silent for long enough, and ends it when a
    /// lease is confirmed.
    fn settle(&mut self, now: Now) {
        if !self.carrier || self.client.confirmed() {
            self.alone_since = None;
            self.local = None;
            return;
        }
        let since = *self.alone_since.get_or_insert(now);
        if self.local.is_none() && now.saturating_sub(since) >= ALONE_AFTER {
            let jitter = Random::new(self.random.next());
            self.local = Some(LinkLocal::new(now, self.mac, jitter));
        }
    }
}

fn granted(lease: &Lease) -> String {
    let server = lease
        .server
        .map_or_else(String::new, |server| format!(" from {server}"));
    match lease.lasts {
        Some(lasts) => format!("DHCP{server}, leased for {}", spell(lasts)),
        None => format!("DHCP{server}, for good"),
    }
}

/// Two requests have gone unanswered by then (4 and 8 s).
const ALONE_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn run(uplink: &mut Uplink, from: Now, until: Now) -> Vec<Outgoing> {
        let (mut now, mut sent) = (from, Vec::new());
        loop {
            sent.extend(std::iter::from_fn(|| uplink.transmit()));
            match uplink.deadline() {
                Some(at) if at <= until => {
                    now = now.max(at);
                    uplink.tick(now);
                }
                _ => return sent,
            }
        }
    }

    #[test]
    fn with_no_server_there_is_a_link_local_address_while_dhcp_goes_on() {
        let mut uplink = Uplink::new(MAC, None, Random::new(1));
        uplink.carrier(Duration::ZERO, true);
        run(&mut uplink, Duration::ZERO, Duration::from_secs(9));
        assert_eq!(uplink.wanted(), Wanted::default());
        let sent = run(&mut uplink, Duration::from_secs(9), Duration::from_secs(60));
        let [address] = uplink.wanted().addresses[..] else {
            panic!("one address")
        };
        assert!(address.ip.is_link_local());
        assert!(sent.iter().any(|out| matches!(out, Outgoing::Dhcp(_))));
        assert_eq!(uplink.origin(), "Link-local, since no DHCP server answers");
    }

    #[test]
    fn without_carrier_nothing_is_sent_or_awaited() {
        let mut uplink = Uplink::new(MAC, None, Random::new(1));
        assert_eq!(uplink.deadline(), None);
        uplink.carrier(Duration::ZERO, true);
        uplink.carrier(Duration::from_secs(1), false);
        assert_eq!(uplink.transmit(), None);
        assert_eq!(uplink.deadline(), None);
        assert_eq!(uplink.needs(), Needs::default());
    }

    #[test]
    fn an_adopted_lease_is_kept_and_asked_about() {
        let lease = Lease::adopted(
            Ipv4Addr::new(10, 0, 0, 7),
            24,
            Some(Ipv4Addr::new(10, 0, 0, 1)),
            Duration::from_secs(1000),
        );
        let mut uplink = Uplink::new(MAC, None, Random::new(1));
        uplink.adopt(Duration::ZERO, Some(lease), None);
        uplink.carrier(Duration::ZERO, true);
        assert_eq!(uplink.wanted().addresses.len(), 1);
        assert!(matches!(uplink.transmit(), Some(Outgoing::Dhcp(_))));
        run(&mut uplink, Duration::ZERO, Duration::from_secs(60));
        assert_eq!(
            uplink.wanted().addresses.len(),
            2,
            "its own and a link-local one"
        );
        run(
            &mut uplink,
            Duration::from_secs(60),
            Duration::from_secs(1100),
        );
        assert_eq!(uplink.wanted().addresses.len(), 1, "it has expired");
    }

    #[test]
    fn an_adopted_link_local_address_is_kept_without_a_pause_and_announced() {
        let ip = Ipv4Addr::new(169, 254, 7, 7);
        let mut uplink = Uplink::new(MAC, None, Random::new(1));
        uplink.adopt(Duration::ZERO, None, Some(ip));
        uplink.carrier(Duration::ZERO, true);
        assert_eq!(uplink.wanted().addresses[0].ip, ip);
        let sent = run(&mut uplink, Duration::ZERO, Duration::from_secs(60));
        let announced = |out: &Outgoing| matches!(out, Outgoing::Arp(arp) if arp.sender == ip);
        assert!(sent.iter().any(announced));
        assert_eq!(uplink.wanted().addresses[0].ip, ip);
    }
}
