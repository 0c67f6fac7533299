//! PID 1 and the front crash, thread by thread, in the booted box: the kernel never panics, the
//! service and its container go on, and so does whoever talks to them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use boards::web::Trust;
use tests::vm::Vm;

use super::client::{Client, share};
use crate::container::PAYLOAD;

/// What crashes: `PROCESS:KIND:THREAD`, as `crashes.sh` takes it.
pub(super) type Crash = String;

/// Makes threads of PID 1 crash. Nobody who talks to the box sees it.
pub(super) fn of_pid_1(
    vm: &mut Vm,
    trust: &Trust,
    crashes: &[Crash],
    gaps: &mut Gaps,
) -> Result<()> {
    let before = (service(vm)?, roles(vm)?);
    let client = Client::begin(vm, trust, true);
    let outcome = run(vm, 0, crashes);
    let seen = client.end()?;
    gaps.take(&outcome?)?;
    seen.all_but(0, &format!("{} crashes of PID 1", crashes.len()))?;
    let after = (service(vm)?, roles(vm)?);
    ensure!(
        before == after,
        "something was started again: {before:?}, {after:?}"
    );
    still_whole(vm)
}

/// The same of the front: whoever talks to it just then sees one failure.
pub(super) fn of_front(
    vm: &mut Vm,
    trust: &Trust,
    (crashes, pause): (&[Crash], u32),
    gaps: &mut Gaps,
) -> Result<()> {
    let before = service(vm)?;
    let client = Client::begin(vm, trust, false);
    let outcome = run(vm, pause, crashes);
    let seen = client.end()?;
    gaps.take(&outcome?)?;
    seen.all_but(
        crashes.len(),
        &format!("{} crashes of the front", crashes.len()),
    )?;
    let after = service(vm)?;
    ensure!(
        before == after,
        "the service was started again: {before}, {after}"
    );
    still_whole(vm)
}

/// So many crashes that PID 1 goes over to doing less: still everything answers.
pub(super) fn too_fast(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let before = (service(vm)?, roles(vm)?);
    let client = Client::begin(vm, trust, true);
    let outcome = run(vm, 0, &["too_fast:segv:main".to_owned()]);
    let seen = client.end()?;
    let result = outcome?;
    Gaps::default().take(&result)?;
    ensure!(result.contains("safe mode after"), "{result}");
    seen.all_but(0, "crashes of PID 1, too many")?;
    let after = (service(vm)?, roles(vm)?);
    ensure!(
        before == after,
        "something was started again: {before:?}, {after:?}"
    );
    still_whole(vm)
}

/// Gaps by process: from the fault until PID 1 has taken over, or until the front answers.
#[derive(Debug, Default)]
pub(super) struct Gaps(BTreeMap<String, Vec<Duration>>);

impl Gaps {
    /// Reads what `crashes.sh` has written; what it complains of is an error.
    pub(super) fn take(&mut self, outcome: &str) -> Result<()> {
        for line in outcome.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["gap", process, gap] => {
                    let gap = Duration::from_millis(gap.parse()?);
                    self.0.entry((*process).to_owned()).or_default().push(gap);
                }
                ["connections", made, refused] => {
                    println!("{made} connections in the box itself, {refused} refused");
                    ensure!(*refused == "0", "{refused} connections were refused");
                    ensure!(*made != "0", "no connection was made");
                }
                ["mappings", before, now] => {
                    let (before, now): (usize, usize) = (before.parse()?, now.parse()?);
                    ensure!(before.abs_diff(now) <= MAPPINGS_MAY_DIFFER, "{line}");
                }
                ["safe", "mode", ..] => println!("{line}"),
                _ => ensure!(false, "{outcome}"),
            }
        }
        Ok(())
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Prints their medians.
    pub(super) fn print(&self) {
        for (process, gaps) in &self.0 {
            println!(
                "{process}: {} times, gap in the box's time: median {} ms, p99 {} ms, longest {} ms",
                gaps.len(),
                share(gaps, 50).as_millis(),
                share(gaps, 99).as_millis(),
                share(gaps, 100).as_millis()
            );
        }
    }
}

/// Has them happen in the box; gives what is told of each.
pub(super) fn run(vm: &mut Vm, pause: u32, crashes: &[Crash]) -> Result<String> {
    let since = vm.said().len();
    let crashes = crashes.join(" ");
    vm.shell(&format!(
        "rm -f /run/out; setsid sh /{SCRIPT} $$ {RESULT} {pause} {crashes} < /dev/null & \
         while [ ! -e /run/out ]; do usleep 100000; done"
    ))?;
    vm.expect(since, OVER, CRASHING)?;
    vm.shell(&format!("cat {RESULT}"))
}

/// The service's init: its pid, and when it was started.
pub(super) fn service(vm: &mut Vm) -> Result<String> {
    let agent = vm.shell(&format!(
        "for p in $(cat {PAYLOAD}/cgroup.procs); do grep '(agent)' /proc/$p/stat; done 2>/dev/null \
         | cut -d ' ' -f 1,22"
    ))?;
    ensure!(
        agent.split_whitespace().count() == 2,
        "not one agent: {agent}"
    );
    Ok(agent)
}

/// The pids of what PID 1 started.
fn roles(vm: &mut Vm) -> Result<String> {
    let pids = vm.shell("for r in front manager logd monitor; do pidof pilot-$r; done")?;
    ensure!(
        pids.split_whitespace().count() == 4,
        "not one of each: {pids}"
    );
    Ok(pids)
}

pub(super) fn still_whole(vm: &Vm) -> Result<()> {
    let said = vm.said();
    let panic = said.lines().find(|line| line.contains("Kernel panic"));
    panic
        .map_or(Ok(()), |line| Err(anyhow::anyhow!("{line}")))
        .context("the kernel panicked")
}

/// Where the script is in the box's root.
pub(super) const SCRIPT: &str = "usr/lib/pilotlight/crashes.sh";
const RESULT: &str = "/run/crashes";
const OVER: &str = "tests: the crashes are over";
/// Where the allocator puts its arenas differs a little from run to run.
const MAPPINGS_MAY_DIFFER: usize = 16;
/// A hundred of them, and the pauses.
const CRASHING: Duration = Duration::from_secs(3 * 60 * 60);
