//! What the owner sets of the network, and what of it can't be right. Pure.

mod made;
mod uplinks;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

pub use self::{
    made::check_removal,
    uplinks::{METRICS, check_service},
};
use super::config::{Addressing, Bridge, Made, Otherwise};

/// All that the owner has set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How links get their addresses, by the link's name; those not named are automatic.
    pub links: BTreeMap<String, Addressing>,
    /// Bridges and VLANs, by their name.
    pub made: BTreeMap<String, Made>,
    /// Metrics of uplinks, by the link's name.
    pub metrics: BTreeMap<String, u32>,
    /// Services that send by an uplink of their own, by their id.
    pub services: BTreeMap<String, Binding>,
}

/// What a service is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The uplink's name.
    pub uplink: String,
    /// What happens while that uplink leads nowhere.
    pub otherwise: Otherwise,
}

/// The box's network as it is, as far as settings must fit it.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The links that there are, each with the IPv4 addresses that it has now.
    pub links: &'a [(String, Vec<Ipv4Addr>)],
    /// The services' own network.
    pub bridge: &'a Bridge,
    /// The ids of the services that there are.
    pub services: &'a [&'a str],
}

/// Why a setting is refused: what is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Unfit {
    /// The address can be no host's.
    #[error("{link}: {ip} can't be a server's address, as it is {why}. Choose another.")]
    Address {
        /// The link.
        link: String,
        /// The address.
        ip: Ipv4Addr,
        /// What it is.
        why: String,
    },
    /// A name server has an address that can be no host's.
    #[error("{link}: {ip} can't be a name server's address. Leave it out, or write another.")]
    Dns {
        /// The link.
        link: String,
        /// The address.
        ip: IpAddr,
    },
    /// A link would be made of itself.
    #[error("{link}: it would be part of itself, by way of {by}. Leave {by} out.")]
    Cycle {
        /// The link.
        link: String,
        /// What it is made of.
        by: String,
    },
    /// The gateway can't be that.
    #[error(
        "{link}: the gateway {gateway} {why}. Write the address of the router in {subnet}, or no \
         gateway."
    )]
    Gateway {
        /// The link.
        link: String,
        /// The gateway.
        gateway: Ipv4Addr,
        /// What is wrong with it.
        why: &'static str,
        /// The address's subnet.
        subnet: String,
    },
    /// Something else needs it.
    #[error("{link}: it is in use by {user}. Change or remove {user} first.")]
    InUse {
        /// The link.
        link: String,
        /// What needs it.
        user: String,
    },
    /// There is no such link.
    #[error("There is no network card called {link}. There is {known}.")]
    Link {
        /// Its name.
        link: String,
        /// Those that there are.
        known: String,
    },
    /// A metric is out of bounds.
    #[error(
        "{link}: {metric} can't be its metric. Choose from 1 to 9999, the lower the sooner it is \
         used, or 0 for the usual one."
    )]
    Metric {
        /// The link.
        link: String,
        /// The metric.
        metric: u32,
    },
    /// No link can be called that.
    #[error(
        "{link:?} can't be a link's name, as {why}. Choose another, of at most 15 letters, digits, \
         dots, hyphens and underscores."
    )]
    Name {
        /// The name.
        link: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is nothing that the owner made.
    #[error(
        "{link} is no bridge or VLAN of the settings, so it can't be removed. There is {known}."
    )]
    NotMade {
        /// Its name.
        link: String,
        /// Those that there are.
        known: String,
    },
    /// A link can't be a bridge's port.
    #[error("{link}: {port} can't be a port of it, as it is {why}. Leave {port} out.")]
    Port {
        /// The bridge.
        link: String,
        /// The link that can't be its port.
        port: String,
        /// What it is.
        why: String,
    },
    /// A link has no addresses of its own, as it is a port.
    #[error("{link}: it is a port of {bridge}, so it {what}. Set that of {bridge}.")]
    PortHasNone {
        /// The port.
        link: String,
        /// Its bridge.
        bridge: String,
        /// What it has not.
        what: &'static str,
    },
    /// A bridge with none or too many ports.
    #[error("{link}: a bridge has from 1 to {most} ports. Name the network cards it is to join.")]
    Ports {
        /// The bridge.
        link: String,
        /// How many there may be.
        most: usize,
    },
    /// The prefix length makes no subnet.
    #[error("{link}: a prefix of {prefix} makes no network. Most home networks have 24.")]
    Prefix {
        /// The link.
        link: String,
        /// The prefix length.
        prefix: u8,
    },
    /// Too many of something.
    #[error("{link}: there may be at most {most} name servers, each once. Leave some out.")]
    Servers {
        /// The link.
        link: String,
        /// How many there may be.
        most: usize,
    },
    /// There is no such service.
    #[error("There is no service called {service}. There is {known}.")]
    Service {
        /// Its id.
        service: String,
        /// Those that there are.
        known: String,
    },
    /// Too much of something.
    #[error("There may be at most {most} {what}. Remove one first.")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// A link that can't be a service's uplink.
    #[error("{service}: {uplink} can't be its uplink, as it {why}. Choose another.")]
    Uplink {
        /// The service.
        service: String,
        /// The link.
        uplink: String,
        /// Why not.
        why: String,
    },
    /// A VLAN's number is out of bounds.
    #[error(
        "{link}: there is no VLAN {id}. Choose a number from 1 to 4094, the one that the switch \
         has for that network."
    )]
    VlanId {
        /// The link.
        link: String,
        /// The number.
        id: u16,
    },
    /// A VLAN that is there already.
    #[error("{link}: VLAN {id} of {on} is {other} already. Choose another number, or use {other}.")]
    VlanTwice {
        /// The link.
        link: String,
        /// The number.
        id: u16,
        /// The link it is on.
        on: String,
        /// Who has it.
        other: String,
    },
    /// The address is in use elsewhere on the box.
    #[error("{link}: {ip} belongs to {other} already. Choose another address, or change {other}.")]
    Taken {
        /// The link.
        link: String,
        /// The address.
        ip: Ipv4Addr,
        /// Who has it.
        other: String,
    },
    /// The subnet meets another of the box's.
    #[error("{link}: {subnet} overlaps with {other}. Choose another address or prefix.")]
    Subnet {
        /// The link.
        link: String,
        /// The subnet.
        subnet: String,
        /// Whose network it meets.
        other: String,
    },
}

