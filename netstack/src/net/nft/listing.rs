//! The services' packet filter as `nft list table ip pilot` shows it, for whoever asks what is in
//! force. A test of the network compares it with what the kernel has.

use std::net::Ipv4Addr;

use super::super::config::{Bridge, Forward, Transport};

/// The rules that [`Batch::replace`](super::Batch::replace) puts in force, one a line.
pub(crate) fn listing(bridge: &Bridge, forwards: &[Forward]) -> Vec<String> {
    let name = format!("\"{}\"", bridge.name);
    let mut filter = vec![
        "ct state established,related accept".to_owned(),
        format!("iifname {name} oifname != {name} accept"),
    ];
    if !forwards.is_empty() {
        filter.push(format!(
            "iifname != {name} oifname {name} ct status dnat accept"
        ));
    }
    filter.push("drop".to_owned());
    let mut lines = chain(
        "forward",
        "type filter hook forward priority filter; policy accept;",
        filter,
    );
    if bridge.nat {
        let prefix = bridge.prefix.min(32);
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let network = Ipv4Addr::from(u32::from(bridge.address) & mask);
        let rule = format!("ip saddr {network}/{prefix} oifname != {name} masquerade");
        let hook = "type nat hook postrouting priority srcnat; policy accept;";
        lines.extend(chain("postrouting", hook, vec![rule]));
    }
    if !forwards.is_empty() {
        let redirect = |forward: &Forward| {
            let transport = match forward.transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            };
            let (port, to) = (forward.port, forward.to);
            format!("iifname != {name} {transport} dport {port} dnat to {to}")
        };
        let hook = "type nat hook prerouting priority dstnat; policy accept;";
        lines.extend(chain("prerouting", hook, forwards.iter().map(redirect)));
    }
    lines
}

fn chain(name: &str, hook: &str, rules: impl IntoIterator<Item = String>) -> Vec<String> {
    let begin = [format!("chain {name} {{"), format!("    {hook}")];
    let rules = rules.into_iter().map(|rule| format!("    {rule}"));
    let end = std::iter::once("}".to_owned());
    begin.into_iter().chain(rules).chain(end).collect()
}
