//! The network's state in the form that everybody shows, and why the box can or can't be reached.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use netstack::net::{FilterStatus, NetStatus, ServicesStatus, TimeServerStatus};
use supervise::{
    network::{Change, Finding, Lease, NetworkStatus, Verdict},
    status::{LinkSummary, NetSummary, ResolverServer, ResolverStatus},
};

use super::{Pid1, roles::Role};

impl Pid1 {
    /// The network as it is set and as it is.
    pub(super) fn network_status(&self, now: Duration) -> NetworkStatus {
        let seen = &self.net_seen;
        let set = self.changes.status(now);
        NetworkStatus {
            findings: self.network_findings(set.change.as_ref()),
            leases: seen.links.iter().filter_map(lease).collect(),
            ntp: seen.ntp.clone(),
            domain: seen.domain.clone(),
            search: seen.search.clone(),
            firewall: firewall(&seen.services),
            clock_is_right: seen.time.synchronised,
            ..set
        }
    }

    /// In the order in which to look: what is above must work for what is below.
    fn network_findings(&self, change: Option<&Change>) -> Vec<Finding> {
        let net = &self.net;
        let mut findings = links(net);
        findings.push(gateway(net.gateway, || {
            // Kept by the kernel in memory: it is read without waiting.
            std::fs::read_to_string("/proc/net/arp").unwrap_or_default()
        }));
        findings.push(names(&net.dns, &self.names.status));
        findings.push(self.time());
        findings.push(self.name());
        findings.push(self.door());
        let cautions = self.net_seen.cautions.iter();
        findings.extend(cautions.map(|text| finding("dhcp", Verdict::Care, text.clone())));
        let problems = self.net_seen.problems.iter();
        findings.extend(problems.map(|text| finding("network", Verdict::Broken, text.clone())));
        let services = &self.net_seen.services;
        if [&services.filter, &services.guard].contains(&&FilterStatus::Pending) {
            let text = "The packet filter is being put in force.".to_owned();
            findings.push(finding("firewall", Verdict::Unknown, text));
        }
        if let Some(change) = change {
            let (link, setting) = (&change.link, &change.setting);
            let text = format!(
                "{link} is to be {setting}: undone by itself unless it is confirmed in time."
            );
            findings.push(finding("change", Verdict::Care, text));
        }
        findings
    }

    /// The clock's own time is not told: it would change with every look.
    fn time(&self) -> Finding {
        let time = &self.net_seen.time;
        let (agree, differ): (Vec<_>, Vec<_>) = time.servers.iter().partition(|one| one.agrees);
        let spelt = |servers: &[&TimeServerStatus]| {
            let said = |one: &&TimeServerStatus| format!("{}: {}", server(one), one.verdict);
            servers.iter().map(said).collect::<Vec<_>>().join("; ")
        };
        let (verdict, text) = if time.synchronised {
            let right: Vec<_> = agree.iter().map(|one| server(one)).collect();
            let right = right.join(", ");
            match differ.as_slice() {
                [] => (Verdict::Works, format!("The clock goes by {right}.")),
                differ => {
                    let differ = spelt(differ);
                    (
                        Verdict::Works,
                        format!("The clock goes by {right}. Not by {differ}"),
                    )
                }
            }
        } else if unix_now() < self.keep.clock_floor.max(EARLIEST) {
            let text = "The clock is wrong: it says a time that is long past.";
            (Verdict::Broken, text.to_owned())
        } else if time.servers.is_empty() && !time.unknown.is_empty() {
            let names = time.unknown.join(", ");
            let text = format!("The clock is not confirmed: {names} has no address that is known.");
            (Verdict::Care, text)
        } else if time.servers.is_empty() {
            let text = "The clock has been compared with none: no time server is known.";
            (Verdict::Unknown, text.to_owned())
        } else {
            let all: Vec<_> = time.servers.iter().collect();
            (
                Verdict::Care,
                format!("The clock is not confirmed. {}", spelt(&all)),
            )
        };
        finding("time", verdict, text)
    }

