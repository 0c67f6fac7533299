//! What a monitor that was killed left behind: its container's control groups and network link.
//!
//! liblxc must make both itself. Left in place, the groups would make it silently take others,
//! and the link's name would be taken.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use services::plan::Plan;
use supervise::cgroup::Cgroup;

use crate::error::Error;

/// Ends what still runs of the last run and removes its groups.
pub(crate) fn clear(plan: &Plan) -> Result<(), Error> {
    let hierarchy = Path::new(CGROUPS);
    for name in ["payload", "monitor/lxc", "monitor/pivot"] {
        let path = format!("{}/{name}", plan.cgroup);
        if !hierarchy.join(&path).exists() {
            continue;
        }
        let group = Cgroup::create(hierarchy, &path)?;
        group.kill()?;
        if !in_time(|| !group.is_populated()) {
            return Err(Error::LeftoverProcesses(group.path().to_owned()));
        }
        group.remove()?;
    }
    let link = Path::new("/sys/class/net").join(&plan.network.host_link);
    // The kernel removes it with the last process of its namespace, but not at once.
    if in_time(|| !link.exists()) {
        Ok(())
    } else {
        Err(Error::LeftoverLink(plan.network.host_link.clone()))
    }
}

fn in_time(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

const CGROUPS: &str = "/sys/fs/cgroup";

/// Killed processes are gone in milliseconds unless a disk hangs; a network namespace takes up to
/// a second to be torn down on a loaded box. Longer than that is for PID 1's back-off.
const PATIENCE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(10);
