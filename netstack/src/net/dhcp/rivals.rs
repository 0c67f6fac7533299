//! Whether more than one DHCP server answers on a link, with differing settings: then it is chance
//! which of them the link's hosts follow, and one of them is a mistake, or worse. Pure.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    lease::Lease,
    routes::{self, Route},
};
use crate::net::clock::Now;

/// What the servers said in one search for them.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    offers: Vec<Lease>,
    /// Until when more offers are waited for, once there is one.
    until: Option<Now>,
}

impl Rivals {
    /// A search begins.
    pub(crate) fn begin(&mut self) {
        *self = Self::default();
    }

    /// A server offers a lease.
    pub(crate) fn note(&mut self, now: Now, offer: &Lease) {
        self.until.get_or_insert(now + LISTEN);
        let known = self.offers.iter().any(|known| known.server == offer.server);
        if !known && self.offers.len() < SERVERS_MAX {
            self.offers.push(offer.clone());
        }
    }

    /// The deadline has come; earlier calls do nothing.
    pub(crate) fn tick(&mut self, now: Now) {
        self.until = self.until.filter(|until| *until > now);
    }

    /// When [`tick`](Self::tick) is next needed: more offers may come until then.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.until
    }

    /// Who else answers and gives other settings, as a sentence.
    pub(crate) fn told(&self, followed: &Lease) -> Option<String> {
        let differ = |offer: &&Lease| {
            offer.server != followed.server && settings(offer) != settings(followed)
        };
        let others: Vec<_> = self.offers.iter().filter(differ).map(spelt).collect();
        if followed.server.is_none() || others.is_empty() {
            return None;
        }
        let number = match others.len() + 1 {
            2 => "two".to_owned(),
            more => more.to_string(),
        };
        Some(format!(
            "{number} DHCP servers answer: {} and {}. The box follows the first; whoever else is on \
             this network may follow another.",
            spelt(followed),
            others.join(" and ")
        ))
    }
}

/// What hosts of one network have in common.
#[derive(PartialEq)]
struct Settings<'a> {
    network: (Ipv4Addr, u8),
    router: Option<Ipv4Addr>,
    routes: &'a [Route],
    dns: &'a [Ipv4Addr],
}

fn settings(lease: &Lease) -> Settings<'_> {
    Settings {
        network: (routes::network(lease.address, lease.prefix), lease.prefix),
        router: lease.router,
        routes: &lease.routes,
        dns: &lease.dns,
    }
}

fn spelt(lease: &Lease) -> String {
    let server = lease.server.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let (address, prefix) = (lease.address, lease.prefix);
    let router = lease.router.map_or_else(
        || "no gateway".to_owned(),
        |router| format!("the gateway {router}"),
    );
    let dns: Vec<String> = lease.dns.iter().map(Ipv4Addr::to_string).collect();
    let dns = match dns.as_slice() {
        [] => "no name server".to_owned(),
        dns => format!("the name server {}", dns.join(", ")),
    };
    format!("{server} (gives {address}/{prefix}, {router}, {dns})")
}

/// Servers look for up to three seconds whether an address is in use before they offer it.
const LISTEN: Duration = Duration::from_secs(6);

/// Anybody on the LAN may play a server, or a hundred.
const SERVERS_MAX: usize = 4;
