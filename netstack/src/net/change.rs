//! One step from what is to what should be, as a sentence and as an rtnetlink request.

use std::{fmt, net::Ipv4Addr, time::Duration};

use super::{
    classless::Placed,
    clock::Now,
    frame::Mac,
    kernel::{
        ACTION_TABLE, ACTION_UNREACHABLE, ADDRESS_HEADER_LEN, AF_INET, AF_INET6, BRPORT_ISOLATED,
        DEL_ADDRESS, DEL_LINK, DEL_ROUTE, DEL_RULE, FOREVER, FRA_FWMARK, FRA_PRIORITY,
        FRA_PROTOCOL, FRA_SRC, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, IFA_ADDRESS, IFA_BROADCAST,
        IFA_CACHEINFO, IFA_LOCAL, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_IFNAME,
        IFLA_LINK, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_VLAN_ID, INET6_ADDR_GEN_MODE,
        INFO_DATA, INFO_KIND, INFO_SLAVE_DATA, INFO_SLAVE_KIND, LINK_HEADER_LEN, NEW_ADDRESS,
        NEW_LINK, NEW_ROUTE, NEW_RULE, PROTOCOL_DHCP, ROUTE_HEADER_LEN, RTA_DST, RTA_GATEWAY,
        RTA_OIF, RTA_PRIORITY, RTA_TABLE, RTN_UNICAST, RULE_HEADER_LEN, STABLE_PRIVACY, TABLE_MAIN,
    },
    made::GROUP,
    netlink::{CREATE, EXCLUSIVE, REPLACE, Request},
    routing::{Rule, TableRoute, Then},
};

/// A change to the kernel's network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Gives a link an address, or an address it has a new end.
    AddAddress {
        link: u32,
        ip: Ipv4Addr,
        prefix: u8,
        expires: Option<Now>,
    },
    /// Makes a route to a network.
    AddClassless(Placed),
    /// Makes a default route.
    AddRoute {
        link: u32,
        gateway: Ipv4Addr,
        metric: u32,
    },
    /// Makes a rule for which table is used.
    AddRule(Rule),
    /// Makes a route in an uplink's own table, or gives one there another gateway.
    AddTableRoute(TableRoute),
    /// Makes the services' bridge.
    CreateBridge { name: String, mac: Mac },
    /// Makes a link that the owner declared.
    CreateLink { name: String, made: NewLink },
    /// Unmakes a link.
    DeleteLink { link: u32 },
    /// Keeps a bridge's port from talking with other such ports.
    Isolate { link: u32 },
    /// Takes an address from a link.
    RemoveAddress { link: u32, ip: Ipv4Addr, prefix: u8 },
    /// Takes a route to a network away.
    RemoveClassless(Placed),
    /// Takes a default route away.
    RemoveRoute {
        link: u32,
        gateway: Ipv4Addr,
        metric: u32,
    },
    /// Takes a rule away.
    RemoveRule(Rule),
    /// Takes a route of an uplink's own table away.
    RemoveTableRoute(TableRoute),
    /// Makes a link the port of a bridge; of none, if that is 0.
    SetMaster { link: u32, master: u32 },
    /// Sets the largest packet of a link.
    SetMtu { link: u32, mtu: u32 },
    /// Has a link make its IPv6 addresses of the kernel's secret.
    StableAddresses { link: u32 },
    /// Sets a link up.
    Up { link: u32 },
}

/// What a link that is made is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NewLink {
    Bridge { mac: Mac },
    Vlan { on: u32, id: u16 },
}

impl Change {
    /// The index of the link it is about; 0 for one that is yet to be made.
    pub(crate) fn link(&self) -> u32 {
        match self {
            Self::AddAddress { link, .. }
            | Self::AddRoute { link, .. }
            | Self::Isolate { link }
            | Self::RemoveAddress { link, .. }
            | Self::RemoveRoute { link, .. }
            | Self::SetMaster { link, .. }
            | Self::SetMtu { link, .. }
            | Self::StableAddresses { link }
            | Self::DeleteLink { link }
            | Self::Up { link } => *link,
            Self::AddClassless(placed) | Self::RemoveClassless(placed) => placed.link,
            Self::AddTableRoute(route) | Self::RemoveTableRoute(route) => route.link,
            Self::AddRule(_)
            | Self::RemoveRule(_)
            | Self::CreateBridge { .. }
            | Self::CreateLink { .. } => 0,
        }
    }

