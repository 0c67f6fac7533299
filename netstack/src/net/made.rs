//! The bridges and VLANs that the owner declares: made, kept as they are to be, and unmade. Pure.
//!
//! Those made here bear a mark (the kernel's link group), so that one that is not declared any more
//! is known whoever made it: this process or a predecessor.

use super::{
    change::{Change, NewLink},
    config::{Made, NetConfig},
    frame::Mac,
    kernel::{Kernel, Link},
};

/// The changes needed to the links themselves; their addresses are as of any other link.
pub(crate) fn changes(config: &NetConfig, kernel: &Kernel, changes: &mut Vec<Change>) {
    let stale = kernel.links.values().filter(|link| {
        let made = config.made.get(&link.name);
        link.group == GROUP && !made.is_some_and(|made| fits(made, link, kernel))
    });
    changes.extend(stale.map(|link| Change::DeleteLink { link: link.index }));
    for (name, made) in &config.made {
        match kernel.named(name) {
            None => changes.extend(new(name, made, kernel)),
            Some(link) if fits(made, link, kernel) => keep(made, link, kernel, changes),
            // Either it goes in this turn, or somebody else's link has its name.
            Some(_) => {}
        }
    }
}

/// Whether a link is a port of a bridge that is declared, there or not.
pub(crate) fn is_port(config: &NetConfig, link: &str) -> bool {
    config.made.values().any(|made| match made {
        Made::Bridge { ports } => ports.iter().any(|port| port == link),
        Made::Vlan { .. } => false,
    })
}

/// What keeps declared links from being there, as sentences.
pub(crate) fn problems(config: &NetConfig, kernel: &Kernel) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, made) in &config.made {
        if let Some(link) = kernel.named(name)
            && !fits(made, link, kernel)
            && link.group != GROUP
        {
            problems.push(format!(
                "{name} can't be made as the settings want it, since another link has that name; \
                 remove it from the settings, or choose another name."
            ));
        }
        let missing: Vec<&str> = parts(made)
            .filter(|part| kernel.named(part).is_none())
            .collect();
        if !missing.is_empty() {
            problems.push(format!(
                "{name} waits for {}, which is not there; plug it in, or change {name}.",
                missing.join(" and ")
            ));
        }
    }
    problems
}

/// The links that one is made of.
fn parts(made: &Made) -> impl Iterator<Item = &str> {
    let (ports, on) = match made {
        Made::Bridge { ports } => (ports.as_slice(), None),
        Made::Vlan { on, .. } => (&[][..], Some(on.as_str())),
    };
    ports.iter().map(String::as_str).chain(on)
}

fn fits(made: &Made, link: &Link, kernel: &Kernel) -> bool {
    match made {
        Made::Bridge { .. } => link.kind.as_deref() == Some("bridge"),
        Made::Vlan { on, id } => {
            let parent = kernel.named(on).map(|parent| parent.index);
            link.kind.as_deref() == Some("vlan") && link.vlan == Some(*id) && link.parent == parent
        }
    }
}

fn new(name: &str, made: &Made, kernel: &Kernel) -> Option<Change> {
    let made = match made {
        Made::Bridge { ports } => {
            // That of its first port, so that the network's router knows the box as before.
            let first = ports.first().and_then(|port| kernel.named(port));
            NewLink::Bridge {
                mac: first.map_or_else(|| own_mac(name), |port| port.mac),
            }
        }
        Made::Vlan { on, id } => NewLink::Vlan {
            on: kernel.named(on)?.index,
            id: *id,
        },
    };
    Some(Change::CreateLink {
        name: name.to_owned(),
        made,
    })
}

fn keep(made: &Made, link: &Link, kernel: &Kernel, changes: &mut Vec<Change>) {
    let ports = match made {
        Made::Bridge { ports } => ports,
        Made::Vlan { on, .. } => {
            let parent = kernel.named(on).filter(|parent| !parent.up);
            changes.extend(parent.map(|parent| Change::Up { link: parent.index }));
            return;
        }
    };
    for port in ports.iter().filter_map(|port| kernel.named(port)) {
        if port.master != Some(link.index) {
            changes.push(Change::SetMaster {
                link: port.index,
                master: link.index,
            });
        }
    }
    let is_strange = |port: &&Link| port.master == Some(link.index) && !ports.contains(&port.name);
    let strangers = kernel.links.values().filter(is_strange);
    changes.extend(strangers.map(|port| Change::SetMaster {
        link: port.index,
        master: 0,
    }));
}

