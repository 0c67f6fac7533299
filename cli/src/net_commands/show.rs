//! What the API says of the network (`net.status` and `net.set`) as text.
//!
//! A field that is missing, as in another version's answer, leaves a gap and nothing worse.

use std::fmt::Write as _;

use serde_json::Value;

use crate::told::{list, word};

/// Why the box can or can't be reached.
pub(super) fn status(status: &Value) -> String {
    let mut text = String::new();
    for finding in list(&status["findings"]) {
        let (about, verdict) = (word(&finding["about"]), word(&finding["verdict"]));
        let _ = writeln!(
            text,
            "{about:<10} {verdict:<8} {}",
            word(&finding["evidence"])
        );
    }
    if text.is_empty() {
        text.push_str("Nothing is known of the network yet.\n");
    }
    let change = &status["change"];
    if change.is_object() {
        let left = change["leftS"].as_u64().unwrap_or_default();
        let link = word(&change["link"]);
        let _ = writeln!(
            text,
            "{link} is being changed: undone in {left} s unless it is confirmed."
        );
    } else if let Some(last) = status["last"].as_str() {
        let _ = writeln!(text, "{last}");
    }
    text
}

/// A change that was taken.
pub(super) fn taken(taken: &Value) -> String {
    let mut text = format!(
        "It is in force in {} s, and undone {} s later unless it is confirmed, by\n  pilot net \
         confirm {}\nor in a browser that reaches the box then, at\n",
        word(&taken["appliesInS"]),
        word(&taken["seconds"]),
        word(&taken["token"]),
    );
    for url in list(&taken["urls"]) {
        let _ = writeln!(text, "  {}", word(url));
    }
    text
}

/// A change that is kept.
pub(super) fn confirmed(confirmed: &Value) -> String {
    match confirmed["outlivesReboot"].as_bool() {
        Some(false) => {
            "The new settings are kept, but could not be written down: after the next restart \
             those of before are back.\n"
        }
        _ => "The new settings are kept.\n",
    }
    .to_owned()
}

/// What routers gave.
pub(super) fn leases(status: &Value) -> String {
    let mut text = String::new();
    for lease in list(&status["leases"]) {
        let server = match lease["server"].as_str() {
            Some(server) => format!("from {server}"),
            None => "of before, not yet confirmed".to_owned(),
        };
        let lasts = match lease["lastsS"].as_u64() {
            Some(lasts) => format!("for {lasts} s"),
            None => "for ever".to_owned(),
        };
        let (link, address) = (word(&lease["link"]), word(&lease["address"]));
        let _ = writeln!(text, "{link:<10} {address}  {server}, {lasts}");
        for route in list(&lease["routes"]) {
            let _ = writeln!(text, "{:<10} route to {}", "", word(route));
        }
    }
    or(text, "No router has given the box an address.\n")
}

/// Who is asked for names.
pub(super) fn dns(status: &Value) -> String {
    let mut text = String::new();
    for server in list(&status["dns"]) {
        let _ = writeln!(text, "server     {}", word(server));
    }
    if let Some(domain) = status["domain"].as_str() {
        let _ = writeln!(text, "domain     {domain}");
    }
    for domain in list(&status["search"]) {
        let _ = writeln!(text, "search     {}", word(domain));
    }
    let text = or(text, "No name server is known.\n");
    text + match status["lan"] == true {
        true => "asked by   services, and machines on the server's own networks\n",
        false => "asked by   services\n",
    }
}

/// Who is asked for the time, and what came of it.
pub(super) fn time(status: &Value) -> String {
    let mut text = String::new();
    let findings = list(&status["findings"]).iter();
    for finding in findings.filter(|finding| finding["about"] == "time") {
        let (verdict, evidence) = (word(&finding["verdict"]), word(&finding["evidence"]));
        let _ = writeln!(text, "{verdict:<10} {evidence}");
    }
    let servers: Vec<_> = list(&status["time"]).iter().map(word).collect();
    let set = match (status["time"].is_array(), servers.as_slice()) {
        (false, _) => "the usual servers".to_owned(),
        (true, []) => "none but those that routers name".to_owned(),
        (true, servers) => servers.join(", "),
    };
    text + &format!("set        {set}\n")
}

/// Addresses and the gateway.
pub(super) fn route(status: &Value) -> String {
    let mut text = String::new();
    for link in list(&status["links"]) {
        let carrier = if link["carrier"] == true {
            "up"
        } else {
            "no cable"
        };
        let (name, mac) = (word(&link["name"]), word(&link["mac"]));
        let mode = word(&link["setting"]["mode"]);
        let _ = writeln!(text, "{name:<10} {mac:<18} {carrier:<8} {mode}");
        for address in list(&link["addresses"]) {
            let _ = writeln!(
                text,
                "{:<10} {}  {}",
                "",
                word(address),
                word(&link["origin"])
            );
        }
    }
    let gateway = status["gateway"].as_str().unwrap_or("none");
    text + &format!("gateway    {gateway}\n")
}

