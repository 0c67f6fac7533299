//! One link that gets its addresses by itself: DHCP, and a link-local address beside it while no
//! server has confirmed anything. Pure, as its parts are.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    clock::Now,
    collision::{Question, Verdict},
    dhcp::{Client, Transmit, lease::Lease},
    frame::{Arp, Mac},
    gateway::Gateway,
    linklocal::{self, LinkLocal},
    random::Random,
    reconcile::{LEASED_FOR_EVER, Wanted, WantedAddress},
    report::spell_mac,
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
    collision: Collision,
    gateway: Option<Gateway>,
    /// Our address and the router's that were last watched.
    watched: Option<(Ipv4Addr, Ipv4Addr)>,
    /// How often in a row the gateway did not answer.
    silences: u32,
    /// The last address that DHCP gave and another host has, until one is undisputed.
    disputed: Option<(Ipv4Addr, Mac)>,
    /// The hardware addresses of this box: what they say is no other host's word.
    own: Vec<Mac>,
    /// Since when there has been a carrier and no confirmed lease.
    alone_since: Option<Now>,
}

/// Whether another host has the leased address.
#[derive(Debug)]
enum Collision {
    /// There is no confirmed lease.
    Idle,
    Asking(Question),
    /// Nobody has this address but us.
    None(Ipv4Addr),
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
            collision: Collision::Idle,
            gateway: None,
            watched: None,
            silences: 0,
            disputed: None,
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
            self.disputed = None;
            self.silences = 0;
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
        if self.own.contains(&arp.sender_mac) {
            return;
        }
        if let Some(local) = &mut self.local {
            local.receive(now, arp);
        }
        if self
            .gateway
            .as_mut()
            .is_some_and(|gateway| gateway.receive(now, arp))
        {
            self.silences = 0;
        }
        if let Collision::Asking(question) = &self.collision
            && question.is_answered_by(arp)
        {
            self.disputed = Some((arp.sender, arp.sender_mac));
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
        self.ask_for_collision(now);
        self.ask_gateway(now);
    }

