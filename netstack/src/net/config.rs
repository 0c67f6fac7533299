//! What should be: the one value that `net` is given and makes so.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use serde::{Deserialize, Serialize};

use super::privacy::AddressSecret;
use crate::names::DnsSettings;

/// The network as its owner wants it. The default is a box that just works: every real link up and
/// automatic, services on a bridge of their own behind NAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetConfig {
    /// The name that DHCP servers are told, so that routers show it.
    pub hostname: Option<String>,
    /// How links get their addresses, by the link's name. A real link that is not named here is
    /// [`Addressing::Automatic`]; a virtual one that is not named here is left alone.
    pub links: BTreeMap<String, Addressing>,
    /// Bridges and VLANs that the owner declares, by their name.
    pub made: BTreeMap<String, Made>,
    /// The owner's metrics of uplinks, by the link's name, 1 to 9999: the lowest is preferred.
    /// Without, a cable has 100, Wi-Fi 600 and a modem 700.
    pub metrics: BTreeMap<String, u32>,
    /// Services that are bound to an uplink.
    pub bound: Vec<Bound>,
    /// The services' bridge; none if there are no services.
    pub bridge: Option<Bridge>,
    /// Ports of the box that lead to services on the bridge.
    pub forwards: Vec<Forward>,
    /// TCP ports of the box itself that are open to everybody. Beside them it lets in only what its
    /// own protocols need and, from the bridge, questions for names. With `None` nothing that comes
    /// to the box itself is filtered: that is somebody else's business.
    pub open_ports: Option<Vec<u16>>,
    /// Whom the box asks for names, and whom it answers: the front's work.
    pub dns: DnsSettings,
    /// The time of the day.
    pub time: TimeConfig,
    /// What IPv6 addresses are made of; without it, of the hardware's.
    pub address_secret: Option<AddressSecret>,
}

/// Where the time is from, and what is set by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeConfig {
    /// Time servers beside those that DHCP names. Whoever knows servers by name tells the addresses
    /// that the name has now, and tells again when these change.
    pub servers: Vec<IpAddr>,
    /// What is kept right.
    pub clock: Clock,
}

/// The clock that is kept right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// The kernel's.
    Kernel,
    /// One of `net`'s own, which nobody else sees, for a machine whose clock is not ours to set. It
    /// begins so many nanoseconds ahead of the kernel's.
    Own(i64),
}

impl Default for Clock {
    /// Nobody's clock is set without having been asked for.
    fn default() -> Self {
        Self::Own(0)
    }
}

/// A port of the box that leads to a service as it is: whoever comes from outside is given on with
/// his own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// What is forwarded.
    pub transport: Transport,
    /// The box's port.
    pub port: u16,
    /// The service's address and port.
    pub to: SocketAddrV4,
}

/// What a [`Forward`] forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How a link gets its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addressing {
    /// DHCP; a link-local address beside it while no server answers. IPv6 as routers announce it.
    #[default]
    Automatic,
    /// Fixed.
    Static {
        /// The box's address.
        address: Ipv4Addr,
        /// The subnet's prefix length, 0 to 32.
        prefix: u8,
        /// Where all else goes.
        gateway: Option<Ipv4Addr>,
        /// Name servers in the order of their use.
        dns: Vec<IpAddr>,
    },
    /// Somebody else's business.
    Unmanaged,
}

/// A link that the owner declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    /// A switch between its ports, with the box on it.
    Bridge {
        /// The links that are its ports: they have no addresses of their own.
        ports: Vec<String>,
    },
    /// A network of its own among others on one cable (IEEE 802.1Q).
    Vlan {
        /// The link it is on.
        on: String,
        /// Its number, 1 to 4094.
        id: u16,
    },
}

/// A service that sends by one uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The service's address.
    pub address: Ipv4Addr,
    /// The uplink's name.
    pub uplink: String,
    /// What happens while that uplink leads nowhere.
    pub otherwise: Otherwise,
}

/// What becomes of a service's traffic while the uplink it is bound to leads nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Otherwise {
    /// It takes the box's default.
    #[default]
    FailOver,
    /// It is refused.
    Stop,
}

/// The bridge that services hang on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The box's address on it, the services' gateway.
    pub address: Ipv4Addr,
    /// The services' subnet's prefix length, 0 to 32.
    pub prefix: u8,
    /// Whether services reach the outside, with the box's address as theirs.
    pub nat: bool,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            hostname: None,
            links: BTreeMap::new(),
            made: BTreeMap::new(),
            metrics: BTreeMap::new(),
            bound: Vec::new(),
            bridge: Some(Bridge::default()),
            forwards: Vec::new(),
            open_ports: None,
            dns: DnsSettings::default(),
            time: TimeConfig::default(),
            address_secret: None,
        }
    }
}

impl Default for Bridge {
    fn default() -> Self {
        Self {
            name: "pilot0".to_owned(),
            address: Ipv4Addr::new(10, 77, 0, 1),
            prefix: 16,
            nat: true,
        }
    }
}
