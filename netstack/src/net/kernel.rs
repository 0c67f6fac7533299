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
    clock::Now,
    frame::Mac,
    netlink::{Frame, attr, attrs, text, u32_at},
};

/// The kernel's state, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) addresses: Vec<Address>,
    /// Default routes of the main table.
    pub(crate) routes: Vec<Route>,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            }
            DEL_LINK => {
                if let Some(gone) = link(frame.payload) {
                    self.links.remove(&gone.index);
                    self.addresses.retain(|address| address.link != gone.index);
                    self.routes.retain(|route| route.link != gone.index);
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
            }
            DEL_ROUTE => {
                if let Some(route) = route(frame.payload) {
                    self.forget_route(&route);
                }
            }
            _ => {}
        }
    }

    /// Whether the kernel may have dropped routes that are known here, without a word, when it said
    /// this.
    pub(crate) fn may_have_lost_routes(&self, frame: &Frame<'_>) -> bool {
        match frame.kind {
            DEL_ADDRESS => !self.routes.is_empty(),
            NEW_LINK => self
                .routes
                .iter()
                .any(|route| self.links.get(&route.link).is_some_and(|link| !link.up)),
            _ => false,
        }
    }

    /// Takes in a change that the kernel acknowledged but need not announce.
    pub(crate) fn made(&mut self, change: &Change) {
        if let Change::Isolate { link } = change
            && let Some(link) = self.links.get_mut(link)
        {
            link.isolated = true;
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
    let hardware = super::netlink::u16_at(payload, 2)?;
    let info = attr(body, IFLA_LINKINFO).unwrap_or_default();
    let mac = attr(body, IFLA_ADDRESS).unwrap_or_default();
    let number = |kind| attr(body, kind).and_then(|value| u32_at(value, 0));
    Some(Link {
        index: u32_at(payload, 4)?,
        name: text(attr(body, IFLA_IFNAME)?),
        mac: mac.try_into().unwrap_or_default(),
        ethernet: hardware == ARPHRD_ETHER && mac.len() == 6,
        loopback: flags & IFF_LOOPBACK != 0,
        kind: attr(info, INFO_KIND).map(text),
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        mtu: number(IFLA_MTU).unwrap_or(0),
        master: number(IFLA_MASTER),
        isolated: attr(info, INFO_SLAVE_DATA)
            .and_then(|data| attr(data, BRPORT_ISOLATED))
            .is_some_and(|value| value == [1]),
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

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

// From linux/rtnetlink.h, if_link.h, if_addr.h, if.h and if_arp.h.
pub(crate) const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
pub(crate) const GET_LINK: u16 = 18;
pub(crate) const NEW_ADDRESS: u16 = 20;
pub(crate) const DEL_ADDRESS: u16 = 21;
pub(crate) const GET_ADDRESS: u16 = 22;
pub(crate) const NEW_ROUTE: u16 = 24;
pub(crate) const DEL_ROUTE: u16 = 25;
pub(crate) const GET_ROUTE: u16 = 26;
/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR and _IPV6_ROUTE as a mask.
pub(crate) const GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10;
pub(crate) const UNSPECIFIED: u8 = 0;
pub(crate) const LINK_HEADER_LEN: usize = 16;
pub(crate) const ADDRESS_HEADER_LEN: usize = 8;
pub(crate) const ROUTE_HEADER_LEN: usize = 12;
pub(crate) const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_LOWER_UP: u32 = 0x1_0000;
const ARPHRD_ETHER: u16 = 1;
pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const INFO_KIND: u16 = 1;
pub(crate) const INFO_SLAVE_KIND: u16 = 4;
pub(crate) const INFO_SLAVE_DATA: u16 = 5;
pub(crate) const BRPORT_ISOLATED: u16 = 33;
pub(crate) const IFA_ADDRESS: u16 = 1;
pub(crate) const IFA_LOCAL: u16 = 2;
pub(crate) const IFA_BROADCAST: u16 = 4;
pub(crate) const IFA_CACHEINFO: u16 = 6;
pub(crate) const FOREVER: u32 = u32::MAX;
pub(crate) const RTA_OIF: u16 = 4;
pub(crate) const RTA_GATEWAY: u16 = 5;
pub(crate) const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
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
            loopback: false,
            kind: None,
            up: true,
            carrier: true,
            mtu: 1500,
            master: None,
            isolated: false,
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
