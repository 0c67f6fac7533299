//! Ports of the box that the kernel forwards to services.

use std::net::Ipv4Addr;

use netstack::net::{self, Bridge};
use supervise::control::{Forward, MAX_FORWARDS, Transport};

use super::Pid1;

impl Pid1 {
    /// Has `net` forward what the manager asks for, as far as that is its to give.
    ///
    /// # Errors
    /// With what is refused; all else is done.
    pub(super) fn take_forwards(&mut self, mut forwards: Vec<Forward>) -> Result<(), String> {
        let mut refused = None;
        forwards.truncate(MAX_FORWARDS);
        forwards.retain(|forward| {
            let mut own = self.sockets.door.keys().copied().chain(OWN_PORTS);
            let why = if own.any(|port| port == forward.port) {
                Some(format!("port {} is the box's own", forward.port))
            } else if !is_services(*forward.to.ip()) {
                Some(format!("{} is no service's address", forward.to.ip()))
            } else {
                None
            };
            let is_good = why.is_none();
            refused = refused.take().or(why);
            is_good
        });
        if self.forwards != forwards {
            self.forwards = forwards;
            self.configure_net();
        }
        refused.map_or(Ok(()), Err)
    }

    /// The forwards in `net`'s terms.
    pub(super) fn net_forwards(&self) -> Vec<net::Forward> {
        let forward = |forward: &Forward| net::Forward {
            transport: match forward.transport {
                Transport::Tcp => net::Transport::Tcp,
                Transport::Udp => net::Transport::Udp,
            },
            port: forward.port,
            to: forward.to,
        };
        self.forwards.iter().map(forward).collect()
    }
}

/// Whether a service may have that address.
pub(super) fn is_services(address: Ipv4Addr) -> bool {
    let bridge = Bridge::default();
    let mask = u32::MAX << (32 - u32::from(bridge.prefix));
    let network = |address: Ipv4Addr| u32::from(address) & mask;
    network(address) == network(bridge.address) && address != bridge.address
}

/// What the box itself speaks or will speak besides the door's ports: SSH, DNS, DHCP, NTP, mDNS.
const OWN_PORTS: [u16; 6] = [22, 53, 67, 68, 123, 5353];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_tells_by_a_service_s_port_who_is_behind_it() {
        for index in [1, 300, services::registry::MAX_INDEX] {
            let network = services::package::network(index);
            let bridge = Bridge::default();
            let behind = bridge.address_behind(&network.host_link);
            assert_eq!(behind, Some(network.address));
            assert_eq!(Bridge::mac_of(network.address), network.mac());
            assert_eq!(
                (bridge.name, bridge.address),
                (network.bridge, network.gateway)
            );
        }
    }

    #[test]
    fn only_services_are_forwarded_to() {
        assert!(is_services(Ipv4Addr::new(10, 77, 3, 4)));
        for other in [
            [10, 77, 0, 1],
            [127, 0, 0, 1],
            [192, 168, 1, 1],
            [10, 78, 0, 2],
        ] {
            assert!(!is_services(other.into()), "{other:?}");
        }
    }
}
