//! The names that are the box's own to answer for: `<id>.pilot.internal` for each service, the way
//! back from their addresses, and those that must never leave a machine (RFC 6761).

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    config::DnsConfig,
    wire::{
        self, A, AAAA, AUTHORITATIVE, INTERNET, NO_ERROR, NO_SUCH_NAME, NS, PTR, Query, SOA,
        set_u16, u16_at,
    },
};

/// What the box knows by itself.
#[derive(Debug, Default)]
pub(super) struct Internal {
    /// The box's address on the services' bridge, with the network's prefix length.
    bridge: Option<(Ipv4Addr, u8)>,
    /// Lower-case ids, without the domain.
    services: HashMap<Vec<u8>, Ipv4Addr>,
    owners: HashMap<Ipv4Addr, Vec<u8>>,
    /// The box's host name in lower case, below `local`.
    hostname: Vec<u8>,
    /// Lower-case ids of the services that a browser opens at the door.
    sites: HashSet<Vec<u8>>,
}

/// Who asks for a name.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// The box or one of its services.
    Inside,
    /// A machine of one of the box's networks, in which the box has these addresses.
    Lan(Vec<IpAddr>),
}

/// What there is under a name.
enum There {
    Addresses(Vec<IpAddr>),
    Name(Vec<u8>),
    /// The top of the zone, where it is told about.
    Apex,
    /// The name alone.
    Nothing,
    NoSuchName,
}

impl Internal {
    /// What of a configuration is the box's own to answer for. What makes no label is left out.
    pub(super) fn new(config: &DnsConfig) -> Self {
        let lower = |text: &String| text.to_ascii_lowercase().into_bytes();
        let mut internal = Self {
            bridge: config.bridge,
            hostname: lower(&config.hostname),
            sites: config.sites.iter().map(lower).collect(),
            ..Self::default()
        };
        for (id, address) in &config.services {
            let id = id.to_ascii_lowercase();
            if id.contains('.') {
                continue;
            }
            if let Some(name) = wire::name(&format!("{id}.{DOMAIN}")) {
                internal.services.insert(id.into_bytes(), *address);
                internal.owners.insert(*address, name);
            }
        }
        internal
    }

    /// The answer to a question that nobody else is to be asked.
    pub(super) fn answer(&self, query: &Query, asker: &Asker) -> Option<Vec<u8>> {
        let name = query.question.name.to_ascii_lowercase();
        let labels: Vec<&[u8]> = wire::labels(&name).collect();
        let (there, zone) = self.find(&labels, asker)?;
        Some(compose(query, there, zone))
    }

    /// What there is, and how many labels the name of its zone has.
    fn find(&self, labels: &[&[u8]], asker: &Asker) -> Option<(There, usize)> {
        Some(match labels {
            // For those who can't ask by multicast; services are reached by the door.
            [above @ .., hostname, b"local"]
                if let Asker::Lan(addresses) = asker
                    && self.is_here(above, hostname) =>
            {
                (There::Addresses(addresses.clone()), 1)
            }
            [.., b"pilot", b"internal"] => (self.below_ours(&labels[..labels.len() - 2]), 2),
            [.., b"localhost"] => {
                let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                (There::Addresses(loopback.into()), 1)
            }
            // Multicast DNS's, Tor's, and nobody's.
            [.., b"local" | b"onion" | b"invalid" | b"test"] => (There::NoSuchName, 1),
            [reversed @ .., b"in-addr", b"arpa"] => (self.reverse(reversed)?, 2),
            _ => return None,
        })
    }

    /// Whether it is the box's name, or that of a service's page below it.
    fn is_here(&self, above: &[&[u8]], hostname: &[u8]) -> bool {
        let is_known = match above {
            [] => true,
            [id] => self.sites.contains(*id),
            _ => false,
        };
        is_known && hostname == self.hostname
    }

    fn below_ours(&self, labels: &[&[u8]]) -> There {
        match (labels, self.bridge) {
            ([], Some(_)) => There::Apex,
            ([], None) => There::Nothing,
            ([id], _) => match self.services.get(*id) {
                Some(address) => There::Addresses(vec![(*address).into()]),
                None => There::NoSuchName,
            },
            _ => There::NoSuchName,
        }
    }

