//! Going down, in order, and always to the end: services in reverse order of their start, each
//! with its deadline; then the roles; then data is unmounted; then the kernel is told.
//!
//! Nothing here waits. Whatever does not end in time is killed, and what can't be killed is left
//! to the kernel.

use std::time::Duration;

use rustix::system::RebootCommand;
use serde::{Deserialize, Serialize};
use supervise::control::Power;

use super::{
    Pid1,
    control::{ROLE_PATIENCE, stop_patience, terminate},
    jobs::Purpose,
    roles::Role,
    start::make_cgroup,
    table::Unit,
};
use crate::helper::{CLEAN, answer};

/// A shutdown under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Down {
    power: Power,
    phase: Phase,
    give_up_at: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// The services with this stop order or a higher one are ending.
    Services(u32),
    /// The manager and `logd` are ending.
    Roles,
    /// Data is being unmounted.
    Unmount,
    /// All done.
    Final,
}

impl Down {
    /// What the box is on its way to, for people.
    pub(super) fn purpose(&self) -> &'static str {
        match self.power {
            Power::Halt => "The server is stopping and stays on.",
            Power::PowerOff => "The server is switching off.",
            Power::Reboot => "The server is restarting.",
        }
    }
}

impl Pid1 {
    /// Begins to go down. A second order changes the goal alone.
    pub(super) fn go_down(&mut self, power: Power, now: Duration) {
        if let Some(down) = &mut self.down {
            down.power = power;
            return;
        }
        supervise::info!("going down: {power:?}");
        say("begins");
        let down = Down {
            power,
            phase: Phase::Services(u32::MAX),
            give_up_at: now,
        };
        supervise::info!("{}", down.purpose());
        self.down = Some(down);
        // For a board whose clock stops with the power.
        self.write_keep();
        // Those held back by their back-off stay where they are.
        for unit in self.table.values_mut() {
            if unit.service().is_some() && unit.life.pid().is_none() {
                unit.life.stop(false, Duration::ZERO, now);
            }
        }
        self.next_services(now);
        self.changed();
    }

    /// Whether the box is going down.
    pub(super) fn going_down(&self) -> bool {
        self.down.is_some()
    }

    /// Goes on when the phase under way is over or its time is up.
    pub(super) fn advance_shutdown(&mut self, now: Duration) {
        loop {
            let Some(down) = &self.down else { return };
            let late = now >= down.give_up_at;
            match down.phase {
                Phase::Services(order) => {
                    if !late
                        && self
                            .services()
                            .any(|unit| order_of(unit) >= order && lives(unit))
                    {
                        return;
                    }
                    self.next_services(now);
                }
                Phase::Roles => {
                    let quiet = !self.role_lives(Role::Manager) && !self.role_lives(Role::Logd);
                    if !late && !quiet {
                        return;
                    }
                    self.begin_unmount(now);
                }
                Phase::Unmount if !late => return,
                Phase::Unmount => self.enter(Phase::Final, now),
                Phase::Final => {
                    self.finish();
                    return;
                }
            }
        }
    }

    /// When the phase under way is given up.
    pub(super) fn shutdown_deadline(&self) -> Option<Duration> {
        self.down.as_ref().map(|down| down.give_up_at)
    }

    /// Data is unmounted, or could not be.
    pub(super) fn unmounted(&mut self, result: Result<String, String>, now: Duration) {
        let answer = result.and_then(|answer| {
            serde_json::from_str::<answer::Unmounted>(&answer).map_err(|e| e.to_string())
        });
        match answer {
            Ok(answer) => say(&how_it_went(&answer)),
            Err(why) => say(&format!("data could not be unmounted: {why}")),
        }
        self.enter(Phase::Final, now);
    }

