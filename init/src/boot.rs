//! Boot as data: named steps, what each needs, how long it may take, and what its failure means.
//!
//! This is the book-keeping alone (time in, reports out); [`crate::pid1::steps`] does the work.
//! No step can hold the boot for ever: one that is overdue has failed, and those after it go on.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};
use supervise::status::{StepOutcome, StepReport};

/// One step of a boot.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its name, as on console, log and dashboard.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
    /// Steps that must have ended, well or not, before it begins.
    pub needs: &'static [&'static str],
    /// How long it may take.
    pub deadline: Duration,
    /// What the box does when it fails, as a sentence.
    pub consequence: &'static str,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Sets the clock to no earlier than the last time known.
    ClockFloor,
    /// Loads the drivers of all devices that are there.
    Coldplug,
    /// Finds the data partition, makes its file system if it is new, mounts it.
    Data,
    /// Waits for the kernel's random numbers.
    Entropy,
    /// Starts the front.
    Front,
    /// Host name and machine id.
    Identity,
    /// Reads the `keep` partition.
    Keep,
    /// Kernel settings and the root of the control groups.
    Kernel,
    /// Starts the log's process.
    Logd,
    /// Starts the manager.
    Manager,
    /// Mounts what the kernel itself provides.
    Mounts,
    /// Starts the network thread.
    Network,
    /// Waits for the root's partition.
    RootDevice,
    /// Mounts the root.
    RootMount,
    /// Goes over to the root.
    SwitchRoot,
    /// Opens the hardware watchdog.
    Watchdog,
}

/// The progress of one boot.
#[derive(Debug)]
pub struct Boot {
    steps: &'static [Step],
    progress: Vec<Progress>,
    earlier: Vec<StepReport>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Progress {
    Ended {
        began: Duration,
        outcome: StepOutcome,
    },
    Running {
        since: Duration,
    },
    Waiting,
}

/// The progress of a boot as it is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub struct BootRecord<'a> {
    progress: Vec<(Cow<'a, str>, Cow<'a, Progress>)>,
    earlier: Cow<'a, [StepReport]>,
}

impl Boot {
    /// A boot of `steps`; `earlier` are the reports of the stage before.
    pub fn new(steps: &'static [Step], earlier: Vec<StepReport>) -> Self {
        Self {
            steps,
            progress: vec![Progress::Waiting; steps.len()],
            earlier,
        }
    }

