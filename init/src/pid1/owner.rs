//! The owner at the emergency page: let in by the box's secret, and then obeyed for a while.
//!
//! The front, which strangers talk to, only passes on what was typed and what is wanted. A helper
//! looks at the secret; without its yes there is no grant, and without a grant nothing is done, so
//! a front that was taken over can't end the manager or the box by itself.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use rustix::rand::{GetRandomFlags, getrandom};
use supervise::control::{Act, Event, Grant, Limits, Locked, MAX_SECRET, Power, Secret};

use super::{
    Pid1,
    jobs::{INPUT_FD, Purpose},
    keeping::memfd,
    roles::Role,
    tries::WrongTries,
};
use crate::helper::Attempt;

/// Who was let in, and who tried.
#[derive(Debug, Default)]
pub(super) struct Owner {
    /// The one try that is being looked at.
    asked: Option<u64>,
    wrong: WrongTries,
    grants: VecDeque<(Grant, Duration)>,
}

impl Pid1 {
    /// Has a helper look at a secret.
    pub(super) fn unlock(&mut self, id: u64, from: IpAddr, offered: Secret, now: Duration) {
        if let Err(locked) = self.try_unlock(id, from, offered, now) {
            self.unlocked(id, Err(locked));
        }
    }

    fn try_unlock(
        &mut self,
        id: u64,
        from: IpAddr,
        Secret(offered): Secret,
        now: Duration,
    ) -> Result<(), Locked> {
        if self.owner.asked.is_some() {
            return Err(Locked::Busy);
        }
        if let Some(wait) = self.owner.wrong.wait(from, now) {
            let wait_s = wait.as_secs() + 1;
            return Err(Locked::Throttled { wait_s });
        }
        if offered.len() > MAX_SECRET {
            return Err(Locked::Wrong);
        }
        let attempt = Attempt {
            offered,
            code: self.keep.setup_code.clone(),
        };
        let failed = |e: &dyn std::fmt::Display| Locked::Failed(e.to_string());
        let bytes = postcard::to_stdvec(&attempt).map_err(|e| failed(&e))?;
        let input = memfd(&bytes).map_err(|e| failed(&e))?;
        self.owner.asked = Some(id);
        let purpose = Purpose::Verify { id, from };
        let fds = [(&input, INPUT_FD)];
        self.start_job_within(purpose, &["verify"], PATIENCE, &fds, Some(&LIMITS));
        Ok(())
    }

    /// The helper has looked.
    pub(super) fn verified(
        &mut self,
        id: u64,
        from: IpAddr,
        result: Result<String, String>,
        now: Duration,
    ) {
        self.owner.asked = None;
        let result = match result.as_deref() {
            Ok("true") => self.owner.let_in(now),
            Ok(_) => {
                self.owner.wrong.note(from, now);
                supervise::warning!("a wrong code was typed on the emergency page at {from}");
                Err(Locked::Wrong)
            }
            Err(why) => Err(Locked::Failed(why.to_owned())),
        };
        if result.is_ok() {
            supervise::info!("the owner was let in on the emergency page at {from}");
        }
        self.unlocked(id, result);
    }

    fn unlocked(&mut self, id: u64, result: Result<Grant, Locked>) {
        self.tell(Role::Front, Event::Unlocked { id, result }, vec![]);
    }

    /// Does what the holder of `grant` wants.
    pub(super) fn act(&mut self, id: u64, grant: Grant, act: Act, now: Duration) {
        let result = if self.owner.holds(grant, now) {
            self.obey_owner(grant, act, now)
        } else {
            Err("you were let in too long ago".to_owned())
        };
        self.tell(Role::Front, Event::Acted { id, result }, vec![]);
    }

    fn obey_owner(&mut self, grant: Grant, act: Act, now: Duration) -> Result<(), String> {
        match act {
            Act::Leave => {
                self.owner.grants.retain(|(known, _)| *known != grant);
                Ok(())
            }
            Act::Reboot => {
                supervise::warning!("the owner wants a restart of the box (emergency page)");
                self.go_down(Power::Reboot, now);
                Ok(())
            }
            Act::RestartManager => {
                supervise::warning!("the owner wants a restart of the manager (emergency page)");
                self.restart(&Role::Manager.unit(), now)
            }
        }
    }
}

impl Owner {
    fn let_in(&mut self, now: Duration) -> Result<Grant, Locked> {
        let mut grant = Grant([0; 16]);
        getrandom(&mut grant.0, GetRandomFlags::NONBLOCK)
            .map_err(|e| Locked::Failed(format!("no random numbers: {e}")))?;
        self.grants.push_back((grant, now + GRANTED_FOR));
        if self.grants.len() > MAX_GRANTS {
            self.grants.pop_front();
        }
        Ok(grant)
    }

    fn holds(&mut self, grant: Grant, now: Duration) -> bool {
        self.grants.retain(|(_, until)| *until > now);
        self.grants.iter().any(|(known, _)| *known == grant)
    }
}

/// What the helper may use: its program, and three times what a look takes.
const LIMITS: Limits = Limits {
    memory_max: Some(64 << 20),
    memory_low: None,
    pids_max: Some(4),
    cpu_weight: Some(100),
    cpu_percent: None,
};
/// A look takes a tenth of a second; on a box where everything burns, much longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough to look about and act, short enough for a browser that was left open.
const GRANTED_FOR: Duration = Duration::from_secs(600);
/// Browsers in which one owner is let in at once.
const MAX_GRANTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn a_grant_is_good_for_a_while_and_unlike_any_other() {
        let mut owner = Owner::default();
        let (one, other) = (owner.let_in(at(0)).unwrap(), owner.let_in(at(300)).unwrap());
        assert!(one != other && owner.holds(one, at(599)));
        assert!(!owner.holds(one, at(600)) && owner.holds(other, at(600)));
        assert!(!owner.holds(Grant([0; 16]), at(600)));
        let all: Vec<Grant> = (0..9).map(|_| owner.let_in(at(601)).unwrap()).collect();
        assert!(!owner.holds(all[4], at(602)) && owner.holds(all[5], at(602)));
    }
}
