//! What is: the kernel's links, addresses and default routes, as it tells by rtnetlink.
//!
//! Only what is looked at is read; an attribute that is missing or strange costs that attribute,
//! never the link.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{
    change::Change,
    classless::Placed,
    clock::Now,
    dhcp::routes,
    frame::Mac,
    netlink::{Frame, attr, attrs, text, u16_at, u32_at},
    routing::{PRIORITIES, Rule, TABLES, TableRoute, Then},
};

/// The kernel's state, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) addresses: Vec<Address>,
    /// Default routes of the main table.
    pub(crate) routes: Vec<Route>,
    /// Other routes of it that were made here, now or by a predecessor.
    pub(crate) classless: Vec<Placed>,
    /// Our IPv4 routes in the uplinks' own tables.
    pub(crate) tables: Vec<TableRoute>,
    /// Our IPv4 rules.
    pub(crate) rules: Vec<Rule>,
    /// What it says of IPv6 on each link.
    pub(crate) inet6: BTreeMap<u32, Inet6>,
}

/// IPv6 on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inet6 {
    /// Whether a router said that a server gives addresses, and the rest with them.
    pub(crate) managed: bool,
    /// Whether a router said that a server tells of name servers and the like.
    pub(crate) informs: bool,
    /// Whether addresses are made of the secret (RFC 7217).
    pub(crate) private: bool,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Mac,
    /// Whether it is Ethernet or behaves like it.
    pub(crate) ethernet: bool,
    pub(crate) loopback: bool,
    /// What it is made of ("veth", "bridge"); none for hardware.
    pub(crate) kind: Option<String>,
    pub(crate) up: bool,
    pub(crate) carrier: bool,
    pub(crate) mtu: u32,
    /// The bridge it is a port of.
    pub(crate) master: Option<u32>,
    /// Whether it is a bridge's port that may not talk with other such ports.
    pub(crate) isolated: bool,
    /// A number that whoever made it gave it.
    pub(crate) group: u32,
    /// The link that it is on, as a VLAN is.
    pub(crate) parent: Option<u32>,
    /// A VLAN's number.
    pub(crate) vlan: Option<u16>,
}

/// One address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
    /// When the kernel takes it away; none is never.
    pub(crate) expires: Option<Now>,
}

/// One default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) link: u32,
    pub(crate) gateway: IpAddr,
    pub(crate) metric: u32,
    /// Whether it was made here, now or by a predecessor.
    pub(crate) ours: bool,
}

impl Kernel {
    /// Takes in what a frame says, of a dump or of a change; `now` is when it was said.
    pub(crate) fn learn(&mut self, now: Now, frame: &Frame<'_>) {
        match frame.kind {
            NEW_LINK => {
                if let Some(link) = link(frame.payload) {
                    self.links.insert(link.index, link);
                }
                if let Some((link, told)) = inet6(frame.payload) {
                    self.inet6.insert(link, told);
                }
            }
            DEL_LINK => {
                if let Some(gone) = link(frame.payload) {
                    self.links.remove(&gone.index);
                    self.inet6.remove(&gone.index);
                    self.addresses.retain(|address| address.link != gone.index);
                    self.routes.retain(|route| route.link != gone.index);
                    self.classless.retain(|route| route.link != gone.index);
                    self.tables.retain(|route| route.link != gone.index);
                }
            }
            NEW_ADDRESS => {
                if let Some(address) = address(now, frame.payload) {
                    self.forget_address(&address);
                    self.addresses.push(address);
                }
            }
            DEL_ADDRESS => {
                if let Some(address) = address(now, frame.payload) {
                    self.forget_address(&address);
                }
            }
            NEW_ROUTE => {
                if let Some(route) = route(frame.payload) {
                    self.forget_route(&route);
                    self.routes.push(route);
                }
                if let Some(placed) = placed(frame.payload) {
                    self.classless.retain(|there| *there != placed);
                    self.classless.push(placed);
                }
                if let Some(route) = table_route(frame.payload) {
                    self.tables
                        .retain(|old| (old.table, old.to) != (route.table, route.to));
                    self.tables.push(route);
                }
            }
            DEL_ROUTE => {
                if let Some(route) = route(frame.payload) {
                    self.forget_route(&route);
                }
                if let Some(placed) = placed(frame.payload) {
                    self.classless.retain(|there| *there != placed);
                }
                if let Some(route) = table_route(frame.payload) {
                    self.tables.retain(|old| *old != route);
                }
            }
            NEW_RULE => {
                if let Some(rule) = rule(frame.payload)
                    && !self.rules.contains(&rule)
                {
                    self.rules.push(rule);
                }
            }
            DEL_RULE => {
                if let Some(rule) = rule(frame.payload) {
                    self.rules.retain(|old| *old != rule);
                }
            }
            _ => {}
        }
    }