    fn name(&self) -> Finding {
        let name = self.hostname();
        if let Some(other) = &self.other_hostname {
            let text = format!("Another device has the name wanted: it is {other}.local here.");
            return finding("name", Verdict::Care, text);
        }
        let links = self.net.links.iter();
        let on: Vec<&str> = links
            .filter(|link| link.carrier && !link.addresses.is_empty())
            .map(|link| link.name.as_str())
            .collect();
        if on.is_empty() {
            let text = format!("{name}.local is published nowhere, as no link has an address.");
            return finding("name", Verdict::Broken, text);
        }
        let text = format!("{name}.local is published on {}.", on.join(", "));
        match self.runs(Role::Front) {
            true => finding("name", Verdict::Works, text),
            false => finding("name", Verdict::Broken, FRONT_IS_DOWN.to_owned()),
        }
    }

    fn door(&self) -> Finding {
        if !self.runs(Role::Front) {
            return finding("door", Verdict::Broken, FRONT_IS_DOWN.to_owned());
        }
        match self.upgrade.answers[Role::Front.index()] {
            true => finding("door", Verdict::Works, "The front door answers.".to_owned()),
            false => finding(
                "door",
                Verdict::Unknown,
                "The front door has not answered yet.".to_owned(),
            ),
        }
    }

    fn runs(&self, role: Role) -> bool {
        let unit = self.table.get(&role.unit());
        unit.is_some_and(|unit| unit.life.is_running())
    }
}

/// Why the box can't be reached from the network, as a sentence; `None` if it can.
pub(super) fn trouble(net: &NetSummary) -> Option<&'static str> {
    let addresses = |link: &LinkSummary| !link.addresses.is_empty();
    if net.links.is_empty() {
        Some(NO_CARD)
    } else if !net.links.iter().any(|link| link.carrier) {
        Some("No network cable is plugged in.")
    } else if !net.links.iter().any(addresses) {
        Some("The network card has no address.")
    } else {
        None
    }
}

/// The short form.
pub(super) fn summary(status: &NetStatus) -> NetSummary {
    let links = status.links.iter().map(|link| LinkSummary {
        name: link.name.clone(),
        mac: link.mac.clone(),
        carrier: link.carrier,
        addresses: link.addresses.clone(),
        origin: link.origin.clone(),
    });
    NetSummary {
        links: links.collect(),
        gateway: status.gateway,
        dns: status.dns.clone(),
    }
}

/// The tables in force, as `nft list ruleset` shows them.
fn firewall(services: &ServicesStatus) -> Vec<String> {
    let tables = [
        ("table inet pilot {", &services.rules),
        ("table netdev pilot {", &services.guard_rules),
    ];
    let in_force = tables.iter().filter(|(_, rules)| !rules.is_empty());
    let lines = in_force.flat_map(|(head, rules)| {
        let rules = rules.iter().map(|rule| format!("    {rule}"));
        let head = std::iter::once((*head).to_owned());
        head.chain(rules).chain(["}".to_owned()])
    });
    lines.collect()
}

fn lease(link: &netstack::net::LinkStatus) -> Option<Lease> {
    let lease = link.lease.as_ref()?;
    Some(Lease {
        link: link.name.clone(),
        address: lease.address,
        prefix: lease.prefix,
        server: lease.server,
        router: lease.router,
        routes: lease.routes.clone(),
        lasts: lease.lasts,
        hostname: lease.hostname.clone(),
    })
}

