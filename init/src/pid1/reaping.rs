//! The one reaper: ended children go to whoever they belong to, and orphans are buried.

use std::time::Duration;

use supervise::unit::{Exit, UnitName};

use super::{Pid1, roles::Role, start};

impl Pid1 {
    /// Takes ended children off the kernel's hands: units, helpers, and orphans.
    pub(super) fn reap(&mut self, now: Duration) {
        let mut ended: Vec<(u32, Exit)> = Vec::new();
        self.more_to_reap =
            supervise::reaper::reap(REAPED_A_TURN, |pid, exit| ended.push((pid, exit)));
        for (pid, exit) in ended {
            if !self.job_ended(pid, exit) && !self.straggler_ended(pid) && !self.retired_ended(pid)
            {
                self.unit_ended(pid, exit, now);
            }
        }
    }

    pub(super) fn unit_ended(&mut self, pid: u32, exit: Exit, now: Duration) {
        let mut units = self.table.iter();
        if let Some((name, _)) = units.find(|(_, unit)| unit.life.pid() == Some(pid)) {
            self.bury(&name.clone(), exit, now);
        }
    }

    /// A process that was left behind has ended after all.
    pub(super) fn straggler_ended(&mut self, pid: u32) -> bool {
        let Some(at) = self.left_behind.iter().position(|left| *left == pid) else {
            return false;
        };
        self.left_behind.swap_remove(at);
        self.changed();
        true
    }

    /// A unit's run is over; whether another follows is decided by its life.
    pub(super) fn bury(&mut self, name: &UnitName, exit: Exit, now: Duration) {
        let Some(unit) = self.table.get_mut(name) else {
            return;
        };
        let exit = unit.child.take().map_or(exit, |child| child.exit(exit));
        let generation = unit.life.generation();
        unit.control = None;
        unit.life.ended(exit, now, start::random());
        let (name, role, over) = (name.clone(), unit.role(), unit.life.is_over());
        let retry_in = unit.life.retry_in(now);
        // A container's processes end with its monitor, and a role leaves none behind.
        if let Some(group) = unit.cgroup.take() {
            let _ = group.kill();
            // A service's next run has the same.
            if role.is_some() || over {
                self.empty_groups.push(group);
            }
        }
        supervise::warning!("{name} ended: {exit}");
        match role {
            Some(role) => self.role_ended(role, retry_in),
            None => {
                let event = supervise::control::Event::Exited {
                    unit: name.clone(),
                    generation,
                    exit,
                };
                self.tell(Role::Manager, event, vec![]);
                if over {
                    self.table.remove(&name);
                }
            }
        }
        self.changed();
    }
}

const REAPED_A_TURN: usize = 256;
