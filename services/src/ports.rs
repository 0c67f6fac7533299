//! Which service gets which of the box's ports and names.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
};

use supervise::control::{Forward, MAX_FORWARDS, Transport};

use crate::spec::{Interface, Protocol, ServiceSpec};

/// Where the front door finds a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The service's id, the first label of its host name.
    pub service: String,
    /// Where it listens.
    pub upstream: SocketAddrV4,
    /// A port of the box's own that leads to it as well.
    pub tls_port: Option<u16>,
    /// It has a certificate of its own: TLS is passed through to it.
    pub passes_tls: bool,
}

/// How the box's ports lead to services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// By the front door.
    pub routes: Vec<Route>,
    /// By the kernel.
    pub forwards: Vec<Forward>,
    /// Ids and addresses, whatever ports there are.
    pub names: Vec<(String, Ipv4Addr)>,
    /// What a service does not get, as a sentence, by its id.
    pub refused: BTreeMap<String, String>,
    taken: BTreeMap<(Transport, u16), String>,
}

impl Ports {
    /// Gives service `id`, which has `address`, what `spec` asks for and is not taken.
    pub fn give(&mut self, id: &str, address: Ipv4Addr, spec: &ServiceSpec) {
        self.names.push((id.to_owned(), address));
        // The door takes the first route of a name, so what has a port of its own comes after.
        let (later, first): (Vec<_>, Vec<_>) = spec
            .interfaces
            .iter()
            .partition(|interface| interface.tls_port.is_some());
        for interface in first.into_iter().chain(later) {
            let to = SocketAddrV4::new(address, interface.port);
            match interface.protocol {
                Protocol::Http | Protocol::Tls => self.route(id, to, interface),
                Protocol::Tcp => self.forward(id, to, Transport::Tcp, interface),
                Protocol::Udp => self.forward(id, to, Transport::Udp, interface),
            }
        }
    }

    fn route(&mut self, id: &str, upstream: SocketAddrV4, interface: &Interface) {
        let port = interface.tls_port;
        let tls_port = port.filter(|port| self.take(id, Transport::Tcp, *port));
        self.routes.push(Route {
            service: id.to_owned(),
            upstream,
            tls_port,
            passes_tls: interface.protocol == Protocol::Tls,
        });
    }

    fn forward(&mut self, id: &str, to: SocketAddrV4, transport: Transport, from: &Interface) {
        let Some(port) = from.external_port else {
            return;
        };
        if self.forwards.len() >= MAX_FORWARDS {
            let why = format!("the box forwards no more than {MAX_FORWARDS} ports.");
            self.refused.insert(id.to_owned(), why);
        } else if self.take(id, transport, port) {
            self.forwards.push(Forward {
                transport,
                port,
                to,
            });
        }
    }

    /// Whether it was free.
    fn take(&mut self, id: &str, transport: Transport, port: u16) -> bool {
        if let Some(owner) = self.taken.get(&(transport, port)) {
            let why = format!("port {port} of the server is taken by {owner}.");
            self.refused.insert(id.to_owned(), why);
            return false;
        }
        self.taken.insert((transport, port), id.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(interfaces: &[&str]) -> ServiceSpec {
        let tables = interfaces
            .iter()
            .enumerate()
            .map(|(n, keys)| format!("[[interface]]\nid = 'i{n}'\n{keys}\n"));
        let tables: String = tables.collect();
        ServiceSpec::parse(&format!("[[daemon]]\nname = 'web'\n{tables}")).unwrap()
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, last)
    }

    #[test]
    fn each_protocol_has_its_way() {
        let mut ports = Ports::default();
        let mail = spec(&[
            "port = 993\nprotocol = 'tls'\ntls_port = 993",
            "port = 80",
            "port = 25\nprotocol = 'tcp'\nexternal_port = 25",
            "port = 9\nprotocol = 'udp'\nexternal_port = 25",
        ]);
        ports.give("mail", address(2), &mail);
        let route = |port, tls_port, passes_tls| Route {
            service: "mail".into(),
            upstream: SocketAddrV4::new(address(2), port),
            tls_port,
            passes_tls,
        };
        assert_eq!(
            ports.routes,
            [route(80, None, false), route(993, Some(993), true)]
        );
        let forward = |transport, port, to| Forward {
            transport,
            port,
            to: SocketAddrV4::new(address(2), to),
        };
        assert_eq!(
            ports.forwards,
            [
                forward(Transport::Tcp, 25, 25),
                forward(Transport::Udp, 25, 9)
            ]
        );
        assert!(ports.refused.is_empty());
    }

    #[test]
    fn who_comes_first_has_the_port_and_the_other_is_told() {
        let mut ports = Ports::default();
        let (door, raw) = (
            spec(&["port = 80\ntls_port = 8443"]),
            spec(&["port = 5\nprotocol = 'tcp'\nexternal_port = 8443"]),
        );
        ports.give("one", address(2), &door);
        ports.give("two", address(3), &raw);
        ports.give("three", address(4), &door);
        assert!(ports.forwards.is_empty());
        assert_eq!(ports.routes.len(), 2);
        assert_eq!(ports.routes[1].tls_port, None);
        for id in ["two", "three"] {
            let why = "port 8443 of the server is taken by one.";
            assert_eq!(ports.refused[id], why);
        }
    }
}