    /// How far it is, for a successor.
    pub fn record(&self) -> BootRecord<'_> {
        BootRecord {
            progress: self
                .steps
                .iter()
                .zip(&self.progress)
                .map(|(step, progress)| (Cow::Borrowed(step.name), Cow::Borrowed(progress)))
                .collect(),
            earlier: Cow::Borrowed(&self.earlier),
        }
    }

    /// Goes on where a predecessor was. None if that was in the other stage: its steps have other
    /// names. A step that it did not know has yet to begin.
    pub fn resume(steps: &'static [Step], record: BootRecord<'_>) -> Option<Self> {
        let mut boot = Self::new(steps, record.earlier.into_owned());
        let mut known = 0;
        for (name, progress) in record.progress {
            if let Some(at) = steps.iter().position(|step| step.name == name) {
                boot.progress[at] = progress.into_owned();
                known += 1;
            }
        }
        (known > 0).then_some(boot)
    }

    /// Whether a step was begun, however it went.
    pub fn has_begun(&self, action: Action) -> bool {
        self.index(action)
            .is_some_and(|at| !matches!(self.progress[at], Progress::Waiting))
    }

    /// The next step that can begin, marked as begun at `now` (since the kernel started).
    pub fn begin_next(&mut self, now: Duration) -> Option<Step> {
        let at = (0..self.steps.len()).find(|&at| {
            matches!(self.progress[at], Progress::Waiting)
                && self.steps[at].needs.iter().all(|need| self.has_ended(need))
        })?;
        self.progress[at] = Progress::Running { since: now };
        Some(self.steps[at])
    }

    /// A running step went well. One that is not running is left as it is.
    pub fn done(&mut self, action: Action, now: Duration) -> Option<&'static str> {
        self.end(action, |since| StepOutcome::Done(now.saturating_sub(since)))
    }

    /// A running step failed.
    pub fn failed(&mut self, action: Action, now: Duration, why: String) -> Option<&'static str> {
        let consequence = self.step(action)?.consequence.to_owned();
        self.end(action, |since| StepOutcome::Failed {
            after: now.saturating_sub(since),
            why,
            consequence,
        })
    }

    /// What a failed step is for came about after all.
    pub fn made_up(&mut self, action: Action, now: Duration) {
        if let Some(at) = self.index(action)
            && let Progress::Ended { began, outcome } = &mut self.progress[at]
            && matches!(outcome, StepOutcome::Failed { .. })
        {
            *outcome = StepOutcome::Done(now.saturating_sub(*began));
        }
    }

    /// A running step is not needed on this box.
    pub fn skipped(&mut self, action: Action, why: String) -> Option<&'static str> {
        self.end(action, |_| StepOutcome::Skipped(why))
    }

    /// Whether a step has ended well.
    pub fn succeeded(&self, action: Action) -> bool {
        self.index(action).is_some_and(|at| {
            matches!(
                self.progress[at],
                Progress::Ended {
                    outcome: StepOutcome::Done(_),
                    ..
                }
            )
        })
    }

    /// Whether a step is under way.
    pub fn is_running(&self, action: Action) -> bool {
        self.index(action)
            .is_some_and(|at| matches!(self.progress[at], Progress::Running { .. }))
    }

    /// A step that has taken longer than it may.
    pub fn overdue(&self, now: Duration) -> Option<Step> {
        self.running()
            .find(|(step, since)| now >= since.saturating_add(step.deadline))
            .map(|(step, _)| step)
    }

    /// When the next step will be overdue.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.running()
            .map(|(step, since)| since.saturating_add(step.deadline))
            .min()
    }

    /// The steps begun so far, those of the stage before first.
    pub fn reports(&self) -> Vec<StepReport> {
        let own = self
            .steps
            .iter()
            .zip(&self.progress)
            .filter_map(|(step, progress)| {
                let (began, outcome) = match progress {
                    Progress::Waiting => return None,
                    Progress::Running { since } => (*since, StepOutcome::Running),
                    Progress::Ended { began, outcome } => (*began, outcome.clone()),
                };
                Some(StepReport {
                    name: step.name.to_owned(),
                    began,
                    outcome,
                })
            });
        let mut reports: Vec<_> = self.earlier.iter().cloned().chain(own).collect();
        reports.sort_by_key(|report| report.began);
        reports
    }

    fn running(&self) -> impl Iterator<Item = (Step, Duration)> {
        self.steps
            .iter()
            .zip(&self.progress)
            .filter_map(|(step, progress)| match progress {
                Progress::Running { since } => Some((*step, *since)),
                Progress::Ended { .. } | Progress::Waiting => None,
            })
    }

    fn end(
        &mut self,
        action: Action,
        outcome: impl FnOnce(Duration) -> StepOutcome,
    ) -> Option<&'static str> {
        let at = self.index(action)?;
        let Progress::Running { since } = self.progress[at] else {
            return None;
        };
        self.progress[at] = Progress::Ended {
            began: since,
            outcome: outcome(since),
        };
        Some(self.steps[at].name)
    }

    fn has_ended(&self, name: &str) -> bool {
        let at = self.steps.iter().position(|step| step.name == name);
        at.is_some_and(|at| matches!(self.progress[at], Progress::Ended { .. }))
    }

    fn step(&self, action: Action) -> Option<&'static Step> {
        self.steps.iter().find(|step| step.action == action)
    }

    fn index(&self, action: Action) -> Option<usize> {
        self.steps.iter().position(|step| step.action == action)
    }
}

