//! One entry of the process table: a unit's life as a state machine. Time in, decisions out.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use supervise::{
    backoff::{Backoff, Policy},
    unit::{Exit, UnitInfo, UnitName, UnitState},
};

/// The life of one unit, without its process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Life {
    state: State,
    since: Duration,
    wanted: bool,
    backoff: Backoff,
    generation: u64,
    restarts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    BackingOff {
        until: Duration,
        last: Exit,
    },
    Ended(Exit),
    Killed {
        pid: u32,
        asked_for: bool,
        stuck_at: Duration,
    },
    Running {
        pid: u32,
    },
    Stopped,
    Stopping {
        pid: u32,
        kill_at: Duration,
    },
}

/// What is to be done for a unit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// End everything in its control group.
    Kill,
    /// Start it.
    Start,
    /// It was killed a while ago and is still there: the kernel holds it (disk wait).
    Stuck,
}

impl Life {
    /// A unit that is wanted and not yet started.
    pub fn new(policy: Policy) -> Self {
        Self {
            state: State::Stopped,
            since: Duration::ZERO,
            wanted: true,
            backoff: Backoff::new(policy),
            generation: 0,
            restarts: 0,
        }
    }

    /// Its process was started.
    pub fn started(&mut self, pid: u32, now: Duration) {
        if self.generation > 0 {
            self.restarts = self.restarts.saturating_add(1);
        }
        // A predecessor may have said any number.
        self.generation = self.generation.wrapping_add(1);
        self.enter(State::Running { pid }, now);
    }

    /// It could not be started, or its process ended.
    pub fn ended(&mut self, exit: Exit, now: Duration, random: u32) {
        let asked_for = match self.state {
            State::Killed { asked_for, .. } => asked_for,
            State::Stopping { .. } => true,
            State::BackingOff { .. } | State::Ended(_) | State::Running { .. } | State::Stopped => {
                false
            }
        };
        let ran_for = match self.state {
            State::Killed { .. } | State::Running { .. } | State::Stopping { .. } => {
                now.saturating_sub(self.since)
            }
            State::BackingOff { .. } | State::Ended(_) | State::Stopped => Duration::ZERO,
        };
        let next = if !self.wanted {
            if asked_for {
                State::Stopped
            } else {
                State::Ended(exit)
            }
        } else if asked_for {
            State::BackingOff {
                until: now,
                last: exit,
            }
        } else {
            let wait = self.backoff.after_run(ran_for, random);
            State::BackingOff {
                until: now + wait,
                last: exit,
            }
        };
        self.enter(next, now);
    }

    /// It is to end; after `patience` its control group is killed. `again` wants it back after.
    /// Returns whether there is a process to tell.
    pub fn stop(&mut self, again: bool, patience: Duration, now: Duration) -> bool {
        self.wanted = again;
        if again {
            self.backoff.reset();
        }
        match self.state {
            State::Running { pid } => {
                self.enter(
                    State::Stopping {
                        pid,
                        kill_at: now + patience,
                    },
                    now,
                );
                true
            }
            State::Killed { .. } | State::Stopping { .. } => false,
            State::BackingOff { .. } | State::Ended(_) | State::Stopped => {
                let next = match &self.state {
                    State::BackingOff { last, .. } if again => State::BackingOff {
                        until: now,
                        last: *last,
                    },
                    _ => State::Stopped,
                };
                self.enter(next, now);
                false
            }
        }
    }

    /// It no longer works and is being killed. Returns whether there is a process to kill.
    pub fn condemn(&mut self, now: Duration) -> bool {
        let State::Running { pid } = self.state else {
            return false;
        };
        self.state = State::Killed {
            pid,
            asked_for: false,
            stuck_at: now + KILL_PATIENCE,
        };
        true
    }

    /// It is wanted: started at once unless it runs or is on its way out.
    pub fn want(&mut self) {
        self.wanted = true;
        self.backoff.reset();
    }

    /// It has been verified to work: its failures so far are forgotten.
    pub fn verified(&mut self) {
        self.backoff.reset();
    }

    /// For how long it is held back.
    pub fn retry_in(&self, now: Duration) -> Duration {
        match &self.state {
            State::BackingOff { until, .. } => until.saturating_sub(now),
            _ => Duration::ZERO,
        }
    }

    /// What is to be done now, if anything.
    pub fn due(&mut self, now: Duration) -> Option<Due> {
        match &mut self.state {
            State::Stopped | State::Ended(_) if self.wanted => Some(Due::Start),
            State::BackingOff { until, .. } if self.wanted && now >= *until => Some(Due::Start),
            State::Killed { stuck_at, .. } if now >= *stuck_at => {
                *stuck_at = now + KILL_PATIENCE;
                Some(Due::Stuck)
            }
            State::Stopping { pid, kill_at } if now >= *kill_at => {
                self.state = State::Killed {
                    pid: *pid,
                    asked_for: true,
                    stuck_at: now + KILL_PATIENCE,
                };
                Some(Due::Kill)
            }
            _ => None,
        }
    }

