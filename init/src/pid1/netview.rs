//! The network's state in the short form that everybody shows.

use netstack::net::NetStatus;
use supervise::status::{LinkSummary, NetSummary};

/// The short form.
pub(super) fn summary(status: &NetStatus) -> NetSummary {
    let links = status.links.iter().map(|link| LinkSummary {
        name: link.name.clone(),
        mac: link.mac.clone(),
        carrier: link.carrier,
        addresses: link.addresses.clone(),
        origin: link.origin.clone(),
    });
    NetSummary {
        links: links.collect(),
        gateway: status.gateway,
        dns: status.dns.clone(),
    }
}