    /// The request that makes it so.
    pub(crate) fn request(&self, now: Now) -> Request {
        match self {
            Self::AddAddress {
                link,
                ip,
                prefix,
                expires,
            } => add_address(
                *link,
                *ip,
                *prefix,
                expires.map(|at| at.saturating_sub(now)),
            ),
            Self::AddClassless(placed) => classless(NEW_ROUTE, CREATE | REPLACE, placed),
            Self::RemoveClassless(placed) => classless(DEL_ROUTE, 0, placed),
            Self::StableAddresses { link } => stable_addresses(*link),
            Self::AddRoute {
                link,
                gateway,
                metric,
            } => route(NEW_ROUTE, CREATE, *link, *gateway, *metric),
            Self::AddRule(wanted) => rule(NEW_RULE, CREATE | EXCLUSIVE, wanted),
            Self::AddTableRoute(route) => table_route(NEW_ROUTE, CREATE | REPLACE, route),
            Self::CreateBridge { name, mac } => create_bridge(name, mac),
            Self::CreateLink { name, made } => create_link(name, made),
            Self::DeleteLink { link } => Request::new(DEL_LINK, 0, &link_header(*link, 0)),
            Self::Isolate { link } => isolate(*link),
            Self::RemoveAddress { link, ip, prefix } => {
                address(DEL_ADDRESS, 0, *link, *ip, *prefix)
            }
            Self::RemoveRoute {
                link,
                gateway,
                metric,
            } => route(DEL_ROUTE, 0, *link, *gateway, *metric),
            Self::RemoveRule(old) => rule(DEL_RULE, 0, old),
            Self::RemoveTableRoute(route) => table_route(DEL_ROUTE, 0, route),
            Self::SetMaster { link, master } => {
                Request::new(NEW_LINK, 0, &link_header(*link, 0)).u32(IFLA_MASTER, *master)
            }
            Self::SetMtu { link, mtu } => {
                Request::new(NEW_LINK, 0, &link_header(*link, 0)).u32(IFLA_MTU, *mtu)
            }
            Self::Up { link } => Request::new(NEW_LINK, 0, &link_header(*link, IFF_UP)),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddAddress { ip, prefix, .. } => write!(f, "setting the address {ip}/{prefix}"),
            Self::AddClassless(placed) => write!(f, "setting the route to {}", placed.route),
            Self::RemoveClassless(placed) => write!(f, "removing the route to {}", placed.route),
            Self::StableAddresses { link } => {
                write!(f, "making the IPv6 addresses of link {link} private")
            }
            Self::AddRoute { gateway, .. } => write!(f, "setting the route by {gateway}"),
            Self::AddRule(rule) => write!(f, "setting the routing rule {}", rule.priority),
            Self::AddTableRoute(TableRoute {
                to: (ip, prefix), ..
            }) => write!(f, "setting its own route to {ip}/{prefix}"),
            Self::CreateBridge { name, .. } => write!(f, "making the bridge {name}"),
            Self::CreateLink { name, made } => match made {
                NewLink::Bridge { .. } => write!(f, "making the bridge {name}"),
                NewLink::Vlan { id, .. } => write!(f, "making {name} for VLAN {id}"),
            },
            Self::DeleteLink { link } => write!(f, "unmaking link {link}"),
            Self::Isolate { link } => write!(f, "isolating the bridge's port {link}"),
            Self::RemoveAddress { ip, .. } => write!(f, "removing the address {ip}"),
            Self::RemoveRoute { gateway, .. } => write!(f, "removing the route by {gateway}"),
            Self::RemoveRule(rule) => write!(f, "removing the routing rule {}", rule.priority),
            Self::RemoveTableRoute(TableRoute {
                to: (ip, prefix), ..
            }) => write!(f, "removing its own route to {ip}/{prefix}"),
            Self::SetMaster { link, master: 0 } => write!(f, "taking link {link} from its bridge"),
            Self::SetMaster { link, master } => {
                write!(f, "making link {link} a port of link {master}")
            }
            Self::SetMtu { mtu, .. } => write!(f, "setting the packet size {mtu}"),
            Self::Up { link } => write!(f, "setting link {link} up"),
        }
    }
}