    /// When [`Life::due`] may have something.
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.state {
            State::BackingOff { until, .. } if self.wanted => Some(*until),
            State::Killed { stuck_at, .. } => Some(*stuck_at),
            State::Stopping { kill_at, .. } => Some(*kill_at),
            State::Stopped | State::Ended(_) if self.wanted => Some(Duration::ZERO),
            _ => None,
        }
    }

    /// Its process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.state {
            State::Killed { pid, .. } | State::Running { pid } | State::Stopping { pid, .. } => {
                Some(pid)
            }
            State::BackingOff { .. } | State::Ended(_) | State::Stopped => None,
        }
    }

    /// Whether nothing of it runs and nothing is to.
    pub fn is_over(&self) -> bool {
        !self.wanted && self.pid().is_none()
    }

    /// Whether it runs and was not told to end.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Counts its starts.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How long it has been in this state.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// The entry as others see it.
    pub fn info(&self, unit: &UnitName, spec_hash: [u8; 32], now: Duration) -> UnitInfo {
        let state = match &self.state {
            State::BackingOff { until, last } => UnitState::BackingOff {
                retry_in: until.saturating_sub(now),
                last: *last,
            },
            State::Ended(exit) => UnitState::Ended(*exit),
            State::Running { .. } => UnitState::Running,
            State::Stopped => UnitState::Stopped,
            State::Killed { .. } | State::Stopping { .. } => UnitState::Stopping,
        };
        UnitInfo {
            unit: unit.clone(),
            state,
            pid: self.pid(),
            generation: self.generation,
            spec_hash,
            restarts: self.restarts,
            since: self.age(now),
        }
    }

    fn enter(&mut self, state: State, now: Duration) {
        self.state = state;
        self.since = now;
    }
}

/// What is killed is gone within some hundred milliseconds also on a loaded box, unless the kernel
/// waits for something on its behalf.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn running() -> Life {
        let mut life = Life::new(Policy::ROLE);
        assert_eq!(life.due(S(0)), Some(Due::Start));
        life.started(10, S(0));
        life
    }

    #[test]
    fn what_crashes_comes_back_after_its_back_off() {
        let mut life = running();
        life.ended(Exit::Signal(11), S(1), 0);
        assert_eq!(life.due(S(1)), None);
        assert_eq!(life.next_deadline(), Some(S(1) + Policy::ROLE.first));
        assert_eq!(life.due(S(2)), Some(Due::Start));
        life.started(11, S(2));
        let info = life.info(&"front".parse().unwrap(), [0; 32], S(5));
        assert_eq!((info.generation, info.restarts, info.since), (2, 1, S(3)));
    }

    #[test]
    fn what_is_stopped_stays_stopped_and_is_killed_when_it_lingers() {
        let mut life = running();
        assert!(life.stop(false, S(3), S(1)));
        assert_eq!((life.due(S(3)), life.due(S(4))), (None, Some(Due::Kill)));
        assert_eq!(life.due(S(4)), None, "not at once again");
        assert_eq!(life.due(S(6)), Some(Due::Stuck));
        life.ended(Exit::Signal(9), S(7), 0);
        assert!(life.is_over());
        assert_eq!((life.due(S(999)), life.next_deadline()), (None, None));
    }

    #[test]
    fn what_is_condemned_and_stuck_is_replaced_after_its_back_off() {
        let mut life = running();
        assert!(life.condemn(S(1)));
        assert!(!life.condemn(S(1)), "once is enough");
        assert_eq!((life.pid(), life.due(S(2))), (Some(10), None));
        assert_eq!(life.next_deadline(), Some(S(1) + KILL_PATIENCE));
        assert_eq!(life.due(S(3)), Some(Due::Stuck));
        // Whoever was told so treats it as ended.
        life.ended(Exit::Signal(9), S(3), 0);
        assert_eq!((life.pid(), life.due(S(3))), (None, None));
        assert_eq!(life.due(S(3) + Policy::ROLE.first), Some(Due::Start));
    }

    #[test]
    fn a_restart_waits_for_no_back_off() {
        let mut life = running();
        life.stop(true, S(3), S(1));
        life.ended(Exit::Code(0), S(2), 0);
        assert_eq!(life.due(S(2)), Some(Due::Start));
    }

    #[test]
    fn stopping_what_is_held_back_starts_nothing() {
        let mut life = running();
        life.ended(Exit::Code(1), S(1), 0);
        assert!(!life.stop(false, S(3), S(1)));
        assert_eq!(life.due(S(100)), None);
        life.want();
        assert_eq!(life.due(S(100)), Some(Due::Start));
    }

    #[test]
    fn wanted_again_while_it_is_ending_it_comes_back() {
        let mut life = running();
        life.stop(false, S(3), S(1));
        life.want();
        life.ended(Exit::Code(0), S(2), 0);
        assert_eq!(life.due(S(2)), Some(Due::Start));
    }
}