    /// Whether the kernel may have dropped routes that are known here, without a word, when it said
    /// this.
    pub(crate) fn may_have_lost_routes(&self, frame: &Frame<'_>) -> bool {
        match frame.kind {
            DEL_ADDRESS => {
                let routes = self.routes.len() + self.classless.len() + self.tables.len();
                routes > 0
            }
            NEW_LINK => {
                let routes = self.routes.iter().map(|route| route.link);
                let classless = self.classless.iter().map(|there| there.link);
                let tables = self.tables.iter().map(|route| route.link);
                let mut links = routes.chain(classless).chain(tables);
                links.any(|link| self.links.get(&link).is_some_and(|link| !link.up))
            }
            _ => false,
        }
    }

    /// Takes in a change that the kernel acknowledged but need not announce.
    pub(crate) fn made(&mut self, change: &Change) {
        match change {
            Change::Isolate { link } => {
                if let Some(link) = self.links.get_mut(link) {
                    link.isolated = true;
                }
            }
            // Of a link that is down, nothing is announced.
            Change::StableAddresses { link } => {
                self.inet6.entry(*link).or_default().private = true;
            }
            _ => {}
        }
    }

    /// The link of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The addresses of a link.
    pub(crate) fn addresses_of(&self, link: u32) -> impl Iterator<Item = &Address> {
        self.addresses
            .iter()
            .filter(move |address| address.link == link)
    }

    fn forget_address(&mut self, gone: &Address) {
        self.addresses
            .retain(|a| (a.link, a.ip, a.prefix) != (gone.link, gone.ip, gone.prefix));
    }

    fn forget_route(&mut self, gone: &Route) {
        self.routes
            .retain(|r| (r.link, r.gateway, r.metric) != (gone.link, gone.gateway, gone.metric));
    }
}

fn link(payload: &[u8]) -> Option<Link> {
    // A bridge tells of its ports in its own family, half of what a link is; also that a port has
    // left, which is not the link's end.
    if *payload.first()? != UNSPECIFIED {
        return None;
    }
    let body = payload.get(LINK_HEADER_LEN..)?;
    let flags = u32_at(payload, 8)?;
    let hardware = u16_at(payload, 2)?;
    let info = attr(body, IFLA_LINKINFO).unwrap_or_default();
    let data = attr(info, INFO_DATA).unwrap_or_default();
    let kind = attr(info, INFO_KIND).map(text);
    let is_vlan = kind.as_deref() == Some("vlan");
    let mac = attr(body, IFLA_ADDRESS).unwrap_or_default();
    let number = |kind| attr(body, kind).and_then(|value| u32_at(value, 0));
    Some(Link {
        index: u32_at(payload, 4)?,
        name: text(attr(body, IFLA_IFNAME)?),
        mac: mac.try_into().unwrap_or_default(),
        ethernet: hardware == ARPHRD_ETHER && mac.len() == 6,
        loopback: flags & IFF_LOOPBACK != 0,
        vlan: attr(data, IFLA_VLAN_ID)
            .filter(|_| is_vlan)
            .and_then(|id| u16_at(id, 0)),
        kind,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        mtu: number(IFLA_MTU).unwrap_or(0),
        master: number(IFLA_MASTER),
        isolated: attr(info, INFO_SLAVE_DATA)
            .and_then(|data| attr(data, BRPORT_ISOLATED))
            .is_some_and(|value| value == [1]),
        group: number(IFLA_GROUP).unwrap_or(0),
        parent: number(IFLA_LINK),
    })
}

