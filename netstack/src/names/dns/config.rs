//! What the box's resolver is told to be. Plain data: nothing in it is checked yet.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// The resolver as the box's owner wants it. The default asks whom the network named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsSettings {
    /// The servers to ask, in the order of their use; if there are none, those that the network
    /// named.
    pub servers: Vec<NameServer>,
    /// Domains whose names other servers know: the longest that a name ends in decides.
    pub domains: BTreeMap<String, Vec<NameServer>>,
    /// Whether machines on the box's own networks are answered too, not only the box's services.
    pub lan: bool,
    /// Whether servers that the network named are spoken to by TLS where they can.
    pub encrypt: bool,
    /// Whether the case of names is mixed when others are asked, which makes answers harder to
    /// forge. Some servers don't give it back.
    pub mix_case: bool,
}

/// A server to ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NameServer {
    /// Where it is.
    pub address: IpAddr,
    /// Its port, if it is not the usual one.
    #[serde(default)]
    pub port: Option<u16>,
    /// How it is spoken to.
    #[serde(default)]
    pub privacy: Privacy,
}

/// How a server is spoken to (RFC 7858, 5; RFC 8310).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Privacy {
    /// Openly.
    #[default]
    None,
    /// By TLS with whoever answers, and openly if nobody does.
    Opportunistic,
    /// By TLS, with a server that proves to have this name, or not at all.
    Strict {
        /// The name in its certificate.
        name: String,
        /// The certificate (DER) of the authority to trust; without it, those that browsers trust.
        authority: Option<Vec<u8>>,
    },
}

/// What the resolver is, of which the box's owner decides a part only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// The owner's part.
    pub settings: DnsSettings,
    /// The box's address on the services' bridge with the network's prefix length, if there is one.
    pub bridge: Option<(Ipv4Addr, u8)>,
    /// The services' ids and addresses.
    pub services: Vec<(String, Ipv4Addr)>,
    /// The servers that the network named.
    pub named: Vec<IpAddr>,
    /// The box's own addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The box's host name, which machines on its networks find it by.
    pub hostname: String,
    /// The ids of the services that a browser opens, each at its name below the box's.
    pub sites: Vec<String>,
    /// Whether the clock is known to be right, so that certificates can be too old or too new.
    pub clock_is_right: bool,
}

impl NameServer {
    /// One that is spoken to openly.
    pub fn plain(address: IpAddr) -> Self {
        Self {
            address,
            port: None,
            privacy: Privacy::None,
        }
    }

    /// Where it is spoken to openly.
    pub(super) fn open(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port.unwrap_or(PORT))
    }

    /// Where it is spoken to by TLS.
    pub(super) fn private(&self) -> SocketAddr {
        match self.privacy {
            // The port is that of plain DNS, to fall back to.
            Privacy::Opportunistic => SocketAddr::new(self.address, TLS_PORT),
            Privacy::Strict { .. } | Privacy::None => {
                SocketAddr::new(self.address, self.port.unwrap_or(TLS_PORT))
            }
        }
    }
}

impl DnsConfig {
    /// Who is asked about all names, in the order of their use. Never the box itself.
    pub(super) fn servers(&self) -> Vec<NameServer> {
        let privacy = match self.settings.encrypt {
            true => Privacy::Opportunistic,
            false => Privacy::None,
        };
        let named = self.named.iter().map(|address| NameServer {
            address: *address,
            port: None,
            privacy: privacy.clone(),
        });
        let servers = match self.settings.servers.as_slice() {
            [] => named.collect(),
            servers => servers.to_vec(),
        };
        self.others(servers)
    }

    /// Who is asked about a domain's names, by the domain on the wire in lower case.
    pub(super) fn domains(&self) -> Vec<(Vec<u8>, Vec<NameServer>)> {
        let domains = self.settings.domains.iter();
        domains
            .filter_map(|(domain, servers)| {
                let domain = super::wire::name(&domain.to_ascii_lowercase())?;
                Some((domain, self.others(servers.clone())))
            })
            .collect()
    }

    fn others(&self, servers: Vec<NameServer>) -> Vec<NameServer> {
        let mut others = Vec::new();
        for server in servers {
            let is_own = server.port.unwrap_or(PORT) == PORT && self.is_own(server.address);
            // Which link such an address is on is not told.
            let is_vague = matches!(server.address, IpAddr::V6(ip) if ip.is_unicast_link_local());
            if !is_own && !is_vague && !others.contains(&server) && others.len() < SERVERS_MAX {
                others.push(server);
            }
        }
        others
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || address.is_unspecified()
            || self.addresses.iter().any(|(own, _)| *own == address)
            || self
                .bridge
                .is_some_and(|(own, _)| IpAddr::V4(own) == address)
    }
}

/// Where DNS is spoken.
const PORT: u16 = 53;
/// Where DNS over TLS is spoken (RFC 7858, 3.1).
const TLS_PORT: u16 = 853;
/// More help nobody.
const SERVERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owners_servers_come_before_those_that_the_network_named_and_the_box_is_none() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let mut config = DnsConfig {
            named: vec![ip(1), ip(7), ip(1), [127, 0, 0, 1].into()],
            addresses: vec![(ip(7), 24)],
            ..DnsConfig::default()
        };
        assert_eq!(config.servers(), [NameServer::plain(ip(1))]);
        config.settings.servers = vec![NameServer::plain(ip(9))];
        assert_eq!(config.servers(), [NameServer::plain(ip(9))]);
    }
}
