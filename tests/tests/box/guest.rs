//! What the tests look at inside the box, through the recovery console's shell.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tests::vm::Vm;

/// The only process called `name` (as `pilot-manager`).
pub(crate) fn pid_of(vm: &mut Vm, name: &str) -> Result<Option<u32>> {
    let pids = vm.shell(&format!("pidof {name}"))?;
    let mut pids = pids.split_whitespace().map(str::parse);
    let pid = pids.next().transpose().context(name.to_owned())?;
    assert!(pids.next().is_none(), "there is more than one {name}");
    Ok(pid)
}

/// The process called `name`, which must be there.
pub(crate) fn the_pid_of(vm: &mut Vm, name: &str) -> Result<u32> {
    pid_of(vm, name)?.with_context(|| format!("there is no {name}"))
}

/// Waits for a process called `name` that is not the one with the pid `old`.
pub(crate) fn another(vm: &mut Vm, name: &str, old: u32) -> Result<u32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pids = vm.shell(&format!("pidof {name}"))?;
        let pid = pids
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(|&pid| pid != old);
        if let Some(pid) = pid {
            return Ok(pid);
        }
        assert!(Instant::now() < deadline, "no other {name} than {old}");
    }
}

/// Asks again and again until the answer is there.
pub(crate) fn eventually(what: &str, mut there: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !there()? {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

/// An emulated box on a loaded machine is slow; what never comes is told apart all the same.
const PATIENCE: Duration = Duration::from_secs(300);