    /// The name of an address on the bridge or on the loopback; `None` for all others.
    fn reverse(&self, labels: &[&[u8]]) -> Option<There> {
        let octet = |label: &&[u8]| std::str::from_utf8(label).ok()?.parse::<u8>().ok();
        let [d, c, b, a] = labels else {
            return None;
        };
        let address = Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?);
        if address.is_loopback() {
            return Some(There::Name(wire::name("localhost")?));
        }
        let (own, prefix) = self.bridge?;
        if !is_within(address, (own, prefix)) {
            return None;
        }
        Some(if address == own {
            There::Name(wire::name(DOMAIN)?)
        } else {
            let owner = self.owners.get(&address);
            owner.map_or(There::NoSuchName, |name| There::Name(name.clone()))
        })
    }
}

/// Whether an address is in a network.
pub(super) fn is_within(address: Ipv4Addr, (network, prefix): (Ipv4Addr, u8)) -> bool {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    u32::from(address) & mask == u32::from(network) & mask
}

fn compose(query: &Query, there: There, zone: usize) -> Vec<u8> {
    let question = &query.question;
    let is_missing = matches!(there, There::NoSuchName);
    let bare = Query {
        edns: None,
        ..query.clone()
    };
    let code = if is_missing { NO_SUCH_NAME } else { NO_ERROR };
    let mut reply = bare.reply(code);
    let flags = u16_at(&reply, 2).unwrap_or_default();
    set_u16(&mut reply, 2, flags | AUTHORITATIVE);
    let wants = |kind| question.kind == kind;
    let mut count = 0;
    let mut answer = |reply: &mut Vec<u8>, kind, data: &[u8]| {
        record(reply, NAME_ASKED, kind, TTL, data);
        count += 1;
    };
    match there {
        There::Addresses(addresses) => {
            for address in addresses {
                match address {
                    IpAddr::V4(ip) if wants(A) => answer(&mut reply, A, &ip.octets()),
                    IpAddr::V6(ip) if wants(AAAA) => answer(&mut reply, AAAA, &ip.octets()),
                    IpAddr::V4(_) | IpAddr::V6(_) => {}
                }
            }
        }
        There::Name(name) if wants(PTR) => answer(&mut reply, PTR, &name),
        There::Apex if wants(NS) => answer(&mut reply, NS, &NAME_ASKED),
        There::Apex if wants(SOA) => answer(&mut reply, SOA, &soa()),
        There::Apex | There::Name(_) | There::Nothing | There::NoSuchName => {}
    }
    if count == 0 {
        // The zone's name is the end of the one that was asked for.
        let skipped = wire::labels(&question.name).count().saturating_sub(zone);
        let above = wire::ancestry(&question.name).nth(skipped);
        let before = question.name.len() - above.map_or(1, <[u8]>::len);
        let pointer = 0xc000 | (wire::HEADER + before) as u16;
        record(&mut reply, pointer.to_be_bytes(), SOA, TTL, &soa());
        set_u16(&mut reply, 8, 1);
    }
    set_u16(&mut reply, 6, count);
    query.close(&mut reply, code);
    reply
}

fn record(reply: &mut Vec<u8>, name: [u8; 2], kind: u16, ttl: u32, data: &[u8]) {
    reply.extend(name);
    reply.extend(kind.to_be_bytes());
    reply.extend(INTERNET.to_be_bytes());
    reply.extend(ttl.to_be_bytes());
    reply.extend((data.len() as u16).to_be_bytes());
    reply.extend_from_slice(data);
}

/// About a zone that is on this box alone: whoever asks again asks here.
fn soa() -> Vec<u8> {
    let mut data = wire::name(DOMAIN).unwrap_or_default();
    data.extend(wire::name(&format!("nobody.{DOMAIN}")).unwrap_or_default());
    for number in [1, 3600, 600, 86_400, TTL] {
        data.extend(number.to_be_bytes());
    }
    data
}

/// Where services are found.
pub(super) const DOMAIN: &str = "pilot.internal";
/// The name in the question, which is behind the header.
const NAME_ASKED: [u8; 2] = [0xc0, 12];
/// A service that was replaced has the same address for as long as it is installed; in seconds.
const TTL: u32 = 5;

#[cfg(test)]
mod tests {
    use super::{super::answer::tests::query, *};
    use wire::{Section, records};