/// An IPv4 subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subnet {
    network: u32,
    prefix: u8,
}

/// Whether the setting of `link` among `settings` can work in these surroundings.
///
/// # Errors
/// With the first thing that can't be right.
pub fn check(settings: &Settings, link: &str, around: Surroundings<'_>) -> Result<(), Unfit> {
    match settings.made.get(link) {
        Some(made) => made::check(settings, link, made, around)?,
        None => there_is(settings, link, around)?,
    }
    uplinks::check_metric(settings, link)?;
    let addressing = settings.links.get(link);
    if let (Some(bridge), true) = (settings.bridge_of(link), addressing.is_some()) {
        return Err(Unfit::PortHasNone {
            link: link.to_owned(),
            bridge: bridge.to_owned(),
            what: "has no addresses of its own",
        });
    }
    let Some(Addressing::Static {
        address,
        prefix,
        gateway,
        dns,
    }) = addressing
    else {
        return Ok(());
    };
    if !(1..=32).contains(prefix) {
        return Err(Unfit::Prefix {
            link: link.to_owned(),
            prefix: *prefix,
        });
    }
    let subnet = Subnet::of(*address, *prefix);
    host(link, *address, subnet)?;
    if let Some(gateway) = gateway {
        router(link, *gateway, *address, subnet)?;
    }
    servers(link, dns)?;
    apart(settings, link, *address, subnet, around)
}

impl Settings {
    /// The bridge that a link is a port of.
    pub fn bridge_of(&self, link: &str) -> Option<&str> {
        let mut made = self.made.iter();
        let bridge = made.find(|(_, made)| match made {
            Made::Bridge { ports } => ports.iter().any(|port| port == link),
            Made::Vlan { .. } => false,
        });
        bridge.map(|(name, _)| name.as_str())
    }
}

/// The link must be one that is there, or is to be made.
fn there_is(settings: &Settings, link: &str, around: Surroundings<'_>) -> Result<(), Unfit> {
    let there = around.links.iter().any(|(name, _)| name == link);
    if there || settings.made.contains_key(link) {
        return Ok(());
    }
    Err(Unfit::Link {
        link: link.to_owned(),
        known: listed(around.links.iter().map(|(name, _)| name.as_str())),
    })
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [] => "none at all".to_owned(),
        names => names.join(", "),
    }
}

