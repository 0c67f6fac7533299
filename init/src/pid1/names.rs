//! The name server's sockets, and what the front is told of it: a successor of the front listens on
//! the very same sockets, so that no question is lost.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use netstack::{names::DnsConfig, net::Bound};
use rustix::net::{SocketType, sockopt};
use serde::{Deserialize, Serialize};
use supervise::{
    control::{Event, MAX_NAMES},
    status::{ResolverServer, ResolverStatus},
};

use super::{Pid1, Stage, estate::is_listener, forwards::is_services, roles::Role, sockets};
use crate::handover::descriptors::{Handed, Inherited, Naming};

/// What PID 1 knows of it.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Services' ids and addresses.
    services: Vec<(String, Ipv4Addr)>,
    sockets: BTreeMap<IpAddr, Asked>,
    /// As the front says.
    pub(super) status: ResolverStatus,
    /// What the front was last told.
    told: Option<DnsConfig>,
    /// Why a socket can't be had, as last told.
    trouble: Option<String>,
}

/// The sockets at one of the box's addresses.
#[derive(Debug)]
struct Asked {
    datagrams: Arc<OwnedFd>,
    listener: Arc<OwnedFd>,
}

/// The same in the hand-over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NamesRecord {
    services: Vec<(String, Ipv4Addr)>,
    sockets: Vec<(IpAddr, Handed, Handed)>,
}

impl Pid1 {
    /// Takes the services' names, as far as those are the manager's to give.
    ///
    /// # Errors
    /// With what is refused; all else is done.
    pub(super) fn take_names(&mut self, mut names: Vec<(String, Ipv4Addr)>) -> Result<(), String> {
        names.truncate(MAX_NAMES);
        let stranger = names.iter().find(|(_, address)| !is_services(*address));
        let refused = stranger
            .map(|(id, address)| format!("{address} is no service's address, so {id} has no name"));
        names.retain(|(_, address)| is_services(*address));
        let before = self.bound_services();
        self.names.services = names;
        if self.bound_services() != before {
            self.configure_net();
        }
        self.tell_names();
        refused.map_or(Ok(()), Err)
    }

    /// The services that are bound to an uplink, by the addresses that they have.
    pub(super) fn bound_services(&self) -> Vec<Bound> {
        let bindings = &self.changes.in_force().services;
        let services = self.names.services.iter();
        let bound = services.filter_map(|(id, address)| {
            let binding = bindings.get(id)?;
            Some(Bound {
                address: *address,
                uplink: binding.uplink.clone(),
                otherwise: binding.otherwise,
            })
        });
        bound.collect()
    }

    /// The ids of the services that have a name.
    pub(super) fn service_ids(&self) -> Vec<&str> {
        let services = self.names.services.iter();
        services.map(|(id, _)| id.as_str()).collect()
    }

    /// Takes what the front says of its name server. Every status carries it, so its size is bounded
    /// whatever the front says.
    pub(super) fn take_resolver(&mut self, mut status: ResolverStatus) {
        status.servers.truncate(MAX_SERVERS);
        for server in &mut status.servers {
            server.domain = server.domain.take().filter(|name| name.len() < MAX_DOMAIN);
        }
        self.names.status = status;
        self.changed();
    }

    /// Has sockets where names are asked for, and none elsewhere. What can't be had is tried again.
    pub(super) fn open_names(&mut self) {
        // Before the drivers are there, services are not either; the door comes first.
        if self.stage != Stage::Root || self.drivers_done.is_none() {
            return;
        }
        // Whom it serves comes before where it is asked.
        self.tell_names();
        let wanted = self.addresses_asked();
        let gone = |address: &IpAddr, _: &mut Asked| !wanted.contains(address);
        let gone: Vec<_> = self.names.sockets.extract_if(.., gone).collect();
        for (address, _) in gone {
            self.tell(Role::Front, Event::NameSocketGone { address }, vec![]);
        }
        let mut trouble = None;
        for address in wanted {
            if self.names.sockets.contains_key(&address) {
                continue;
            }
            match sockets::asked_for_names(address) {
                Ok((datagrams, listener)) => {
                    let asked = Asked {
                        datagrams: Arc::new(datagrams),
                        listener: Arc::new(listener),
                    };
                    let (event, fds) = asked.event(address);
                    self.tell(Role::Front, event, fds);
                    self.names.sockets.insert(address, asked);
                    super::steps::write_resolv_conf(&self.net.dns, self.names.serves_the_box());
                }
                Err(e) => trouble = Some(format!("names can't be asked for at {address}: {e}")),
            }
        }
        if trouble != self.names.trouble {
            if let Some(trouble) = &trouble {
                supervise::warning!("{trouble}; it is tried again");
            }
            self.names.trouble = trouble;
        }
    }

