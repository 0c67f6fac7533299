//! The routes that leases bring beside the default one, compared with those that the kernel has.
//! Pure and level-triggered, as `reconcile` is.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    change::Change,
    config::Bridge,
    dhcp::routes::{Route, network},
    kernel::Kernel,
};

/// A route in the kernel's main table, made here, that leads not everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    pub(crate) link: u32,
    pub(crate) route: Route,
    pub(crate) metric: u32,
}

/// The routes that a predecessor of this process left on a link.
pub(crate) fn of_before(kernel: &Kernel, link: u32) -> Vec<Route> {
    let placed = kernel.classless.iter().filter(|there| there.link == link);
    placed.map(|there| there.route).collect()
}

/// The changes needed. `wanted` has the routes of each link that is looked after, with the metric
/// they get; what leads to services is theirs alone, whatever a server on the LAN says.
pub(crate) fn changes(
    bridge: Option<&Bridge>,
    kernel: &Kernel,
    wanted: &BTreeMap<u32, (u32, Vec<Route>)>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (index, (metric, routes)) in wanted {
        let Some(link) = kernel.links.get(index).filter(|link| link.up) else {
            continue;
        };
        let wanted = routes
            .iter()
            .filter(|route| !bridge.is_some_and(|bridge| takes_from(route, bridge)))
            .map(|route| Placed {
                link: link.index,
                route: *route,
                metric: *metric,
            });
        let wanted: Vec<Placed> = wanted.collect();
        let there = kernel.classless.iter().filter(|there| there.link == *index);
        let stale = there.filter(|there| !wanted.contains(there)).copied();
        changes.extend(stale.map(Change::RemoveClassless));
        let missing = wanted.iter().filter(|one| !kernel.classless.contains(one));
        // A router may be reached by a route without one, which comes first then.
        let (on_link, by_router): (Vec<_>, Vec<_>) = missing
            .copied()
            .partition(|one| one.route.gateway.is_none());
        let ordered = on_link.into_iter().chain(by_router);
        changes.extend(ordered.map(Change::AddClassless));
    }
    changes
}

/// Whether a route leads to a part of the bridge's network.
fn takes_from(route: &Route, bridge: &Bridge) -> bool {
    let part_of = |address: Ipv4Addr| network(address, bridge.prefix);
    route.prefix >= bridge.prefix && part_of(route.network) == part_of(bridge.address)
}

#[cfg(test)]
mod tests {
    use super::{super::kernel::Link, *};

    fn kernel() -> Kernel {
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 2],
            ethernet: true,
            loopback: false,
            kind: None,
            up: true,
            carrier: true,
            mtu: 1500,
            master: None,
            parent: None,
            vlan: None,
            group: 0,
            isolated: false,
        };
        Kernel {
            links: BTreeMap::from([(2, link)]),
            ..Kernel::default()
        }
    }

    fn route(network: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>) -> Route {
        Route::new(network.into(), prefix, gateway.map(Ipv4Addr::from))
    }

    fn placed(route: Route) -> Placed {
        Placed {
            link: 2,
            route,
            metric: 102,
        }
    }

    #[test]
    fn routes_come_and_go_with_the_lease_and_those_on_the_link_come_first() {
        let far = route([172, 20, 0, 0], 16, Some([192, 168, 9, 1]));
        let near = route([192, 168, 9, 0], 24, None);
        let wanted = BTreeMap::from([(2, (102, vec![far, near]))]);
        let mut kernel = kernel();
        let made = changes(None, &kernel, &wanted);
        let add = |route| Change::AddClassless(placed(route));
        assert_eq!(made, [add(near), add(far)]);
        kernel.classless = vec![placed(far), placed(near)];
        assert_eq!(changes(None, &kernel, &wanted), []);
        assert_eq!(of_before(&kernel, 2), [far, near]);
        let less = BTreeMap::from([(2, (102, vec![far]))]);
        let made = changes(None, &kernel, &less);
        assert_eq!(made, [Change::RemoveClassless(placed(near))]);
        assert_eq!(changes(None, &kernel, &BTreeMap::new()), []);
    }

    #[test]
    fn no_server_leads_the_services_network_astray() {
        let bridge = Bridge::default();
        let part = route([10, 77, 1, 0], 24, Some([192, 168, 1, 9]));
        let whole = route([10, 77, 0, 0], 16, Some([192, 168, 1, 9]));
        let more = route([10, 0, 0, 0], 8, Some([192, 168, 1, 9]));
        let wanted = BTreeMap::from([(2, (102, vec![part, whole, more]))]);
        let made = changes(Some(&bridge), &kernel(), &wanted);
        assert_eq!(made, [Change::AddClassless(placed(more))]);
    }

    #[test]
    fn a_link_that_is_down_has_no_routes_yet() {
        let mut kernel = kernel();
        kernel.links.get_mut(&2).expect("eth0").up = false;
        let wanted = BTreeMap::from([(2, (102, vec![route([10, 0, 0, 0], 8, None)]))]);
        assert_eq!(changes(None, &kernel, &wanted), []);
    }
}