    /// Stops the next group of services, or goes on to the roles.
    fn next_services(&mut self, now: Duration) {
        let Some(order) = self
            .services()
            .filter(|unit| lives(unit))
            .map(order_of)
            .max()
        else {
            return self.begin_roles(now);
        };
        let mut patience = Duration::ZERO;
        for unit in self.table.values_mut() {
            let Some(spec) = unit.service().map(|service| service.spec.clone()) else {
                continue;
            };
            if spec.stop_order == order {
                patience = patience.max(stop_patience(&spec));
                if unit.life.stop(false, stop_patience(&spec), now) {
                    terminate(unit);
                }
            }
        }
        // One that outlives even the killing of its group is left to the kernel.
        self.enter(Phase::Services(order), now + patience + AFTER_KILL);
    }

    fn begin_roles(&mut self, now: Duration) {
        if let Ok(services) = make_cgroup("services") {
            let _ = services.kill();
        }
        for role in [Role::Manager, Role::Logd] {
            if let Some(unit) = self.table.get_mut(&role.unit())
                && unit.life.stop(false, ROLE_PATIENCE, now)
            {
                match role {
                    // Without its control socket it writes out what it has, and ends.
                    Role::Logd => unit.control = None,
                    Role::Front | Role::Manager => terminate(unit),
                }
            }
        }
        self.enter(Phase::Roles, now + ROLE_PATIENCE + AFTER_KILL);
    }

    fn begin_unmount(&mut self, now: Duration) {
        self.enter(Phase::Unmount, now + UNMOUNT_PATIENCE + AFTER_KILL);
        if self.data_was_mounted {
            self.start_job(Purpose::UnmountData, &["unmount-data"], UNMOUNT_PATIENCE);
        } else {
            self.enter(Phase::Final, now);
        }
    }

    fn enter(&mut self, phase: Phase, give_up_at: Duration) {
        if let Some(down) = &mut self.down {
            down.phase = phase;
            down.give_up_at = give_up_at;
        }
        self.changed();
    }

    fn services(&self) -> impl Iterator<Item = &Unit> {
        self.table.values().filter(|unit| unit.service().is_some())
    }

    fn role_lives(&self, role: Role) -> bool {
        self.table.get(&role.unit()).is_some_and(lives)
    }

    /// Tells the kernel. It does not come back unless the kernel refuses; then it is tried again.
    fn finish(&mut self) {
        let Some(down) = &mut self.down else { return };
        let command = match down.power {
            Power::Halt => RebootCommand::Halt,
            Power::PowerOff => RebootCommand::PowerOff,
            Power::Reboot => RebootCommand::Restart,
        };
        down.give_up_at += TRY_AGAIN;
        say("done");
        if let Err(errno) = rustix::system::reboot(command) {
            say(&format!("the kernel refuses to go down: {errno}"));
        }
    }
}

fn lives(unit: &Unit) -> bool {
    unit.life.pid().is_some()
}

fn order_of(unit: &Unit) -> u32 {
    unit.service().map_or(0, |service| service.spec.stop_order)
}

/// What became of data, for people.
fn how_it_went(answer: &answer::Unmounted) -> String {
    let answer::Unmounted {
        clean,
        how,
        holders,
    } = answer;
    let held = match holders.as_slice() {
        [] => String::new(),
        holders => format!("; held by {}", holders.join(", ")),
    };
    match clean {
        true if how == CLEAN => "data is cleanly unmounted".to_owned(),
        true => format!("data is clean: {how}{held}"),
        false => format!("data is NOT cleanly unmounted: {how}{held}"),
    }
}

/// To the kernel's log, as `logd` is gone by now.
fn say(text: &str) {
    crate::kmsg::write(crate::kmsg::NOTICE, &format!("shutdown: {text}"));
}

/// Between killing a group and taking it for stuck in the kernel.
const AFTER_KILL: Duration = Duration::from_secs(1);
/// A slow disk may have much to write; a dead one never ends.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(20);
const TRY_AGAIN: Duration = Duration::from_secs(5);
