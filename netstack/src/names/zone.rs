//! What the box says of itself on one link, as records: its own name, a name below it for each
//! service, and each of them as a web site that can be found by browsing (RFC 6763).

use std::net::IpAddr;

use simple_dns::{
    CLASS, Label, Name, ResourceRecord, TYPE,
    rdata::{A, AAAA, NSEC, PTR, RData, SRV, TXT},
};

/// What is to be published, the same on every link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The box's host name without domain: one label, 1 to 63 bytes.
    pub hostname: String,
    /// The services that a browser can open.
    pub services: Vec<Published>,
}

/// A service that a browser can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id: the label of its name below the box's.
    pub id: String,
    /// Its name for people.
    pub title: String,
}

/// One record and how it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Whose name it is.
    pub(super) name: Name<'static>,
    /// What it says.
    pub(super) data: RData<'static>,
    /// In seconds.
    pub(super) ttl: u32,
    /// The part of the site that it belongs to; all of a part's names are claimed together.
    pub(super) part: Part,
    /// Whether the name is the box's alone, rather than one that others add to.
    pub(super) unique: bool,
}

/// A part of the site: the box itself, or the service with this id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Machine,
    Service(String),
}

impl Record {
    /// As it goes into a message; legacy clients know no cache-flush bit and keep nothing for long
    /// (RFC 6762, 6.7).
    pub(super) fn to_wire(&self, legacy: bool) -> ResourceRecord<'static> {
        let ttl = if legacy {
            self.ttl.min(LEGACY_TTL)
        } else {
            self.ttl
        };
        ResourceRecord::new(self.name.clone(), CLASS::IN, ttl, self.data.clone())
            .with_cache_flush(self.unique && !legacy)
    }

    /// The same on its way out: nobody is to keep it (RFC 6762, 10.1).
    pub(super) fn farewell(&self) -> ResourceRecord<'static> {
        ResourceRecord::new(self.name.clone(), CLASS::IN, 0, self.data.clone())
    }

    /// Whether the two say the same.
    pub(super) fn is(&self, other: &ResourceRecord<'_>) -> bool {
        self.name == other.name && self.data == other.rdata
    }

    pub(super) fn kind(&self) -> TYPE {
        self.data.type_code()
    }
}

/// All records of `site` for a link with these addresses; none without addresses. What makes no
/// valid name is left out.
pub(super) fn records(site: &Site, addresses: &[IpAddr]) -> Vec<Record> {
    let mut zone = Zone::default();
    let Some(host) = name(&[&site.hostname, LOCAL]) else {
        return zone.records;
    };
    if addresses.is_empty() {
        return zone.records;
    }
    zone.host(&Part::Machine, &host, addresses);
    zone.reverse(&host, addresses);
    zone.web_site(&Part::Machine, &site.hostname, &host);
    for service in &site.services {
        if let Some(below) = name(&[&service.id, &site.hostname, LOCAL]) {
            let part = Part::Service(service.id.clone());
            zone.host(&part, &below, addresses);
            let title = format!("{} on {}", service.title, site.hostname);
            zone.web_site(&part, &title, &below);
        }
    }
    zone.records
}

/// That `name` has records of these types and no others (RFC 6762, 6.1).
pub(super) fn nothing_but(name: &Name<'static>, types: &[TYPE]) -> ResourceRecord<'static> {
    let data = RData::NSEC(NSEC::from_types(name.clone(), types));
    ResourceRecord::new(name.clone(), CLASS::IN, HOST_TTL, data).with_cache_flush(true)
}

/// A name of these labels, if each is one.
pub(super) fn name(labels: &[&str]) -> Option<Name<'static>> {
    let labels: Option<Vec<_>> = labels
        .iter()
        .map(|label| {
            Label::new(label.as_bytes().to_vec())
                .ok()
                .filter(|l| !l.is_empty())
        })
        .collect();
    Some(Name::new_with_labels(&labels?))
}

#[derive(Default)]
struct Zone {
    records: Vec<Record>,
}

impl Zone {
    fn add(&mut self, part: &Part, name: &Name<'static>, data: RData<'static>, ttl: u32) {
        self.records.push(Record {
            name: name.clone(),
            data,
            ttl,
            part: part.clone(),
            unique: true,
        });
    }

    fn shared(&mut self, part: &Part, name: &Name<'static>, to: &Name<'static>) {
        self.records.push(Record {
            name: name.clone(),
            data: RData::PTR(PTR(to.clone())),
            ttl: OTHER_TTL,
            part: part.clone(),
            unique: false,
        });
    }

