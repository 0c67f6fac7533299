//! The words after `net`.

use std::net::{IpAddr, Ipv4Addr};

use supervise::network::{GeneralSetting, LinkSetting};

use super::{Command, NetView, Order};
use crate::console::NetOrder;

/// The words that may come first.
pub(super) const WORDS: [&str; 11] = [
    "status", "set", "confirm", "rollback", "leases", "dns", "route", "firewall", "time", "lan",
    "help",
];

/// `set`, a link, an address, and the two parts that may follow, one of which is a list.
pub(super) const MOST_WORDS: usize = 14;

/// Understands them.
///
/// # Errors
/// Why not, as a sentence to show.
pub(super) fn command(arguments: &[&str]) -> Result<Command, String> {
    let order = |order| Ok(Command::Order(Order::Network(order)));
    let view = |view| Ok(Command::Net(view));
    match arguments {
        [] => view(NetView::All),
        ["set", rest @ ..] => {
            let (link, setting) = setting(rest)?;
            order(NetOrder::Set { link, setting })
        }
        ["confirm"] => order(NetOrder::Confirm),
        ["rollback"] => order(NetOrder::Rollback),
        ["dns"] => view(NetView::Dns),
        ["firewall"] => view(NetView::Firewall),
        ["leases"] => view(NetView::Leases),
        ["route"] => view(NetView::Route),
        ["status"] => view(NetView::Status),
        ["time"] => view(NetView::Time),
        ["time", "usual"] => order(NetOrder::General(GeneralSetting::Time(None))),
        ["time", "none"] => order(NetOrder::General(GeneralSetting::Time(Some(Vec::new())))),
        ["time", servers @ ..] => {
            let servers = servers.iter().map(|&server| server.to_owned()).collect();
            order(NetOrder::General(GeneralSetting::Time(Some(servers))))
        }
        ["lan", "on"] => order(NetOrder::General(GeneralSetting::Lan(true))),
        ["lan", "off"] => order(NetOrder::General(GeneralSetting::Lan(false))),
        _ => Err(HELP.to_owned()),
    }
}

/// A link, and how it is to get its addresses.
fn setting(words: &[&str]) -> Result<(String, LinkSetting), String> {
    let (link, setting) = match words {
        [link, "automatic"] => (link, LinkSetting::Automatic),
        [link, "unmanaged"] => (link, LinkSetting::Unmanaged),
        [link, address, rest @ ..] => (link, fixed(address, rest)?),
        _ => return Err(HELP.to_owned()),
    };
    Ok(((*link).to_owned(), setting))
}

fn fixed(written: &str, mut rest: &[&str]) -> Result<LinkSetting, String> {
    let wrong = |word: &str, like: &str| format!("{word:?} is no address; write it like {like}.");
    let parsed = written.split_once('/').and_then(|(ip, prefix)| {
        let ip: Ipv4Addr = ip.parse().ok()?;
        Some((ip, prefix.parse::<u8>().ok()?))
    });
    let (address, prefix) = parsed.ok_or_else(|| wrong(written, "192.168.1.5/24"))?;
    let (mut gateway, mut dns) = (None, Vec::new());
    if let ["gateway", ip, after @ ..] = rest {
        let ip = ip.parse().map_err(|_| wrong(ip, "192.168.1.1"))?;
        (gateway, rest) = (Some(ip), after);
    }
    if let ["dns", servers @ ..] = rest {
        for ip in servers {
            let ip: IpAddr = ip.parse().map_err(|_| wrong(ip, "9.9.9.9"))?;
            dns.push(ip);
        }
        rest = &[];
    }
    match rest {
        [] => Ok(LinkSetting::Static {
            address,
            prefix,
            gateway,
            dns,
        }),
        _ => Err(HELP.to_owned()),
    }
}

const HELP: &str = "After `net` comes one of:\n  \
    status, leases, dns, route, firewall     what there is\n  \
    set <link> automatic                     addresses from the router\n  \
    set <link> <address>/<prefix> [gateway <address>] [dns <address> ...]\n  \
    set <link> unmanaged                     left alone\n  \
    time [usual | none | <server> ...]       who is asked for the time\n  \
    lan on, lan off                          whether others may ask here for names\n  \
    confirm                                  keep what was set; else it is undone\n  \
    rollback                                 undo what was set";

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &str) -> Result<Command, String> {
        command(&line.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn a_fixed_address_is_set_with_what_belongs_to_it() {
        let set =
            understood("set eth0 192.168.1.5/24 gateway 192.168.1.1 dns 9.9.9.9 ::1").unwrap();
        let setting = LinkSetting::Static {
            address: [192, 168, 1, 5].into(),
            prefix: 24,
            gateway: Some([192, 168, 1, 1].into()),
            dns: vec![[9, 9, 9, 9].into(), "::1".parse().unwrap()],
        };
        let link = "eth0".to_owned();
        let order = Order::Network(NetOrder::Set { link, setting });
        assert_eq!(set, Command::Order(order));
        assert!(understood("set eth0 automatic").is_ok());
        assert_eq!(understood(""), Ok(Command::Net(NetView::All)));
    }

    #[test]
    fn time_servers_are_set_and_seen() {
        let set = |setting| Ok(Command::Order(Order::Network(NetOrder::General(setting))));
        let servers = ["192.0.2.1", "time.example"].map(str::to_owned);
        let time = GeneralSetting::Time(Some(servers.into()));
        assert_eq!(understood("time 192.0.2.1 time.example"), set(time));
        assert_eq!(understood("time usual"), set(GeneralSetting::Time(None)));
        let nobody = GeneralSetting::Time(Some(Vec::new()));
        assert_eq!(understood("time none"), set(nobody));
        assert_eq!(understood("time"), Ok(Command::Net(NetView::Time)));
        assert_eq!(understood("lan on"), set(GeneralSetting::Lan(true)));
    }

    #[test]
    fn what_is_not_understood_is_answered_with_how_it_is_written() {
        for (wrong, said) in [
            ("set eth0 192.168.1.5", "like 192.168.1.5/24"),
            ("set eth0 192.168.1.5/24 gateway x", "like 192.168.1.1"),
            ("set eth0 192.168.1.5/24 dns x", "like 9.9.9.9"),
            ("set eth0 192.168.1.5/24 router 192.168.1.1", "set <link>"),
            ("set eth0", "set <link>"),
            ("up", "one of"),
            ("confirm it", "one of"),
            ("lan", "one of"),
            ("lan maybe", "lan on, lan off"),
        ] {
            let why = understood(wrong).unwrap_err();
            assert!(why.contains(said), "{wrong}: {why}");
        }
    }
}