/// A hardware address for a bridge whose first port is not there: locally administered, and the
/// same on every boot (FNV-1a of the name).
fn own_mac(name: &str) -> Mac {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_be_bytes();
    [2, a, b, c, d, e]
}

/// The kernel's link group of what is made here: "PL".
pub(crate) const GROUP: u32 = 0x504c;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::kernel::tests::link, *};

    fn kernel<const N: usize>(links: [Link; N]) -> Kernel {
        Kernel {
            links: links.map(|link| (link.index, link)).into(),
            ..Kernel::default()
        }
    }

    fn config<const N: usize>(made: [(&str, Made); N]) -> NetConfig {
        NetConfig {
            made: made.map(|(name, made)| (name.to_owned(), made)).into(),
            ..NetConfig::default()
        }
    }

    fn bridge(ports: &[&str]) -> Made {
        Made::Bridge {
            ports: ports.iter().map(|port| (*port).to_owned()).collect(),
        }
    }

    fn vlan(on: &str, id: u16) -> Made {
        let on = on.to_owned();
        Made::Vlan { on, id }
    }

    fn asked(config: &NetConfig, kernel: &Kernel) -> Vec<Change> {
        let mut asked = Vec::new();
        changes(config, kernel, &mut asked);
        asked
    }

    #[test]
    fn a_bridge_is_made_with_its_first_port_s_address_and_gets_its_ports() {
        let config = config([("br0", bridge(&["eth0", "eth1"]))]);
        let mut kernel = kernel([link(2, "eth0")]);
        let made = NewLink::Bridge {
            mac: [2, 0, 0, 0, 0, 2],
        };
        let name = "br0".to_owned();
        assert_eq!(asked(&config, &kernel), [Change::CreateLink { name, made }]);
        assert_eq!(problems(&config, &kernel).len(), 1, "eth1 is not there");

        let there = Link {
            kind: Some("bridge".to_owned()),
            group: GROUP,
            ..link(9, "br0")
        };
        let stranger = Link {
            master: Some(9),
            ..link(5, "tap0")
        };
        let port = Link {
            master: Some(9),
            ..link(3, "eth1")
        };
        kernel.links.extend([(9, there), (5, stranger), (3, port)]);
        let expected = [(2, 9), (5, 0)].map(|(link, master)| Change::SetMaster { link, master });
        assert_eq!(asked(&config, &kernel), expected);
        assert!(is_port(&config, "eth1") && !is_port(&config, "br0"));
        assert!(problems(&config, &kernel).is_empty());
    }

    #[test]
    fn a_vlan_is_made_once_its_link_is_there_and_made_anew_if_it_is_another() {
        let config = config([("lan7", vlan("eth0", 7))]);
        assert_eq!(asked(&config, &kernel([])), []);
        let name = "lan7".to_owned();
        let made = NewLink::Vlan { on: 2, id: 7 };
        let eth0 = || link(2, "eth0");
        assert_eq!(
            asked(&config, &kernel([eth0()])),
            [Change::CreateLink { name, made }]
        );
        let there = |id| Link {
            kind: Some("vlan".to_owned()),
            parent: Some(2),
            vlan: Some(id),
            group: GROUP,
            ..link(4, "lan7")
        };
        assert_eq!(asked(&config, &kernel([eth0(), there(7)])), []);
        assert_eq!(
            asked(&config, &kernel([eth0(), there(8)])),
            [Change::DeleteLink { link: 4 }]
        );
        let down = Link {
            up: false,
            ..eth0()
        };
        assert_eq!(
            asked(&config, &kernel([down, there(7)])),
            [Change::Up { link: 2 }]
        );
    }

    #[test]
    fn what_is_not_declared_any_more_goes_and_what_others_made_stays() {
        let ours = Link {
            kind: Some("bridge".to_owned()),
            group: GROUP,
            ..link(4, "br0")
        };
        let theirs = Link {
            kind: Some("bridge".to_owned()),
            ..link(5, "br1")
        };
        let kernel = kernel([ours, theirs]);
        let none = NetConfig::default();
        assert_eq!(asked(&none, &kernel), [Change::DeleteLink { link: 4 }]);

        // A name that somebody else's link of another kind has is told, and nothing is touched.
        let made = BTreeMap::from([("br1".to_owned(), vlan("br0", 3))]);
        let config = NetConfig { made, ..none };
        assert_eq!(asked(&config, &kernel), [Change::DeleteLink { link: 4 }]);
        assert!(problems(&config, &kernel)[0].contains("another link has that name"));
    }
}
