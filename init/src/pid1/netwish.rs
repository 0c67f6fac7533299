//! What an owner wishes of the network, as a change of the settings, and the other way. Pure.

use std::net::IpAddr;

use netstack::net::{
    Addressing, Made, Otherwise,
    settings::{self, Settings, Surroundings, Unfit},
};
use supervise::network::{Binding, LinkSetting, MadeLink, Wish};

/// The settings with one change.
pub(super) fn changed(
    settled: &Settings,
    link: &str,
    wish: Wish,
    around: Surroundings<'_>,
) -> Result<Settings, Unfit> {
    let mut settings = settled.clone();
    let name = link.to_owned();
    match wish {
        Wish::Addresses(setting) => {
            settings.links.insert(name, addressing(&setting));
        }
        Wish::Bound(bound) => {
            match bound {
                Some(bound) => settings.services.insert(name, netstack_binding(bound)),
                None => settings.services.remove(link),
            };
            settings::check_service(&settings, link, around)?;
            return Ok(settings);
        }
        Wish::Made(made, setting) => {
            let is_there = around.links.iter().any(|(there, _)| there == link);
            if is_there && !settled.made.contains_key(link) {
                let why = "another link has it";
                return Err(Unfit::Name { link: name, why });
            }
            if let MadeLink::Bridge { ports } = &made {
                // A port has none of these of its own.
                settings.links.retain(|link, _| !ports.contains(link));
                settings.metrics.retain(|link, _| !ports.contains(link));
            }
            settings.made.insert(name.clone(), netstack_made(made));
            settings.links.insert(name, addressing(&setting));
        }
        Wish::Metric(metric) => {
            match metric.filter(|metric| *metric != 0) {
                Some(metric) => settings.metrics.insert(name, metric),
                None => settings.metrics.remove(link),
            };
        }
        Wish::Removed => {
            settings::check_removal(&settings, link)?;
            settings.made.remove(link);
            settings.links.remove(link);
            settings.metrics.remove(link);
            return Ok(settings);
        }
    }
    settings::check(&settings, link, around)?;
    Ok(settings)
}

/// What a change from these settings to those brings for its link.
pub(super) fn wish_of(link: &str, before: &Settings, after: &Settings) -> Wish {
    let setting = after
        .links
        .get(link)
        .map_or(LinkSetting::Automatic, setting);
    let made = |settings: &Settings| settings.made.get(link).map(made_link);
    match (made(before), made(after)) {
        (Some(_), None) => return Wish::Removed,
        (before, Some(after)) if before.as_ref() != Some(&after) => {
            return Wish::Made(after, setting);
        }
        _ => {}
    }
    if before.services.get(link) != after.services.get(link) {
        return Wish::Bound(after.services.get(link).map(binding));
    }
    if before.metrics.get(link) != after.metrics.get(link) {
        return Wish::Metric(after.metrics.get(link).copied());
    }
    Wish::Addresses(setting)
}

/// How a declared link is told of.
pub(super) fn made_link(made: &Made) -> MadeLink {
    match made.clone() {
        Made::Bridge { ports } => MadeLink::Bridge { ports },
        Made::Vlan { on, id } => MadeLink::Vlan { on, id },
    }
}

fn netstack_made(made: MadeLink) -> Made {
    match made {
        MadeLink::Bridge { ports } => Made::Bridge { ports },
        MadeLink::Vlan { on, id } => Made::Vlan { on, id },
    }
}

/// How a service's binding is told of.
pub(super) fn binding(binding: &settings::Binding) -> Binding {
    Binding {
        uplink: binding.uplink.clone(),
        only: binding.otherwise == Otherwise::Stop,
    }
}

fn netstack_binding(Binding { uplink, only }: Binding) -> settings::Binding {
    let otherwise = match only {
        true => Otherwise::Stop,
        false => Otherwise::FailOver,
    };
    settings::Binding { uplink, otherwise }
}

/// Where the box is found by such a setting, as far as it says so itself.
pub(super) fn addresses_of(addressing: Option<&Addressing>) -> Vec<IpAddr> {
    match addressing {
        Some(Addressing::Static { address, .. }) => vec![(*address).into()],
        _ => Vec::new(),
    }
}

fn addressing(setting: &LinkSetting) -> Addressing {
    match setting.clone() {
        LinkSetting::Automatic => Addressing::Automatic,
        LinkSetting::Static {
            address,
            prefix,
            gateway,
            dns,
        } => Addressing::Static {
            address,
            prefix,
            gateway,
            dns,
        },
        LinkSetting::Unmanaged => Addressing::Unmanaged,
    }
}

/// How a link's way to its addresses is told of.
pub(super) fn setting(addressing: &Addressing) -> LinkSetting {
    match addressing.clone() {
        Addressing::Automatic => LinkSetting::Automatic,
        Addressing::Static {
            address,
            prefix,
            gateway,
            dns,
        } => LinkSetting::Static {
            address,
            prefix,
            gateway,
            dns,
        },
        Addressing::Unmanaged => LinkSetting::Unmanaged,
    }
}

#[cfg(test)]
mod tests {
    use netstack::net::Bridge;

    use super::*;

    fn with(settled: &Settings, link: &str, wish: Wish) -> Result<Settings, String> {
        let links = ["eth0", "eth1"].map(|name| (name.to_owned(), Vec::new()));
        let around = Surroundings {
            links: &links,
            bridge: &Bridge::default(),
            services: &["cloud"],
        };
        changed(settled, link, wish, around).map_err(|e| e.to_string())
    }

    fn bridge(ports: &[&str]) -> Wish {
        let ports = ports.iter().map(|port| (*port).to_owned()).collect();
        Wish::Made(MadeLink::Bridge { ports }, LinkSetting::Automatic)
    }

    #[test]
    fn what_a_change_brings_is_what_was_wished() {
        let fixed = LinkSetting::Static {
            address: [192, 168, 1, 5].into(),
            prefix: 24,
            gateway: None,
            dns: Vec::new(),
        };
        let uplink = "eth1".to_owned();
        let bound = Binding { uplink, only: true };
        let vlan = MadeLink::Vlan {
            on: "eth1".to_owned(),
            id: 7,
        };
        let mut settled = Settings::default();
        for (link, wish) in [
            ("eth0", Wish::Addresses(fixed.clone())),
            ("eth0", Wish::Metric(Some(50))),
            ("cloud", Wish::Bound(Some(bound))),
            ("lan7", Wish::Made(vlan, fixed)),
            ("cloud", Wish::Bound(None)),
            ("eth0", Wish::Metric(None)),
            ("lan7", Wish::Removed),
            ("br0", bridge(&["eth0", "eth1"])),
        ] {
            // The VLAN's address is in the network of the fixed one.
            if link == "lan7" {
                settled.links.remove("eth0");
            }
            let after = with(&settled, link, wish.clone()).unwrap();
            assert_eq!(wish_of(link, &settled, &after), wish, "{link}");
            settled = after;
        }
        assert!(!settled.links.contains_key("eth0"), "a port has no setting");
        let refused = with(&settled, "eth0", Wish::Metric(Some(7))).unwrap_err();
        assert!(refused.contains("a port of br0"), "{refused}");
        let refused = with(&settled, "br1", bridge(&["eth0"])).unwrap_err();
        assert!(refused.contains("one of br0 already"), "{refused}");
        let refused = with(&Settings::default(), "eth0", bridge(&["eth1"])).unwrap_err();
        assert!(
            refused.contains("\"eth0\" can't be a link's name"),
            "{refused}"
        );
    }
}