/// The address must be one that a host can have in its subnet.
fn host(link: &str, ip: Ipv4Addr, subnet: Subnet) -> Result<(), Unfit> {
    let why = if ip.is_loopback() {
        "one of those that mean the server itself"
    } else if ip.is_link_local() {
        "one of those that devices give themselves when nobody gives them one"
    } else if ip.octets()[0] == 0 || ip.octets()[0] >= 224 {
        "one of those that no device can have"
    } else if subnet.is_edge(ip) && ip == subnet.first() {
        return Err(edge(link, ip, "the name of its whole network", subnet));
    } else if subnet.is_edge(ip) {
        return Err(edge(
            link,
            ip,
            "that for all devices of its network",
            subnet,
        ));
    } else {
        return Ok(());
    };
    Err(Unfit::Address {
        link: link.to_owned(),
        ip,
        why: why.to_owned(),
    })
}

fn edge(link: &str, ip: Ipv4Addr, what: &str, subnet: Subnet) -> Unfit {
    Unfit::Address {
        link: link.to_owned(),
        ip,
        why: format!("{what}, {}", subnet.spelt()),
    }
}

fn router(link: &str, gateway: Ipv4Addr, own: Ipv4Addr, subnet: Subnet) -> Result<(), Unfit> {
    let why = if gateway == own {
        "is the server's own address"
    } else if !subnet.holds(gateway) {
        "is not in the address's network"
    } else if subnet.is_edge(gateway) {
        "is no device's address"
    } else {
        return Ok(());
    };
    Err(Unfit::Gateway {
        link: link.to_owned(),
        gateway,
        why,
        subnet: subnet.spelt(),
    })
}

fn servers(link: &str, dns: &[IpAddr]) -> Result<(), Unfit> {
    let broadcast = |ip: &IpAddr| *ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    let wrong = |ip: &&IpAddr| ip.is_unspecified() || ip.is_multicast() || broadcast(ip);
    if let Some(ip) = dns.iter().find(wrong) {
        return Err(Unfit::Dns {
            link: link.to_owned(),
            ip: *ip,
        });
    }
    let twice = dns
        .iter()
        .enumerate()
        .any(|(at, ip)| dns[..at].contains(ip));
    if dns.len() > MAX_SERVERS || twice {
        return Err(Unfit::Servers {
            link: link.to_owned(),
            most: MAX_SERVERS,
        });
    }
    Ok(())
}

/// The address and its subnet must meet none of the box's others.
fn apart(
    settings: &Settings,
    link: &str,
    address: Ipv4Addr,
    subnet: Subnet,
    around: Surroundings<'_>,
) -> Result<(), Unfit> {
    let meets = |other: Subnet, whose: &str| Unfit::Subnet {
        link: link.to_owned(),
        subnet: subnet.spelt(),
        other: format!("{whose}, {}", other.spelt()),
    };
    let services = Subnet::of(around.bridge.address, around.bridge.prefix);
    if subnet.meets(services) {
        return Err(meets(services, "the services' own network"));
    }
    // What a port has now goes over to its bridge.
    let other = |name: &str| name != link && settings.bridge_of(name) != Some(link);
    let has_it = |(name, now): &&(String, Vec<Ipv4Addr>)| other(name) && now.contains(&address);
    if let Some((other, _)) = around.links.iter().find(has_it) {
        return Err(Unfit::Taken {
            link: link.to_owned(),
            ip: address,
            other: other.clone(),
        });
    }
    for (other, addressing) in settings.links.iter().filter(|(name, _)| *name != link) {
        if let Addressing::Static {
            address, prefix, ..
        } = addressing
        {
            let theirs = Subnet::of(*address, *prefix);
            if subnet.meets(theirs) {
                return Err(meets(theirs, &format!("that of {other}")));
            }
        }
    }
    Ok(())
}

impl Subnet {
    /// The subnet of `ip`; a prefix beyond 32 counts as 32.
    fn of(ip: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self {
            network: u32::from(ip) & Self::mask(prefix),
            prefix,
        }
    }

    fn holds(self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & Self::mask(self.prefix) == self.network
    }

    fn meets(self, other: Self) -> bool {
        let shorter = self.prefix.min(other.prefix);
        (self.network ^ other.network) & Self::mask(shorter) == 0
    }

    fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.network)
    }

    /// Whether `ip` is the network's own address or its broadcast address. Networks of one or two
    /// addresses have neither (RFC 3021).
    fn is_edge(self, ip: Ipv4Addr) -> bool {
        let last = self.network | !Self::mask(self.prefix);
        self.prefix < 31 && [self.network, last].contains(&u32::from(ip))
    }

    fn spelt(self) -> String {
        format!("{}/{}", self.first(), self.prefix)
    }

    fn mask(prefix: u8) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(prefix))
            .unwrap_or_default()
    }
}

