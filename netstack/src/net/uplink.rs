//! One link that gets its addresses by itself: DHCP, and a link-local address beside it while no
//! server has confirmed anything. Pure, as its parts are.

mod dispute;

use std::{net::Ipv4Addr, time::Duration};

use self::dispute::Dispute;
use super::{
    clock::Now,
    dhcp::{Client, Transmit, lease::Lease},
    failover::{Fault, Sight},
    frame::{Arp, Mac},
    gateway::Watch,
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
    dispute: Dispute,
    gateway: Watch,
    /// The hardware addresses of this box: what they say is no other host's word.
    own: Vec<Mac>,
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
            dispute: Dispute::default(),
            gateway: Watch::default(),
            own: Vec::new(),
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

    /// The hardware addresses of all links of this box. Two of them may hang on one LAN, and the
    /// kernel answers for an address on both.
    pub(crate) fn know_own(&mut self, macs: &[Mac]) {
        if self.own != macs {
            self.own = macs.to_vec();
        }
    }

    /// The link's carrier, as it is now.
    pub(crate) fn carrier(&mut self, now: Now, present: bool) {
        if present != self.carrier {
            self.carrier = present;
            self.client.carrier(now, present);
            self.dispute.forget();
            self.gateway.forget();
            self.settle(now);
        }
    }

    /// Whether another uplink could take over, so that the gateway is watched closely.
    pub(crate) fn watch_closely(&mut self, now: Now, closely: bool) {
        self.gateway.closely(now, closely);
    }

    /// A DHCP message arrived.
    pub(crate) fn receive_dhcp(&mut self, now: Now, message: &[u8]) {
        self.client.receive(now, message);
        self.settle(now);
    }

    /// An ARP packet arrived.
    pub(crate) fn receive_arp(&mut self, now: Now, arp: &Arp) {
        if self.own.contains(&arp.sender_mac) {
            return;
        }
        if let Some(local) = &mut self.local {
            local.receive(now, arp);
        }
        self.gateway.receive(now, arp);
        if self.dispute.receive(arp) {
            self.client.decline(now);
            self.settle(now);
        }
    }

    /// The deadline has come; earlier calls do nothing.
    pub(crate) fn tick(&mut self, now: Now) {
        self.client.tick(now);
        self.settle(now);
        if let Some(local) = &mut self.local {
            local.tick(now);
        }
        if self.dispute.tick(now) {
            self.client.undisputed();
        }
        self.ask_gateway(now);
    }

    /// Takes the next packet to send.
    pub(crate) fn transmit(&mut self) -> Option<Outgoing> {
        let dhcp = self.client.transmit().map(Outgoing::Dhcp);
        dhcp.or_else(|| {
            let local = self.local.as_mut().and_then(LinkLocal::transmit);
            let arp = local.or_else(|| self.dispute.transmit());
            let arp = arp.or_else(|| self.gateway.transmit());
            arp.map(Outgoing::Arp)
        })
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
        let (dispute, gateway) = (self.dispute.deadline(), self.gateway.deadline());
        [self.client.deadline(), fallback, local, dispute, gateway]
            .into_iter()
            .flatten()
            .min()
    }

    /// The sockets needed now.
    pub(crate) fn needs(&self) -> Needs {
        let lease = self.client.lease().map(|lease| lease.address);
        Needs {
            arp: self.local.is_some() || self.dispute.is_asking() || self.gateway.is_asking(),
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
            ..Wanted::default()
        }
    }

    /// How it is as an uplink of that metric.
    pub(crate) fn sight(&self, metric: u32) -> Sight {
        let lease = self.client.lease();
        let gateway = lease.and_then(|lease| lease.router);
        // A lease of before is good until its server has had time to answer.
        let fault = if !self.carrier {
            Some(Fault::NoCarrier)
        } else if lease.is_none() || (self.local.is_some() && !self.client.confirmed()) {
            Some(Fault::NoAddress)
        } else if gateway.is_none() {
            Some(Fault::NoGateway)
        } else if self.gateway.is_silent() {
            Some(Fault::Silent)
        } else {
            None
        };
        Sight {
            metric,
            gateway,
            fault,
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
            routes: lease.routes.iter().map(ToString::to_string).collect(),
            lasts: lease.lasts,
            hostname: lease.hostname.clone(),
        })
    }

    /// Which DHCP servers answer beside the one that is followed, as a sentence.
    pub(crate) fn caution(&self) -> Option<String> {
        self.client.rivals()
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
            None if local => "Link-local, since no DHCP server offers an address".to_owned(),
            None => "Asking for an address by DHCP".to_owned(),
        }
    }

    /// What is wrong, as a sentence.
    pub(crate) fn problem(&self) -> Option<String> {
        let silent = || {
            let router = self.client.lease().and_then(|lease| lease.router);
            let router = router.filter(|_| self.gateway.is_silent())?;
            Some(format!(
                "The gateway {router} does not answer; the DHCP server is asked whether the box's \
                 address still holds."
            ))
        };
        self.dispute.problem().or_else(silent)
    }

    /// Asks the gateway whether it is there and, if it is not, the DHCP server whether this still is
    /// its network.
    fn ask_gateway(&mut self, now: Now) {
        // A router that is off for long must not keep the server busy.
        let silences = self.gateway.tick(now);
        if silences.is_some_and(|times| times.is_power_of_two() || times.is_multiple_of(DOUBT_EACH))
        {
            self.client.doubt(now);
            self.settle(now);
        }
    }

    /// Starts the link-local address when DHCP has been silent for long enough, and ends it when a
    /// lease is confirmed.
    fn settle(&mut self, now: Now) {
        let confirmed = self.carrier && self.client.confirmed();
        let lease = self.client.lease().filter(|_| confirmed);
        let leased = lease.map(|lease| lease.address);
        let ends = lease.and_then(|lease| Some((lease.address, lease.router?)));
        self.dispute.settle(now, self.mac, leased);
        self.gateway.settle(now, self.mac, ends);
        if confirmed || !self.carrier {
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

/// Silences of the gateway, half a minute each, after which the server is asked in any case.
const DOUBT_EACH: u32 = 64;

/// Two requests have gone unanswered by then (4 and 8 s).
const ALONE_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