fn add_address(link: u32, ip: Ipv4Addr, prefix: u8, lasts: Option<Duration>) -> Request {
    let valid = lasts.map_or(FOREVER, seconds);
    // Preferred and valid; the kernel fills in the stamps.
    let times = [valid, valid, 0, 0].map(u32::to_ne_bytes).concat();
    address(NEW_ADDRESS, CREATE | REPLACE, link, ip, prefix)
        .attr(IFA_BROADCAST, &broadcast(ip, prefix).octets())
        .attr(IFA_CACHEINFO, &times)
}

fn create_bridge(name: &str, mac: &Mac) -> Request {
    // With an address of its own, it does not take that of its first port, and lose it with that
    // port.
    Request::new(NEW_LINK, CREATE | EXCLUSIVE, &link_header(0, 0))
        .text(IFLA_IFNAME, name)
        .attr(IFLA_ADDRESS, mac)
        .nest(IFLA_LINKINFO, |info| info.text(INFO_KIND, "bridge"))
}

fn create_link(name: &str, made: &NewLink) -> Request {
    let new = Request::new(NEW_LINK, CREATE | EXCLUSIVE, &link_header(0, 0))
        .text(IFLA_IFNAME, name)
        .u32(IFLA_GROUP, GROUP);
    match made {
        NewLink::Bridge { mac } => new
            .attr(IFLA_ADDRESS, mac)
            .nest(IFLA_LINKINFO, |info| info.text(INFO_KIND, "bridge")),
        NewLink::Vlan { on, id } => new.u32(IFLA_LINK, *on).nest(IFLA_LINKINFO, |info| {
            info.text(INFO_KIND, "vlan")
                .nest(INFO_DATA, |data| data.attr(IFLA_VLAN_ID, &id.to_ne_bytes()))
        }),
    }
}

fn isolate(port: u32) -> Request {
    Request::new(NEW_LINK, 0, &link_header(port, 0)).nest(IFLA_LINKINFO, |info| {
        info.text(INFO_SLAVE_KIND, "bridge")
            .nest(INFO_SLAVE_DATA, |port| port.attr(BRPORT_ISOLATED, &[1]))
    })
}