/// The ways to the outside, and what the owner set of them.
pub(super) fn uplinks(status: &Value) -> String {
    let mut text = String::new();
    for uplink in list(&status["uplinks"]) {
        let used = if uplink["isDefault"] == true {
            "used"
        } else {
            ""
        };
        let (link, metric) = (word(&uplink["link"]), word(&uplink["metric"]));
        let why = word(&uplink["why"]);
        let _ = writeln!(text, "{link:<10} {used:<5} metric {metric:<5} {why}");
    }
    for (service, bound) in status["bound"].as_object().into_iter().flatten() {
        let how = match bound["only"] == true {
            true => "and by no other",
            false => "while that leads out",
        };
        let (service, uplink) = (name(service), word(&bound["uplink"]));
        let _ = writeln!(text, "{service:<10} is sent by {uplink} {how}");
    }
    for (link, made) in status["made"].as_object().into_iter().flatten() {
        let ports: Vec<_> = list(&made["bridge"]).iter().map(word).collect();
        let (link, vlan) = (name(link), &made["vlan"]);
        let _ = match vlan.is_object() {
            true => writeln!(
                text,
                "{link:<10} VLAN {} on {}",
                word(&vlan["id"]),
                word(&vlan["on"])
            ),
            false => writeln!(text, "{link:<10} bridge of {}", ports.join(", ")),
        };
    }
    or(text, "There is no way to the outside.\n")
}

/// The packet filter.
pub(super) fn firewall(status: &Value) -> String {
    let rules = list(&status["firewall"]).iter();
    let text = rules.map(|rule| word(rule) + "\n").collect();
    or(text, "The packet filter is not in force.\n")
}

fn name(name: &str) -> String {
    word(&Value::from(name))
}

fn or(text: String, instead: &str) -> String {
    match text.is_empty() {
        true => instead.to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn uplinks_are_shown_with_what_is_bound_to_them() {
        let status = json!({
            "uplinks": [
                { "link": "eth1", "metric": 100, "isDefault": true, "why": "It comes first." },
                { "link": "eth0", "metric": 20100, "isDefault": false, "why": "It is silent." },
            ],
            "bound": { "cloud": { "uplink": "eth1", "only": true } },
            "made": {
                "br0": { "bridge": ["eth2", "eth3"] }, "lan7": { "vlan": { "on": "eth0", "id": 7 } },
            },
        });
        assert_eq!(
            uplinks(&status),
            "eth1       used  metric 100   It comes first.\n\
             eth0             metric 20100 It is silent.\n\
             cloud      is sent by eth1 and by no other\n\
             br0        bridge of eth2, eth3\n\
             lan7       VLAN 7 on eth0\n"
        );
        assert!(uplinks(&json!({})).contains("no way"));
    }

    #[test]
    fn what_does_not_work_is_said_with_what_was_seen() {
        let text = status(&json!({
            "findings": [
                { "about": "gateway", "verdict": "broken", "evidence": "192.168.1.1 does not answer." },
            ],
            "change": { "link": "eth0", "leftS": 61 },
        }));
        assert!(
            text.contains("gateway    broken   192.168.1.1 does not answer."),
            "{text}"
        );
        assert!(
            text.contains("eth0 is being changed: undone in 61 s"),
            "{text}"
        );
    }

    #[test]
    fn a_change_is_told_with_how_it_is_kept() {
        let text = taken(&json!({
            "token": "ab", "seconds": 90, "appliesInS": 2, "urls": ["https://otter.local/net/confirm/ab"],
        }));
        assert!(
            text.contains("in force in 2 s, and undone 90 s later"),
            "{text}"
        );
        assert!(text.contains("pilot net confirm ab\n") && text.contains("  https://otter.local/"));
    }

    #[test]
    fn what_came_with_a_lease_is_told() {
        let text = leases(&json!({ "leases": [{
            "link": "eth0", "address": "192.168.1.7/24", "server": "192.168.1.1", "lastsS": 600,
            "routes": ["172.20.0.0/16 via 192.168.1.8"],
        }] }));
        assert!(text.contains("from 192.168.1.1, for 600 s\n"), "{text}");
        assert!(text.ends_with("route to 172.20.0.0/16 via 192.168.1.8\n"));
        let text = dns(&json!({ "dns": ["2001:db8::53"], "search": ["home.arpa", "lan"] }));
        let expected = "server     2001:db8::53\nsearch     home.arpa\nsearch     lan\n";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn an_answer_without_anything_in_it_is_borne() {
        let shown: [fn(&Value) -> String; 7] =
            [status, leases, dns, route, firewall, confirmed, time];
        for show in shown {
            assert!(show(&json!({})).ends_with('\n'));
        }
    }
}
