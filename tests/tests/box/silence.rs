//! The box answers whatever becomes of its manager, its front and its data disk.

use std::time::{Duration, Instant};

use anyhow::Result;
use boards::web::Trust;
use tests::{
    load::{Load, Tally, Target},
    vm::Vm,
};

use crate::guest::{another, eventually, the_pid_of};

/// The guard finds the manager stopped and has it replaced; requests to the service go on.
pub(crate) fn a_stopped_manager_silences_nothing(vm: &mut Vm, trust: &Trust) -> Result<()> {
    without_a_manager(vm, trust, "STOP")?;
    logged(vm, "init", "manager no longer works and is replaced")
}

/// The same when it is killed.
pub(crate) fn a_killed_manager_silences_nothing(vm: &mut Vm, trust: &Trust) -> Result<()> {
    without_a_manager(vm, trust, "KILL")
}

fn without_a_manager(vm: &mut Vm, trust: &Trust, signal: &str) -> Result<()> {
    let old = the_pid_of(vm, "pilot-manager")?;
    let (began, load) = (Instant::now(), Load::begin(demo(vm, trust), RATE));
    vm.shell(&format!("kill -{signal} {old}"))?;
    std::thread::sleep(LOAD.saturating_sub(began.elapsed()));
    all_answered(&format!("manager gone by SIG{signal}"), &load.end());
    another(vm, "pilot-manager", old)?;
    dashboard_is_back(vm, trust)
}

/// Connections wait in PID 1's sockets for the next front, also when that takes a second: those
/// that were with the killed one are made again, as browsers do, and none is refused.
pub(crate) fn a_killed_front_fails_no_connection(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let old = the_pid_of(vm, "pilot-front")?;
    let target = Target {
        tries: 1 + KILLS,
        ..demo(vm, trust)
    };
    // Fewer than else: killing takes a slow box a minute, and each must be answered in the end.
    let load = Load::begin(target, RATE / 5);
    let answer = vm.shell_within(&killing_fronts(), KILLING)?;
    let tally = load.end();
    println!("front: {answer}");
    let count = |word: &str| answer.lines().filter(|line| *line == word).count();
    assert_eq!(count("killed"), KILLS as usize, "{answer}");
    assert_eq!(count("refused"), 0, "{answer}");
    assert!(count("connected") >= 10, "{answer}");
    assert_ne!(the_pid_of(vm, "pilot-front")?, old);
    all_answered("front killed", &tally);
    logged(vm, "init", "front ended: killed by signal 9")
}

/// In the box itself: QEMU's network, between it and us, accepts whatever the box says. Kills one
/// front after the other while another process connects again and again.
fn killing_fronts() -> String {
    let connect = "while [ ! -e /run/enough ]; do \
         if nc 127.0.0.1 443 -e true; then echo connected; else echo refused; fi; done";
    let kill = format!(
        "for n in $(seq {KILLS}); do old=$(pidof pilot-front); kill -9 $old && echo killed; \
         new=$old; while [ -z \"$new\" -o \"$new\" = \"$old\" ]; do new=$(pidof pilot-front); done; \
         done"
    );
    format!("rm -f /run/enough; {connect} & {kill}; sleep 2; touch /run/enough; wait")
}

/// A disk that no longer answers is told of, and costs nothing that does not need it.
pub(crate) fn a_hanging_disk_is_told(vm: &mut Vm, trust: &Trust) -> Result<()> {
    vm.shell("dmsetup suspend --noudevsync --nolockfs --noflush pilot-data")?;
    eventually("the emergency page tells of the disk", || {
        says(vm, trust, DISK_HANGS)
    })?;
    let load = Load::begin(demo(vm, trust), RATE);
    std::thread::sleep(LOAD);
    all_answered("disk suspended", &load.end());
    assert_eq!(vm.get(trust, "localhost", "/health")?.status, 200);
    dashboard_is_back(vm, trust)?;
    vm.shell("dmsetup resume --noudevsync pilot-data")?;
    eventually("the emergency page tells no more of the disk", || {
        Ok(!says(vm, trust, DISK_HANGS)?)
    })
}

/// A log that even SIGKILL can't end, as the kernel holds it, is done without: another takes over.
pub(crate) fn a_stuck_log_is_left_behind(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let old = the_pid_of(vm, "pilot-logd")?;
    // Unlike above, the file system is frozen as well: whoever writes waits, and can't be killed.
    vm.shell("dmsetup suspend --noudevsync pilot-data")?;
    eventually("the log waits for the disk", || {
        vm.shell("echo '<4>a line for the disk' > /dev/kmsg")?;
        let waiting = format!("grep -l '^State:.D' /proc/{old}/task/*/status");
        Ok(!vm.shell(&waiting)?.is_empty())
    })?;
    vm.shell(&format!("kill -9 {old}"))?;
    // That nobody takes lines is noticed when there are some: PID 1 tells of a front that ends.
    vm.shell("kill -9 $(pidof pilot-front)")?;
    another(vm, "pilot-logd", old)?;
    eventually("the emergency page tells who was left behind", || {
        says(vm, trust, LEFT_BEHIND)
    })?;
    vm.shell("dmsetup resume --noudevsync pilot-data")?;
    eventually("what was left behind ends after all", || {
        Ok(!says(vm, trust, LEFT_BEHIND)?)
    })?;
    logged(vm, "init", "is stuck in the kernel and left behind")
}

fn says(vm: &Vm, trust: &Trust, text: &str) -> Result<bool> {
    let page = vm.get(trust, "localhost", "/emergency")?;
    assert_eq!(page.status, 200);
    Ok(page.text().contains(text))
}

fn demo(vm: &Vm, trust: &Trust) -> Target {
    Target {
        port: vm.https_port(),
        host: "demo.localhost".to_owned(),
        path: "/".to_owned(),
        trust: trust.clone(),
        tries: 1,
    }
}

fn all_answered(what: &str, tally: &Tally) {
    println!(
        "{what}: {} requests, {} answered, {} connections broken, slowest {} ms",
        tally.requests,
        tally.answered,
        tally.broken,
        tally.slowest.as_millis()
    );
    assert_eq!(tally.failed, [""; 0], "{what}");
    assert_eq!(tally.answered, tally.requests, "{what}");
    assert!(tally.requests >= 10, "{what}: hardly any request was made");
}

pub(crate) fn dashboard_is_back(vm: &Vm, trust: &Trust) -> Result<()> {
    eventually("the dashboard is back", || {
        Ok(vm
            .get(trust, "localhost", "/")
            .is_ok_and(|page| page.status == 200))
    })
}

/// Waits for a line in the log of a unit.
fn logged(vm: &mut Vm, unit: &str, line: &str) -> Result<()> {
    eventually(line, || {
        let since = vm.said().len();
        vm.type_line(&format!("logs -n 100 {unit}"))?;
        Ok(vm.expect(since, line, Duration::from_secs(10)).is_ok())
    })
}

/// Requests a second.
const RATE: u32 = 50;

/// How long they are made at least.
const LOAD: Duration = Duration::from_secs(10);

/// The last of so many fronts is held back for close to a second.
const KILLS: u32 = 4;
const KILLING: Duration = Duration::from_secs(240);

const DISK_HANGS: &str = "The data disk has not answered";
const LEFT_BEHIND: &str = "were left behind";
