//! Whether metrics and the uplinks of services can be as they are set.

use std::ops::RangeInclusive;

use super::{Addressing, Settings, Surroundings, Unfit, listed, there_is};

/// Whether a link's metric can be that.
pub(super) fn check_metric(settings: &Settings, link: &str) -> Result<(), Unfit> {
    let Some(metric) = settings.metrics.get(link) else {
        return Ok(());
    };
    if !METRICS.contains(metric) {
        return Err(Unfit::Metric {
            link: link.to_owned(),
            metric: *metric,
        });
    }
    match settings.bridge_of(link) {
        Some(bridge) => Err(Unfit::PortHasNone {
            link: link.to_owned(),
            bridge: bridge.to_owned(),
            what: "has no metric of its own",
        }),
        None => Ok(()),
    }
}

/// Whether what `service` is bound to can work in these surroundings.
///
/// # Errors
/// With the first thing that can't be right.
pub fn check_service(
    settings: &Settings,
    service: &str,
    around: Surroundings<'_>,
) -> Result<(), Unfit> {
    let Some(binding) = settings.services.get(service) else {
        return Ok(());
    };
    if !around.services.contains(&service) {
        return Err(Unfit::Service {
            service: service.to_owned(),
            known: listed(around.services.iter().copied()),
        });
    }
    if settings.services.len() > MOST {
        return Err(Unfit::TooMany {
            what: "services with an uplink of their own",
            most: MOST,
        });
    }
    let uplink = &binding.uplink;
    let refuse = |why: String| {
        Err(Unfit::Uplink {
            service: service.to_owned(),
            uplink: uplink.clone(),
            why,
        })
    };
    if *uplink == around.bridge.name {
        return refuse("is the services' own network".to_owned());
    }
    there_is(settings, uplink, around)?;
    if let Some(bridge) = settings.bridge_of(uplink) {
        return refuse(format!("is a port of {bridge}"));
    }
    match settings.links.get(uplink) {
        Some(Addressing::Unmanaged) => refuse("is left alone by the settings".to_owned()),
        Some(Addressing::Static { gateway: None, .. }) => refuse("has no gateway".to_owned()),
        Some(Addressing::Static { .. } | Addressing::Automatic) | None => Ok(()),
    }
}

/// The metrics that an uplink can have.
pub const METRICS: RangeInclusive<u32> = 1..=9999;

/// Each is two rules of the kernel's.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::{
        super::{Binding, Bridge, Made, Otherwise, check},
        *,
    };

    fn around<'a>(
        links: &'a [(String, Vec<std::net::Ipv4Addr>)],
        bridge: &'a Bridge,
    ) -> Surroundings<'a> {
        Surroundings {
            links,
            bridge,
            services: &["cloud", "demo"],
        }
    }

    fn settings() -> Settings {
        let fixed = |gateway| Addressing::Static {
            address: [192, 168, 1, 7].into(),
            prefix: 24,
            gateway,
            dns: Vec::new(),
        };
        let ports = vec!["eth1".to_owned()];
        Settings {
            links: [
                ("eth2", Addressing::Unmanaged),
                ("eth3", fixed(None)),
                ("eth4", fixed(Some([192, 168, 1, 1].into()))),
            ]
            .map(|(name, addressing)| (name.to_owned(), addressing))
            .into(),
            made: [("br0".to_owned(), Made::Bridge { ports })].into(),
            ..Settings::default()
        }
    }

    #[test]
    fn a_service_is_bound_to_what_can_lead_out() {
        let links = ["eth0", "eth1", "eth2", "eth3", "eth4"].map(|name| (name.to_owned(), vec![]));
        let bridge = Bridge::default();
        let said = |service: &str, uplink: &str| {
            let mut settings = settings();
            let binding = Binding {
                uplink: uplink.to_owned(),
                otherwise: Otherwise::FailOver,
            };
            settings.services.insert(service.to_owned(), binding);
            let checked = check_service(&settings, service, around(&links, &bridge));
            checked.map_or_else(|unfit| unfit.to_string(), |()| String::new())
        };
        for good in ["eth0", "eth4", "br0"] {
            assert_eq!(said("demo", good), "");
        }
        for (service, uplink, expected) in [
            ("demo", "eth9", "no network card called eth9"),
            (
                "demo",
                "eth1",
                "demo: eth1 can't be its uplink, as it is a port of br0",
            ),
            ("demo", "eth2", "left alone"),
            ("demo", "eth3", "has no gateway"),
            ("demo", "pilot0", "the services' own network"),
            (
                "other",
                "eth0",
                "no service called other. There is cloud, demo",
            ),
        ] {
            let said = said(service, uplink);
            assert!(said.contains(expected), "{service} by {uplink}: {said:?}");
        }
    }

    #[test]
    fn a_metric_is_a_number_from_1_to_9999() {
        let links = ["eth0", "eth1"].map(|name| (name.to_owned(), vec![]));
        let bridge = Bridge::default();
        let said = |link: &str, metric| {
            let mut settings = settings();
            settings.metrics.insert(link.to_owned(), metric);
            let checked = check(&settings, link, around(&links, &bridge));
            checked.map_or_else(|unfit| unfit.to_string(), |()| String::new())
        };
        assert_eq!((said("eth0", 1), said("eth0", 9999)), Default::default());
        for wrong in [0, 10_000] {
            assert!(said("eth0", wrong).contains("from 1 to 9999"));
        }
        assert!(said("eth1", 50).contains("a port of br0"));
    }
}
