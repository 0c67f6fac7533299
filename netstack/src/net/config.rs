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
    /// Time servers beside those that DHCP names.
    pub servers: Vec<TimeServer>,
    /// Those that are asked where there are no `servers` and DHCP names none, or none that answers.
    pub fallback: Vec<TimeServer>,
    /// What is kept right.
    pub clock: Clock,
}

/// A time server as its owner names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TimeServer {
    /// By its address.
    Address(IpAddr),
    /// By a name, which is looked up; all of its addresses are one choice after the other.
    Name(String),
}

impl TimeServer {
    /// Those to ask when nobody says otherwise: volunteers' servers all over the world, of which
    /// each name stands for others. Whoever sells boxes asks the pool for names of his own
    /// (<https://www.ntppool.org/vendors.html>). None of them smears leap seconds, which must not
    /// be mixed with those that do.
    pub fn usual() -> Vec<Self> {
        let names = ["0", "1", "2", "3"].map(|n| format!("{n}.pool.ntp.org"));
        names.map(Self::Name).into()
    }
}

impl std::fmt::Display for TimeServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl std::str::FromStr for TimeServer {
    type Err = NoTimeServer;

    fn from_str(text: &str) -> Result<Self, NoTimeServer> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            let broadcast = IpAddr::V4(Ipv4Addr::BROADCAST);
            let is_nobodys = ip.is_unspecified() || ip.is_multicast() || ip == broadcast;
            return match is_nobodys {
                true => Err(NoTimeServer(text.to_owned())),
                false => Ok(Self::Address(ip)),
            };
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(allowed)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        // A last label of digits is an address that was mistyped (RFC 1123, 2.1).
        let mut labels = name.split('.');
        let is_address = name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        match name.len() <= NAME_MAX && labels.all(is_label) && !is_address {
            true => Ok(Self::Name(name)),
            false => Err(NoTimeServer(text.to_owned())),
        }
    }
}

/// A text that names no time server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time server; write an address, or a name like 0.pool.ntp.org.")]
pub struct NoTimeServer(String);

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

impl Bridge {
    /// The address of the service behind the port of this name, which is `pv` and the number that the
    /// service's address is above the box's own; `None` if it is no service's port.
    pub fn address_behind(&self, port: &str) -> Option<Ipv4Addr> {
        let digits = port.strip_prefix("pv")?;
        let number: u32 = digits.parse().ok()?;
        let address = self.address.to_bits().checked_add(number)?;
        let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        let same_network = (address ^ self.address.to_bits()) & !host == 0;
        let is_service = number > 0 && number.to_string() == digits && same_network;
        is_service.then(|| Ipv4Addr::from_bits(address))
    }

    /// The hardware address of whoever has this address on the bridge: locally administered, and the
    /// same on every boot.
    pub fn mac_of(address: Ipv4Addr) -> [u8; 6] {
        let [a, b, c, d] = address.octets();
        [2, 0, a, b, c, d]
    }
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

/// A name's text, without its end, in bytes (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_servers_are_written_as_addresses_and_as_names() {
        let read = |text: &str| text.parse::<TimeServer>();
        let address = TimeServer::Address([192, 0, 2, 1].into());
        assert_eq!(read("192.0.2.1"), Ok(address));
        assert!(matches!(read("2001:db8::1"), Ok(TimeServer::Address(_))));
        let name = TimeServer::Name("0.pool.ntp.org".to_owned());
        assert_eq!(read("0.Pool.NTP.org."), Ok(name));
        assert_eq!(read("router").unwrap().to_string(), "router");
        for usual in TimeServer::usual() {
            assert_eq!(read(&usual.to_string()), Ok(usual));
        }
        for wrong in [
            "",
            ".",
            "a..b",
            "-a.b",
            "a b",
            "192.0.2",
            "192.0.2.1.5",
            "0.0.0.0",
            "ff02::1",
            "a_b",
            "255.255.255.255",
        ] {
            let why = read(wrong).unwrap_err().to_string();
            assert!(why.contains("0.pool.ntp.org"), "{wrong}: {why}");
        }
        assert!(read(&"a.".repeat(200)).is_err());
    }
}
