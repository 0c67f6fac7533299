//! Which part of the box a request is for: by the port it came in on, then by the host it names.
//!
//! Names that are not the box's own are refused rather than sent to the dashboard: a web page
//! elsewhere that points its own name at the box (DNS rebinding) must not be able to talk to it.

use std::{cell::Cell, collections::HashMap, net::IpAddr, rc::Rc};

use super::config::{DoorConfig, RouteKind, Upstream};

/// Something behind the door that answers requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// How many requests are under way there.
    pub(super) busy: Cell<usize>,
    /// The service's id, or [`DASHBOARD`].
    pub(super) name: String,
    /// Where it listens.
    pub(super) upstream: Upstream,
    /// Whether it is the box's own dashboard.
    pub(super) is_dashboard: bool,
    /// What is done with bytes for it.
    pub(super) kind: RouteKind,
}

/// The way by which a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Port 80: redirects, the authority's certificate, health.
    Plain,
    /// The guard's loopback port: health only.
    Probe,
    /// A TLS port; 443, or one that is a service's own.
    Tls(u16),
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Pages that the door makes itself, on port 80.
    Plain {
        /// The host to redirect to.
        host: String,
    },
    /// The guard's question.
    Probe,
    /// A place behind the door.
    Place(Rc<Place>),
    /// A name below the box's own that no service has.
    UnknownService(String),
    /// A name that is not the box's.
    Stranger,
    /// A port that was a service's and is no more.
    UnknownPort,
}

/// The routing table.
#[derive(Debug)]
pub(super) struct Table {
    hostname: String,
    dashboard: Rc<Place>,
    by_name: HashMap<String, Rc<Place>>,
    by_port: HashMap<u16, Rc<Place>>,
}

impl Table {
    /// The table that `config` describes. Of two routes for one name or port the first counts.
    pub(super) fn new(config: &DoorConfig) -> Self {
        let (mut by_name, mut by_port) = (HashMap::new(), HashMap::new());
        for route in &config.routes {
            let place = Rc::new(Place {
                busy: Cell::new(0),
                name: route.service.to_ascii_lowercase(),
                upstream: route.upstream.clone(),
                is_dashboard: false,
                kind: route.kind,
            });
            if let Some(port) = route.port.filter(|port| *port != HTTPS_PORT) {
                by_port.entry(port).or_insert_with(|| Rc::clone(&place));
            }
            by_name.entry(place.name.clone()).or_insert(place);
        }
        Self {
            hostname: config.hostname.to_ascii_lowercase(),
            dashboard: Rc::new(Place {
                busy: Cell::new(0),
                name: DASHBOARD.to_owned(),
                upstream: config.dashboard.clone(),
                is_dashboard: true,
                kind: RouteKind::Http,
            }),
            by_name,
            by_port,
        }
    }

    /// Where a request goes that came in by `entry` and names `authority`.
    ///
    /// `None` when `authority` is not one.
    pub(super) fn route(&self, entry: Entry, authority: &str) -> Option<Target> {
        let host = Host::parse(authority)?;
        Some(match entry {
            Entry::Probe => Target::Probe,
            Entry::Plain => Target::Plain {
                host: host.name().to_owned(),
            },
            Entry::Tls(port) => match self.by_port.get(&port) {
                Some(place) => Target::Place(Rc::clone(place)),
                None if port == HTTPS_PORT => self.by_host(&host),
                None => Target::UnknownPort,
            },
        })
    }

    /// Whether any connection may have to be passed through undeciphered.
    pub(super) fn passes_any(&self) -> bool {
        let mut places = self.by_name.values().chain(self.by_port.values());
        places.any(|place| place.kind == RouteKind::PassThrough)
    }

    /// The place to which a TLS connection is passed on undeciphered: by the port that it came in
    /// on, or by the name that it asks for.
    pub(super) fn passed(&self, entry: Entry, name: Option<&str>) -> Option<Rc<Place>> {
        match self.route(entry, name.unwrap_or_default())? {
            Target::Place(place) if place.kind == RouteKind::PassThrough => Some(place),
            _ => None,
        }
    }

    /// The box's host name.
    pub(super) fn hostname(&self) -> &str {
        &self.hostname
    }

    fn by_host(&self, host: &Host) -> Target {
        let Host::Name(name) = host else {
            return Target::Place(Rc::clone(&self.dashboard));
        };
        let dashboard = || Target::Place(Rc::clone(&self.dashboard));
        let bare = strip_domain(name);
        if bare == self.hostname || name == "localhost" || name.is_empty() {
            return dashboard();
        }
        let below_box = bare
            .strip_suffix(self.hostname.as_str())
            .and_then(|service| service.strip_suffix('.'));
        let Some(service) = below_box.or_else(|| name.strip_suffix(".localhost")) else {
            return Target::Stranger;
        };
        match self.by_name.get(service) {
            Some(place) => Target::Place(Rc::clone(place)),
            None => Target::UnknownService(service.to_owned()),
        }
    }
}

