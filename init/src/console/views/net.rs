//! The network as text.

use std::{fmt::Write as _, net::IpAddr};

use supervise::{
    network::{Change, GeneralSetting, Lease},
    status::BoxStatus,
};

use super::{super::commands::NetView, or, span};

/// The network, or one side of it.
pub(crate) fn net(status: &BoxStatus, view: NetView) -> String {
    match view {
        NetView::All => links(status) + &route(status) + &dns(status) + &change(status),
        NetView::Dns => dns(status),
        NetView::Firewall => {
            let rules = status.network.firewall.iter();
            let text = rules.map(|rule| format!("{rule}\n")).collect();
            or(text, "The packet filter is not in force.\n")
        }
        NetView::Leases => or(
            status.network.leases.iter().map(lease).collect(),
            "No router has given the box an address.\n",
        ),
        NetView::Route => route(status),
        NetView::Status => findings(status) + &change(status),
        NetView::Time => time(status),
    }
}

fn links(status: &BoxStatus) -> String {
    let mut text = String::new();
    for link in &status.net.links {
        let carrier = if link.carrier { "up" } else { "no cable" };
        let _ = writeln!(text, "{:<10} {:<18} {carrier}", link.name, link.mac);
        for (address, prefix) in &link.addresses {
            let _ = writeln!(text, "           {address}/{prefix}  {}", link.origin);
        }
    }
    or(
        text,
        "No network card is known. Is one plugged in, and its driver there? See `dmesg`.\n",
    )
}

fn route(status: &BoxStatus) -> String {
    let gateway = status.net.gateway;
    let gateway = gateway.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
    let mut text = format!("gateway    {gateway}\n");
    for uplink in &status.network.uplinks {
        let used = if uplink.is_default { "used" } else { "" };
        let _ = writeln!(
            text,
            "{:<10} {used:<5} metric {:<5} {}",
            uplink.link, uplink.metric, uplink.why
        );
    }
    text
}

fn dns(status: &BoxStatus) -> String {
    let servers: Vec<_> = status.net.dns.iter().map(IpAddr::to_string).collect();
    let servers = or(servers.join(", "), "no name server");
    let search = match status.network.search.as_slice() {
        [] => String::new(),
        search => format!("search     {}\n", search.join(", ")),
    };
    let lan = match status.network.lan {
        true => "those on the server's own networks may",
        false => "nobody else may",
    };
    format!("names      {servers}\n{search}asked by   services; {lan}\n")
}

fn time(status: &BoxStatus) -> String {
    let setting = GeneralSetting::Time(status.network.time.clone());
    let found = status.network.findings.iter();
    let said = found.filter(|finding| finding.about == "time");
    let said: String = said
        .map(|it| format!("time       {}\n", it.evidence))
        .collect();
    format!("{said}set        {setting}\n")
}

fn findings(status: &BoxStatus) -> String {
    let mut text = String::new();
    for finding in &status.network.findings {
        let (about, word) = (&finding.about, finding.verdict.word());
        let _ = writeln!(text, "{about:<10} {word:<8} {}", finding.evidence);
    }
    or(text, "Nothing is known of the network yet.\n")
}

fn change(status: &BoxStatus) -> String {
    let network = &status.network;
    match (&network.change, &network.last) {
        (Some(change), _) => waiting(status, change),
        (None, Some(last)) => format!("{last}\n"),
        (None, None) => String::new(),
    }
}

fn waiting(status: &BoxStatus, change: &Change) -> String {
    let Change { link, wish, .. } = change;
    let left = span(change.until.saturating_sub(status.uptime));
    format!("{link} is to be {wish}: undone in {left} unless you say `net confirm`.\n")
}

fn lease(lease: &Lease) -> String {
    let from = lease.server.map_or_else(
        || "of before, not yet confirmed".to_owned(),
        |server| format!("from {server}"),
    );
    let lasts = lease.lasts.map_or_else(
        || "for ever".to_owned(),
        |lasts| format!("for {}", span(lasts)),
    );
    let mut text = format!(
        "{:<10} {}/{}  {from}, {lasts}\n",
        lease.link, lease.address, lease.prefix
    );
    for route in &lease.routes {
        let _ = writeln!(text, "           route to {route}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use supervise::network::{Finding, LinkSetting, Uplink, Verdict, Wish};

    use super::*;

    #[test]
    fn the_ways_to_the_outside_are_shown_with_why_they_are_used() {
        let mut status = BoxStatus::default();
        status.network.uplinks.push(Uplink {
            link: "eth1".to_owned(),
            gateway: None,
            metric: 100,
            is_default: true,
            why: "It is the only way out.".to_owned(),
        });
        let shown = net(&status, NetView::Route);
        let line = "eth1       used  metric 100   It is the only way out.\n";
        assert!(shown.ends_with(line), "{shown}");
    }

    #[test]
    fn why_the_box_is_not_reached_is_said_with_what_was_seen() {
        let mut status = BoxStatus {
            uptime: Duration::from_secs(10),
            ..BoxStatus::default()
        };
        status.network.findings.push(Finding {
            about: "gateway".to_owned(),
            verdict: Verdict::Broken,
            evidence: "192.168.1.1 does not answer.".to_owned(),
        });
        status.network.change = Some(Change {
            link: "eth0".to_owned(),
            wish: Wish::Addresses(LinkSetting::Automatic),
            applied: true,
            until: Duration::from_secs(82),
        });
        let text = net(&status, NetView::Status);
        assert!(
            text.contains("gateway    broken   192.168.1.1 does not"),
            "{text}"
        );
        assert!(
            text.contains("eth0 is to be automatic: undone in 1 min 12 s"),
            "{text}"
        );
        status.network.search = vec!["home.arpa".to_owned(), "lan".to_owned()];
        let text = net(&status, NetView::Dns);
        assert!(text.contains("search     home.arpa, lan\n"), "{text}");
        for view in [
            NetView::Dns,
            NetView::Firewall,
            NetView::Leases,
            NetView::Route,
        ] {
            assert!(net(&BoxStatus::default(), view).ends_with('\n'), "{view:?}");
        }
    }
}
