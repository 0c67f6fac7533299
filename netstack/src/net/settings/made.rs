//! Whether the owner's bridges and VLANs can be made.

use super::{Made, Settings, Surroundings, Unfit, listed, there_is};

/// Whether what `link` is to be made of can be so.
pub(super) fn check(
    settings: &Settings,
    link: &str,
    made: &Made,
    around: Surroundings<'_>,
) -> Result<(), Unfit> {
    name(link, around)?;
    if settings.made.len() > MOST {
        return Err(Unfit::TooMany {
            what: "bridges and VLANs",
            most: MOST,
        });
    }
    match made {
        Made::Bridge { ports } => bridge(settings, link, ports, around)?,
        Made::Vlan { on, id } => vlan(settings, link, (on, *id), around)?,
    }
    match cycle(settings, link) {
        Some(by) => Err(Unfit::Cycle {
            link: link.to_owned(),
            by: by.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Whether a bridge or VLAN can be removed from these settings.
///
/// # Errors
/// If it is none, or something needs it.
pub fn check_removal(settings: &Settings, link: &str) -> Result<(), Unfit> {
    if !settings.made.contains_key(link) {
        return Err(Unfit::NotMade {
            link: link.to_owned(),
            known: listed(settings.made.keys().map(String::as_str)),
        });
    }
    let mut made = settings.made.iter();
    let user = made.find(|(_, made)| parts(made).any(|part| part == link));
    let user = user.map(|(name, _)| name.clone());
    let mut services = settings.services.iter();
    let bound = services.find(|(_, binding)| binding.uplink == link);
    let bound = bound.map(|(id, _)| format!("the service {id}"));
    match user.or(bound) {
        Some(user) => Err(Unfit::InUse {
            link: link.to_owned(),
            user,
        }),
        None => Ok(()),
    }
}

fn name(link: &str, around: Surroundings<'_>) -> Result<(), Unfit> {
    let written = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let why = if link.is_empty() || link.len() > 15 {
        "it is too long or empty"
    } else if !link.chars().all(written) || link.starts_with(['.', '-']) {
        "it has other characters in it"
    } else if link == around.bridge.name || is_taken(link) {
        "the server needs that name itself"
    } else {
        return Ok(());
    };
    Err(Unfit::Name {
        link: link.to_owned(),
        why,
    })
}

/// Names with a meaning of the kernel's, and those of services' links.
fn is_taken(link: &str) -> bool {
    let number = link.strip_prefix("pv");
    ["lo", "all", "default"].contains(&link)
        || number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn bridge(
    settings: &Settings,
    link: &str,
    ports: &[String],
    around: Surroundings<'_>,
) -> Result<(), Unfit> {
    if !(1..=MOST).contains(&ports.len()) {
        return Err(Unfit::Ports {
            link: link.to_owned(),
            most: MOST,
        });
    }
    for (at, port) in ports.iter().enumerate() {
        let refuse = |why: String| {
            Err(Unfit::Port {
                link: link.to_owned(),
                port: port.clone(),
                why,
            })
        };
        if port == link {
            return refuse("the bridge itself".to_owned());
        }
        if port == &around.bridge.name {
            return refuse("the services' own network".to_owned());
        }
        there_is(settings, port, around)?;
        if ports[..at].contains(port) {
            return refuse("named twice".to_owned());
        }
        if let Some(Made::Bridge { .. }) = settings.made.get(port) {
            return refuse("a bridge too".to_owned());
        }
        let others = settings.made.iter().filter(|(name, _)| *name != link);
        for (other, made) in others {
            if let Made::Bridge { ports } = made
                && ports.contains(port)
            {
                return refuse(format!("one of {other} already"));
            }
        }
        let mut services = settings.services.iter();
        if let Some((id, _)) = services.find(|(_, binding)| binding.uplink == *port) {
            return refuse(format!("the uplink of the service {id}"));
        }
    }
    Ok(())
}

fn vlan(
    settings: &Settings,
    link: &str,
    (on, id): (&str, u16),
    around: Surroundings<'_>,
) -> Result<(), Unfit> {
    if !(1..=4094).contains(&id) {
        return Err(Unfit::VlanId {
            link: link.to_owned(),
            id,
        });
    }
    if on != link {
        there_is(settings, on, around)?;
    }
    let same = |made: &Made| matches!(made, Made::Vlan { on: o, id: i } if o == on && *i == id);
    let mut others = settings.made.iter().filter(|(name, _)| *name != link);
    match others.find(|(_, made)| same(made)) {
        Some((other, _)) => Err(Unfit::VlanTwice {
            link: link.to_owned(),
            id,
            on: on.to_owned(),
            other: other.clone(),
        }),
        None => Ok(()),
    }
}

/// That part of a link by which it would be part of itself.
fn cycle<'a>(settings: &'a Settings, link: &str) -> Option<&'a str> {
    let reaches = |from: &'a str| {
        let (mut seen, mut next) = (Vec::new(), vec![from]);
        while let Some(name) = next.pop() {
            if name == link {
                return true;
            }
            if !seen.contains(&name) {
                seen.push(name);
                next.extend(settings.made.get(name).into_iter().flat_map(parts));
            }
        }
        false
    };
    let own = settings.made.get(link)?;
    parts(own).find(|part| reaches(part))
}

fn parts(made: &Made) -> impl Iterator<Item = &str> {
    let (ports, on) = match made {
        Made::Bridge { ports } => (ports.as_slice(), None),
        Made::Vlan { on, .. } => (&[][..], Some(on.as_str())),
    };
    ports.iter().map(String::as_str).chain(on)
}

/// Bridges and VLANs together, and ports of one bridge: more than a home has.
const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use super::{
        super::{Addressing, Binding, Bridge, Otherwise, check},
        *,
    };

    fn bridge(ports: &[&str]) -> Made {
        Made::Bridge {
            ports: ports.iter().map(|port| (*port).to_owned()).collect(),
        }
    }

    fn vlan(on: &str, id: u16) -> Made {
        let on = on.to_owned();
        Made::Vlan { on, id }
    }

    /// What is said to this link beside a bridge of eth1 and a VLAN 7 of eth0.
    fn said(link: &str, made: Made) -> String {
        let links = ["eth0", "eth1", "eth2"].map(|name| (name.to_owned(), Vec::new()));
        let around = Surroundings {
            links: &links,
            bridge: &Bridge::default(),
            services: &["demo"],
        };
        let mut settings = settings();
        settings.made.insert(link.to_owned(), made);
        check(&settings, link, around).map_or_else(|unfit| unfit.to_string(), |()| String::new())
    }

    fn settings() -> Settings {
        let binding = Binding {
            uplink: "eth2".to_owned(),
            otherwise: Otherwise::Stop,
        };
        Settings {
            made: [("br1", bridge(&["eth1"])), ("lan7", vlan("eth0", 7))]
                .map(|(name, made)| (name.to_owned(), made))
                .into(),
            services: [("demo".to_owned(), binding)].into(),
            ..Settings::default()
        }
    }

    #[test]
    fn what_can_be_made_is_not_refused() {
        for (link, made) in [
            ("br0", bridge(&["eth0"])),
            ("br0", bridge(&["eth0", "lan7"])),
            ("eth0.9", vlan("eth0", 9)),
            ("lan4094", vlan("br1", 4094)),
            ("inner", vlan("lan7", 7)),
            ("br1", bridge(&["eth1", "eth0"])),
        ] {
            assert_eq!(said(link, made.clone()), "", "{link}: {made:?}");
        }
    }

    #[test]
    fn what_can_not_be_made_is_refused_with_what_and_where() {
        for (link, made, expected) in [
            (
                "lan0",
                vlan("eth0", 0),
                "lan0: there is no VLAN 0. Choose a number from 1 to 4094",
            ),
            ("lan0", vlan("eth0", 4095), "there is no VLAN 4095"),
            ("lan8", vlan("eth0", 7), "VLAN 7 of eth0 is lan7 already"),
            ("lan8", vlan("eth9", 7), "no network card called eth9"),
            ("lan8", vlan("lan8", 7), "part of itself, by way of lan8"),
            ("br0", bridge(&[]), "from 1 to 32 ports"),
            (
                "br0",
                bridge(&["eth9"]),
                "no network card called eth9. There is eth0, eth1, eth2",
            ),
            (
                "br0",
                bridge(&["eth1"]),
                "br0: eth1 can't be a port of it, as it is one of br1",
            ),
            ("br0", bridge(&["eth0", "eth0"]), "named twice"),
            ("br0", bridge(&["br0"]), "the bridge itself"),
            ("br0", bridge(&["br1"]), "a bridge too"),
            ("br0", bridge(&["pilot0"]), "the services' own network"),
            ("br0", bridge(&["eth2"]), "the uplink of the service demo"),
            ("pilot0", bridge(&["eth0"]), "needs that name itself"),
            ("pv7", bridge(&["eth0"]), "needs that name itself"),
            ("a name", bridge(&["eth0"]), "other characters"),
            ("a-very-long-name", bridge(&["eth0"]), "too long"),
        ] {
            let said = said(link, made.clone());
            assert!(said.contains(expected), "{link}: {made:?}: {said:?}");
            assert!(said.ends_with('.'), "{said}");
        }
        // Around by another.
        let mut settings = settings();
        let made = [("lan8", vlan("br1", 8)), ("br1", bridge(&["eth1", "lan8"]))];
        settings
            .made
            .extend(made.map(|(name, made)| (name.to_owned(), made)));
        assert_eq!(cycle(&settings, "br1"), Some("lan8"));
        assert_eq!(cycle(&settings, "lan8"), Some("br1"));
        assert_eq!(cycle(&settings, "lan7"), None);
    }

    #[test]
    fn a_bridge_takes_over_the_address_that_its_port_has_now() {
        let links = ["eth1", "eth2"].map(|name| (name.to_owned(), vec![[10, 0, 0, 7].into()]));
        let fixed = Addressing::Static {
            address: [10, 0, 0, 7].into(),
            prefix: 24,
            gateway: None,
            dns: Vec::new(),
        };
        let mut settings = settings();
        settings.links.insert("br1".to_owned(), fixed);
        let checked = |links| {
            let bridge = Bridge::default();
            let around = Surroundings {
                links,
                bridge: &bridge,
                services: &[],
            };
            check(&settings, "br1", around)
        };
        assert_eq!(checked(&links[..1]), Ok(()));
        assert!(checked(&links).is_err(), "eth2 is no port of it");
    }

    #[test]
    fn a_port_has_no_addresses_of_its_own() {
        let links = [("eth1".to_owned(), Vec::new())];
        let around = Surroundings {
            links: &links,
            bridge: &Bridge::default(),
            services: &[],
        };
        let mut settings = settings();
        settings
            .links
            .insert("eth1".to_owned(), Addressing::Automatic);
        let refused = check(&settings, "eth1", around)
            .expect_err("a port")
            .to_string();
        assert!(refused.contains("a port of br1"), "{refused}");
    }

    #[test]
    fn what_is_needed_or_not_made_is_not_removed() {
        let mut settings = settings();
        let said = |settings: &Settings, link| {
            let removed = check_removal(settings, link);
            removed.map_or_else(|unfit| unfit.to_string(), |()| String::new())
        };
        assert_eq!(said(&settings, "br1"), "");
        assert!(said(&settings, "eth0").contains("There is br1, lan7"));
        settings.made.insert("br0".to_owned(), bridge(&["lan7"]));
        assert!(said(&settings, "lan7").contains("in use by br0"));
        let binding = Binding {
            uplink: "br1".to_owned(),
            otherwise: Otherwise::FailOver,
        };
        settings.services.insert("demo".to_owned(), binding);
        assert!(said(&settings, "br1").contains("in use by the service demo"));
    }
}
