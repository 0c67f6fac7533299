//! A front that is replaced on purpose finishes what it has begun, while its successor accepts
//! already: nobody waits for the one, and no request of the other is lost.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervise::{cgroup::Cgroup, unit::Exit};

use super::{Pid1, control, inheritance, roles::Role, table::Outbox};

/// A front on its way out.
#[derive(Debug)]
pub(super) struct Retiring {
    pid: u32,
    group: Option<Cgroup>,
    until: Duration,
    /// Without it the front ends at once.
    _control: Option<Outbox>,
}

/// The same in the hand-over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RetiringRecord {
    pid: u32,
    group: Option<String>,
}

impl Pid1 {
    /// Has the front finish and end, and starts the next one at once.
    pub(super) fn retire_front(&mut self, now: Duration) {
        let Some(unit) = self.table.get_mut(&Role::Front.unit()) else {
            return;
        };
        let pid = unit.life.pid().filter(|_| unit.life.is_running());
        unit.life.stop(true, PATIENCE, now);
        let Some(pid) = pid else {
            return;
        };
        control::terminate(unit);
        unit.life.ended(Exit::Code(0), now, 0);
        unit.child = None;
        self.retiring.push(Retiring {
            pid,
            group: unit.cgroup.take(),
            until: now + PATIENCE,
            _control: unit.control.take(),
        });
        self.vitals.role_ended(Role::Front);
    }

    /// Whether `pid` was a front on its way out.
    pub(super) fn retired_ended(&mut self, pid: u32) -> bool {
        let mut all = self.retiring.iter();
        let Some(at) = all.position(|retiring| retiring.pid == pid) else {
            return false;
        };
        self.empty_groups
            .extend(self.retiring.swap_remove(at).group);
        true
    }

    /// Ends those that take too long.
    pub(super) fn end_retired(&mut self, now: Duration) {
        for retiring in self.retiring.iter_mut().filter(|all| now >= all.until) {
            retiring.until = now + PATIENCE;
            if let Some(group) = &retiring.group {
                let _ = group.kill();
            }
        }
    }

    /// Their pids.
    pub(super) fn retiring_pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.retiring.iter().map(|retiring| retiring.pid)
    }

    /// What is handed over.
    pub(super) fn name_retiring(&self) -> Vec<RetiringRecord> {
        let record = |retiring: &Retiring| RetiringRecord {
            pid: retiring.pid,
            group: retiring.group.as_ref().map(inheritance::relative),
        };
        self.retiring.iter().map(record).collect()
    }

    /// Waits on for those of the predecessor. Without their control sockets they end by themselves.
    pub(super) fn inherit_retiring(&mut self, records: Vec<RetiringRecord>, now: Duration) {
        let inherit = |record: RetiringRecord| Retiring {
            pid: record.pid,
            group: record.group.as_deref().and_then(inheritance::own_group),
            until: now + PATIENCE,
            _control: None,
        };
        self.retiring = records.into_iter().map(inherit).collect();
    }
}

/// The door gives requests under way five seconds.
const PATIENCE: Duration = Duration::from_secs(8);