fn address(now: Now, payload: &[u8]) -> Option<Address> {
    let body = payload.get(ADDRESS_HEADER_LEN..)?;
    // On a point-to-point link, IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
    let local = attr(body, IFA_LOCAL).or_else(|| attr(body, IFA_ADDRESS))?;
    let valid = attr(body, IFA_CACHEINFO).and_then(|info| u32_at(info, 4));
    let valid = valid.filter(|seconds| *seconds != FOREVER);
    Some(Address {
        link: u32_at(payload, 4)?,
        ip: ip(local)?,
        prefix: payload[1],
        expires: valid.map(|seconds| now + Duration::from_secs(seconds.into())),
    })
}

fn route(payload: &[u8]) -> Option<Route> {
    let body = payload.get(ROUTE_HEADER_LEN..)?;
    let [_, destination_len, _, _, table, protocol, _, kind] = *payload.first_chunk()?;
    let (mut link, mut gateway, mut metric) = (None, None, 0);
    let mut table = u32::from(table);
    for (kind, value) in attrs(body) {
        match kind {
            RTA_OIF => link = u32_at(value, 0),
            RTA_GATEWAY => gateway = ip(value),
            RTA_PRIORITY => metric = u32_at(value, 0)?,
            RTA_TABLE => table = u32_at(value, 0)?,
            _ => {}
        }
    }
    let wanted = destination_len == 0 && kind == RTN_UNICAST && table == u32::from(TABLE_MAIN);
    wanted.then_some(())?;
    Some(Route {
        link: link?,
        gateway: gateway?,
        metric,
        ours: protocol == PROTOCOL_DHCP,
    })
}

/// A route of ours that does not lead everywhere.
fn placed(payload: &[u8]) -> Option<Placed> {
    let body = payload.get(ROUTE_HEADER_LEN..)?;
    let [family, prefix, _, _, table, protocol, _, kind] = *payload.first_chunk()?;
    let ours = (family, protocol, kind) == (AF_INET, PROTOCOL_DHCP, RTN_UNICAST);
    if !ours || !(1..=32).contains(&prefix) || table != TABLE_MAIN {
        return None;
    }
    let address = |kind| match attr(body, kind).and_then(ip) {
        Some(IpAddr::V4(ip)) => Some(ip),
        Some(IpAddr::V6(_)) | None => None,
    };
    let number = |kind| attr(body, kind).and_then(|value| u32_at(value, 0));
    Some(Placed {
        link: number(RTA_OIF)?,
        route: routes::Route::new(address(RTA_DST)?, prefix, address(RTA_GATEWAY)),
        metric: number(RTA_PRIORITY).unwrap_or(0),
    })
}

/// What a message says of IPv6: of a link as a whole, or what has changed in this alone.
fn inet6(payload: &[u8]) -> Option<(u32, Inet6)> {
    let body = payload.get(LINK_HEADER_LEN..)?;
    let told = match *payload.first()? {
        UNSPECIFIED => attr(attr(body, IFLA_AF_SPEC)?, u16::from(AF_INET6))?,
        AF_INET6 => attr(body, IFLA_PROTINFO)?,
        _ => return None,
    };
    let flags = u32_at(attr(told, INET6_FLAGS)?, 0)?;
    let told = Inet6 {
        managed: flags & RA_MANAGED != 0,
        informs: flags & RA_OTHER != 0,
        private: attr(told, INET6_ADDR_GEN_MODE) == Some(&[STABLE_PRIVACY]),
    };
    Some((u32_at(payload, 4)?, told))
}