    fn internal() -> Internal {
        let services = [
            ("photos".to_owned(), Ipv4Addr::new(10, 77, 0, 2)),
            ("x".repeat(64), Ipv4Addr::new(10, 77, 0, 3)),
            ("a.b".to_owned(), Ipv4Addr::new(10, 77, 0, 4)),
        ];
        Internal::new(&DnsConfig {
            bridge: Some((Ipv4Addr::new(10, 77, 0, 1), 16)),
            services: services.into(),
            hostname: "Otter".to_owned(),
            sites: vec!["photos".to_owned()],
            ..DnsConfig::default()
        })
    }

    /// Code, and the records of the answer and of the authority.
    fn ask(name: &str, kind: u16) -> Option<(u16, Vec<Vec<u8>>, usize)> {
        ask_as(&Asker::Inside, name, kind)
    }

    fn ask_as(asker: &Asker, name: &str, kind: u16) -> Option<(u16, Vec<Vec<u8>>, usize)> {
        let mut query = query(name);
        query.question.kind = kind;
        let reply = internal().answer(&query, asker)?;
        let (_, begin) = wire::question(&reply).unwrap();
        let all: Vec<_> = records(&reply, begin).map(Option::unwrap).collect();
        assert_eq!(all.last().unwrap().data.end, reply.len());
        let answers = all.iter().filter(|r| r.section == Section::Answer);
        let data = answers.map(|r| reply[r.data.clone()].to_vec()).collect();
        let soas = all
            .iter()
            .filter(|r| r.kind == SOA && r.section == Section::Authority);
        Some((reply[3] as u16 & 15, data, soas.count()))
    }

    #[test]
    fn services_have_names_and_their_addresses_lead_back() {
        let photos = vec![vec![10, 77, 0, 2]];
        assert_eq!(
            ask("photos.pilot.internal", A),
            Some((0, photos.clone(), 0))
        );
        assert_eq!(ask("PHOTOS.Pilot.INTERNAL", A), Some((0, photos, 0)));
        assert_eq!(ask("photos.pilot.internal", AAAA), Some((0, vec![], 1)));
        for none in ["mail.pilot.internal", "a.photos.pilot.internal", "b.local"] {
            assert_eq!(ask(none, A), Some((NO_SUCH_NAME, vec![], 1)), "{none}");
        }
        let name = wire::name("photos.pilot.internal").unwrap();
        assert_eq!(ask("2.0.77.10.in-addr.arpa", PTR), Some((0, vec![name], 0)));
        let own = wire::name(DOMAIN).unwrap();
        assert_eq!(ask("1.0.77.10.in-addr.arpa", PTR), Some((0, vec![own], 0)));
        assert_eq!(
            ask("9.0.77.10.in-addr.arpa", PTR),
            Some((NO_SUCH_NAME, vec![], 1))
        );
    }

    #[test]
    fn the_zone_tells_about_itself() {
        assert_eq!(ask("pilot.internal", SOA).unwrap().1, [soa()]);
        assert_eq!(ask("pilot.internal", NS).unwrap().1, [NAME_ASKED]);
        assert_eq!(ask("pilot.internal", A), Some((0, vec![], 1)));
    }

    #[test]
    fn the_lan_finds_the_box_and_services_pages_where_it_reaches_them() {
        let own = IpAddr::from([192, 168, 1, 5]);
        let lan = Asker::Lan(vec![own]);
        let here = Some((0, vec![vec![192, 168, 1, 5]], 0));
        for name in ["otter.local", "OTTER.Local", "photos.otter.local"] {
            assert_eq!(ask_as(&lan, name, A), here, "{name}");
            assert_eq!(ask_as(&lan, name, AAAA), Some((0, vec![], 1)), "{name}");
            assert_eq!(ask(name, A), Some((NO_SUCH_NAME, vec![], 1)), "{name}");
        }
        for other in [
            "local",
            "badger.local",
            "mail.otter.local",
            "a.photos.otter.local",
        ] {
            assert_eq!(
                ask_as(&lan, other, A),
                Some((NO_SUCH_NAME, vec![], 1)),
                "{other}"
            );
        }
    }

    #[test]
    fn a_machine_is_itself_and_all_else_is_for_others_to_say() {
        assert_eq!(ask("localhost", A), Some((0, vec![vec![127, 0, 0, 1]], 0)));
        for other in [
            "example.org",
            "internal",
            "my-pilot.internal",
            "5.1.168.192.in-addr.arpa",
        ] {
            assert_eq!(ask(other, A), None, "{other}");
        }
    }
}