/// Stage 0: from the kernel's first instruction for us to the root file system.
pub const STAGE0: &[Step] = &[
    Step {
        name: "mounts",
        action: Action::Mounts,
        needs: &[],
        deadline: Duration::from_secs(5),
        consequence: "The boot goes on with what there is.",
    },
    Step {
        name: "root drivers",
        action: Action::Coldplug,
        needs: &["mounts"],
        deadline: Duration::from_secs(60),
        consequence: "The root is looked for among the devices that are there.",
    },
    Step {
        name: "root partition",
        action: Action::RootDevice,
        needs: &["mounts"],
        // A USB disk may take ten seconds to spin up and be seen.
        deadline: Duration::from_secs(60),
        consequence: "The recovery console is open; nothing else runs.",
    },
    Step {
        name: "root file system",
        action: Action::RootMount,
        needs: &["root partition"],
        deadline: Duration::from_secs(30),
        consequence: "The recovery console is open; nothing else runs.",
    },
    Step {
        name: "switch root",
        action: Action::SwitchRoot,
        needs: &["root file system"],
        deadline: Duration::from_secs(5),
        consequence: "The recovery console is open; nothing else runs.",
    },
];

/// Stage 1: from the root file system to a box that answers. Nothing waits for the network, and
/// nothing but the manager's own work waits for data.
///
/// The shortest way to an open door comes first, since a small board has one core to spare: `keep`,
/// which says who the box is, then network and front. What takes long in the kernel (drivers, and a
/// file system's module, which measures for a quarter of a second how to compute parity) begins
/// once these have begun, or answer.
pub const STAGE1: &[Step] = &[
    Step {
        name: "system mounts",
        action: Action::Mounts,
        needs: &[],
        deadline: Duration::from_secs(5),
        consequence: "The boot goes on with what there is.",
    },
    Step {
        name: "kernel settings",
        action: Action::Kernel,
        needs: &["system mounts"],
        deadline: Duration::from_secs(5),
        consequence: "Limits and isolation may be weaker than they should be.",
    },
    Step {
        name: "log",
        action: Action::Logd,
        needs: &["kernel settings"],
        deadline: Duration::from_secs(20),
        consequence: "Log lines are dropped until it is back.",
    },
    Step {
        name: "keep",
        action: Action::Keep,
        needs: &["kernel settings"],
        deadline: Duration::from_secs(15),
        consequence: "The box uses DHCP, a throw-away certificate and a new setup code.",
    },
    Step {
        name: "clock",
        action: Action::ClockFloor,
        needs: &["keep"],
        deadline: Duration::from_secs(5),
        consequence: "The clock may be wrong until the network sets it.",
    },
    Step {
        name: "random numbers",
        action: Action::Entropy,
        needs: &["keep"],
        deadline: Duration::from_secs(30),
        consequence: "Keys are made as soon as the kernel has random numbers.",
    },
    Step {
        name: "identity",
        action: Action::Identity,
        needs: &["keep"],
        deadline: Duration::from_secs(5),
        consequence: "The box is called by its default name.",
    },
    Step {
        name: "network",
        action: Action::Network,
        needs: &["identity"],
        deadline: Duration::from_secs(30),
        consequence: "No address yet; the box keeps trying. This console works without.",
    },
    Step {
        name: "front door",
        action: Action::Front,
        needs: &["identity"],
        deadline: Duration::from_secs(20),
        consequence: "It is started again; services answer as soon as it is up.",
    },
    Step {
        name: "drivers",
        action: Action::Coldplug,
        needs: &["identity"],
        deadline: Duration::from_secs(120),
        consequence: "Devices without a driver stay unused.",
    },
    Step {
        name: "watchdog",
        action: Action::Watchdog,
        needs: &["drivers"],
        deadline: Duration::from_secs(10),
        consequence: "A box that hangs has to be switched off and on by hand.",
    },
    Step {
        name: "data",
        action: Action::Data,
        needs: &["front door"],
        deadline: Duration::from_secs(180),
        consequence: "No service is started; nothing on the disk was changed.",
    },
    Step {
        name: "manager",
        action: Action::Manager,
        needs: &["identity", "front door"],
        deadline: Duration::from_secs(30),
        consequence: "It is started again; the status page is at /emergency.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn every_need_is_a_step_that_comes_before() {
        for steps in [STAGE0, STAGE1] {
            for (at, step) in steps.iter().enumerate() {
                for need in step.needs {
                    assert!(
                        steps[..at].iter().any(|earlier| earlier.name == *need),
                        "{need}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_boot_ends_even_if_every_step_hangs() {
        for steps in [STAGE0, STAGE1] {
            let mut boot = Boot::new(steps, Vec::new());
            let mut now = Duration::ZERO;
            for _ in 0..100 {
                while boot.begin_next(now).is_some() {}
                let Some(deadline) = boot.next_deadline() else {
                    break;
                };
                now = deadline;
                while let Some(step) = boot.overdue(now) {
                    boot.failed(step.action, now, "it hung".to_owned());
                }
            }
            assert_eq!(boot.reports().len(), steps.len());
            assert!(boot.next_deadline().is_none());
        }
    }

    #[test]
    fn a_step_waits_for_what_it_needs_and_tells_how_long_it_took() {
        let mut boot = Boot::new(STAGE0, Vec::new());
        assert_eq!(boot.begin_next(S(1)).unwrap().name, "mounts");
        assert!(boot.begin_next(S(1)).is_none());
        boot.done(Action::Mounts, S(3));
        assert_eq!(boot.begin_next(S(3)).unwrap().name, "root drivers");
        assert_eq!(boot.reports()[0].outcome, StepOutcome::Done(S(2)));
        assert!(boot.succeeded(Action::Mounts) && boot.is_running(Action::Coldplug));
    }

    #[test]
    fn what_comes_about_after_all_is_no_failure_any_more() {
        let mut boot = Boot::new(STAGE0, Vec::new());
        boot.begin_next(S(1));
        boot.made_up(Action::Mounts, S(2));
        assert!(boot.is_running(Action::Mounts));
        boot.failed(Action::Mounts, S(6), "no cable".to_owned());
        boot.made_up(Action::Mounts, S(90));
        assert_eq!(boot.reports()[0].outcome, StepOutcome::Done(S(89)));
    }

    #[test]
    fn a_successor_goes_on_with_the_same_boot() {
        let mut boot = Boot::new(STAGE0, Vec::new());
        boot.begin_next(S(1));
        boot.done(Action::Mounts, S(2));
        boot.begin_next(S(2));
        let bytes = postcard::to_stdvec(&boot.record()).unwrap();
        let mut next = Boot::resume(STAGE0, postcard::from_bytes(&bytes).unwrap()).unwrap();
        assert_eq!(next.reports(), boot.reports());
        assert!(next.has_begun(Action::Coldplug) && !next.has_begun(Action::SwitchRoot));
        assert!(next.done(Action::Mounts, S(9)).is_none());
        assert!(next.done(Action::Coldplug, S(9)).is_some());
    }

    #[test]
    fn the_boot_of_another_stage_is_not_gone_on_with() {
        let record = Boot::new(STAGE0, Vec::new());
        let record = postcard::to_stdvec(&record.record()).unwrap();
        assert!(Boot::resume(STAGE1, postcard::from_bytes(&record).unwrap()).is_none());
    }

    #[test]
    fn an_outcome_that_comes_late_changes_nothing() {
        let mut boot = Boot::new(STAGE0, Vec::new());
        boot.begin_next(S(0));
        boot.failed(Action::Mounts, S(5), "too late".to_owned());
        assert_eq!(boot.done(Action::Mounts, S(6)), None);
        assert!(!boot.succeeded(Action::Mounts));
    }
}
