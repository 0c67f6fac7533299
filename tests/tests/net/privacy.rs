//! IPv6 addresses that say nothing of the hardware, with radvd and the kernel that makes them.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{AddressSecret, NetConfig, NetStatus};
use tests::netns::{Net, lacks_radvd, until};

use super::{Lab, SOON, config, router::Radvd, test};

#[test]
fn addresses_are_of_the_box_s_secret_and_the_same_each_time() {
    let name = "addresses_are_of_the_box_s_secret_and_the_same_each_time";
    test(name, || {
        if let Some(why) = lacks_radvd() {
            println!("SKIPPED: {name}: {why}");
            return Ok(());
        }
        let lab = Lab::new()?;
        let _radvd = Radvd::start(&lab.router, "2001:db8:50:", "home.arpa")?;
        let (first, mac) = addresses(&lab, 1)?;
        // Of the address EUI-64 has the hardware's all bytes, with ff:fe amid them.
        let told = |ip: &Ipv6Addr| ip.octets()[11..13] == [0xff, 0xfe];
        ensure!(!first.iter().any(told), "{first:?} tells {mac}");
        let (again, _) = addresses(&lab, 1)?;
        ensure!(first == again, "{first:?} and then {again:?}");
        let (other, _) = addresses(&lab, 2)?;
        ensure!(
            !other.iter().any(|ip| first.contains(ip)),
            "{first:?} are of another secret too"
        );
        Ok(())
    });
}

#[test]
fn a_change_behind_the_box_s_back_is_put_right() {
    test("a_change_behind_the_box_s_back_is_put_right", || {
        let lab = Lab::new()?;
        let mut net = Net::start(&lab.the_box, with(7))?;
        net.wait_for("link", SOON, |status| status.links.len() == 1)?;
        let is_private = || {
            let seen = lab.the_box.run("ip -d link show dev up0");
            seen.is_ok_and(|seen| seen.contains("addrgenmode stable_secret"))
        };
        until(SOON, is_private)?;
        lab.the_box.run("ip link set dev up0 addrgenmode eui64")?;
        until(SOON, is_private)?;
        ensure!(net.latest.problems.is_empty(), "{:?}", net.latest.problems);
        Ok(())
    });
}

/// The addresses that the link makes itself with a secret, sorted, and the hardware's: as if the box
/// had just been switched on.
fn addresses(lab: &Lab, secret: u8) -> Result<(Vec<Ipv6Addr>, String)> {
    let mut net = Net::start(&lab.the_box, with(secret))?;
    net.wait_for("addresses", SOON, |status| own(status).len() == 2)?;
    let found = own(&net.latest);
    let mac = net.latest.links.first().context("a link")?.mac.clone();
    net.stop(false)?;
    // With it, all its addresses of IPv6 go.
    lab.the_box.run("ip link set dev up0 down")?;
    Ok((found, mac))
}

/// The link's own IPv6 addresses.
fn own(status: &NetStatus) -> Vec<Ipv6Addr> {
    let addresses = status.links.iter().flat_map(|link| &link.addresses);
    let mut own: Vec<_> = addresses
        .filter_map(|(ip, _)| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(*ip),
        })
        .collect();
    own.sort();
    own
}

fn with(secret: u8) -> NetConfig {
    NetConfig {
        address_secret: Some(AddressSecret::new([secret; 16])),
        ..config()
    }
}
