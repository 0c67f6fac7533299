//! What is broken or missing is said plainly, on the console and, where there is a network, on the
//! dashboard; and the box is up as far as it can be.

use std::time::Duration;

use anyhow::Result;
use boards::web::Trust;
use serde_json::{Value, json};
use tests::{kit::Kit, vm::Vm};

use crate::guest;

/// Nothing but the recovery console is there to tell.
#[test]
fn a_damaged_root_is_told_by_the_recovery_console() -> Result<()> {
    let kit = Kit::new("no-root")?;
    // The tables of a squashfs are at its end; it has some 28 MB.
    let length = std::fs::metadata(&boards::artifacts::Artifacts::shared()?.root)?.len();
    let garbage = vec![0xa5; 1 << 20];
    let mut at = length / 2;
    while at < length {
        kit.disk.overwrite("pilot-root-a", at, &garbage)?;
        at += garbage.len() as u64;
    }
    let mut vm = Vm::of(&kit)?;
    let said = vm.expect(0, "root file system     FAILED", BOOT)?;
    let said = said.len();
    vm.expect(0, "The recovery console is open", CONSOLE)?;
    let told = vm.said();
    assert!(
        told.contains("can't be mounted: its squashfs image is damaged"),
        "{told}"
    );
    vm.type_line("disks")?;
    vm.expect(said, "pilot-root-a", CONSOLE)?;
    vm.type_line("poweroff")?;
    vm.wait_for_end(CONSOLE)
}

/// One of several packages is damaged: the others run.
pub(crate) fn a_flipped_byte_is_told(vm: &Vm, trust: &Trust) -> Result<()> {
    vm.expect(0, "broken: The package flipped can't be used", CONSOLE)?;
    guest::eventually("the dashboard tells of the package", || {
        let needs = status(vm, trust)?["needs"].to_string();
        Ok(needs.contains("The package flipped can't be used"))
    })
}

/// The trees of the file system are gone, its superblock is not.
pub(crate) fn damaged_data_is_told(kit: &Kit) -> Result<()> {
    let garbage = vec![0xa5; 1 << 20];
    for mib in 1..64 {
        kit.disk.overwrite("pilot-data", mib << 20, &garbage)?;
    }
    let before = kit.disk.read("pilot-data", 0, HEAD)?;
    let vm = Vm::of(kit)?;
    vm.expect(0, "broken: The data disk can't be used", BOOT)?;
    told_on_the_dashboard(&vm, "can't be mounted")?;
    vm.kill()?;
    assert!(
        kit.disk.read("pilot-data", 0, HEAD)? == before,
        "something was written"
    );
    Ok(())
}

/// The partition is not in the table.
pub(crate) fn a_missing_data_partition_is_told(mut kit: Kit) -> Result<()> {
    kit.disk.forget_data()?;
    kit.network(true);
    let vm = Vm::of(&kit)?;
    vm.expect(0, "broken: The data disk can't be used", BOOT)?;
    told_on_the_dashboard(&vm, "pilot-data")?;
    the_setup_code_switches_off_from_afar(vm)
}

/// By the API that dashboard and `pilot` use, with the code that the console shows.
fn the_setup_code_switches_off_from_afar(mut vm: Vm) -> Result<()> {
    let trust = vm.authority()?;
    let power = |vm: &Vm, code| vm.call(&trust, code, "box.power", json!({ "how": "poweroff" }));
    let refused = power(&vm, Some("otter-lantern-00"))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("not the setup code"), "{refused}");
    let code = vm.setup_code()?;
    power(&vm, Some(&code))?;
    vm.wait_for_end(CONSOLE)
}

pub(crate) fn a_missing_network_card_is_told(vm: &mut Vm) -> Result<()> {
    vm.expect(0, "There is no network card", BOOT)?;
    let since = vm.said().len();
    vm.type_line("net")?;
    vm.expect(since, "No network card is known", CONSOLE)?;
    Ok(())
}

fn status(vm: &Vm, trust: &Trust) -> Result<Value> {
    vm.call(trust, None, "box.status", json!({}))
}

fn told_on_the_dashboard(vm: &Vm, text: &str) -> Result<()> {
    let mut seen = String::new();
    let told = guest::eventually("the dashboard tells of it", || {
        let Ok(trust) = vm.authority() else {
            return Ok(false);
        };
        seen = match status(vm, &trust) {
            Ok(status) => status["needs"].to_string(),
            Err(why) => why.to_string(),
        };
        Ok(seen.contains(text))
    });
    println!("the dashboard says: {seen}");
    told
}

/// The first bytes of the partition, which no boot has any business in.
const HEAD: usize = 2 << 20;

const BOOT: Duration = Duration::from_secs(900);
const CONSOLE: Duration = Duration::from_secs(90);
