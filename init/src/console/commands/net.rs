//! The words after `net`.

use std::net::{IpAddr, Ipv4Addr};

use supervise::network::{Binding, GeneralSetting, LinkSetting, MadeLink, Wish};

use super::{Command, NetView, Order};
use crate::console::NetOrder;

/// The words that may come first.
pub(super) const WORDS: [&str; 17] = [
    "status", "set", "confirm", "rollback", "leases", "dns", "route", "firewall", "time", "lan",
    "help", "bridge", "vlan", "remove", "metric", "bind", "unbind",
];

/// `set`, a link, an address, and the two parts that may follow, one of which is a list; or a
/// bridge with its ports.
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
            let wish = Wish::Addresses(setting);
            order(NetOrder::Set { link, wish })
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
        other => {
            let (link, wish) = wish(other)?;
            let link = link.to_owned();
            order(NetOrder::Set { link, wish })
        }
    }
}

/// What is to be of a link or service beside its addresses, and which it is.
fn wish<'a>(words: &[&'a str]) -> Result<(&'a str, Wish), String> {
    let owned = |word: &&str| (*word).to_owned();
    let automatic = LinkSetting::Automatic;
    let number = |word: &str| {
        let number = word.parse::<u16>();
        number.map_err(|_| format!("{word:?} is no number from 0 to 65535; write one like 7."))
    };
    Ok(match words {
        ["bridge", link, ports @ ..] if !ports.is_empty() => {
            let ports = ports.iter().map(owned).collect();
            (link, Wish::Made(MadeLink::Bridge { ports }, automatic))
        }
        ["vlan", link, on, id] => {
            let (on, id) = (owned(on), number(id)?);
            (link, Wish::Made(MadeLink::Vlan { on, id }, automatic))
        }
        ["remove", link] => (link, Wish::Removed),
        ["metric", link, "usual"] => (link, Wish::Metric(None)),
        ["metric", link, metric] => (link, Wish::Metric(Some(number(metric)?.into()))),
        ["bind", service, uplink, rest @ ..] if matches!(rest, [] | ["only"]) => {
            let (uplink, only) = (owned(uplink), !rest.is_empty());
            (service, Wish::Bound(Some(Binding { uplink, only })))
        }
        ["unbind", service] => (service, Wish::Bound(None)),
        _ => return Err(HELP.to_owned()),
    })
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
    bridge <new link> <link> ...             join links to one network\n  \
    vlan <new link> <link> <number>          a VLAN on a link\n  \
    remove <link>                            unmake a bridge or VLAN\n  \
    metric <link> <number>|usual             the lowest is the default way out\n  \
    bind <service> <link> [only]             a service sends by that link; with only, by no other\n  \
    unbind <service>                         it sends by the default way\n  \
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
        let wish = Wish::Addresses(setting);
        let order = Order::Network(NetOrder::Set { link, wish });
        assert_eq!(set, Command::Order(order));
        assert!(understood("set eth0 automatic").is_ok());
        assert_eq!(understood(""), Ok(Command::Net(NetView::All)));
    }

    #[test]
    fn links_are_made_and_uplinks_are_chosen() {
        let bridge = Wish::Made(
            MadeLink::Bridge {
                ports: vec!["eth0".to_owned(), "eth1".to_owned()],
            },
            LinkSetting::Automatic,
        );
        let vlan = Wish::Made(
            MadeLink::Vlan {
                on: "eth0".to_owned(),
                id: 7,
            },
            LinkSetting::Automatic,
        );
        let bound = |only| {
            let uplink = "eth1".to_owned();
            Wish::Bound(Some(Binding { uplink, only }))
        };
        for (line, name, wish) in [
            ("bridge br0 eth0 eth1", "br0", bridge),
            ("vlan lan7 eth0 7", "lan7", vlan),
            ("remove br0", "br0", Wish::Removed),
            ("metric eth1 50", "eth1", Wish::Metric(Some(50))),
            ("metric eth1 usual", "eth1", Wish::Metric(None)),
            ("bind cloud eth1", "cloud", bound(false)),
            ("bind cloud eth1 only", "cloud", bound(true)),
            ("unbind cloud", "cloud", Wish::Bound(None)),
        ] {
            let link = name.to_owned();
            let order = Order::Network(NetOrder::Set { link, wish });
            assert_eq!(understood(line), Ok(Command::Order(order)), "{line}");
        }
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
            ("bridge br0", "bridge <new link>"),
            ("vlan lan7 eth0 x", "\"x\" is no number"),
            ("bind cloud eth1 never", "[only]"),
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
