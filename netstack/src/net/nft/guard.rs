//! What services' ports let in to the box's bridge: frames of the service behind each, with its own
//! hardware address, IPv4 address and link-local IPv6 address as their sender's, and no others.
//!
//! So no service takes another's packets by claiming its address, by ARP, neighbour discovery or
//! just as a frame's sender, from which a bridge learns. It is asked where a frame comes off its
//! link, before the bridge: the bridge's own hooks do not see what is for its reserved addresses
//! (IEEE 802.1D, 7.12.6), and it learns from that too. Whoever goes by an address has it here in three
//! sets; which rule asks for which is the same for all services.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    super::{
        config::{Bridge, NetConfig},
        frame::Mac,
        kernel::Kernel,
        report::spell_mac,
    },
    FAMILY_NETDEV, Rules,
    expression::{Operator::NotEqual, name_bytes},
    policy::{Chain, Hook},
    term::Term,
};

/// The services' ports and who is behind each; without a port there is nothing to guard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guard {
    ports: Vec<Port>,
}

/// A port of the bridge's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    /// The link's index: one of the same name that comes after it is to be guarded anew.
    link: u32,
    name: String,
    address: Ipv4Addr,
}

/// A set of senders, each a link's name with addresses.
#[derive(Debug)]
pub(crate) struct Set {
    pub(super) name: &'static str,
    /// nft's number of the kind of its elements.
    pub(super) kind: u32,
    /// The same in nft's words.
    words: &'static str,
    pub(super) elements: Vec<Element>,
}

/// One sender.
#[derive(Debug)]
pub(crate) struct Element {
    /// As rules have it in registers.
    pub(super) key: Vec<u8>,
    words: String,
}

impl Guard {
    /// That of the ports that there are.
    pub(crate) fn of(config: &NetConfig, kernel: &Kernel) -> Self {
        let Some(bridge) = &config.bridge else {
            return Self::default();
        };
        let Some(master) = kernel.named(&bridge.name) else {
            return Self::default();
        };
        let ports = kernel.links.values().filter_map(|link| {
            let address = bridge.address_behind(&link.name)?;
            (link.master == Some(master.index)).then(|| Port {
                link: link.index,
                name: link.name.clone(),
                address,
            })
        });
        let mut ports: Vec<_> = ports.take(MAX_PORTS).collect();
        // As nft shows them.
        ports.sort_by(|one, other| one.name.cmp(&other.name));
        Self { ports }
    }
}

impl Rules for Guard {
    const FAMILY: u8 = FAMILY_NETDEV;
    const ALWAYS_ANEW: bool = true;
    const WITHOUT: &'static str = "A service can use another's address on the services' network";

    fn is_needed(&self) -> bool {
        !self.ports.is_empty()
    }

    fn sets(&self) -> Vec<Set> {
        let set = |name, kind, words, element: fn(&Port) -> Element| Set {
            name,
            kind,
            words,
            elements: self.ports.iter().map(element).collect(),
        };
        vec![
            set(MACS, NAME << 6 | MAC, "ifname . ether_addr", |port| {
                port.element(&[], "")
            }),
            set(
                ADDRESSES,
                (NAME << 6 | MAC) << 6 | IPV4,
                "ifname . ether_addr . ipv4_addr",
                |port| port.element(&port.address.octets(), &format!(" . {}", port.address)),
            ),
            set(
                ADDRESSES_6,
                (NAME << 6 | MAC) << 6 | IPV6,
                "ifname . ether_addr . ipv6_addr",
                |port| {
                    let address = link_local(Bridge::mac_of(port.address));
                    port.element(&address.octets(), &format!(" . {address}"))
                },
            ),
        ]
    }

    fn chains(&self) -> Vec<Chain> {
        let neighbour = |kind, name| Term::FrameIcmpv6(kind, name);
        let advertises = neighbour(136, "nd-neighbor-advert");
        vec![Chain {
            name: "senders",
            hook: Hook::Ingress(self.ports.iter().map(|port| port.name.clone()).collect()),
            rules: vec![
                vec![Term::Sender(NotEqual, MACS), Term::Drop],
                vec![Term::SenderIpv4(ADDRESSES), Term::Accept],
                vec![Term::SenderArp(ADDRESSES), Term::Accept],
                vec![advertises, Term::NoNeighbour(ADDRESSES_6), Term::Drop],
                vec![Term::SenderIpv6(ADDRESSES_6), Term::Accept],
                // Whoever asks whether an address is free has none yet.
                vec![
                    Term::Addressless,
                    neighbour(135, "nd-neighbor-solicit"),
                    Term::Accept,
                ],
                vec![
                    Term::Addressless,
                    neighbour(143, "mld2-listener-report"),
                    Term::Accept,
                ],
                vec![Term::Drop],
            ],
            about: "the rules for services' senders",
        }]
    }
}

