//! From what should be and what is, the changes that lead from one to the other.
//!
//! Level-triggered: it looks at the whole each time and remembers nothing, so it does not matter
//! which event was lost or who else changed something. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    change::Change,
    clock::Now,
    config::{Addressing, Bridge, NetConfig},
    dhcp::lease::Lease,
    failover,
    kernel::{Kernel, Link},
    made,
    routing::Routing,
};

/// What a link should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) addresses: Vec<WantedAddress>,
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Of the route by that gateway.
    pub(crate) metric: u32,
    pub(crate) mtu: Option<u32>,
}

/// An address a link should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedAddress {
    pub(crate) ip: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) expires: Option<Now>,
}

/// How `link` gets its addresses; `None` if it is none of ours.
pub(crate) fn addressing(config: &NetConfig, link: &Link) -> Option<Addressing> {
    let bridge = config.bridge.as_ref().map(|bridge| bridge.name.as_str());
    let is_port = link.master.is_some() || made::is_port(config, &link.name);
    if link.loopback || !link.ethernet || bridge == Some(&link.name) || is_port {
        return None;
    }
    match config.links.get(&link.name) {
        Some(Addressing::Unmanaged) => None,
        Some(addressing) => Some(addressing.clone()),
        None => {
            let automatic = link.kind.is_none() || config.made.contains_key(&link.name);
            automatic.then_some(Addressing::Automatic)
        }
    }
}

/// Which uplink is preferred: the lower, the sooner. Wi-Fi and modems are told by the names that
/// they get by convention (systemd.net-naming-scheme(7)).
pub(crate) fn metric_of(config: &NetConfig, link: &str) -> u32 {
    let usual = || match link.get(..2) {
        Some("wl") => METRIC_WIRELESS,
        Some("ww") => METRIC_MODEM,
        _ => METRIC_WIRED,
    };
    config.metrics.get(link).copied().unwrap_or_else(usual)
}

impl Addressing {
    /// What a link with fixed addresses should have; nothing for the others.
    pub(crate) fn wanted(&self) -> Wanted {
        match self {
            Self::Static {
                address,
                prefix,
                gateway,
                ..
            } => Wanted {
                addresses: vec![WantedAddress {
                    ip: *address,
                    prefix: (*prefix).min(32),
                    expires: None,
                }],
                gateway: *gateway,
                ..Wanted::default()
            },
            Self::Automatic | Self::Unmanaged => Wanted::default(),
        }
    }
}

/// The lease that a predecessor of this process left in the kernel, told by its end: each has one
/// there, see [`LEASED_FOR_EVER`].
pub(crate) fn lease_of_before(kernel: &Kernel, link: u32) -> Option<Lease> {
    let route = kernel
        .routes
        .iter()
        .find(|route| route.link == link && route.ours);
    let router = route.and_then(|route| match route.gateway {
        IpAddr::V4(gateway) => Some(gateway),
        IpAddr::V6(_) => None,
    });
    kernel
        .addresses_of(link)
        .find_map(|address| match (address.ip, address.expires) {
            (IpAddr::V4(ip), Some(expires)) => {
                Some(Lease::adopted(ip, address.prefix, router, expires))
            }
            _ => None,
        })
}

