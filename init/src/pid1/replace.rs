//! Replacing roles that the guard has found dead, and holding back those that fail too often.

use std::time::Duration;

use super::{Pid1, roles::Role};
use crate::{guard::Cause, vitals::Step};

/// What is known of the roles that had to be replaced.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// Why each was, until it is verified to be healthy again.
    pub(super) why: [Option<Cause>; Role::ALL.len()],
}

impl Pid1 {
    /// Kills a role's run that the guard has found dead; its end starts the next.
    pub(super) fn replace(&mut self, role: Role, generation: u64, cause: Cause, now: Duration) {
        let Some(unit) = self.table.get_mut(&role.unit()) else {
            return;
        };
        if unit.life.generation() != generation || !unit.life.condemn(now) {
            return;
        }
        supervise::error!("{} no longer works and is replaced: {cause}", role.name());
        if let Some(child) = &unit.child {
            let _ = child.signal(rustix::process::Signal::KILL);
        }
        self.replaced.why[role.index()] = Some(cause);
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
        if retry_in >= HELD_BACK {
            self.vitals.count(role, Step::HoldBack);
            supervise::error!(
                "{} is held back for {} ms: it failed too often",
                role.name(),
                retry_in.as_millis()
            );
        }
    }
}

/// A wait that the owner should know of; shorter ones are an ordinary replacement.
pub(super) const HELD_BACK: Duration = Duration::from_secs(1);
