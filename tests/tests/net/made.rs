//! The owner's bridges and VLANs, as real links.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use netstack::net::{Addressing, Made, NetConfig};
use tests::netns::{Dnsmasq, Machine, Net, until};

use super::{Lab, SOON, config, greeting, leased_on, test};

#[test]
fn a_bridge_joins_its_ports_and_is_made_again_whatever_is_undone() {
    test(
        "a_bridge_joins_its_ports_and_is_made_again_whatever_is_undone",
        || {
            let lab = Lab::new()?;
            let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
            let neighbour = Machine::new("neighbour")?;
            lab.the_box.cable("up1", &neighbour, "eth0")?;
            neighbour.run("ip addr add 192.168.50.9/24 dev eth0")?;
            neighbour.run("ip link set eth0 up")?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease of up0", SOON, |status| {
                leased_on(status, "up0").is_some()
            })?;
            let before = leased_on(&net.latest, "up0");

            net.handle.configure(bridged())?;
            net.wait_for("lease of br0", SOON, |status| {
                leased_on(status, "br0").is_some()
            })?;
            ensure!(
                leased_on(&net.latest, "br0") == before,
                "the router knows it as before"
            );
            let whole = |what: &str| {
                until(SOON, || is_whole(&lab.the_box)).with_context(|| {
                    let shown = lab.the_box.run("ip addr").unwrap_or_default();
                    format!("after {what}: {shown}")
                })
            };
            whole("the start")?;
            let router = Ipv4Addr::new(192, 168, 50, 1);
            ensure!(
                greeting(&lab.router, router, &neighbour)?.is_some(),
                "through the box"
            );
            for undo in [
                "ip link set up1 nomaster",
                "ip addr add 10.9.9.9/24 dev up0",
                "ip link set br0 down",
                "ip link set up0 down",
                "ip link del br0",
            ] {
                lab.the_box.run(undo)?;
                whole(undo)?;
            }
            net.wait_for("lease of br0 again", SOON, |status| {
                leased_on(status, "br0").is_some() && status.problems.is_empty()
            })?;

            net.handle.configure(config())?;
            net.wait_for("lease of up0 again", SOON, |status| {
                leased_on(status, "up0").is_some()
            })?;
            until(SOON, || lab.the_box.run("ip link show br0").is_err())
        },
    );
}

#[test]
fn a_successor_unmakes_what_is_not_wanted_any_more_and_nothing_else() {
    test(
        "a_successor_unmakes_what_is_not_wanted_any_more_and_nothing_else",
        || {
            let lab = Lab::new()?;
            lab.the_box.run("ip link add theirs type bridge")?;
            let net = Net::start(&lab.the_box, bridged())?;
            until(SOON, || {
                let port = lab.the_box.run("ip link show up0").unwrap_or_default();
                port.contains("master br0")
            })?;
            net.stop(false)?;
            ensure!(
                lab.the_box.run("ip link show br0").is_ok(),
                "it stays without net"
            );

            let _net = Net::start(&lab.the_box, config())?;
            until(SOON, || lab.the_box.run("ip link show br0").is_err())?;
            thread::sleep(Duration::from_secs(1));
            ensure!(lab.the_box.run("ip link show theirs").is_ok());
            Ok(())
        },
    );
}

#[test]
fn a_vlan_is_made_on_its_link_and_made_again() {
    let name = "a_vlan_is_made_on_its_link_and_made_again";
    test(name, || {
        let lab = Lab::new()?;
        if lab
            .router
            .run("ip link add link lan0 name lan7 type vlan id 7")
            .is_err()
        {
            println!("SKIPPED: {name}: needs the kernel's module 8021q");
            return Ok(());
        }
        lab.router.run("ip addr add 192.168.57.1/24 dev lan7")?;
        lab.router.run("ip link set lan7 up")?;
        let mut net = Net::start(&lab.the_box, with_vlan(7))?;
        let address = Ipv4Addr::new(192, 168, 57, 7);
        let there = |net: &mut Net, what: &str| {
            net.wait_for(what, SOON, |status| {
                let mut links = status.links.iter();
                links.any(|link| {
                    link.name == "lan7" && link.addresses.contains(&(IpAddr::V4(address), 24))
                })
            })
        };
        there(&mut net, "VLAN")?;
        ensure!(greeting(&lab.the_box, address, &lab.router)?.is_some());
        lab.the_box.run("ip link del lan7")?;
        until(SOON, || {
            let shown = lab.the_box.run("ip -d addr show lan7").unwrap_or_default();
            shown.contains("vlan protocol 802.1Q id 7") && shown.contains("192.168.57.7/24")
        })?;
        net.handle.configure(with_vlan(8))?;
        until(SOON, || {
            let shown = lab.the_box.run("ip -d link show lan7").unwrap_or_default();
            shown.contains("vlan protocol 802.1Q id 8")
        })?;
        net.handle.configure(config())?;
        until(SOON, || lab.the_box.run("ip link show lan7").is_err())
    });
}

#[test]
fn what_can_t_be_made_is_told_and_the_rest_goes_on() {
    test("what_can_t_be_made_is_told_and_the_rest_goes_on", || {
        let lab = Lab::new()?;
        let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
        lab.the_box
            .run("ip link add br0 type veth peer name other")?;
        let mut config = config();
        let ports = vec!["up7".to_owned()];
        config.made.insert("br0".to_owned(), Made::Bridge { ports });
        let mut net = Net::start(&lab.the_box, config)?;
        net.wait_for("lease and problems", SOON, |status| {
            let told = |what| status.problems.iter().any(|problem| problem.contains(what));
            leased_on(status, "up0").is_some()
                && told("br0 can't be made")
                && told("br0 waits for up7")
        })
    });
}

/// Whether the bridge has its ports and its lease, and they have no addresses.
fn is_whole(the_box: &Machine) -> bool {
    let shown = |what: &str| the_box.run(what).unwrap_or_default();
    let bridge = shown("ip -4 addr show br0");
    let port = |name: &str| shown(&format!("ip addr show {name}"));
    bridge.contains("192.168.50.1")
        && bridge.contains(",UP")
        && ["up0", "up1"].iter().all(|name| {
            let port = port(name);
            port.contains("master br0") && port.contains(",UP") && !port.contains("inet ")
        })
}

fn bridged() -> NetConfig {
    let mut config = config();
    let ports = ["up0", "up1"].map(str::to_owned).to_vec();
    config.made.insert("br0".to_owned(), Made::Bridge { ports });
    config
}

fn with_vlan(id: u16) -> NetConfig {
    let mut config = config();
    let on = "up0".to_owned();
    config.made.insert("lan7".to_owned(), Made::Vlan { on, id });
    let fixed = Addressing::Static {
        address: Ipv4Addr::new(192, 168, 57, 7),
        prefix: 24,
        gateway: None,
        dns: Vec::new(),
    };
    config.links.insert("lan7".to_owned(), fixed);
    config
}
