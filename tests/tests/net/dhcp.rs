//! The DHCP client with real servers.

mod servers;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use anyhow::{Context as _, ensure};
use tests::netns::{Dnsmasq, Machine, Net, until};

use super::{Lab, SOON, config, leased, test};

#[test]
fn a_lease_gives_address_route_and_servers() {
    test("a_lease_gives_address_route_and_servers", || {
        let lab = Lab::new()?;
        let options = "--dhcp-option=option:dns-server,9.9.9.9,1.1.1.1 \
                       --dhcp-option=option:ntp-server,192.168.50.1 \
                       --dhcp-option=option:mtu,1400 --domain=home.arpa";
        let server = Dnsmasq::start(&lab.router, "lan0", options)?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease", SOON, |status| {
            leased(status).is_some() && status.gateway.is_some()
        })?;

        let status = &net.latest;
        let address = leased(status).context("a lease")?;
        ensure!(address.octets()[..3] == [192, 168, 50], "{address}");
        ensure!(
            status.gateway == Some([192, 168, 50, 1].into()),
            "{status:#?}"
        );
        ensure!(status.dns == [IpAddr::from([9, 9, 9, 9]), IpAddr::from([1, 1, 1, 1])]);
        ensure!(status.ntp == [IpAddr::from([192, 168, 50, 1])]);
        ensure!(status.domain.as_deref() == Some("home.arpa"));
        ensure!(status.links[0].origin == "DHCP from 192.168.50.1, leased for 2 min");
        ensure!(status.problems.is_empty(), "{:?}", status.problems);
        ensure!(
            server.log().contains("client provides name: pilotlight"),
            "{}",
            server.log()
        );

        let seen = lab.address()?;
        ensure!(
            seen.contains(&format!("{address}/24")) && seen.contains("mtu 1400"),
            "{seen}"
        );
        ensure!(
            seen.contains("valid_lft 1"),
            "the kernel ends it if we can't: {seen}"
        );
        let routes = lab.the_box.run("ip route show default")?;
        ensure!(
            routes.contains("via 192.168.50.1 dev up0 proto dhcp"),
            "{routes}"
        );
        ensure!(lab.the_box.run("ip link show lo")?.contains("UP"));
        Ok(())
    });
}

#[test]
fn qemu_s_own_network_gives_a_lease() {
    test("qemu_s_own_network_gives_a_lease", || {
        let the_box = Machine::new("box")?;
        if let Some(why) = lacks_qemu() {
            println!("SKIPPED: qemu_s_own_network_gives_a_lease: {why}");
            return Ok(());
        }
        the_box.run("ip tuntap add up0 mode tap")?;
        // No machine at all: only the user network, on a hub with the box's link.
        let _qemu = the_box.watch(
            "qemu-system-x86_64 -machine none -nodefaults -display none \
             -netdev user,id=user -netdev tap,id=tap,ifname=up0,script=no,downscript=no \
             -netdev hubport,id=one,hubid=0,netdev=user -netdev hubport,id=two,hubid=0,netdev=tap",
        )?;
        let mut net = Net::start(&the_box, config())?;
        net.wait_for("lease", SOON, |status| {
            leased(status).is_some() && status.gateway.is_some()
        })?;
        ensure!(
            leased(&net.latest) == Some(Ipv4Addr::new(10, 0, 2, 15)),
            "{:#?}",
            net.latest
        );
        ensure!(net.latest.gateway == Some([10, 0, 2, 2].into()));
        ensure!(net.latest.dns == [IpAddr::from([10, 0, 2, 3])]);
        Ok(())
    });
}

#[test]
fn a_lease_is_renewed_with_its_server_before_it_ends() {
    test("a_lease_is_renewed_with_its_server_before_it_ends", || {
        let lab = Lab::new()?;
        let options = "--dhcp-option=option:T1,5 --dhcp-option=option:T2,60";
        let server = Dnsmasq::start(&lab.router, "lan0", options)?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease", SOON, |status| leased(status).is_some())?;
        until(SOON, || server.said("DHCPACK(lan0)") >= 3).with_context(|| server.log())?;
        ensure!(!server.was_asked_anew(), "{}", server.log());
        ensure!(leased(&net.latest).is_some());
        // Renewed: the kernel's own end has moved on, it is not at 2 minutes less 10 seconds.
        until(SOON, || {
            lab.address().is_ok_and(|seen| {
                (115..=120).any(|left| seen.contains(&format!("valid_lft {left}sec")))
            })
        })
        .with_context(|| lab.address().unwrap_or_default())
    });
}

fn lacks_qemu() -> Option<&'static str> {
    let qemu = Path::new("/usr/bin/qemu-system-x86_64").exists();
    let tap = Path::new("/dev/net/tun").exists();
    (!qemu || !tap).then_some("needs `qemu-system-x86_64` and /dev/net/tun")
}
