//! The network's state in the short form that everybody shows.

use netstack::net::NetStatus;
use supervise::status::{LinkSummary, NetSummary};

/// Why the box can't be reached from the network, as a sentence; `None` if it can.
pub(super) fn trouble(net: &NetSummary) -> Option<&'static str> {
    let addresses = |link: &LinkSummary| !link.addresses.is_empty();
    if net.links.is_empty() {
        Some("There is no network card, or none that the kernel has a driver for.")
    } else if !net.links.iter().any(|link| link.carrier) {
        Some("No network cable is plugged in.")
    } else if !net.links.iter().any(addresses) {
        Some("The network card has no address.")
    } else {
        None
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_first_is_what_is_said() {
        let mut net = NetSummary::default();
        let said = |net: &NetSummary| trouble(net).unwrap_or("nothing").to_owned();
        assert!(said(&net).contains("no network card"));
        net.links.push(LinkSummary {
            name: "eth0".to_owned(),
            mac: String::new(),
            carrier: false,
            addresses: Vec::new(),
            origin: String::new(),
        });
        assert!(said(&net).contains("cable"));
        net.links[0].carrier = true;
        assert!(said(&net).contains("address"));
        net.links[0].addresses = vec![("10.0.2.15".parse().unwrap(), 24)];
        assert_eq!(trouble(&net), None);
    }
}
