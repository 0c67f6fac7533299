//! A `net` that ends or panics, and the one after it.

use std::{
    net::IpAddr,
    sync::mpsc::{Sender, channel},
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{NetHandle, NetStatus};
use tests::netns::{Dnsmasq, Machine, Net, lacks_radvd, until};

use super::{Lab, SOON, config, leased, router::Radvd, test};

#[test]
fn a_successor_keeps_the_address_and_asks_about_it() {
    test("a_successor_keeps_the_address_and_asks_about_it", || {
        let lab = Lab::new()?;
        let server = Dnsmasq::start(&lab.router, "lan0", "")?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease", SOON, |status| leased(status).is_some())?;
        let address = leased(&net.latest).context("a lease")?;
        let monitor = lab.the_box.watch("ip -4 monitor address")?;
        net.stop(false)?;
        ensure!(
            lab.address()?.contains(&address.to_string()),
            "it stays without net"
        );

        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("same lease", SOON, |status| leased(status) == Some(address))?;
        ensure!(!server.was_asked_anew(), "{}", server.log());
        let seen = monitor.end();
        ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");

        net.stop(true)?;
        until(SOON, || server.said("DHCPRELEASE(lan0)") == 1).with_context(|| server.log())
    });
}

#[test]
fn a_successor_keeps_an_address_that_was_leased_for_ever() {
    test(
        "a_successor_keeps_an_address_that_was_leased_for_ever",
        || {
            let lab = Lab::new()?;
            let server = Dnsmasq::start(&lab.router, "lan0", "--dhcp-host=*:*:*:*:*:*,infinite")?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease for ever", SOON, |status| {
                leased(status).is_some() && status.links[0].origin.ends_with("for good")
            })?;
            let address = leased(&net.latest).context("a lease")?;
            let monitor = lab.the_box.watch("ip -4 monitor address")?;
            net.stop(false)?;
            // Nobody confirms it to the successor, at first.
            drop(server);
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease of before", SOON, |status| {
                let link = status.links.first();
                link.is_some_and(|link| link.origin.starts_with("A lease of before"))
            })?;
            let _server = Dnsmasq::start(&lab.router, "lan0", "--dhcp-host=*:*:*:*:*:*,infinite")?;
            net.wait_for("same lease", SOON, |status| leased(status) == Some(address))?;
            let seen = monitor.end();
            ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");
            Ok(())
        },
    );
}

#[test]
fn a_successor_asks_routers_what_they_announced() {
    let name = "a_successor_asks_routers_what_they_announced";
    test(name, || {
        if let Some(why) = lacks_radvd() {
            println!("SKIPPED: {name}: {why}");
            return Ok(());
        }
        let lab = Lab::new()?;
        // It says nothing unasked, as others do for half an hour.
        let radvd = Radvd::saying(
            &lab.router,
            "AdvSendAdvert on; UnicastOnly on; prefix 2001:db8:50::/64 { };\n\
             RDNSS 2001:db8:50::53 { }; DNSSL home.arpa { };",
        )?;
        let known = |status: &NetStatus| {
            let server = "2001:db8:50::53".parse::<IpAddr>();
            server.is_ok_and(|server| status.dns == [server])
                && status.domain.as_deref() == Some("home.arpa")
        };
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("what is announced", SOON, known)
            .with_context(|| radvd.watch.so_far())?;
        for _ in 0..2 {
            net.stop(false)?;
            net = Net::start(&lab.the_box, config())?;
            net.wait_for("what was announced", SOON, known)
                .with_context(|| radvd.watch.so_far())?;
        }
        Ok(())
    });
}

#[test]
fn a_panic_costs_a_moment_and_no_address() {
    test("a_panic_costs_a_moment_and_no_address", || {
        let lab = Lab::new()?;
        let server = Dnsmasq::start(&lab.router, "lan0", "")?;
        let monitor = lab.the_box.watch("ip -4 monitor address")?;
        let (to, statuses) = channel();
        let handle = start_with_a_panic(&lab.the_box, to)?;
        let mut heard = Vec::new();
        until(SOON, || {
            heard.extend(statuses.try_iter());
            heard
                .last()
                .is_some_and(|last| leased(last).is_some() && last.problems.is_empty())
                && heard.iter().any(|status| !status.problems.is_empty())
        })?;
        let mut problems = heard.iter().flat_map(|status| &status.problems);
        ensure!(
            problems.all(|problem| problem.contains("panicked")),
            "{heard:#?}"
        );
        ensure!(!handle.ended());
        ensure!(!server.was_asked_anew(), "{}", server.log());
        ensure!(!monitor.end().contains("Deleted"));
        Ok(())
    });
}

/// `net` with a listener that panics once.
fn start_with_a_panic(machine: &Machine, to: Sender<NetStatus>) -> Result<NetHandle> {
    let mut calm = false;
    machine.within(move || {
        Ok(netstack::net::spawn(config(), move |status| {
            let address = leased(&status).is_some();
            drop(to.send(status));
            let first = address && !calm;
            calm |= address;
            assert!(!first, "the test's own panic");
        })?)
    })
}