    /// All that a new front must know.
    pub(super) fn brief_names(&mut self, now: Duration) {
        // First whom it serves and whom it asks: else those who wait at the sockets are turned away.
        self.names.told = None;
        self.tell_names();
        let status = Box::new(self.status(now));
        self.tell(Role::Front, Event::Status(status), vec![]);
        let sockets = self.names.sockets.iter();
        let all: Vec<_> = sockets
            .map(|(address, asked)| asked.event(*address))
            .collect();
        for (event, fds) in all {
            self.tell(Role::Front, event, fds);
        }
    }

    /// What is handed over.
    pub(super) fn name_names(&self, naming: &mut Naming) -> NamesRecord {
        let sockets = self.names.sockets.iter();
        NamesRecord {
            services: self.names.services.clone(),
            sockets: sockets
                .map(|(address, asked)| {
                    let listener = naming.name(&asked.listener);
                    (*address, naming.name(&asked.datagrams), listener)
                })
                .collect(),
        }
    }

    /// Goes on with the predecessor's. What of it can't be had is opened anew.
    pub(super) fn inherit_names(&mut self, record: NamesRecord, from: &mut Inherited) {
        self.names.services = record.services;
        for (address, datagrams, listener) in record.sockets {
            let datagrams = from.take(datagrams).filter(is_datagram);
            let listener = from.take(listener).filter(is_listener);
            if let (Some(datagrams), Some(listener)) = (datagrams, listener) {
                let asked = Asked {
                    datagrams: datagrams.into(),
                    listener: listener.into(),
                };
                self.names.sockets.insert(address, asked);
            }
        }
    }

    /// The box itself, its services, and its LAN if that is wanted.
    fn addresses_asked(&self) -> Vec<IpAddr> {
        let config = self.net_config();
        let mut wanted = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
        wanted.extend(config.bridge.map(|bridge| IpAddr::from(bridge.address)));
        if config.dns.lan {
            let links = self.net.links.iter().flat_map(|link| &link.addresses);
            // One that is good on a single link is no name server's.
            let lasting = links.map(|(ip, _)| *ip).filter(|ip| match ip {
                IpAddr::V4(ip) => !ip.is_link_local(),
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            });
            wanted.extend(lasting.take(MOST_OF_LAN));
        }
        wanted
    }

    /// Tells the front what its name server is to be, if that is new.
    fn tell_names(&mut self) {
        let config = self.net_config();
        let config = DnsConfig {
            settings: config.dns,
            bridge: config.bridge.map(|bridge| (bridge.address, bridge.prefix)),
            services: self.names.services.clone(),
            ..DnsConfig::default()
        };
        // Asked for each second: only what is new is put into bytes.
        if self.names.told.as_ref() == Some(&config) {
            return;
        }
        if let Ok(bytes) = postcard::to_stdvec(&config) {
            self.names.told = Some(config);
            self.tell(Role::Front, Event::Names(bytes), vec![]);
        }
    }
}

impl Names {
    /// That nobody answers whom the box asks for names, as a sentence.
    pub(super) fn silence(&self) -> Option<String> {
        let servers = &self.status.servers;
        let silent = |server: &ResolverServer| server.silent_for.is_some();
        if servers.is_empty() || !servers.iter().all(silent) {
            return None;
        }
        let all: Vec<_> = servers.iter().map(|s| s.address.to_string()).collect();
        Some(format!(
            "No name server answers ({}), so names outside of this server are not found, or as they \
             were.",
            all.join(", ")
        ))
    }

    /// Whether the box's own programs can ask it.
    pub(super) fn serves_the_box(&self) -> bool {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        self.sockets.contains_key(&loopback)
    }
}

impl Asked {
    fn event(&self, address: IpAddr) -> (Event, Vec<Arc<OwnedFd>>) {
        let fds = vec![self.datagrams.clone(), self.listener.clone()];
        (Event::NameSocket { address }, fds)
    }
}

fn is_datagram(fd: &OwnedFd) -> bool {
    sockopt::socket_type(fd.as_fd()) == Ok(SocketType::DGRAM)
}

/// Eight for all names, and some for a few domains.
const MAX_SERVERS: usize = 32;
/// Bytes, as DNS has them.
const MAX_DOMAIN: usize = 256;
/// A box has a link or two, with a few addresses each.
const MOST_OF_LAN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_told_when_nobody_answers_any_more() {
        let server = |silent_for| ResolverServer {
            address: ([192, 0, 2, 1], 53).into(),
            tls: false,
            domain: None,
            silent_for,
            round_trip: None,
            answers: 0,
            silences: 0,
            forged: 0,
        };
        let silent = Some(std::time::Duration::from_secs(3));
        let mut names = Names::default();
        assert_eq!(names.silence(), None);
        names.status.servers = vec![server(silent), server(None)];
        assert_eq!(names.silence(), None);
        names.status.servers = vec![server(silent)];
        assert!(names.silence().unwrap().contains("(192.0.2.1:53)"));
    }
}
