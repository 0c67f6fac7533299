//! A box whose `init` obeys fault injection: what no box meets in its life, on purpose.

mod client;
mod crashes;
mod disk;
mod stalls;
mod upgrades;
mod watchdog;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use boards::web::Trust;
use tests::{kit::Kit, stalls::KINDS, vm::Vm};

use self::crashes::Gaps;

/// A few of each, in one boot; the last ends in a reset.
#[test]
#[ignore = "not run often enough on a busy machine yet"]
fn a_box_made_to_fail_goes_on() -> Result<()> {
    let (mut vm, trust) = boot("faults")?;
    stalls::each_is_cured(&mut vm, &trust, &["condvar", "waker", "busy-all"], false)?;
    disk::a_full_one_costs_no_answer(&mut vm, &trust)?;
    let mut gaps = Gaps::default();
    let of_pid_1 = [
        "segv:main",
        "abort:net",
        "overflow:ttyS0",
        "alloc:guard",
        "segv:net",
    ];
    crashes::of_pid_1(&mut vm, &trust, &all("init", &of_pid_1), &mut gaps)?;
    let of_front = all("front", &["segv:door", "alloc:main"]);
    crashes::of_front(&mut vm, &trust, (&of_front, 0), &mut gaps)?;
    gaps.print();
    watchdog::a_frozen_guard_has_the_box_reset(&mut vm)?;
    ensure!(!vm.said().contains("Kernel panic"), "the kernel panicked");
    vm.kill()
}

/// Four kinds in each thread, again and again; those of the front so far apart that it is forgiven.
#[test]
#[ignore = "takes an hour"]
fn a_hundred_crashes_are_outlived() -> Result<()> {
    let (mut vm, trust) = boot("crashes")?;
    let mut gaps = Gaps::default();
    let each = |threads: &[&str]| -> Vec<String> {
        let kinds = ["segv", "abort", "overflow", "alloc"];
        let of = |thread: &&str| kinds.map(|kind| format!("{kind}:{thread}"));
        threads.iter().flat_map(of).collect()
    };
    let mut of_pid_1 = each(&["main", "net", "guard", "ttyS0"]);
    of_pid_1.push("all:main".to_owned());
    let of_pid_1: Vec<_> = of_pid_1.iter().map(String::as_str).collect();
    let of_front = each(&["main", "door", "names"]);
    let of_front: Vec<_> = of_front.iter().map(String::as_str).collect();
    while gaps.count() < 100 {
        crashes::of_pid_1(&mut vm, &trust, &all("init", &of_pid_1), &mut gaps)?;
        crashes::of_front(&mut vm, &trust, (&all("front", &of_front), 65), &mut gaps)?;
    }
    gaps.print();
    crashes::too_fast(&mut vm, &trust)?;
    vm.kill()
}

#[test]
#[ignore = "takes half an hour"]
fn twenty_upgrades_each_way_cost_no_request_in_the_box() -> Result<()> {
    let (mut vm, trust) = boot_with("upgrades", upgrades::files)?;
    let mut gaps = Gaps::default();
    upgrades::there_and_back(&mut vm, &trust, 20, &mut gaps)?;
    gaps.print();
    upgrades::bad_ones_are_taken_back(&mut vm, &trust, &mut gaps)?;
    vm.kill()
}

#[test]
#[ignore = "takes half an hour"]
fn every_stall_is_cured_in_the_box_and_no_request_is_lost() -> Result<()> {
    let (mut vm, trust) = boot("stalls")?;
    stalls::each_is_cured(&mut vm, &trust, &KINDS, true)?;
    vm.kill()
}

fn boot(name: &str) -> Result<(Vm, Trust)> {
    boot_with(name, |_| Ok(Vec::new()))
}

/// The same with more files in the root, each with its place.
fn boot_with(
    name: &str,
    more: impl FnOnce(&Path) -> Result<Vec<(PathBuf, PathBuf)>>,
) -> Result<(Vm, Trust)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/box/faults/crashes.sh");
    let kit = Kit::with_faults(name, |folder| {
        let mut files = more(folder)?;
        files.push((crashes::SCRIPT.into(), script));
        Ok(files)
    })?;
    let vm = Vm::of(&kit)?;
    let trust = vm.wait_for_service(BOOT)?;
    Ok((vm, trust))
}

fn all(process: &str, crashes: &[&str]) -> Vec<crashes::Crash> {
    let of = |crash: &&str| format!("{process}:{crash}");
    crashes.iter().map(of).collect()
}

const BOOT: Duration = Duration::from_secs(900);
