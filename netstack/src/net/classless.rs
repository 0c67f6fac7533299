//! The routes that leases bring beside the default one, compared with those that the kernel has.
//! Pure and level-triggered, as `reconcile` is.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

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

impl Placed {
    /// Whether the kernel has this one in the other's place, which may be itself.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.route.network, one.route.prefix, one.metric);
        place(self) == place(other)
    }
}

/// The routes that a predecessor of this process left on a link.
pub(crate) fn of_before(kernel: &Kernel, link: u32) -> Vec<Route> {
    let placed = kernel.classless.iter().filter(|there| there.link == link);
    placed.map(|there| there.route).collect()
}

/// The changes needed. `wanted` has the routes of each link that is looked after, with the metric
/// they get; what leads to services is theirs alone, whatever a server on the LAN says, and no
/// link's server takes a part of another link's network.
pub(crate) fn changes(
    bridge: Option<&Bridge>,
    kernel: &Kernel,
    wanted: &BTreeMap<u32, (u32, Vec<Route>)>,
) -> Vec<Change> {
    let up = |link: &u32| kernel.links.get(link).is_some_and(|link| link.up);
    let of_bridge = bridge.map(|bridge| (bridge.address, bridge.prefix));
    let is_taken = |link: u32, route: &Route| {
        let others = kernel.addresses.iter().filter(|there| there.link != link);
        let others = others.filter_map(|there| match there.ip {
            IpAddr::V4(ip) if !ip.is_link_local() => Some((ip, there.prefix)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
        let mut taken = others.chain(of_bridge);
        taken.any(|(address, prefix)| takes_from(route, address, prefix))
    };
    let mut all = Vec::new();
    for (link, (metric, routes)) in wanted.iter().filter(|(link, _)| up(link)) {
        all.extend(
            routes
                .iter()
                .filter(|route| !is_taken(*link, route))
                .map(|route| Placed {
                    link: *link,
                    route: *route,
                    metric: *metric,
                }),
        );
    }
    let missing = all.iter().filter(|one| !kernel.classless.contains(one));
    // A router may be reached by a route without one, which comes first then.
    let (on_link, by_router): (Vec<_>, Vec<_>) = missing
        .copied()
        .partition(|one| one.route.gateway.is_none());
    let ordered = on_link.into_iter().chain(by_router);
    let mut changes: Vec<_> = ordered.map(Change::AddClassless).collect();
    let stale = kernel.classless.iter().filter(|there| {
        let looked_after = wanted.contains_key(&there.link) && up(&there.link);
        looked_after && !all.iter().any(|one| one.replaces(there))
    });
    changes.extend(stale.copied().map(Change::RemoveClassless));
    changes
}

/// Whether a route leads to a part of that address's network.
fn takes_from(route: &Route, address: Ipv4Addr, prefix: u8) -> bool {
    route.prefix >= prefix && network(route.network, prefix) == network(address, prefix)
}

#[cfg(test)]
mod tests {
    use super::{
        super::kernel::{Address, tests::link},
        *,
    };

    fn kernel() -> Kernel {
        Kernel {
            links: BTreeMap::from([(2, link(2, "eth0"))]),
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
    fn a_route_is_replaced_in_its_place_and_never_gone_meanwhile() {
        let by = |last| route([172, 20, 0, 0], 16, Some([192, 168, 9, last]));
        let mut kernel = kernel();
        kernel.classless = vec![placed(by(1))];
        let other = BTreeMap::from([(2, (102, vec![by(2)]))]);
        let made = changes(None, &kernel, &other);
        assert_eq!(made, [Change::AddClassless(placed(by(2)))]);
        // With another metric, the new one comes before the old one goes.
        let demoted = BTreeMap::from([(2, (202, vec![by(1)]))]);
        let new = Placed {
            metric: 202,
            ..placed(by(1))
        };
        let made = changes(None, &kernel, &demoted);
        let old = Change::RemoveClassless(placed(by(1)));
        assert_eq!(made, [Change::AddClassless(new), old]);
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
    fn no_server_takes_a_part_of_another_link_s_network() {
        let part = route([192, 168, 3, 128], 25, Some([192, 168, 2, 9]));
        let cloud = route([169, 254, 169, 254], 32, Some([192, 168, 2, 1]));
        let wanted = BTreeMap::from([(2, (102, vec![part, cloud]))]);
        let on = |link, ip: [u8; 4], prefix| Address {
            link,
            ip: ip.into(),
            prefix,
            expires: None,
        };
        let mut kernel = kernel();
        kernel.addresses = vec![on(2, [192, 168, 3, 7], 24), on(3, [169, 254, 1, 2], 16)];
        let add = |route| Change::AddClassless(placed(route));
        assert_eq!(changes(None, &kernel, &wanted), [add(part), add(cloud)]);
        kernel.addresses[0].link = 3;
        assert_eq!(changes(None, &kernel, &wanted), [add(cloud)]);
    }

    #[test]
    fn a_link_that_is_down_has_no_routes_yet() {
        let mut kernel = kernel();
        kernel.links.get_mut(&2).expect("eth0").up = false;
        let wanted = BTreeMap::from([(2, (102, vec![route([10, 0, 0, 0], 8, None)]))]);
        assert_eq!(changes(None, &kernel, &wanted), []);
    }
}
