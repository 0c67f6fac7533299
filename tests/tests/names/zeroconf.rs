//! Another implementation as the peer: python-zeroconf, which home automation is made of.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tests::{
    netns::{Machine, Watch, until},
    venv,
};

use crate::{Lan, Names, SOON, test};

#[test]
fn zeroconf_finds_the_box_by_browsing_and_hears_it_go() {
    test("zeroconf_finds_the_box_by_browsing", || {
        let lan = Lan::new()?;
        let peer = Peer::start(&lan.peer, "browse 192.168.60.2")?;
        peer.wait_for("browsing")?;
        let names = Names::start(&lan.the_box)?;
        names.publish("otter")?;
        let (own, service) = (format!("otter.{KIND}"), format!("photos_on_otter.{KIND}"));
        for (instance, server) in [(&own, "otter.local."), (&service, "photos.otter.local.")] {
            // Asked by IPv4, it is told of all addresses.
            peer.wait_for(&format!("resolved {instance} {server} 443 192.168.60.1"))?;
        }
        names.farewell()?;
        for instance in [&own, &service] {
            peer.wait_for(&format!("gone {instance}"))?;
        }
        Ok(())
    });
}

#[test]
fn a_name_that_the_box_has_is_refused_to_zeroconf() {
    test("a_name_that_the_box_has_is_refused_to_zeroconf", || {
        let lan = Lan::new()?;
        let watch = Peer::start(&lan.other, "browse 192.168.60.3")?;
        let names = Names::start(&lan.the_box)?;
        names.publish("otter")?;
        watch.wait_for(&format!(
            "resolved otter.{KIND} otter.local. 443 192.168.60.1"
        ))?;
        let peer = Peer::start(&lan.peer, "claim 192.168.60.2 otter")?;
        peer.wait_for("taken otter")?;
        ensure!(names.hostname() == "otter", "{}", names.hostname());
        Ok(())
    });
}

#[test]
fn a_name_that_zeroconf_has_is_left_to_it() {
    test("a_name_that_zeroconf_has_is_left_to_it", || {
        let lan = Lan::new()?;
        let peer = Peer::start(&lan.peer, "claim 192.168.60.2 otter")?;
        peer.wait_for("claimed otter")?;
        let watch = Peer::start(&lan.other, "browse 192.168.60.3")?;
        let names = Names::start(&lan.the_box)?;
        names.publish("otter")?;
        watch.wait_for(&format!(
            "resolved otter-2.{KIND} otter-2.local. 443 192.168.60.1"
        ))?;
        watch.wait_for(&format!(
            "resolved otter.{KIND} otter.local. 443 192.168.60.2"
        ))?;
        ensure!(names.hostname() == "otter-2", "{}", names.hostname());
        Ok(())
    });
}

/// `peer.py` on a machine.
struct Peer(Watch);

impl Peer {
    fn start(machine: &Machine, arguments: &str) -> Result<Self> {
        let python = venv::program("python3")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/names/peer.py");
        let line = format!("{} {} {arguments}", python.display(), script.display());
        Ok(Self(machine.watch(&line)?))
    }

    /// Waits until it has said something.
    fn wait_for(&self, wanted: &str) -> Result<()> {
        until(SOON, || self.0.so_far().contains(wanted))
            .with_context(|| format!("no {wanted:?} in {}", self.0.so_far()))
    }
}

const KIND: &str = "_https._tcp.local.";
