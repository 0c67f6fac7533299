//! Link-local addresses while no server answers.

use std::{thread, time::Duration};

use anyhow::{Context as _, ensure};
use tests::netns::{Dnsmasq, Net};

use super::{Lab, SOON, config, greeting, leased, link_local, test};

#[test]
fn without_a_server_there_is_a_link_local_address_until_one_comes() {
    test(
        "without_a_server_there_is_a_link_local_address_until_one_comes",
        || {
            let lab = Lab::new()?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("link-local address", SOON, |status| {
                link_local(status).is_some()
            })?;
            ensure!(
                net.latest.links[0].origin == "Link-local, since no DHCP server offers an address"
            );
            let address = link_local(&net.latest).context("an address")?;
            lab.router.run("ip addr add 169.254.0.9/16 dev lan0")?;
            ensure!(
                greeting(&lab.the_box, address, &lab.router)?.is_some(),
                "a neighbour reaches it"
            );

            let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
            net.wait_for("lease in place of it", SOON, |status| {
                leased(status).is_some() && link_local(status).is_none()
            })
        },
    );
}

#[test]
fn a_successor_keeps_a_link_local_address() {
    test("a_successor_keeps_a_link_local_address", || {
        let lab = Lab::new()?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("link-local address", SOON, |status| {
            link_local(status).is_some()
        })?;
        let address = link_local(&net.latest).context("an address")?;
        let monitor = lab.the_box.watch("ip -4 monitor address")?;
        net.stop(false)?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("same address", SOON, |status| {
            link_local(status) == Some(address)
        })?;
        // Longer than it takes to find that no server answers, which is when one is chosen anew.
        thread::sleep(Duration::from_secs(12));
        let seen = monitor.end();
        ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");
        Ok(())
    });
}