/// The link-local address that a predecessor of this process left in the kernel.
pub(crate) fn link_local_of_before(kernel: &Kernel, link: u32) -> Option<Ipv4Addr> {
    kernel
        .addresses_of(link)
        .find_map(|address| match address.ip {
            IpAddr::V4(ip) if ip.is_link_local() && address.expires.is_none() => Some(ip),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
}

/// The links that are not looked after yet and whose default route a predecessor of this process put
/// behind others, as they had failed.
pub(crate) fn failed_of_before(kernel: &Kernel, is_managed: impl Fn(&u32) -> bool) -> Vec<u32> {
    let routes = kernel.routes.iter();
    let failed = routes.filter(|route| route.ours && failover::is_of_failed(route.metric));
    let failed = failed.map(|route| route.link);
    failed.filter(|link| !is_managed(link)).collect()
}

/// The changes needed, in an order that works. `wanted` has the managed links by their index.
pub(crate) fn changes(
    config: &NetConfig,
    kernel: &Kernel,
    wanted: &BTreeMap<u32, Wanted>,
    routing: &Routing,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for link in kernel
        .links
        .values()
        .filter(|link| link.loopback && !link.up)
    {
        changes.push(Change::Up { link: link.index });
    }
    if let Some(bridge) = &config.bridge {
        bridge_changes(bridge, kernel, &mut changes);
    }
    made::changes(config, kernel, &mut changes);
    // A port has no addresses of its own.
    let ports = kernel.links.values();
    for port in ports.filter(|link| made::is_port(config, &link.name)) {
        link_changes(port, &Wanted::default(), kernel, &mut changes);
    }
    for (index, wanted) in wanted {
        if let Some(link) = kernel.links.get(index) {
            link_changes(link, wanted, kernel, &mut changes);
        }
    }
    routing.changes(kernel, &mut changes);
    changes
}

fn bridge_changes(bridge: &Bridge, kernel: &Kernel, changes: &mut Vec<Change>) {
    let Some(link) = kernel.named(&bridge.name) else {
        let mac = Bridge::mac_of(bridge.address);
        changes.push(Change::CreateBridge {
            name: bridge.name.clone(),
            mac,
        });
        return;
    };
    let wanted = Wanted {
        addresses: vec![WantedAddress {
            ip: bridge.address,
            prefix: bridge.prefix,
            expires: None,
        }],
        ..Wanted::default()
    };
    link_changes(link, &wanted, kernel, changes);
    let ports = kernel
        .links
        .values()
        .filter(|port| port.master == Some(link.index));
    changes.extend(
        ports
            .filter(|port| !port.isolated)
            .map(|port| Change::Isolate { link: port.index }),
    );
}

fn link_changes(link: &Link, wanted: &Wanted, kernel: &Kernel, changes: &mut Vec<Change>) {
    let index = link.index;
    if !link.up {
        changes.push(Change::Up { link: index });
    }
    if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != link.mtu) {
        changes.push(Change::SetMtu { link: index, mtu });
    }
    address_changes(index, &wanted.addresses, kernel, changes);
    route_changes(link, wanted, kernel, changes);
}

/// New addresses come before old ones go, so that the link is never without.
fn address_changes(
    index: u32,
    wanted: &[WantedAddress],
    kernel: &Kernel,
    changes: &mut Vec<Change>,
) {
    for address in wanted {
        let WantedAddress {
            ip,
            prefix,
            expires,
        } = *address;
        let there = kernel.addresses_of(index).any(|there| {
            (there.ip, there.prefix) == (IpAddr::V4(ip), prefix) && close(there.expires, expires)
        });
        if !there {
            changes.push(Change::AddAddress {
                link: index,
                ip,
                prefix,
                expires,
            });
        }
    }
    for there in kernel.addresses_of(index) {
        let IpAddr::V4(ip) = there.ip else { continue };
        let prefix = there.prefix;
        if !wanted.iter().any(|w| (w.ip, w.prefix) == (ip, prefix)) {
            changes.push(Change::RemoveAddress {
                link: index,
                ip,
                prefix,
            });
        }
    }
}

/// A new route comes before the old one goes.
fn route_changes(link: &Link, wanted: &Wanted, kernel: &Kernel, changes: &mut Vec<Change>) {
    let index = link.index;
    let mut there = false;
    let mut old = Vec::new();
    for route in kernel
        .routes
        .iter()
        .filter(|route| route.link == index && route.ours)
    {
        let IpAddr::V4(gateway) = route.gateway else {
            continue;
        };
        let metric = route.metric;
        if Some(gateway) == wanted.gateway && metric == wanted.metric {
            there = true;
        } else {
            old.push(Change::RemoveRoute {
                link: index,
                gateway,
                metric,
            });
        }
    }
    if let (Some(gateway), false, true) = (wanted.gateway, there, link.up) {
        changes.push(Change::AddRoute {
            link: index,
            gateway,
            metric: wanted.metric,
        });
    }
    changes.extend(old);
}

/// Whether two ends are the same but for rounding and the way through the kernel.
fn close(one: Option<Now>, other: Option<Now>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.abs_diff(other) <= SAME_END,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Above what people set by hand.
const METRIC_WIRED: u32 = 100;
const METRIC_WIRELESS: u32 = 600;
const METRIC_MODEM: u32 = 700;

/// When an address ends that was leased for ever: later than any box, and not never, so that a
/// successor knows it from one that somebody set by hand. The kernel counts seconds in 32 bits.
pub(crate) const LEASED_FOR_EVER: Now = Duration::from_secs(4_000_000_000);

/// Shorter than any lease, longer than the kernel's rounding to seconds.
const SAME_END: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::{
        super::{
            config::Made,
            kernel::{Address, Route, tests::link},
        },
        *,
    };

    fn kernel(links: Vec<Link>) -> Kernel {
        Kernel {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            ..Kernel::default()
        }
    }

    fn bridgeless() -> NetConfig {
        NetConfig {
            bridge: None,
            ..NetConfig::default()
        }
    }

    fn changed(config: &NetConfig, kernel: &Kernel, wanted: &BTreeMap<u32, Wanted>) -> Vec<Change> {
        changes(config, kernel, wanted, &Routing::default())
    }

    const IP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 7);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn wanted() -> BTreeMap<u32, Wanted> {
        let address = WantedAddress {
            ip: IP,
            prefix: 24,
            expires: Some(Duration::from_secs(500)),
        };
        BTreeMap::from([(
            2,
            Wanted {
                addresses: vec![address],
                gateway: Some(GATEWAY),
                metric: 102,
                mtu: Some(1400),
            },
        )])
    }

    #[test]
    fn what_is_missing_is_made_and_then_nothing_is() {
        let mut kernel = kernel(vec![link(2, "eth0")]);
        let made = changed(&bridgeless(), &kernel, &wanted());
        assert_eq!(
            made,
            [
                Change::SetMtu { link: 2, mtu: 1400 },
                Change::AddAddress {
                    link: 2,
                    ip: IP,
                    prefix: 24,
                    expires: Some(Duration::from_secs(500)),
                },
                Change::AddRoute {
                    link: 2,
                    gateway: GATEWAY,
                    metric: 102
                },
            ]
        );
        kernel.links.get_mut(&2).expect("eth0").mtu = 1400;
        kernel.addresses.push(Address {
            link: 2,
            ip: IP.into(),
            prefix: 24,
            expires: Some(Duration::from_secs(501)),
        });
        kernel.routes.push(Route {
            link: 2,
            gateway: GATEWAY.into(),
            metric: 102,
            ours: true,
        });
        assert_eq!(changed(&bridgeless(), &kernel, &wanted()), []);
    }

    #[test]
    fn what_is_stale_goes_but_a_route_of_somebody_else_stays() {
        let mut kernel = kernel(vec![link(2, "eth0")]);
        let old = Ipv4Addr::new(10, 0, 0, 9);
        kernel.addresses.push(Address {
            link: 2,
            ip: old.into(),
            prefix: 8,
            expires: None,
        });
        let route = Route {
            link: 2,
            gateway: old.into(),
            metric: 102,
            ours: true,
        };
        kernel.routes.push(route);
        kernel.routes.push(Route {
            metric: 5,
            ours: false,
            ..route
        });
        let made = changed(
            &bridgeless(),
            &kernel,
            &BTreeMap::from([(2, Wanted::default())]),
        );
        assert_eq!(
            made,
            [
                Change::RemoveAddress {
                    link: 2,
                    ip: old,
                    prefix: 8
                },
                Change::RemoveRoute {
                    link: 2,
                    gateway: old,
                    metric: 102
                },
            ]
        );
    }

    #[test]
    fn a_renewed_lease_moves_the_address_s_end() {
        let mut kernel = kernel(vec![link(2, "eth0")]);
        let expires = Some(Duration::from_secs(100));
        kernel.addresses.push(Address {
            link: 2,
            ip: IP.into(),
            prefix: 24,
            expires,
        });
        let made = changed(&bridgeless(), &kernel, &wanted());
        assert!(
            made.iter()
                .any(|change| matches!(change, Change::AddAddress { .. })),
            "{made:?}"
        );
        assert!(
            !made
                .iter()
                .any(|change| matches!(change, Change::RemoveAddress { .. }))
        );
    }

    #[test]
    fn the_bridge_is_made_and_its_ports_are_isolated() {
        let config = NetConfig::default();
        let mut kernel = kernel(vec![]);
        let made = changed(&config, &kernel, &BTreeMap::new());
        let mac = [2, 0, 10, 77, 0, 1];
        assert_eq!(
            made,
            [Change::CreateBridge {
                name: "pilot0".to_owned(),
                mac
            }]
        );

        let mut port = link(7, "pv1");
        port.master = Some(6);
        kernel.links.insert(
            6,
            Link {
                up: false,
                ..link(6, "pilot0")
            },
        );
        kernel.links.insert(7, port);
        let made = changed(&config, &kernel, &BTreeMap::new());
        assert!(made.contains(&Change::Up { link: 6 }));
        assert!(made.contains(&Change::Isolate { link: 7 }));
        assert!(
            made.iter()
                .any(|change| matches!(change, Change::AddAddress { link: 6, .. }))
        );
    }

    #[test]
    fn only_real_links_and_named_ones_are_managed() {
        let mut config = NetConfig::default();
        let veth = Link {
            kind: Some("veth".to_owned()),
            ..link(3, "v0")
        };
        assert_eq!(
            addressing(&config, &link(2, "eth0")),
            Some(Addressing::Automatic)
        );
        assert_eq!(addressing(&config, &veth), None);
        assert_eq!(addressing(&config, &link(4, "pilot0")), None);
        config.links.insert("v0".to_owned(), Addressing::Automatic);
        config
            .links
            .insert("eth0".to_owned(), Addressing::Unmanaged);
        assert_eq!(addressing(&config, &veth), Some(Addressing::Automatic));
        assert_eq!(addressing(&config, &link(2, "eth0")), None);
    }

    #[test]
    fn a_port_of_a_bridge_has_no_addresses_and_the_bridge_is_automatic() {
        let mut config = bridgeless();
        let ports = vec!["eth0".to_owned()];
        config.made.insert("br0".to_owned(), Made::Bridge { ports });
        let bridge = Link {
            kind: Some("bridge".to_owned()),
            ..link(9, "br0")
        };
        let mut kernel = kernel(vec![link(2, "eth0"), bridge.clone()]);
        kernel.addresses.push(Address {
            link: 2,
            ip: IP.into(),
            prefix: 24,
            expires: None,
        });
        assert_eq!(addressing(&config, &link(2, "eth0")), None);
        assert_eq!(addressing(&config, &bridge), Some(Addressing::Automatic));
        let made = changed(&config, &kernel, &BTreeMap::new());
        assert_eq!(
            made,
            [
                Change::SetMaster { link: 2, master: 9 },
                Change::RemoveAddress {
                    link: 2,
                    ip: IP,
                    prefix: 24
                }
            ]
        );
    }

    #[test]
    fn cables_come_before_wi_fi_and_modems_unless_the_owner_says_otherwise() {
        let mut config = NetConfig::default();
        let of =
            |config: &NetConfig| ["enp1s0", "wlan0", "wwan0", "x"].map(|l| metric_of(config, l));
        assert_eq!(of(&config), [100, 600, 700, 100]);
        config.metrics.insert("wlan0".to_owned(), 7);
        assert_eq!(of(&config), [100, 7, 700, 100]);
    }
}
