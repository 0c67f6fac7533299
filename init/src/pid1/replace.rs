//! Replacing roles that the guard has found dead, and leaving behind what the kernel does not let
//! go.

use std::time::Duration;

use supervise::{spawn::Child, unit::Exit};

use super::{Pid1, roles::Role, start::random};
use crate::{guard::Cause, vitals::Step};

/// What is known of the roles that had to be replaced.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// Why each was, until it is verified to be healthy again.
    pub(super) why: [Option<Cause>; Role::ALL.len()],
    /// When each was killed, as long as its end is waited for.
    killed_at: [Option<Duration>; Role::ALL.len()],
    /// Killed and still there: stuck in the kernel.
    left: Vec<Child>,
}

impl Pid1 {
    /// Kills a role's run that the guard has found dead; its end starts the next.
    pub(super) fn replace(&mut self, role: Role, generation: u64, cause: Cause, now: Duration) {
        let Some(unit) = self.table.get_mut(&role.unit()) else {
            return;
        };
        if unit.life.generation() != generation || unit.life.pid().is_none() {
            return;
        }
        supervise::error!("{} no longer works and is replaced: {cause}", role.name());
        if let Some(child) = &unit.child {
            let _ = child.signal(rustix::process::Signal::KILL);
        }
        self.replaced.why[role.index()] = Some(cause);
        self.replaced.killed_at[role.index()] = Some(now);
        self.vitals.count(role, Step::Replace);
        self.changed();
    }

    /// A role has worked without a pause for so long that its earlier failures are forgotten.
    pub(super) fn is_healthy(&mut self, role: Role, generation: u64) {
        if let Some(unit) = self.table.get_mut(&role.unit())
            && unit.life.generation() == generation
        {
            unit.life.verified();
            self.replaced.why[role.index()] = None;
        }
    }

    /// A role's process has ended.
    pub(super) fn role_ended(&mut self, role: Role, retry_in: Duration) {
        self.vitals.role_ended(role);
        self.replaced.killed_at[role.index()] = None;
        if retry_in >= HELD_BACK {
            self.vitals.count(role, Step::HoldBack);
            supervise::error!(
                "{} is held back for {} ms: it failed too often",
                role.name(),
                retry_in.as_millis()
            );
        }
    }

    /// Goes on without a process that was killed and does not end.
    pub(super) fn leave_behind(&mut self, now: Duration) {
        for role in Role::ALL {
            let overdue = self.replaced.killed_at[role.index()]
                .is_some_and(|at| now.saturating_sub(at) >= ENDS_WITHIN);
            let Some(unit) = self.table.get_mut(&role.unit()).filter(|_| overdue) else {
                continue;
            };
            supervise::error!("{} is stuck in the kernel and left behind", role.name());
            self.replaced.left.extend(unit.child.take());
            unit.control = None;
            unit.life.ended(Exit::Signal(SIGKILL), now, random());
            let retry_in = unit.life.retry_in(now);
            self.left_behind += 1;
            self.role_ended(role, retry_in);
            self.changed();
        }
    }

    /// What was left behind has ended after all. Returns whether `pid` was such.
    pub(super) fn left_ended(&mut self, pid: u32) -> bool {
        let before = self.replaced.left.len();
        self.replaced.left.retain(|child| child.pid != pid);
        let ended = self.replaced.left.len() < before;
        if ended {
            self.left_behind = self.left_behind.saturating_sub(1);
            self.changed();
        }
        ended
    }
}

/// A wait that the owner should know of; shorter ones are an ordinary replacement.
pub(super) const HELD_BACK: Duration = Duration::from_secs(1);
/// A process that is killed and not stuck ends within milliseconds.
const ENDS_WITHIN: Duration = Duration::from_millis(1500);
const SIGKILL: i32 = 9;
