//! Every way to switch the box off ends, with data cleanly unmounted.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use boards::disk::Disk;
use serde_json::json;
use tests::{
    kit::Kit,
    package::{self, STUBBORN_SLEEP},
    vm::Vm,
};

use crate::{damage, guest};

/// Three boots of one disk: typed on the console while a service ignores SIGTERM, by the power
/// button, and with damaged data.
#[test]
fn console_and_button_switch_off_with_clean_data_and_damage_is_told() -> Result<()> {
    let kit = Kit::with_packages("poweroff", |artifacts, folder| {
        Ok(vec![
            package::stubborn(artifacts, folder)?,
            package::flipped(artifacts, folder)?,
        ])
    })?;
    let mut vm = Vm::of(&kit)?;
    let trust = vm.wait_for_service(BOOT)?;
    damage::a_flipped_byte_is_told(&vm, &trust)?;
    a_port_closes_with_its_route(&mut vm)?;
    the_kernel_gets_the_modules_it_asks_for(&mut vm)?;
    stubborn_runs(&mut vm)?;
    let since = vm.said().len();
    vm.type_line("poweroff")?;
    ends_well(vm, since, &kit.disk)?;

    let vm = Vm::of(&kit)?;
    vm.wait_for_service(BOOT)?;
    let since = vm.said().len();
    vm.qmp()?.execute("system_powerdown", json!({}))?;
    ends_well(vm, since, &kit.disk)?;

    damage::damaged_data_is_told(&kit)
}

/// Three boots of another: Ctrl-Alt-Del without a network card and without a watchdog, then
/// `pilot poweroff`, then without a data partition.
#[test]
fn three_keys_restart_and_the_command_line_switches_off_a_box_without_a_network() -> Result<()> {
    let mut kit = Kit::new("keys")?;
    kit.network(false);
    kit.watchdog(false);
    let mut vm = Vm::of(&kit)?;
    damage::a_missing_network_card_is_told(&mut vm)?;
    the_kernels_own_watchdog_stands_in(&mut vm)?;
    demo_runs(&mut vm, 0)?;

    let since = vm.said().len();
    press_ctrl_alt_del(&vm)?;
    let down = vm.expect(since, "shutdown: done", SHUTDOWN)?;
    assert!(down.contains(CLEAN), "{down}");
    demo_runs(&mut vm, since + down.len())?;
    let replayed = vm.shell("dmesg | grep -i 'btrfs.*replay'")?;
    assert_eq!(replayed, "", "the mount had something to do");

    let since = vm.said().len();
    vm.type_line("shell")?;
    vm.expect(since, "(shell) # ", CONSOLE)?;
    vm.type_line("pilot poweroff")?;
    ends_well(vm, since, &kit.disk)?;

    damage::a_missing_data_partition_is_told(kit)
}

/// A stopped service has no route, and the port that led to it is nobody's.
fn a_port_closes_with_its_route(vm: &mut Vm) -> Result<()> {
    let listens = |vm: &mut Vm| -> Result<bool> {
        // 8443, listening, as the kernel lists sockets.
        let sockets = vm.shell("cat /proc/net/tcp6 /proc/net/tcp")?;
        Ok(sockets.contains(":20FB 0000"))
    };
    assert!(listens(vm)?, "the demo has no port of its own");
    vm.type_line("stop demo")?;
    guest::eventually("the port of a stopped service closes", || Ok(!listens(vm)?))?;
    vm.type_line("start demo")?;
    guest::eventually("the port of a started service opens", || listens(vm))
}

/// Mounting a kind of file system that is in a module has the kernel call /sbin/modprobe.
fn the_kernel_gets_the_modules_it_asks_for(vm: &mut Vm) -> Result<()> {
    let known = "grep -w ext4 /proc/filesystems";
    assert_eq!(vm.shell(known)?, "", "nothing is left to be loaded");
    let answer = vm.shell(&format!("mount -t ext4 /dev/vda1 /mnt; {known}"))?;
    assert!(answer.ends_with("ext4"), "{answer}");
    Ok(())
}

