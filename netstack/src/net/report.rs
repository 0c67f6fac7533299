//! What is, put into words for whoever looks: console, dashboard, log. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    change::Change,
    clock::Now,
    config::{Addressing, Bridge, NetConfig},
    dialogue::Refusal,
    engine::Managed,
    failover::Failover,
    frame::Mac,
    inet6::Inet6,
    kernel::{Kernel, Link},
    router::Announced,
    status::{FilterStatus, LinkStatus, NetStatus, ServicesStatus},
    switch::Switch,
};

/// The state of all links, without problems and filter.
pub(crate) fn status(
    now: Now,
    config: &NetConfig,
    kernel: &Kernel,
    announced: &Announced,
    inet6: &Inet6,
    managed: &BTreeMap<u32, Managed>,
    failover: &Failover,
) -> NetStatus {
    let name = |index: u32| kernel.links.get(&index).map(|link| link.name.clone());
    let mut status = NetStatus {
        gateway: gateway(kernel),
        uplinks: failover.statuses(|index| name(index).unwrap_or_default()),
        ..NetStatus::default()
    };
    for (index, managed) in managed {
        if let Some(link) = kernel.links.get(index) {
            status.links.push(link_status(link, managed, kernel));
        }
    }
    // Whom to ask comes in the order in which the uplinks are used.
    let mut in_order: Vec<_> = managed.iter().collect();
    let places = failover.order().iter();
    let places: Vec<u32> = places.map(|place| place.link).collect();
    in_order.sort_by_key(|(index, _)| {
        let place = places.iter().position(|link| link == *index);
        place.unwrap_or(usize::MAX)
    });
    for (index, managed) in in_order {
        match managed {
            Managed::Automatic(uplink, _) => {
                if let Some(lease) = uplink.lease() {
                    status.dns.extend(lease.dns.iter().copied().map(IpAddr::V4));
                    status.ntp.extend(lease.ntp.iter().copied().map(IpAddr::V4));
                    status.domain = status.domain.take().or_else(|| lease.domain.clone());
                    status.search.extend(lease.search.iter().cloned());
                }
                status.dns.extend(announced.servers(now, *index));
                status
                    .search
                    .extend(announced.domains(now, *index).cloned());
                if let Some(said) = inet6.information(*index) {
                    status.dns.extend(said.dns.iter().copied().map(IpAddr::V6));
                    status.ntp.extend(said.ntp.iter().copied().map(IpAddr::V6));
                    status.search.extend(said.search.iter().cloned());
                }
                if let Some(caution) = uplink.caution() {
                    let name = name(*index).unwrap_or_default();
                    status.cautions.push(format!("On {name}, {caution}"));
                }
            }
            Managed::Static(fixed, _) => {
                if let Addressing::Static { dns, .. } = &fixed.addressing {
                    status.dns.extend(dns);
                }
            }
        }
    }
    dedup(&mut status.dns);
    dedup(&mut status.ntp);
    dedup(&mut status.search);
    status.domain = status.domain.or_else(|| status.search.first().cloned());
    status.services.bridge = config
        .bridge
        .as_ref()
        .is_some_and(|bridge| stands(bridge, kernel));
    status
}

/// What does not work, as sentences.
pub(crate) fn problems<'a>(
    kernel: &Kernel,
    refusals: impl Iterator<Item = &'a (Change, Refusal)>,
    services: &ServicesStatus,
    forwarding: &Switch,
    mtu_probing: &Switch,
) -> Vec<String> {
    let mut problems: Vec<String> = refusals
        .map(|(change, refusal)| {
            let name = kernel
                .links
                .get(&change.link())
                .map_or("", |link| &link.name);
            let errno = refusal.errno;
            format!("On {name}, {change} failed ({errno}); it is tried again.")
        })
        .collect();
    for filter in [&services.filter, &services.guard] {
        if let FilterStatus::Failed(why) = filter {
            problems.push(why.clone());
        }
    }
    if let Some(why) = forwarding.failure() {
        problems.push(format!(
            "The kernel's forwarding does not switch on ({why}), so services do not reach the \
             outside; it is tried again."
        ));
    }
    if let Some(why) = mtu_probing.failure() {
        problems.push(format!(
            "The kernel's search for the path's MTU does not switch on ({why}), so some far places \
             may not be reached; it is tried again."
        ));
    }
    problems
}

fn link_status(link: &Link, managed: &Managed, kernel: &Kernel) -> LinkStatus {
    let (origin, lease) = match managed {
        Managed::Automatic(uplink, _) => (uplink.origin(), uplink.lease_status()),
        Managed::Static(..) => ("Set by hand".to_owned(), None),
    };
    let addresses = kernel.addresses_of(link.index);
    LinkStatus {
        name: link.name.clone(),
        mac: spell_mac(link.mac),
        carrier: link.carrier,
        addresses: addresses
            .map(|address| (address.ip, address.prefix))
            .collect(),
        origin,
        lease,
    }
}

/// Whether the bridge is there, up, and has its address.
fn stands(bridge: &Bridge, kernel: &Kernel) -> bool {
    kernel.named(&bridge.name).is_some_and(|link| {
        let address = IpAddr::V4(bridge.address);
        link.up
            && kernel
                .addresses_of(link.index)
                .any(|there| there.ip == address)
    })
}

/// The best default route's gateway, IPv4 before IPv6.
fn gateway(kernel: &Kernel) -> Option<IpAddr> {
    let best = kernel
        .routes
        .iter()
        .min_by_key(|route| (route.gateway.is_ipv6(), route.metric));
    best.map(|route| route.gateway)
}

/// A hardware address as people write it.
pub(crate) fn spell_mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn dedup<T: PartialEq + Clone>(list: &mut Vec<T>) {
    let mut seen = Vec::new();
    list.retain(|one| {
        let new = !seen.contains(one);
        seen.push(one.clone());
        new
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_and_lists_read_as_they_should() {
        assert_eq!(spell_mac([2, 0, 10, 77, 0, 1]), "02:00:0a:4d:00:01");
        let one = IpAddr::from([1, 1, 1, 1]);
        let two = IpAddr::from([8, 8, 8, 8]);
        let mut list = vec![one, two, one];
        dedup(&mut list);
        assert_eq!(list, [one, two]);
    }

    #[test]
    fn a_filter_that_is_not_in_force_and_a_closed_switch_are_problems() {
        let services = ServicesStatus {
            bridge: true,
            filter: FilterStatus::Failed("No filter.".to_owned()),
            guard: FilterStatus::Failed("No guard.".to_owned()),
            ..ServicesStatus::default()
        };
        let mut switch = Switch::new("/proc/sys/net/there-is-no-such-switch");
        switch.turn_on(Now::ZERO);
        let problems = problems(&Kernel::default(), [].iter(), &services, &switch, &switch);
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}