impl Port {
    fn element(&self, address: &[u8], words: &str) -> Element {
        let mac = Bridge::mac_of(self.address);
        let mut key = name_bytes(&self.name).to_vec();
        key.extend(mac);
        // Each part begins at a register of four bytes.
        key.extend([0; 2]);
        key.extend(address);
        Element {
            key,
            words: format!("\"{}\" . {}{words}", self.name, spell_mac(mac)),
        }
    }
}

impl Set {
    /// How long each element's key is.
    pub(super) fn key_len(&self) -> u32 {
        self.elements.first().map_or(0, |one| one.key.len() as u32)
    }

    pub(super) fn listing(&self) -> Vec<String> {
        let elements: Vec<_> = self.elements.iter().map(|one| one.words.as_str()).collect();
        vec![
            format!("set {} {{", self.name),
            format!("    type {}", self.words),
            format!("    elements = {{ {} }}", elements.join(", ")),
            "}".to_owned(),
        ]
    }
}

/// The address that the kernel makes for a link by its hardware address (RFC 4291, appendix A), as it
/// does in a container unless it is told otherwise.
fn link_local([a, b, c, d, e, f]: Mac) -> Ipv6Addr {
    Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

const MACS: &str = "macs";
const ADDRESSES: &str = "addresses";
const ADDRESSES_6: &str = "addresses6";

/// As many links as a chain may hang on (NFT_NETDEVICE_MAX of net/netfilter/nf_tables_api.c).
const MAX_PORTS: usize = 256;

// nft's numbers of kinds of data (nftables' include/datatype.h), of which a compound has six bits each.
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const MAC: u32 = 9;
const NAME: u32 = 41;

#[cfg(test)]
pub(super) mod tests {
    use super::{super::super::kernel::tests::link, *};

    /// A box with these links on its bridge, whose index is 1.
    pub(in super::super) fn kernel(ports: &[(u32, &str)]) -> Kernel {
        let port = |(index, name): &(u32, &str)| {
            let mut link = link(*index, name);
            link.master = Some(1);
            link
        };
        let links = ports.iter().map(port).chain([link(1, "pilot0")]);
        Kernel {
            links: links.map(|link| (link.index, link)).collect(),
            ..Kernel::default()
        }
    }

    fn guard(ports: &[(u32, &str)]) -> Guard {
        Guard::of(&NetConfig::default(), &kernel(ports))
    }

    #[test]
    fn a_port_s_senders_follow_from_its_name() {
        let told = guard(&[(7, "pv1"), (9, "pv300")]).listing().join("\n");
        for what in [
            "\"pv1\" . 02:00:0a:4d:00:02 . 10.77.0.2, \"pv300\" . 02:00:0a:4d:01:2d . 10.77.1.45",
            "\"pv1\" . 02:00:0a:4d:00:02 . fe80::aff:fe4d:2",
            "devices = { pv1, pv300 }",
        ] {
            assert!(told.contains(what), "{what:?} is missing in {told}");
        }
    }

    #[test]
    fn only_services_ports_are_guarded() {
        let mut kernel = kernel(&[
            (7, "pv1"),
            (8, "eth7"),
            (9, "pv0"),
            (10, "pv01"),
            (11, "pv-1"),
        ]);
        let guarded = Guard::of(&NetConfig::default(), &kernel);
        assert_eq!(guarded.ports.len(), 1, "{guarded:?}");
        kernel.links.get_mut(&7).expect("a port").master = None;
        assert!(!Guard::of(&NetConfig::default(), &kernel).is_needed());
        let bridgeless = NetConfig {
            bridge: None,
            ..NetConfig::default()
        };
        assert!(!Guard::of(&bridgeless, &kernel).is_needed());
    }

    #[test]
    fn a_port_that_was_made_anew_is_another_one() {
        assert_ne!(guard(&[(7, "pv1")]), guard(&[(8, "pv1")]));
    }

    #[test]
    fn parts_of_a_key_begin_at_whole_registers() {
        let guard = guard(&[(7, "pv1")]);
        let lengths: Vec<_> = guard.sets().iter().map(Set::key_len).collect();
        assert_eq!(lengths, [24, 28, 40]);
    }
}