/// The resolver asks three at most; a few more may be written down.
const MAX_SERVERS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(address: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>) -> Addressing {
        Addressing::Static {
            address: address.into(),
            prefix,
            gateway: gateway.map(Ipv4Addr::from),
            dns: Vec::new(),
        }
    }

    /// What is said to this setting of eth0, beside an eth1 at 192.168.9.9.
    fn said(addressing: Addressing) -> String {
        let links = [
            ("eth0".to_owned(), vec![[192, 168, 1, 7].into()]),
            ("eth1".to_owned(), vec![[192, 168, 9, 9].into()]),
        ];
        let settings = Settings {
            links: BTreeMap::from([
                ("eth0".to_owned(), addressing),
                ("eth1".to_owned(), fixed([172, 16, 0, 1], 24, None)),
            ]),
            ..Settings::default()
        };
        let around = Surroundings {
            links: &links,
            bridge: &Bridge::default(),
            services: &[],
        };
        check(&settings, "eth0", around).map_or_else(|unfit| unfit.to_string(), |()| String::new())
    }

    #[test]
    fn what_works_is_not_refused() {
        for good in [
            Addressing::Automatic,
            Addressing::Unmanaged,
            fixed([192, 168, 1, 7], 24, Some([192, 168, 1, 1])),
            fixed([192, 168, 1, 7], 24, None),
            fixed([10, 1, 2, 3], 8 + 8, Some([10, 1, 0, 1])),
            fixed([192, 168, 7, 0], 31, Some([192, 168, 7, 1])),
            fixed([203, 0, 113, 9], 32, None),
        ] {
            assert_eq!(said(good.clone()), "", "{good:?}");
        }
    }

    #[test]
    fn what_can_not_work_is_refused_with_what_and_where() {
        for (wrong, expected) in [
            (fixed([192, 168, 1, 7], 0, None), "prefix of 0"),
            (fixed([192, 168, 1, 7], 33, None), "prefix of 33"),
            (fixed([127, 0, 0, 1], 8, None), "the server itself"),
            (fixed([169, 254, 1, 1], 16, None), "give themselves"),
            (fixed([0, 1, 2, 3], 8, None), "no device can have"),
            (fixed([239, 0, 0, 1], 24, None), "no device can have"),
            (
                fixed([192, 168, 1, 0], 24, None),
                "whole network, 192.168.1.0/24",
            ),
            (fixed([192, 168, 1, 255], 24, None), "all devices"),
            (
                fixed([192, 168, 1, 7], 24, Some([192, 168, 2, 1])),
                "gateway 192.168.2.1 is not in",
            ),
            (
                fixed([192, 168, 1, 7], 24, Some([192, 168, 1, 7])),
                "own address",
            ),
            (
                fixed([192, 168, 1, 7], 24, Some([192, 168, 1, 255])),
                "no device's address",
            ),
            (
                fixed([10, 77, 5, 5], 24, None),
                "services' own network, 10.77.0.0/16",
            ),
            (fixed([10, 5, 5, 5], 8, None), "overlaps"),
            (fixed([192, 168, 9, 9], 30, None), "belongs to eth1"),
            (
                fixed([172, 16, 0, 200], 20, None),
                "that of eth1, 172.16.0.0/24",
            ),
        ] {
            let said = said(wrong.clone());
            assert!(said.contains(expected), "{wrong:?}: {said:?}");
            assert!(said.starts_with("eth0: ") && said.ends_with('.'), "{said}");
        }
    }

    #[test]
    fn name_servers_are_hosts_each_once_and_few() {
        let with = |dns: &[&str]| Addressing::Static {
            address: [192, 168, 1, 7].into(),
            prefix: 24,
            gateway: None,
            dns: dns
                .iter()
                .map(|ip| ip.parse().expect("an address"))
                .collect(),
        };
        assert_eq!(said(with(&["9.9.9.9", "2620:fe::fe"])), "");
        assert!(said(with(&["0.0.0.0"])).contains("name server's address"));
        assert!(said(with(&["ff02::1"])).contains("name server's address"));
        assert!(said(with(&["9.9.9.9", "9.9.9.9"])).contains("each once"));
        let many: Vec<String> = (1..=7).map(|n| format!("9.9.9.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(said(with(&many)).contains("at most 6"));
    }

    #[test]
    fn a_link_that_is_not_there_is_answered_with_those_that_are() {
        let links = [("eth0".to_owned(), Vec::new())];
        let around = Surroundings {
            links: &links,
            bridge: &Bridge::default(),
            services: &[],
        };
        let refused = check(&Settings::default(), "eth9", around).expect_err("no such link");
        assert_eq!(
            refused.to_string(),
            "There is no network card called eth9. There is eth0."
        );
    }
}