fn stubborn_runs(vm: &mut Vm) -> Result<()> {
    guest::eventually("the service that ignores SIGTERM runs", || {
        Ok(vm.shell("ps")?.contains(STUBBORN_SLEEP))
    })
}

fn the_kernels_own_watchdog_stands_in(vm: &mut Vm) -> Result<()> {
    guest::eventually("there is a watchdog", || {
        let names = vm.shell("cat /sys/class/watchdog/*/identity /sys/class/watchdog/*/state")?;
        Ok(names.contains("Software Watchdog") && names.contains("active"))
    })
}

/// Waits until the demo runs, which the console knows without a network, once it is there.
fn demo_runs(vm: &mut Vm, since: usize) -> Result<()> {
    vm.expect(since, "Recovery console", BOOT)?;
    guest::eventually("the demo runs", || {
        Ok(vm.shell("ps")?.contains("/bin/httpd"))
    })
}

fn press_ctrl_alt_del(vm: &Vm) -> Result<()> {
    let keys = ["ctrl", "alt", "delete"].map(|key| json!({ "type": "qcode", "data": key }));
    vm.qmp()?.execute("send-key", json!({ "keys": keys }))?;
    Ok(())
}

/// Waits for the box's end and makes sure that data was left as it should be.
fn ends_well(mut vm: Vm, since: usize, disk: &Disk) -> Result<()> {
    let down = vm.expect(since, "shutdown: done", SHUTDOWN)?;
    assert!(down.contains(CLEAN), "{down}");
    vm.wait_for_end(SHUTDOWN)?;
    let took = stamp(&down, "shutdown: done")? - stamp(&down, "shutdown: begins")?;
    let limit = PROMISED * slowness(&vm.said())?;
    println!("it took {took:.1} s of the box's time; {limit:.1} s are allowed");
    assert!(took < limit, "{down}");
    nothing_is_left_to_replay(disk)
}

/// The promise is for a machine that is not starved: one that boots slowly ends slowly.
fn slowness(said: &str) -> Result<f64> {
    Ok((stamp(said, "pilot: version")? / USUAL_START).max(1.0))
}

/// The kernel's time stamp of the first line with `text`, in seconds since it started.
fn stamp(said: &str, text: &str) -> Result<f64> {
    let line = said.lines().find(|line| line.contains(text));
    let line = line.with_context(|| format!("no line with {text:?}"))?;
    let before = line.split_once(text).map_or("", |(before, _)| before);
    let number = before.rsplit_once('[').and_then(|(_, rest)| {
        let (number, _) = rest.split_once(']')?;
        number.trim().parse().ok()
    });
    number.with_context(|| format!("no time stamp in {line:?}"))
}

/// Looks at the superblock of btrfs: a log tree is what a mount would replay.
fn nothing_is_left_to_replay(disk: &Disk) -> Result<()> {
    let superblock = disk.read("pilot-data", SUPERBLOCK, 4096)?;
    if superblock[64..72] != *b"_BHRfS_M" {
        bail!("data is no btrfs");
    }
    assert_eq!(superblock[96..104], [0; 8], "there is a log to replay");
    Ok(())
}

const CLEAN: &str = "shutdown: data is cleanly unmounted";
/// Seconds.
const PROMISED: f64 = 10.0;
/// Seconds from the kernel's start to PID 1 under emulation, on a machine with nothing else to do.
const USUAL_START: f64 = 4.0;
/// The first copy, from the partition's start.
const SUPERBLOCK: u64 = 65_536;

/// Half a minute under emulation; twenty times as much on a machine that does twenty other things.
const BOOT: Duration = Duration::from_secs(900);
const CONSOLE: Duration = Duration::from_secs(90);
const SHUTDOWN: Duration = Duration::from_secs(120);