/// Cable and address of each link.
fn links(net: &NetSummary) -> Vec<Finding> {
    if net.links.is_empty() {
        return vec![finding("card", Verdict::Broken, NO_CARD.to_owned())];
    }
    // One link that works is enough to be reached by.
    let any = |has: fn(&LinkSummary) -> bool| net.links.iter().any(has);
    let less_than = |one_works: bool| match one_works {
        true => Verdict::Care,
        false => Verdict::Broken,
    };
    let (carrier, addressed) = (
        any(|link| link.carrier),
        any(|link| link.carrier && has_address(link)),
    );
    let mut findings = Vec::new();
    for link in &net.links {
        let (name, origin) = (&link.name, &link.origin);
        if !link.carrier {
            let text = format!("{name}: no cable, or nobody at its other end.");
            findings.push(finding("cable", less_than(carrier), text));
            continue;
        }
        let text = format!("{name}: a cable is there ({}).", link.mac);
        findings.push(finding("cable", Verdict::Works, text));
        let addresses: Vec<String> = link
            .addresses
            .iter()
            .map(|(ip, prefix)| format!("{ip}/{prefix}"))
            .collect();
        let (verdict, text) = match (has_address(link), is_only_local(link)) {
            (false, _) => (
                less_than(addressed),
                format!("{name}: no address. {origin}."),
            ),
            (true, true) => (
                Verdict::Care,
                format!("{name}: {}. {origin}.", addresses.join(", ")),
            ),
            (true, false) => (
                Verdict::Works,
                format!("{name}: {}. {origin}.", addresses.join(", ")),
            ),
        };
        findings.push(finding("address", verdict, text));
    }
    findings
}

fn has_address(link: &LinkSummary) -> bool {
    let beyond = |(ip, _): &(IpAddr, u8)| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    link.addresses.iter().any(beyond)
}

/// Whether it has only the address that it gave itself.
fn is_only_local(link: &LinkSummary) -> bool {
    let local = |(ip, _): &(IpAddr, u8)| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    link.addresses.iter().all(local)
}

/// Whether the gateway is there, as the kernel's table of neighbours has it.
fn gateway(gateway: Option<IpAddr>, arp: impl FnOnce() -> String) -> Finding {
    let (verdict, text) = match gateway {
        None => (
            Verdict::Care,
            "There is none: the box is reached from its own network only.".to_owned(),
        ),
        Some(IpAddr::V6(ip)) => (
            Verdict::Unknown,
            format!("{ip}, as the router announces it."),
        ),
        Some(IpAddr::V4(ip)) => match neighbour(&arp(), ip) {
            Some(Ok(mac)) => (Verdict::Works, format!("{ip} answers, as {mac}.")),
            Some(Err(())) => (Verdict::Broken, format!("{ip} does not answer.")),
            None => (
                Verdict::Unknown,
                format!("{ip}; nothing was sent there of late."),
            ),
        },
    };
    finding("gateway", verdict, text)
}

/// What `/proc/net/arp` says of a neighbour: its hardware address, or that it does not answer
/// (proc_pid_net(5): address, type, flags, hardware address).
fn neighbour(arp: &str, ip: Ipv4Addr) -> Option<Result<&str, ()>> {
    let line = arp.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let address: Ipv4Addr = words.next()?.parse().ok()?;
        (address == ip).then_some(words)
    });
    let mut words = line?.skip(1);
    let flags = words.next()?.strip_prefix("0x")?;
    let mac = words.next()?;
    let flags = u32::from_str_radix(flags, 16).ok()?;
    Some(if flags & COMPLETE != 0 {
        Ok(mac)
    } else {
        Err(())
    })
}

/// Whether names are answered for, as the front's name server sees it.
fn names(dns: &[IpAddr], resolver: &ResolverStatus) -> Finding {
    let (silent, others): (Vec<_>, Vec<_>) = resolver
        .servers
        .iter()
        .partition(|one| one.silent_for.is_some());
    let answering: Vec<_> = others.into_iter().filter(|one| one.answers > 0).collect();
    let spelt = |servers: &[&ResolverServer]| {
        let addresses: Vec<_> = servers.iter().map(|one| one.address.ip()).collect();
        spelt_addresses(&addresses)
    };
    let (verdict, text) = if !answering.is_empty() {
        (Verdict::Works, format!("{} answers.", spelt(&answering)))
    } else if !silent.is_empty() {
        let text = format!("{} does not answer.", spelt(&silent));
        (Verdict::Broken, text)
    } else if dns.is_empty() {
        let text = "No name server is known, so the box finds nothing on the internet.";
        (Verdict::Care, text.to_owned())
    } else {
        let text = format!("{}; nothing was asked yet.", spelt_addresses(dns));
        (Verdict::Unknown, text)
    };
    finding("names", verdict, text)
}

