//! What is: the one value that `net` publishes after every change.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The network as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetStatus {
    /// The links that `net` looks after, by their index; services' own are left out.
    pub links: Vec<LinkStatus>,
    /// Where packets for the outside go.
    pub gateway: Option<IpAddr>,
    /// The ways to the outside over IPv4, the one that is used first.
    pub uplinks: Vec<UplinkStatus>,
    /// Name servers in the order of their use.
    pub dns: Vec<IpAddr>,
    /// Time servers that DHCP named.
    pub ntp: Vec<IpAddr>,
    /// The domain that routers named, for names without one.
    pub domain: Option<String>,
    /// The domains that routers named to look for short names in, in this order.
    pub search: Vec<String>,
    /// The services' network.
    pub services: ServicesStatus,
    /// The time of the day.
    pub time: TimeStatus,
    /// What works, but should be looked at, each as a sentence.
    pub cautions: Vec<String>,
    /// What does not work, each as a sentence with what the box does about it.
    pub problems: Vec<String>,
}

/// The time of the day, as servers tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeStatus {
    /// Whether the clock is right by what a majority of the servers said within the last day.
    pub synchronised: bool,
    /// How far the clock was behind (ahead of, if negative) the servers when it was last compared
    /// and then corrected, in microseconds.
    pub offset: Option<i64>,
    /// The servers, in the order of their preference.
    pub servers: Vec<TimeServerStatus>,
    /// The last time that the clock was moved at once.
    pub last_step: Option<TimeStep>,
    /// Servers' names that no address is known of.
    pub unknown: Vec<String>,
}

/// One time server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeServerStatus {
    /// Its address.
    pub address: IpAddr,
    /// The name that the address was found by.
    pub name: Option<String>,
    /// Who named it.
    pub source: TimeSource,
    /// Whether it is one of the majority that the clock goes by.
    pub agrees: bool,
    /// What was made of its word, as a sentence.
    pub verdict: String,
}

/// Who named a time server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeSource {
    /// The configuration.
    Configured,
    /// DHCP, in option 42, or DHCPv6, in options 31 and 56.
    Dhcp,
    /// Nobody: it is asked as there is no other.
    Fallback,
}

/// A clock that was moved at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeStep {
    /// By how much, in microseconds; back, if negative.
    pub by: i64,
    /// When, by the clock after it: seconds since 1970.
    pub at: i64,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The interface's name.
    pub name: String,
    /// The hardware address, as text.
    pub mac: String,
    /// Whether a cable (or its like) is there.
    pub carrier: bool,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where the IPv4 address is from, as a sentence.
    pub origin: String,
    /// The DHCP lease, if there is one.
    pub lease: Option<LeaseStatus>,
}

/// A link that leads, or should lead, to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// The link's name.
    pub link: String,
    /// Its gateway, if it has one.
    pub gateway: Option<Ipv4Addr>,
    /// The metric of its default route: the lowest of all is used.
    pub metric: u32,
    /// Whether it carries what goes out by default.
    pub is_default: bool,
    /// Whether it has not failed of late.
    pub trusted: bool,
    /// How it is and why it is used or not, as sentences.
    pub why: String,
}

/// A DHCP lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The address.
    pub address: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// Who granted it; none while it is one of before, not yet confirmed.
    pub server: Option<Ipv4Addr>,
    /// The gateway.
    pub router: Option<Ipv4Addr>,
    /// Routes beside that by the gateway, as text: "10.0.0.0/8 via 192.168.1.2".
    pub routes: Vec<String>,
    /// How long it was granted for; none is for ever.
    pub lasts: Option<Duration>,
    /// The name the server knows the box by.
    pub hostname: Option<String>,
}

/// The services' network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesStatus {
    /// Whether the bridge is there, up, and has its address.
    pub bridge: bool,
    /// The packet filter.
    pub filter: FilterStatus,
    /// Its rules as text, one a line, while it is in force.
    pub rules: Vec<String>,
    /// What keeps services from using each other's addresses; off while there is no service.
    pub guard: FilterStatus,
    /// Its rules, likewise.
    pub guard_rules: Vec<String>,
}

/// The packet filter with NAT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterStatus {
    /// In force.
    Applied,
    /// Not in force: why, as a sentence.
    Failed(String),
    /// Nothing is to be filtered.
    Off,
    /// Not yet tried.
    #[default]
    Pending,
}

impl NetStatus {
    /// Whether others can reach the box: a link has an IPv4 address, or an IPv6 one that is good
    /// beyond the link.
    pub fn reachable(&self) -> bool {
        let mut addresses = self.links.iter().flat_map(|link| &link.addresses);
        addresses.any(|(ip, _)| match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        })
    }
}

/// A time as people say it: "12 h", "90 s".
pub(crate) fn spell(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_every_link_has_does_not_make_the_box_reachable() {
        let with = |ip: IpAddr| NetStatus {
            links: vec![LinkStatus {
                name: "eth0".to_owned(),
                mac: String::new(),
                carrier: true,
                addresses: vec![(ip, 64)],
                origin: String::new(),
                lease: None,
            }],
            ..NetStatus::default()
        };
        assert!(!with("fe80::1".parse().expect("an address")).reachable());
        assert!(with("2001:db8::1".parse().expect("an address")).reachable());
        assert!(with(IpAddr::from([169, 254, 1, 1])).reachable());
    }

    #[test]
    fn times_are_spelt_in_the_unit_that_fits() {
        let spelt = |seconds| spell(Duration::from_secs(seconds));
        assert_eq!(spelt(90), "90 s");
        assert_eq!(spelt(600), "10 min");
        assert_eq!(spelt(86_400), "24 h");
        assert_eq!(spelt(604_800), "7 days");
    }
}
