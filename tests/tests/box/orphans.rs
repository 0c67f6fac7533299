//! What dies comes back, and what is orphaned is buried.

use std::time::Duration;

use anyhow::{Context as _, Result};
use boards::web::Trust;
use tests::vm::Vm;

use crate::{
    container::PAYLOAD,
    guest::{another, eventually, the_pid_of},
};

/// The agent starts a daemon that died again.
pub(crate) fn a_killed_daemon_comes_back(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let monitor = the_pid_of(vm, "pilot-monitor")?;
    let old = daemon(vm)?.context("the demo has no daemon")?;
    vm.shell(&format!("kill -9 {old}"))?;
    eventually("the daemon comes back", || {
        Ok(daemon(vm)?.is_some_and(|new| new != old))
    })?;
    service_answers(vm, trust)?;
    assert_eq!(
        the_pid_of(vm, "pilot-monitor")?,
        monitor,
        "the container went with it"
    );
    Ok(())
}

/// PID 1 starts a monitor that died again, and with it the whole container.
pub(crate) fn a_killed_monitor_comes_back(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let monitor = the_pid_of(vm, "pilot-monitor")?;
    let daemon_before = daemon(vm)?.context("the demo has no daemon")?;
    vm.shell(&format!("kill -9 {monitor}"))?;
    another(vm, "pilot-monitor", monitor)?;
    eventually("the daemon comes back", || {
        Ok(daemon(vm)?.is_some_and(|new| new != daemon_before))
    })?;
    service_answers(vm, trust)
}

/// Ten thousand at once: all have ended and belong to one parent, which has not waited for them,
/// when it ends itself.
pub(crate) fn ten_thousand_orphans_are_buried(vm: &mut Vm, trust: &Trust) -> Result<()> {
    // As many as this small a machine's memory has the kernel allow would not do.
    vm.shell("echo 40000 > /proc/sys/kernel/threads-max")?;
    let text = vm.shell_within(&orphans(), MAKING)?;
    println!("orphans: {text}");
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().with_context(|| text.clone());
    let (before, zombies, began, ended) = (next()??, next()??, next()??, next()??);
    assert!(
        zombies - before >= f64::from(ORPHANS),
        "only {zombies} after {before}: there were not that many orphans at once"
    );
    println!(
        "{ORPHANS} orphans were buried within {:.2} s of the box's time",
        ended - began
    );
    assert_eq!(vm.get(trust, "localhost", "/health")?.status, 200);
    let since = vm.said().len();
    vm.type_line("version")?;
    vm.expect(since, env!("CARGO_PKG_VERSION"), Duration::from_secs(90))?;
    Ok(())
}

/// Prints four numbers: processes before and with all the orphans, the time when their parent
/// ended, and when the last zombie was gone. Builtins only, also to wait for the last to end: waiting for a program of its own, the
/// parent would bury its other children as well.
fn orphans() -> String {
    let make = format!(
        "read a b c d e < /proc/loadavg; echo ${{d#*/}}; i=0; \
         while [ $i -lt {ORPHANS} ]; do : & i=$((i+1)); done; \
         read -t 5 nothing; \
         read a b c d e < /proc/loadavg; echo ${{d#*/}}; \
         read t u < /proc/uptime; echo $t"
    );
    format!(
        "sh -c '{make}'; while ps -o stat | grep -q ^Z; do :; done; \
         read t u < /proc/uptime; echo $t"
    )
}

/// The demo's web server.
fn daemon(vm: &mut Vm) -> Result<Option<u32>> {
    let pid = vm.shell(&format!(
        "for p in $(cat {PAYLOAD}/cgroup.procs); do \
         grep -q '^httpd$' /proc/$p/comm && echo $p; done 2>/dev/null"
    ))?;
    Ok(pid
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok()))
}

fn service_answers(vm: &Vm, trust: &Trust) -> Result<()> {
    eventually("the service answers", || {
        let answer = vm.get(trust, "demo.localhost", "/");
        Ok(answer.is_ok_and(|page| page.status == 200))
    })
}

const ORPHANS: u32 = 10_000;

/// A fork takes an emulated processor milliseconds.
const MAKING: Duration = Duration::from_secs(420);