/// A time server as people know it.
fn server(one: &TimeServerStatus) -> String {
    match &one.name {
        Some(name) => format!("{name} ({})", one.address),
        None => one.address.to_string(),
    }
}

fn spelt_addresses(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(", ")
}

fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn finding(about: &str, verdict: Verdict, evidence: String) -> Finding {
    Finding {
        about: about.to_owned(),
        verdict,
        evidence,
    }
}

const NO_CARD: &str = "There is no network card, or none that the kernel has a driver for.";
const FRONT_IS_DOWN: &str = "The front does not run; it is being started again.";
/// ATF_COM of linux/if_arp.h.
const COMPLETE: u32 = 2;
/// This program is younger.
const EARLIEST: u64 = 1_767_225_600;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, carrier: bool, addresses: &[&str]) -> LinkSummary {
        let parsed = addresses.iter().map(|ip| (ip.parse().unwrap(), 24));
        LinkSummary {
            name: name.to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            carrier,
            addresses: parsed.collect(),
            origin: "Set by hand".to_owned(),
        }
    }

    fn verdicts(net: &NetSummary) -> Vec<(String, Verdict)> {
        let found = links(net).into_iter();
        found.map(|f| (f.about, f.verdict)).collect()
    }

    #[test]
    fn what_is_missing_first_is_what_is_said() {
        let mut net = NetSummary::default();
        let said = |net: &NetSummary| trouble(net).unwrap_or("nothing").to_owned();
        assert!(said(&net).contains("no network card"));
        net.links.push(link("eth0", false, &[]));
        assert!(said(&net).contains("cable"));
        net.links[0].carrier = true;
        assert!(said(&net).contains("address"));
        net.links[0].addresses = vec![("10.0.2.15".parse().unwrap(), 24)];
        assert_eq!(trouble(&net), None);
    }

    #[test]
    fn a_second_card_without_a_cable_is_not_why_the_box_is_not_reached() {
        let mut net = NetSummary {
            links: vec![link("eth0", false, &[])],
            ..NetSummary::default()
        };
        let broken = |about: &str| (about.to_owned(), Verdict::Broken);
        let works = |about: &str| (about.to_owned(), Verdict::Works);
        assert_eq!(verdicts(&net), [broken("cable")]);
        net.links.push(link("eth1", true, &["fe80::1"]));
        let care = |about: &str| (about.to_owned(), Verdict::Care);
        let found = verdicts(&net);
        assert_eq!(found, [care("cable"), works("cable"), broken("address")]);
        net.links[1].addresses = vec![("169.254.7.7".parse().unwrap(), 16)];
        assert_eq!(verdicts(&net)[2], care("address"));
        net.links[1].addresses = vec![("192.168.1.7".parse().unwrap(), 24)];
        assert_eq!(verdicts(&net)[2], works("address"));
    }

    #[test]
    fn the_kernel_s_neighbours_tell_whether_the_gateway_is_there() {
        let arp = "IP address       HW type     Flags       HW address            Mask     Device\n\
                   192.168.1.1      0x1         0x2         02:aa:bb:cc:dd:ee     *        eth0\n\
                   192.168.1.9      0x1         0x0         00:00:00:00:00:00     *        eth0\n";
        let said = |ip: [u8; 4]| gateway(Some(ip.into()), || arp.to_owned());
        let there = said([192, 168, 1, 1]);
        assert_eq!(there.verdict, Verdict::Works);
        assert!(there.evidence.contains("02:aa:bb:cc:dd:ee"));
        assert_eq!(said([192, 168, 1, 9]).verdict, Verdict::Broken);
        assert_eq!(said([192, 168, 1, 3]).verdict, Verdict::Unknown);
        assert_eq!(gateway(None, String::new).verdict, Verdict::Care);
        for rubbish in [
            "",
            "\n\n",
            "x\n192.168.1.1 0x1\n",
            "x\n192.168.1.1 0x1 2 a\n",
        ] {
            let found = gateway(Some([192, 168, 1, 1].into()), || rubbish.to_owned());
            assert_eq!(found.verdict, Verdict::Unknown, "{rubbish:?}");
        }
    }
}