    /// Takes the next packet to send.
    pub(crate) fn transmit(&mut self) -> Option<Outgoing> {
        let dhcp = self.client.transmit().map(Outgoing::Dhcp);
        dhcp.or_else(|| {
            let local = self.local.as_mut().and_then(LinkLocal::transmit);
            let arp = local.or_else(|| match &mut self.collision {
                Collision::Asking(question) => question.transmit(),
                Collision::Idle | Collision::None(_) => None,
            });
            let arp = arp.or_else(|| self.gateway.as_mut()?.transmit());
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
        let collision = match &self.collision {
            Collision::Asking(question) => Some(question.deadline()),
            Collision::Idle | Collision::None(_) => None,
        };
        let gateway = self.gateway.as_ref().map(Gateway::deadline);
        [self.client.deadline(), fallback, local, collision, gateway]
            .into_iter()
            .flatten()
            .min()
    }

    /// The sockets needed now.
    pub(crate) fn needs(&self) -> Needs {
        let lease = self.client.lease().map(|lease| lease.address);
        Needs {
            arp: self.local.is_some()
                || matches!(self.collision, Collision::Asking(_))
                || self.gateway.as_ref().is_some_and(Gateway::is_asking),
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
        let router = self.client.lease().and_then(|lease| lease.router);
        let Some((address, mac)) = self.disputed else {
            let router = router.filter(|_| self.silences > 0)?;
            return Some(format!(
                "The gateway {router} does not answer; the DHCP server is asked whether the box's \
                 address still holds."
            ));
        };
        let mac = spell_mac(mac);
        Some(format!(
            "Another host ({mac}) has {address}, which the DHCP server gave to the box; the box \
             asks for another address."
        ))
    }

    /// Asks the gateway whether it is there and, if it is not, the DHCP server whether this still is
    /// its network.
    fn ask_gateway(&mut self, now: Now) {
        if self
            .gateway
            .as_mut()
            .is_some_and(|gateway| gateway.tick(now))
        {
            self.silences = self.silences.saturating_add(1);
            // A router that is off for long must not keep the server busy.
            if self.silences.is_power_of_two() || self.silences.is_multiple_of(DOUBT_EACH) {
                self.client.doubt(now);
                self.settle(now);
            }
        }
    }

    /// Asks whether another host has the leased address, once for each time it is confirmed anew.
    fn ask_for_collision(&mut self, now: Now) {
        let Collision::Asking(question) = &mut self.collision else {
            return;
        };
        if question.tick(now) == Verdict::Free {
            self.disputed = None;
            self.client.undisputed();
            self.collision = match self.client.lease() {
                Some(lease) => Collision::None(lease.address),
                None => Collision::Idle,
            };
        }
    }

    /// Starts the link-local address when DHCP has been silent for long enough, and ends it when a
    /// lease is confirmed.
    fn settle(&mut self, now: Now) {
        self.settle_collision(now);
        self.settle_gateway(now);
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

    fn settle_gateway(&mut self, now: Now) {
        let confirmed = self.carrier && self.client.confirmed();
        let lease = self.client.lease().filter(|_| confirmed);
        let ends = lease.and_then(|lease| Some((lease.address, lease.router?)));
        if self.gateway.as_ref().map(Gateway::ends) != ends {
            self.gateway = ends.map(|ends| Gateway::new(now, self.mac, ends));
            if ends.is_some() && ends != self.watched {
                self.watched = ends;
                self.silences = 0;
            }
        }
    }

    fn settle_collision(&mut self, now: Now) {
        let confirmed = self.carrier && self.client.confirmed();
        let leased = self.client.lease().filter(|_| confirmed);
        let leased = leased.map(|lease| lease.address);
        let asked = match &self.collision {
            Collision::Idle => None,
            Collision::Asking(question) => Some(question.address()),
            Collision::None(address) => Some(*address),
        };
        if leased != asked {
            self.collision = match leased {
                Some(address) => Collision::Asking(Question::new(now, self.mac, address)),
                None => Collision::Idle,
            };
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
mod tests {
    use super::{
        super::dhcp::message::{self, Kind, Message, Options},
        *,
    };

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
        assert_eq!(
            uplink.origin(),
            "Link-local, since no DHCP server offers an address"
        );
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

    /// Runs against a server that gives `address`; gives the kinds of what the client said.
    fn serve(uplink: &mut Uplink, address: Ipv4Addr, from: Now, until: Now) -> Vec<Kind> {
        let (mut now, mut said) = (from, Vec::new());
        loop {
            while let Some(outgoing) = uplink.transmit() {
                let Outgoing::Dhcp(transmit) = outgoing else {
                    continue;
                };
                let asked = Message::parse(&transmit.message).expect("our own message");
                let kind = asked.kind().expect("our own kind");
                said.push(kind);
                let answer = match kind {
                    Kind::Discover => Kind::Offer,
                    Kind::Request => Kind::Ack,
                    _ => continue,
                };
                let answer = Message {
                    reply: true,
                    yours: address,
                    options: Options::of(answer)
                        .with(message::SERVER, &[10, 0, 0, 1])
                        .with(message::ROUTER, &[10, 0, 0, 1])
                        .with(message::LEASE_TIME, &3600u32.to_be_bytes()),
                    ..asked
                };
                uplink.receive_dhcp(now, &answer.encode());
            }
            match uplink.deadline() {
                Some(at) if at <= until => {
                    now = now.max(at);
                    uplink.tick(now);
                }
                _ => return said,
            }
        }
    }

    fn has(sender_mac: Mac, sender: Ipv4Addr) -> Arp {
        Arp {
            request: false,
            sender_mac,
            sender,
            target: Ipv4Addr::UNSPECIFIED,
        }
    }

    const TAKEN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const FREE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 8);
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn an_address_of_another_host_is_used_at_once_but_declined_and_replaced() {
        let mut uplink = Uplink::new(MAC, None, Random::new(1));
        uplink.carrier(Duration::ZERO, true);
        let soon = Duration::from_millis(100);
        serve(&mut uplink, TAKEN, Duration::ZERO, soon);
        assert_eq!(uplink.wanted().addresses[0].ip, TAKEN);
        assert!(uplink.needs().arp, "it asks who has it");

        uplink.receive_arp(soon, &has(OTHER, TAKEN));
        assert_eq!(uplink.wanted(), Wanted::default());
        assert!(
            uplink
                .problem()
                .is_some_and(|problem| problem.contains("10.0.0.7"))
        );
        let said = serve(&mut uplink, FREE, soon, Duration::from_secs(9));
        assert_eq!(said, [Kind::Decline], "then ten seconds of silence");
        let said = serve(&mut uplink, FREE, soon, Duration::from_secs(30));
        assert_eq!(said, [Kind::Discover, Kind::Request]);
        assert_eq!(uplink.wanted().addresses[0].ip, FREE);
        assert_eq!((uplink.problem(), uplink.needs().arp), (None, false));
    }

    #[test]
    fn another_link_of_the_box_is_no_other_host() {
        let mut uplink = Uplink::new(MAC, None, Random::new(1));
        uplink.know_own(&[MAC, OTHER]);
        uplink.carrier(Duration::ZERO, true);
        let soon = Duration::from_millis(100);
        serve(&mut uplink, TAKEN, Duration::ZERO, soon);
        uplink.receive_arp(soon, &has(OTHER, TAKEN));
        assert_eq!(uplink.wanted().addresses[0].ip, TAKEN);
    }

    #[test]
    fn whoever_disputes_every_address_is_answered_ever_less() {
        let mut uplink = Uplink::new(MAC, None, Random::new(1));
        uplink.carrier(Duration::ZERO, true);
        let (mut now, mut declined) = (Duration::ZERO, 0);
        while now < Duration::from_secs(3600) {
            let said = serve(&mut uplink, TAKEN, now, now);
            declined += said.iter().filter(|kind| **kind == Kind::Decline).count();
            uplink.receive_arp(now, &has(OTHER, TAKEN));
            now += Duration::from_millis(500);
            uplink.tick(now);
        }
        assert!((5..20).contains(&declined), "{declined} in an hour");
        assert!(
            uplink
                .wanted()
                .addresses
                .iter()
                .any(|a| a.ip.is_link_local())
        );
    }

    #[test]
    fn a_gateway_that_is_gone_makes_the_box_ask_whether_this_still_is_its_network() {
        let mut uplink = Uplink::new(MAC, None, Random::new(1));
        uplink.carrier(Duration::ZERO, true);
        let said = serve(&mut uplink, FREE, Duration::ZERO, Duration::from_secs(32));
        assert_eq!(said, [Kind::Discover, Kind::Request]);
        let from = Duration::from_secs(32);
        let said = serve(&mut uplink, FREE, from, Duration::from_secs(34));
        assert_eq!(said, [Kind::Request], "and the server confirms it");
        assert_eq!(uplink.wanted().addresses[0].ip, FREE);
        let problem = uplink.problem().expect("it is told");
        assert!(problem.contains("10.0.0.1"), "{problem}");

        // Silent for good, it does not keep the DHCP server busy.
        let from = Duration::from_secs(34);
        let said = serve(&mut uplink, FREE, from, Duration::from_secs(1700));
        assert!((3..8).contains(&said.len()), "{said:?}");

        let router = has(OTHER, Ipv4Addr::new(10, 0, 0, 1));
        while !uplink.needs().arp {
            let now = uplink.deadline().expect("it goes on");
            uplink.tick(now);
        }
        uplink.receive_arp(Duration::from_secs(1700), &router);
        assert_eq!(uplink.problem(), None);
    }
}