    fn host(&mut self, part: &Part, host: &Name<'static>, addresses: &[IpAddr]) {
        for address in addresses {
            let data = match address {
                IpAddr::V4(ip) => RData::A(A::from(*ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA::from(*ip)),
            };
            self.add(part, host, data, HOST_TTL);
        }
    }

    fn reverse(&mut self, host: &Name<'static>, addresses: &[IpAddr]) {
        for address in addresses {
            let labels = reverse_labels(address);
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            if let Some(name) = name(&labels) {
                let data = RData::PTR(PTR(host.clone()));
                self.add(&Part::Machine, &name, data, HOST_TTL);
            }
        }
    }

    /// An instance of `_https._tcp`, to be found by browsing.
    fn web_site(&mut self, part: &Part, title: &str, host: &Name<'static>) {
        let mut cut = title.len().min(LABEL_MAX);
        while !title.is_char_boundary(cut) {
            cut -= 1;
        }
        let names = (
            name(&[&title[..cut], "_https", "_tcp", LOCAL]),
            name(&["_https", "_tcp", LOCAL]),
            name(&["_services", "_dns-sd", "_udp", LOCAL]),
        );
        let (Some(instance), Some(kind), Some(kinds)) = names else {
            return;
        };
        let place = SRV {
            priority: 0,
            weight: 0,
            port: HTTPS,
            target: host.clone(),
        };
        self.add(part, &instance, RData::SRV(place), HOST_TTL);
        let text = TXT::new().with_string("path=/").unwrap_or_default();
        self.add(part, &instance, RData::TXT(text), OTHER_TTL);
        self.shared(part, &kind, &instance);
        if *part == Part::Machine {
            self.shared(part, &kinds, &kind);
        }
    }
}

/// The labels of the name under which an address's own name is looked up.
fn reverse_labels(address: &IpAddr) -> Vec<String> {
    let mut labels: Vec<String> = match address {
        IpAddr::V4(ip) => ip.octets().iter().rev().map(ToString::to_string).collect(),
        IpAddr::V6(ip) => {
            let nibbles = ip
                .octets()
                .into_iter()
                .rev()
                .flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    let domain = if address.is_ipv4() { "in-addr" } else { "ip6" };
    labels.extend([domain.to_owned(), "arpa".to_owned()]);
    labels
}

/// The domain that is every link's own (RFC 6762, 3).
const LOCAL: &str = "local";

/// Where the front door is.
const HTTPS: u16 = 443;

/// The longest label, in bytes (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// Of records that name a host or an address, in seconds (RFC 6762, 10).
const HOST_TTL: u32 = 120;
/// Of all others, in seconds.
const OTHER_TTL: u32 = 4500;
/// The most for clients that don't speak multicast DNS, in seconds.
const LEGACY_TTL: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn box_and_services_have_names_and_can_be_browsed() {
        let site = Site {
            hostname: "otter".to_owned(),
            services: vec![Published {
                id: "photos".to_owned(),
                title: "Photos".to_owned(),
            }],
        };
        let addresses = ["192.0.2.7".parse().unwrap(), "fe80::1".parse().unwrap()];
        let records = records(&site, &addresses);
        let with = |name: &str| {
            let name = Name::new(name).unwrap();
            records.iter().filter(|record| record.name == name).count()
        };
        assert_eq!(with("otter.local"), 2);
        assert_eq!(with("photos.otter.local"), 2);
        assert_eq!(with("7.2.0.192.in-addr.arpa"), 1);
        assert_eq!(with("_https._tcp.local"), 2);
        assert_eq!(with("Photos on otter._https._tcp.local"), 2);
        assert_eq!(with("_services._dns-sd._udp.local"), 1);
        assert!(super::records(&site, &[]).is_empty());
    }

    #[test]
    fn names_that_are_none_are_left_out_and_long_titles_are_cut() {
        let site = |hostname: &str, title: String| Site {
            hostname: hostname.to_owned(),
            services: vec![Published {
                id: "x".to_owned(),
                title,
            }],
        };
        let address = ["192.0.2.7".parse().unwrap()];
        assert!(records(&site("", String::new()), &address).is_empty());
        assert!(records(&site(&"x".repeat(64), String::new()), &address).is_empty());
        let long = records(&site("otter", "ö".repeat(40)), &address);
        assert!(
            long.iter()
                .any(|record| record.name.to_string().starts_with("öööö"))
        );
    }
}