/// A route of ours in an uplink's own table.
fn table_route(payload: &[u8]) -> Option<TableRoute> {
    let body = payload.get(ROUTE_HEADER_LEN..)?;
    let [family, prefix, _, _, _, protocol, _, kind] = *payload.first_chunk()?;
    let number = |kind| attr(body, kind).and_then(|value| u32_at(value, 0));
    let v4 = |kind| attr(body, kind).and_then(|value| Some(Ipv4Addr::from(*value.first_chunk()?)));
    let table = number(RTA_TABLE).filter(|table| *table >= TABLES)?;
    let ours = family == AF_INET && protocol == PROTOCOL_DHCP && kind == RTN_UNICAST;
    ours.then_some(())?;
    Some(TableRoute {
        table,
        link: number(RTA_OIF)?,
        to: (v4(RTA_DST).unwrap_or(Ipv4Addr::UNSPECIFIED), prefix),
        gateway: v4(RTA_GATEWAY),
    })
}

/// A rule of ours.
fn rule(payload: &[u8]) -> Option<Rule> {
    let body = payload.get(RULE_HEADER_LEN..)?;
    let [family, to_len, from_len, ..] = *payload.first_chunk::<4>()?;
    let action = *payload.get(7)?;
    let number = |kind| attr(body, kind).and_then(|value| u32_at(value, 0));
    let from = attr(body, FRA_SRC).and_then(|value| Some(Ipv4Addr::from(*value.first_chunk()?)));
    let ours = family == AF_INET
        && to_len == 0
        && attr(body, FRA_PROTOCOL) == Some(&[PROTOCOL_DHCP])
        && from_len == if from.is_some() { 32 } else { 0 };
    ours.then_some(())?;
    let suppress = number(FRA_SUPPRESS_PREFIXLEN).filter(|length| *length != u32::MAX);
    Some(Rule {
        priority: number(FRA_PRIORITY).filter(|priority| PRIORITIES.contains(priority))?,
        from,
        mark: number(FRA_FWMARK).filter(|mark| *mark != 0),
        then: match (action, number(FRA_TABLE)?, suppress) {
            (ACTION_TABLE, table, Some(0)) => Then::Specific(table),
            (ACTION_TABLE, table, None) => Then::Table(table),
            (ACTION_UNREACHABLE, ..) => Then::Unreachable,
            _ => return None,
        },
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

// From linux/rtnetlink.h, if_link.h, if_addr.h, if.h and if_arp.h.
pub(crate) const NEW_LINK: u16 = 16;
pub(crate) const DEL_LINK: u16 = 17;
pub(crate) const GET_LINK: u16 = 18;
pub(crate) const NEW_ADDRESS: u16 = 20;
pub(crate) const DEL_ADDRESS: u16 = 21;
pub(crate) const GET_ADDRESS: u16 = 22;
pub(crate) const NEW_ROUTE: u16 = 24;
pub(crate) const DEL_ROUTE: u16 = 25;
pub(crate) const GET_ROUTE: u16 = 26;
pub(crate) const NEW_RULE: u16 = 32;
pub(crate) const DEL_RULE: u16 = 33;
pub(crate) const GET_RULE: u16 = 34;
/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE and _IPV6_IFINFO
/// as a mask.
pub(crate) const GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;
pub(crate) const UNSPECIFIED: u8 = 0;
pub(crate) const LINK_HEADER_LEN: usize = 16;
pub(crate) const ADDRESS_HEADER_LEN: usize = 8;
pub(crate) const ROUTE_HEADER_LEN: usize = 12;
pub(crate) const RULE_HEADER_LEN: usize = 12;
pub(crate) const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_LOWER_UP: u32 = 0x1_0000;
const ARPHRD_ETHER: u16 = 1;
pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
pub(crate) const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
pub(crate) const IFLA_GROUP: u16 = 27;
pub(crate) const IFLA_VLAN_ID: u16 = 1;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_AF_SPEC: u16 = 26;
const INET6_FLAGS: u16 = 1;
pub(crate) const INET6_ADDR_GEN_MODE: u16 = 8;
/// IN6_ADDR_GEN_MODE_STABLE_PRIVACY.
pub(crate) const STABLE_PRIVACY: u8 = 2;
/// IF_RA_MANAGED and IF_RA_OTHERCONF of the kernel's net/if_inet6.h.
const RA_MANAGED: u32 = 0x40;
const RA_OTHER: u32 = 0x80;
pub(crate) const INFO_KIND: u16 = 1;
pub(crate) const INFO_DATA: u16 = 2;
pub(crate) const INFO_SLAVE_KIND: u16 = 4;
pub(crate) const INFO_SLAVE_DATA: u16 = 5;
pub(crate) const BRPORT_ISOLATED: u16 = 33;
pub(crate) const IFA_ADDRESS: u16 = 1;
pub(crate) const IFA_LOCAL: u16 = 2;
pub(crate) const IFA_BROADCAST: u16 = 4;
pub(crate) const IFA_CACHEINFO: u16 = 6;
pub(crate) const FOREVER: u32 = u32::MAX;
pub(crate) const RTA_DST: u16 = 1;
pub(crate) const RTA_OIF: u16 = 4;
pub(crate) const RTA_GATEWAY: u16 = 5;
pub(crate) const RTA_PRIORITY: u16 = 6;
pub(crate) const RTA_TABLE: u16 = 15;
pub(crate) const FRA_SRC: u16 = 2;
pub(crate) const FRA_PRIORITY: u16 = 6;
pub(crate) const FRA_FWMARK: u16 = 10;
pub(crate) const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
pub(crate) const FRA_TABLE: u16 = 15;
pub(crate) const FRA_PROTOCOL: u16 = 21;
/// FR_ACT_TO_TBL and FR_ACT_UNREACHABLE.
pub(crate) const ACTION_TABLE: u8 = 1;
pub(crate) const ACTION_UNREACHABLE: u8 = 7;
pub(crate) const RTN_UNICAST: u8 = 1;
pub(crate) const TABLE_MAIN: u8 = 254;
/// RTPROT_DHCP: marks the routes made here, so that others are left alone.
pub(crate) const PROTOCOL_DHCP: u8 = 16;

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::netlink::{Request, frames},
        *,
    };

    /// A real link that is up.
    pub(in super::super) fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: [2, 0, 0, 0, 0, index as u8],
            ethernet: true,
            up: true,
            carrier: true,
            mtu: 1500,
            ..Link::default()
        }
    }

    fn learn(kernel: &mut Kernel, request: Request) {
        let bytes = request.numbered(1);
        let frame = frames(&bytes).next().expect("a frame");
        kernel.learn(Duration::from_secs(100), &frame);
    }

    fn new_link(index: u32, family: u8) -> Request {
        let mut header = [0; LINK_HEADER_LEN];
        header[0] = family;
        header[2..4].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8..12].copy_from_slice(&(IFF_UP | IFF_LOWER_UP).to_ne_bytes());
        Request::new(NEW_LINK, 0, &header)
            .text(IFLA_IFNAME, "eth0")
            .attr(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1])
            .attr(200, b"from a kernel of the future")
    }

    #[test]
    fn a_link_is_read_whatever_else_is_said_of_it() {
        let mut kernel = Kernel::default();
        learn(&mut kernel, new_link(2, UNSPECIFIED));
        let link = kernel.named("eth0").expect("the link");
        assert!(link.up && link.carrier && link.ethernet && link.kind.is_none());
    }

    #[test]
    fn what_a_bridge_says_of_its_port_is_not_the_link() {
        let mut kernel = Kernel::default();
        learn(&mut kernel, new_link(2, 7));
        assert!(kernel.links.is_empty());
    }

    #[test]
    fn an_address_is_known_once_and_by_its_end() {
        let mut kernel = Kernel::default();
        for valid in [60u32, 90] {
            let header = [2, 24, 0, 0, 2, 0, 0, 0];
            let info = [0, valid, 0, 0].map(u32::to_ne_bytes).concat();
            learn(
                &mut kernel,
                Request::new(NEW_ADDRESS, 0, &header)
                    .attr(IFA_LOCAL, &[10, 0, 0, 7])
                    .attr(IFA_CACHEINFO, &info),
            );
        }
        assert_eq!(kernel.addresses.len(), 1);
        assert_eq!(kernel.addresses[0].expires, Some(Duration::from_secs(190)));
    }

    #[test]
    fn what_routers_say_of_servers_comes_with_a_link_and_by_itself() {
        let told = |family: u8, flags: u32, mode: u8| {
            let fill = |request: Request| {
                request
                    .u32(INET6_FLAGS, flags)
                    .attr(INET6_ADDR_GEN_MODE, &[mode])
            };
            let link = new_link(2, family);
            match family {
                AF_INET6 => link.nest(IFLA_PROTINFO, fill),
                _ => link.nest(IFLA_AF_SPEC, |spec| spec.nest(AF_INET6.into(), fill)),
            }
        };
        let mut kernel = Kernel::default();
        learn(&mut kernel, told(UNSPECIFIED, 0x8000_0020, STABLE_PRIVACY));
        let private = Inet6 {
            private: true,
            ..Inet6::default()
        };
        assert_eq!(kernel.inet6.get(&2), Some(&private));
        learn(&mut kernel, told(AF_INET6, 0x8000_00a0, 0));
        let informs = Inet6 {
            informs: true,
            ..Inet6::default()
        };
        assert_eq!(kernel.inet6.get(&2), Some(&informs));
        learn(&mut kernel, told(AF_INET6, 0x40, 0));
        assert!(kernel.inet6[&2].managed && kernel.links.len() == 1);
        learn(&mut kernel, new_link(2, UNSPECIFIED));
        assert!(kernel.inet6[&2].managed, "it says nothing of it");
    }

    #[test]
    fn routes_of_ours_are_known_by_where_they_lead() {
        let mut header = [0; ROUTE_HEADER_LEN];
        header[..8].copy_from_slice(&[AF_INET, 16, 0, 0, TABLE_MAIN, PROTOCOL_DHCP, 0, 1]);
        let made = |kind: u16, header: &[u8]| {
            Request::new(kind, 0, header)
                .attr(RTA_DST, &[172, 20, 0, 0])
                .attr(RTA_GATEWAY, &[10, 0, 0, 1])
                .u32(RTA_OIF, 2)
                .u32(RTA_PRIORITY, 102)
        };
        let mut kernel = Kernel::default();
        for _ in 0..2 {
            learn(&mut kernel, made(NEW_ROUTE, &header));
        }
        let expected = Placed {
            link: 2,
            route: routes::Route::new([172, 20, 0, 0].into(), 16, Some([10, 0, 0, 1].into())),
            metric: 102,
        };
        assert_eq!(
            (kernel.classless.as_slice(), kernel.routes.len()),
            (&[expected][..], 0)
        );
        learn(&mut kernel, made(DEL_ROUTE, &header));
        assert_eq!(kernel.classless, []);
        // By the kernel itself, for its own address.
        header[5] = 2;
        learn(&mut kernel, made(NEW_ROUTE, &header));
        assert_eq!(kernel.classless, []);
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut random = crate::net::random::Random::new(5);
        let mut kernel = Kernel::default();
        for _ in 0..20_000 {
            let payload: Vec<u8> = (0..random.below(60))
                .map(|_| random.below(9) as u8)
                .collect();
            let frame = Frame {
                kind: 16 + random.below(11) as u16,
                flags: 0,
                sequence: 0,
                payload: &payload,
            };
            kernel.learn(Duration::ZERO, &frame);
        }
    }
}
