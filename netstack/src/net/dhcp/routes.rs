//! Routes that a DHCPv4 server hands out beside the default one (option 121, RFC 3442). Pure.

use std::{fmt, net::Ipv4Addr};

/// A route of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// The network that it leads to, without bits of hosts.
    pub(crate) network: Ipv4Addr,
    /// The network's prefix length, 0 to 32.
    pub(crate) prefix: u8,
    /// The router; none if the network is on the link itself.
    pub(crate) gateway: Option<Ipv4Addr>,
}

impl Route {
    /// A route to the network that an address is in.
    pub(crate) fn new(address: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) -> Self {
        Self {
            network: network(address, prefix),
            prefix,
            gateway,
        }
    }

    /// Whether it leads everywhere.
    pub(crate) fn is_default(&self) -> bool {
        self.prefix == 0
    }
}

impl fmt::Display for Route {
    /// As `ip route` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)?;
        match self.gateway {
            Some(gateway) => write!(f, " via {gateway}"),
            None => Ok(()),
        }
    }
}

/// The routes of an option. `None` if its bytes are not whole routes: the option is as good as absent
/// then. Networks that no route leads to are left out.
pub(crate) fn read(mut option: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = option.split_first() {
        if prefix > 32 {
            return None;
        }
        // Only as many bytes of the network as its prefix has.
        let (significant, rest) = rest.split_at_checked(usize::from(prefix.div_ceil(8)))?;
        let (gateway, rest) = rest.split_first_chunk::<4>()?;
        option = rest;
        let mut octets = [0; 4];
        octets[..significant.len()].copy_from_slice(significant);
        // 0.0.0.0 is the link itself (RFC 3442, "Local Subnet Routes").
        let gateway = Some(Ipv4Addr::from(*gateway)).filter(|ip| !ip.is_unspecified());
        let route = Route::new(octets.into(), prefix, gateway);
        // The kernel has one route to a network at a time; the first is the server's choice.
        let new = |there: &Route| (there.network, there.prefix) != (route.network, route.prefix);
        if is_usable(&route) && routes.len() < ROUTES_MAX && routes.iter().all(new) {
            routes.push(route);
        }
    }
    (!routes.is_empty()).then_some(routes)
}

/// The network of this prefix that an address is in.
pub(crate) fn network(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    Ipv4Addr::from(u32::from(address) & !host)
}

fn is_usable(route: &Route) -> bool {
    let [first, ..] = route.network.octets();
    let gateway = route.gateway.map(|gateway| gateway.octets()[0]);
    let network = route.is_default() || !(first == 0 || first == 127 || first >= 224);
    // A default route without a router would make the whole internet neighbours.
    let lost = route.is_default() && gateway.is_none();
    network && !lost && gateway.is_none_or(|first| (1..224).contains(&first) && first != 127)
}

/// More than any network has, and few enough to be set in one turn.
const ROUTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn route(network: [u8; 4], prefix: u8, gateway: [u8; 4]) -> Route {
        Route::new(network.into(), prefix, Some(gateway.into()))
    }

    #[test]
    fn networks_are_written_in_as_few_bytes_as_they_need() {
        // The examples of RFC 3442, each by way of 10.9.8.1.
        let via = [10, 9, 8, 1];
        let option = [
            &[0][..],
            &via,
            &[8, 10],
            &via,
            &[24, 10, 0, 0],
            &via,
            &[16, 10, 17],
            &via,
            &[24, 10, 27, 129],
            &via,
            &[25, 10, 229, 0, 128],
            &via,
            &[32, 10, 198, 122, 47],
            &via,
        ]
        .concat();
        let expected = [
            route([0, 0, 0, 0], 0, via),
            route([10, 0, 0, 0], 8, via),
            route([10, 0, 0, 0], 24, via),
            route([10, 17, 0, 0], 16, via),
            route([10, 27, 129, 0], 24, via),
            route([10, 229, 0, 128], 25, via),
            route([10, 198, 122, 47], 32, via),
        ];
        assert_eq!(read(&option).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn a_network_on_the_link_has_no_router_and_bits_of_hosts_are_cut_off() {
        let option = [20, 172, 16, 0xff, 0, 0, 0, 0];
        let expected = Route::new([172, 16, 240, 0].into(), 20, None);
        assert_eq!(read(&option), Some(vec![expected]));
    }

    #[test]
    fn of_two_routes_to_one_network_the_first_counts() {
        let option = [8, 10, 192, 168, 1, 1, 8, 10, 192, 168, 1, 2];
        let expected = route([10, 0, 0, 0], 8, [192, 168, 1, 1]);
        assert_eq!(read(&option), Some(vec![expected]));
    }

    #[test]
    fn what_is_no_list_of_routes_is_none() {
        for bad in [
            &[][..],
            &[33, 10, 0, 0, 0, 1, 10, 0, 0, 1],
            &[24, 10, 0, 0],
            &[24, 10, 0, 0, 10, 0, 0, 1, 8],
            // Multicast, loopback, a router that is none, the world on the link.
            &[4, 224, 10, 0, 0, 1],
            &[8, 127, 10, 0, 0, 1],
            &[8, 10, 255, 255, 255, 255],
            &[0, 0, 0, 0, 0],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        let many: Vec<u8> = (0..200).flat_map(|n| [16, 10, n, 10, 0, 0, 1]).collect();
        assert_eq!(read(&many).map(|routes| routes.len()), Some(ROUTES_MAX));
    }
}
