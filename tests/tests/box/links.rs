//! The owner's bridges and VLANs in the booted box, declared over its API.

use anyhow::{Context as _, Result, ensure};
use boards::web::Trust;
use serde_json::{Value, json};
use tests::{kit::Kit, vm::Vm};

use crate::{
    guest,
    settings::{BOOT, confirm, set},
};

#[test]
#[ignore = "a boot; not run often enough on a busy machine yet"]
fn a_vlan_and_a_bridge_are_declared_over_the_api_and_the_box_stays_reachable() -> Result<()> {
    let kit = Kit::new("links")?;
    let mut vm = Vm::of(&kit)?;
    let trust = vm.wait_for_service(BOOT)?;
    let code = vm.setup_code()?;
    let status = vm.call(&trust, None, "net.status", json!({}))?;
    let card = status["links"][0]["name"]
        .as_str()
        .context("a link")?
        .to_owned();

    let vlan = |id: u16| {
        json!({
            "link": "lan7", "mode": "static", "address": "192.168.57.7/24",
            "vlan": { "on": card, "id": id },
        })
    };
    let refused = vm.call(&trust, Some(&code), "net.set", vlan(4095));
    let why = refused.err().map_or_else(String::new, |e| format!("{e:#}"));
    ensure!(why.contains("from 1 to 4094"), "{why}");

    settle(&vm, &trust, &code, vlan(7))?;
    guest::eventually("the VLAN is there", || {
        let seen = vm.shell("cat /proc/net/vlan/lan7; ip addr show lan7")?;
        Ok(seen.contains("VID: 7") && seen.contains("192.168.57.7/24"))
    })?;

    // The box's only way out becomes a port: its address goes over to the bridge.
    settle(
        &vm,
        &trust,
        &code,
        json!({ "link": "br0", "bridge": [card] }),
    )?;
    guest::eventually("the bridge has the address", || {
        let status = vm.call(&trust, None, "net.status", json!({}))?;
        let links = status["links"].as_array().context("links")?;
        let bridge = links.iter().find(|link| link["name"] == "br0");
        Ok(bridge.is_some_and(|link| link["addresses"].to_string().contains("10.0.2.15")))
    })?;

    for link in ["br0", "lan7"] {
        settle(
            &vm,
            &trust,
            &code,
            json!({ "link": link, "mode": "removed" }),
        )?;
        guest::eventually("it is gone", || {
            Ok(!vm
                .shell("ls /sys/class/net")?
                .split_whitespace()
                .any(|name| name == link))
        })?;
    }
    guest::eventually("the card has its address again", || {
        let status = vm.call(&trust, None, "net.status", json!({}))?;
        Ok(status["links"][0]["addresses"]
            .to_string()
            .contains("10.0.2.15"))
    })?;
    vm.kill()
}

/// Makes a change and keeps it, on the way that it left.
fn settle(vm: &Vm, trust: &Trust, code: &str, change: Value) -> Result<()> {
    let taken = set(vm, trust, code, change)?;
    guest::eventually("the change is kept", || {
        Ok(confirm(vm, trust, &taken["token"]).is_ok_and(|status| status == 200))
    })
}