fn link_header(index: u32, flags: u32) -> [u8; LINK_HEADER_LEN] {
    let mut header = [0; LINK_HEADER_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    // The mask: only the flags given are changed.
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn address(kind: u16, flags: u16, link: u32, ip: Ipv4Addr, prefix: u8) -> Request {
    let mut header = [0; ADDRESS_HEADER_LEN];
    header[0] = AF_INET;
    header[1] = prefix;
    header[3] = if ip.is_link_local() {
        SCOPE_LINK
    } else {
        SCOPE_UNIVERSE
    };
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    Request::new(kind, flags, &header)
        .attr(IFA_LOCAL, &ip.octets())
        .attr(IFA_ADDRESS, &ip.octets())
}

fn route(kind: u16, flags: u16, link: u32, gateway: Ipv4Addr, metric: u32) -> Request {
    let mut header = [0; ROUTE_HEADER_LEN];
    header[0] = AF_INET;
    header[4] = TABLE_MAIN;
    header[5] = PROTOCOL_DHCP;
    header[7] = RTN_UNICAST;
    // Some providers put the gateway outside the subnet: it is on the link all the same.
    header[8..12].copy_from_slice(&ON_LINK.to_ne_bytes());
    Request::new(kind, flags, &header)
        .u32(RTA_OIF, link)
        .attr(RTA_GATEWAY, &gateway.octets())
        .u32(RTA_PRIORITY, metric)
}

fn classless(kind: u16, flags: u16, placed: &Placed) -> Request {
    let mut header = [0; ROUTE_HEADER_LEN];
    header[..2].copy_from_slice(&[AF_INET, placed.route.prefix]);
    header[4..6].copy_from_slice(&[TABLE_MAIN, PROTOCOL_DHCP]);
    header[7] = RTN_UNICAST;
    let mut request_flags = 0;
    match placed.route.gateway {
        // The router need not be in the subnet of the lease's address.
        Some(_) => request_flags = ON_LINK,
        None => header[6] = SCOPE_LINK,
    }
    header[8..12].copy_from_slice(&u32::to_ne_bytes(request_flags));
    let request = Request::new(kind, flags, &header)
        .attr(RTA_DST, &placed.route.network.octets())
        .u32(RTA_OIF, placed.link)
        .u32(RTA_PRIORITY, placed.metric);
    match placed.route.gateway {
        Some(gateway) => request.attr(RTA_GATEWAY, &gateway.octets()),
        None => request,
    }
}

fn table_route(kind: u16, flags: u16, route: &TableRoute) -> Request {
    let (to, prefix) = route.to;
    let mut header = [0; ROUTE_HEADER_LEN];
    header[0] = AF_INET;
    header[1] = prefix;
    header[5] = PROTOCOL_DHCP;
    header[7] = RTN_UNICAST;
    let on_link = match route.gateway {
        Some(_) => ON_LINK,
        None => {
            header[6] = SCOPE_LINK;
            0
        }
    };
    header[8..12].copy_from_slice(&on_link.to_ne_bytes());
    let request = Request::new(kind, flags, &header)
        .u32(RTA_TABLE, route.table)
        .u32(RTA_OIF, route.link);
    let request = match prefix {
        0 => request,
        _ => request.attr(RTA_DST, &to.octets()),
    };
    match route.gateway {
        Some(gateway) => request.attr(RTA_GATEWAY, &gateway.octets()),
        None => request,
    }
}

fn stable_addresses(link: u32) -> Request {
    Request::new(NEW_LINK, 0, &link_header(link, 0)).nest(IFLA_AF_SPEC, |spec| {
        spec.nest(AF_INET6.into(), |inet6| {
            inet6.attr(INET6_ADDR_GEN_MODE, &[STABLE_PRIVACY])
        })
    })
}

fn rule(kind: u16, flags: u16, rule: &Rule) -> Request {
    let mut header = [0; RULE_HEADER_LEN];
    header[0] = AF_INET;
    header[2] = if rule.from.is_some() { 32 } else { 0 };
    header[7] = match rule.then {
        Then::Specific(_) | Then::Table(_) => ACTION_TABLE,
        Then::Unreachable => ACTION_UNREACHABLE,
    };
    let mut request = Request::new(kind, flags, &header)
        .u32(FRA_PRIORITY, rule.priority)
        .attr(FRA_PROTOCOL, &[PROTOCOL_DHCP]);
    if let Some(from) = rule.from {
        request = request.attr(FRA_SRC, &from.octets());
    }
    if let Some(mark) = rule.mark {
        request = request.u32(FRA_FWMARK, mark);
    }
    match rule.then {
        Then::Specific(table) => request.u32(FRA_TABLE, table).u32(FRA_SUPPRESS_PREFIXLEN, 0),
        Then::Table(table) => request.u32(FRA_TABLE, table),
        Then::Unreachable => request,
    }
}

fn broadcast(ip: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    Ipv4Addr::from(u32::from(ip) | host)
}

/// Rounded up, and never "for ever" nor "not at all".
fn seconds(time: Duration) -> u32 {
    let seconds = time
        .as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(seconds)
        .unwrap_or(FOREVER)
        .clamp(1, FOREVER - 1)
}

/// RT_SCOPE_UNIVERSE and RT_SCOPE_LINK.
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
/// RTNH_F_ONLINK.
const ON_LINK: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_s_broadcast_address_is_its_last() {
        let ip = Ipv4Addr::new(10, 77, 0, 1);
        assert_eq!(broadcast(ip, 16), Ipv4Addr::new(10, 77, 255, 255));
        assert_eq!(broadcast(ip, 32), ip);
        assert_eq!(broadcast(ip, 0), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn an_end_in_the_past_or_far_future_stays_an_end() {
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::from_millis(1500)), 2);
        assert_eq!(seconds(Duration::MAX), FOREVER - 1);
    }
}
