//! Links and addresses: what comes, goes, is set by hand and is undone by others.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use netstack::net::Addressing;
use tests::netns::{Dnsmasq, Machine, Net, until};

use super::{Lab, SOON, applied, config, leased, test};

#[test]
fn what_somebody_undoes_is_made_again() {
    test("what_somebody_undoes_is_made_again", || {
        let lab = Lab::new()?;
        let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease and filter", SOON, |status| {
            leased(status).is_some() && status.gateway.is_some() && applied(status)
        })?;
        let whole = |what: &str| {
            until(SOON, || {
                let address = lab
                    .address()
                    .is_ok_and(|seen| seen.contains("192.168.50.1"));
                let route = lab.the_box.run("ip route show default");
                let bridge = lab.the_box.run("ip -4 addr show dev pilot0");
                let rules = lab.the_box.run("nft list table inet pilot");
                address
                    && route.is_ok_and(|route| route.contains("192.168.50.1"))
                    && bridge.is_ok_and(|seen| seen.contains("10.77.0.1/16"))
                    && rules.is_ok_and(|rules| rules.contains("masquerade"))
            })
            .with_context(|| format!("after {what}"))
        };
        whole("the start")?;
        for undo in [
            "ip addr flush dev up0",
            "ip route del default",
            "ip link set up0 down",
            "ip link del pilot0",
            "nft flush ruleset",
        ] {
            lab.the_box.run(undo)?;
            whole(undo)?;
        }
        Ok(())
    });
}

#[test]
fn a_link_may_come_late_and_go_again() {
    test("a_link_may_come_late_and_go_again", || {
        let the_box = Machine::new("box")?;
        let router = Machine::new("router")?;
        let mut net = Net::start(&the_box, config())?;
        net.wait_for("bridge", SOON, applied)?;
        ensure!(net.latest.links.is_empty());
        the_box.cable("up0", &router, "lan0")?;
        router.run("ip addr add 192.168.50.1/24 dev lan0")?;
        let _server = Dnsmasq::start(&router, "lan0", "")?;
        net.wait_for("link without a cable", SOON, |status| {
            status.links.first().is_some_and(|link| !link.carrier)
        })?;
        ensure!(net.latest.links[0].origin.starts_with("No cable"));
        router.run("ip link set lan0 up")?;
        net.wait_for("lease", SOON, |status| leased(status).is_some())?;
        the_box.run("ip link del up0")?;
        net.wait_for("end of the link", SOON, |status| status.links.is_empty())
    });
}

#[test]
fn a_fixed_address_replaces_a_lease_when_the_owner_says_so() {
    test(
        "a_fixed_address_replaces_a_lease_when_the_owner_says_so",
        || {
            let lab = Lab::new()?;
            let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease", SOON, |status| leased(status).is_some())?;
            let mut fixed = config();
            let addressing = Addressing::Static {
                address: Ipv4Addr::new(192, 168, 50, 7),
                prefix: 24,
                gateway: Some(Ipv4Addr::new(192, 168, 50, 1)),
                dns: vec![IpAddr::from([9, 9, 9, 9])],
            };
            fixed.links.insert("up0".to_owned(), addressing);
            net.handle.configure(fixed)?;
            net.wait_for("fixed address alone", SOON, |status| {
                let fixed = (IpAddr::from([192, 168, 50, 7]), 24);
                status.links.first().is_some_and(|link| {
                    link.addresses
                        .iter()
                        .filter(|(ip, _)| ip.is_ipv4())
                        .eq([&fixed])
                })
            })?;
            ensure!(net.latest.links[0].origin == "Set by hand");
            net.handle.configure(config())?;
            net.wait_for("lease again", SOON, |status| leased(status).is_some())
        },
    );
}

#[test]
fn the_loop_turns_by_itself_when_nudged_and_no_more_often() {
    test(
        "the_loop_turns_by_itself_when_nudged_and_no_more_often",
        || {
            let lab = Lab::new()?;
            let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease and filter", SOON, |s| {
                leased(s).is_some() && applied(s)
            })?;
            thread::sleep(Duration::from_secs(3));
            let before = net.handle.turns();
            thread::sleep(Duration::from_secs(4));
            let alone = net.handle.turns() - before;
            ensure!((2..=12).contains(&alone), "{alone} turns in 4 s of rest");
            // It turns by itself once a second: sooner, at least once of several times, is the nudge.
            let sooner = (0..10).any(|_| {
                let before = net.handle.turns();
                net.handle.nudge();
                until(Duration::from_millis(500), || net.handle.turns() > before).is_ok()
            });
            ensure!(sooner, "a nudge wakes nobody");
            Ok(())
        },
    );
}