/// The host part of an authority.
#[derive(Debug, PartialEq, Eq)]
enum Host {
    Address {
        text: String,
    },
    /// In lower case, without a final dot; empty when none was named.
    Name(String),
}

impl Host {
    /// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or nothing.
    fn parse(authority: &str) -> Option<Self> {
        if let Some(rest) = authority.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let IpAddr::V6(address) = address.parse().ok()? else {
                return None;
            };
            let text = format!("[{address}]");
            return is_port(port).then_some(Self::Address { text });
        }
        let colon = authority.find(':').unwrap_or(authority.len());
        let (name, port) = authority.split_at(colon);
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if !is_port(port) || name.len() > MAX_NAME || !name.bytes().all(plain) {
            return None;
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        Some(match name.parse::<IpAddr>() {
            Ok(_) => Self::Address { text: name },
            Err(_) => Self::Name(name),
        })
    }

    fn name(&self) -> &str {
        match self {
            Self::Address { text } => text,
            Self::Name(name) => name,
        }
    }
}

/// Nothing, or a colon and at most five digits.
fn is_port(text: &str) -> bool {
    let Some(digits) = text.strip_prefix(':') else {
        return text.is_empty();
    };
    digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name without the local domain that a home network puts behind it.
fn strip_domain(name: &str) -> &str {
    let stripped = LOCAL_DOMAINS.iter().find_map(|end| name.strip_suffix(end));
    stripped.unwrap_or(name)
}

/// What the dashboard is called where services have their id.
pub(super) const DASHBOARD: &str = "dashboard";
/// Domains that nobody can own, so that no stranger's page can have a name below them.
const LOCAL_DOMAINS: [&str; 4] = [".local", ".home.arpa", ".internal", ".lan"];
/// Never one service's own: the dashboard must stay reachable.
const HTTPS_PORT: u16 = 443;
/// The longest host name that DNS allows.
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::Route;

    fn table() -> Table {
        let route = |service: &str, host: u8, port| Route {
            service: service.into(),
            upstream: Upstream::Tcp(([10, 77, 0, host], 80).into()),
            port,
            kind: RouteKind::default(),
        };
        Table::new(&DoorConfig {
            hostname: "Otter".into(),
            routes: vec![route("demo", 2, Some(8443)), route("photos", 3, Some(443))],
            ..DoorConfig::default()
        })
    }

    fn to(entry: Entry, authority: &str) -> Option<String> {
        Some(match table().route(entry, authority)? {
            Target::Place(place) => place.name.clone(),
            Target::Plain { host } => format!("plain {host}"),
            Target::Probe => "probe".into(),
            Target::Stranger => "stranger".into(),
            Target::UnknownPort => "unknown port".into(),
            Target::UnknownService(name) => format!("unknown {name}"),
        })
    }

    #[test]
    fn names_lead_to_dashboard_and_services() {
        let main = |authority| to(Entry::Tls(443), authority).unwrap();
        for own in [
            "otter.local",
            "OTTER",
            "otter.lan.",
            "localhost:18443",
            "10.0.2.15",
            "[::1]:4",
        ] {
            assert_eq!(main(own), "dashboard", "{own}");
        }
        assert_eq!(main(""), "dashboard");
        assert_eq!(main("demo.otter.local"), "demo");
        assert_eq!(main("Demo.localhost:1"), "demo");
        assert_eq!(main("demo.otter"), "demo");
        assert_eq!(main("photos.otter.internal"), "photos");
        assert_eq!(main("music.otter.local"), "unknown music");
    }

    #[test]
    fn strangers_names_lead_nowhere() {
        for name in [
            "evil.example",
            "otter.evil.example",
            "xotter.local",
            "local",
            "demo.local",
        ] {
            assert_eq!(to(Entry::Tls(443), name).unwrap(), "stranger", "{name}");
        }
    }

    #[test]
    fn a_port_of_its_own_is_the_services_whatever_the_name() {
        assert_eq!(to(Entry::Tls(8443), "10.0.2.15:8443").unwrap(), "demo");
        assert_eq!(to(Entry::Tls(8443), "any.example").unwrap(), "demo");
        assert_eq!(to(Entry::Tls(443), "10.0.2.15").unwrap(), "dashboard");
        assert_eq!(
            to(Entry::Tls(9443), "otter.local:9443").unwrap(),
            "unknown port"
        );
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for wrong in [
            "a b",
            "a/b",
            "a:b",
            "a:123456",
            "[::1",
            "[10.0.0.1]",
            "a@b",
            "a:1:2",
            "é",
        ] {
            assert_eq!(to(Entry::Tls(443), wrong), None, "{wrong:?}");
        }
        assert_eq!(
            to(Entry::Plain, "Otter.local:80").unwrap(),
            "plain otter.local"
        );
        assert_eq!(to(Entry::Probe, "127.0.0.1:7780").unwrap(), "probe");
    }
}
