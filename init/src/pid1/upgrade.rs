//! Live upgrade: PID 1 goes over to another binary, and back if that one does not prove itself.
//!
//! A helper copies the file into a memfd of PID 1's, seals it, verifies it there, and runs it as a
//! child with a copy of the hand-over; so nobody can change what was verified, and a binary that
//! can't take over is found out before anything changes. Then the sealed memfd is executed. The new
//! PID 1 is confirmed when all its parts work, and replaces the roles one after the other; until
//! then everything that goes wrong leads back ([`crash::probation`]).

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use rustix::fs::{self, MemfdFlags};
use serde::{Deserialize, Serialize};
use supervise::status::{InitStatus, Notice, UpgradeState};

use super::{
    Pid1, Stage,
    jobs::{INPUT_FD, Purpose},
    roles::Role,
};
use crate::{
    crash::{
        self,
        epitaph::Cause,
        probation::{self, Standing},
    },
    handover::probation::Probation,
    helper::{answer, candidate},
};

/// The upgrade under way, or what came of the last.
#[derive(Debug, Default)]
pub(super) struct Upgrade {
    record: UpgradeRecord,
    candidate: Option<OwnedFd>,
    /// It was verified and tried: executed at the end of the turn, when everything is published.
    is_due: bool,
    turns: u64,
    /// What the guard has heard of the runs under way since this PID 1 began.
    pub(super) answers: [bool; Role::ALL.len()],
    /// The role that is being replaced, and since when.
    replacing: Option<(Role, Duration)>,
}

/// What of it is handed over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct UpgradeRecord {
    count: u64,
    state: UpgradeState,
    /// The hash of the file that PID 1 runs, unless it is the root's.
    program: Option<String>,
    since: Duration,
    /// How often PID 1 was executed anew because of a crash, or the like.
    crashes: u64,
    to_replace: Vec<Role>,
}

impl Pid1 {
    /// Begins to verify and to try a file.
    pub(super) fn ask_upgrade(&mut self, fds: Vec<OwnedFd>, now: Duration) -> Result<(), String> {
        let file = fds
            .into_iter()
            .next()
            .ok_or("an upgrade needs its file beside the request")?;
        let upgrade = &mut self.upgrade.record;
        let obstacle = if self.stage != Stage::Root || self.handover.is_none() {
            Some("there is nothing to hand over with")
        } else if self.down.is_some() {
            Some("the box is going down")
        } else if self.succession.is_safe_mode(now) {
            Some("PID 1 has crashed too often of late")
        } else {
            None
        };
        if !upgrade.state.is_over() {
            return Err("another upgrade is under way".to_owned());
        }
        upgrade.count += 1;
        upgrade.state = UpgradeState::Checking;
        self.changed();
        let begun = match obstacle {
            Some(why) => Err(why.to_owned()),
            None => self.examine(&file),
        };
        if let Err(why) = begun {
            self.upgrade_refused(why);
        }
        Ok(())
    }

    fn examine(&mut self, file: &OwnedFd) -> Result<(), String> {
        let candidate = memfd().map_err(|e| format!("there is no memory for it: {e}"))?;
        let handover = self.handover.as_ref().ok_or("there is no hand-over")?;
        let handover = handover.memfd().try_clone().map_err(|e| e.to_string())?;
        let fds = [
            (file, INPUT_FD),
            (&candidate, candidate::CANDIDATE_FD),
            (&handover, candidate::HANDOVER_FD),
        ];
        self.start_job_within(Purpose::Upgrade, &["candidate"], CHECK_PATIENCE, &fds, None);
        // Unless the helper could not even be started.
        if self.upgrade.record.state == UpgradeState::Checking {
            self.upgrade.candidate = Some(candidate);
        }
        Ok(())
    }

    /// The helper has verified and tried the file, or refused it.
    pub(super) fn upgrade_checked(&mut self, result: Result<String, String>) {
        let candidate = self.upgrade.candidate.as_ref();
        let sealed = candidate.is_some_and(|fd| {
            fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(candidate::SEALS))
        });
        let checked = result.and_then(|answer| {
            serde_json::from_str::<answer::Candidate>(&answer).map_err(|e| e.to_string())
        });
        match checked {
            Ok(_) if !sealed => {
                self.upgrade_refused("PID 1 was executed anew meanwhile; try again".to_owned());
            }
            Ok(checked) => {
                let (program, version) = (checked.hash, checked.version);
                supervise::info!("PID 1 goes over to {program} (version {version})");
                self.upgrade.record.state = UpgradeState::Unconfirmed { program };
                self.upgrade.is_due = true;
            }
            Err(why) => self.upgrade_refused(why),
        }
    }

    fn upgrade_refused(&mut self, why: String) {
        supervise::warning!("an upgrade of PID 1 was refused: {why}");
        self.upgrade.candidate = None;
        self.upgrade.record.state = UpgradeState::Refused(why);
        self.changed();
    }

    /// Notes what is gone back to, if a binary is to be executed in this turn. Before anything says
    /// that it was: whoever reads that must find out which of the two it is.
    pub(super) fn prepare_to_go_over(&mut self, now: Duration) {
        if !self.upgrade.is_due {
            return;
        }
        let why = if self.down.is_some() {
            "the box is going down"
        } else if self.begin_probation(now).is_none() {
            "there is nothing to come back to"
        } else {
            return;
        };
        self.upgrade.is_due = false;
        self.upgrade_refused(why.to_owned());
    }

    /// Executes a binary that was verified and tried. The last act of a turn: all is published.
    pub(super) fn go_over(&mut self) {
        let candidate = self.upgrade.candidate.as_ref();
        let Some(candidate) = candidate.filter(|_| self.upgrade.is_due) else {
            return;
        };
        if let Some(own) = crash::own_program() {
            crash::keep_also(&[own]);
        }
        crash::execute_next(candidate.as_raw_fd());
        crash::reexecute(Cause::Upgrade, "main");
    }

    fn begin_probation(&self, now: Duration) -> Option<()> {
        let own = crash::own_program()?;
        let candidate = self.upgrade.candidate.as_ref()?.as_raw_fd();
        let probation = Probation {
            candidate: probation::identity_of(candidate)?,
            fallback: own,
            fallback_is: probation::identity_of(own)?,
            until: now + PROBATION,
        };
        self.handover.as_ref()?.begin_probation(&probation);
        Some(())
    }

    /// What is handed over.
    pub(super) fn upgrade_record(&self) -> &UpgradeRecord {
        &self.upgrade.record
    }

    /// Goes on with what the predecessor was about.
    pub(super) fn inherit_upgrade(&mut self, record: UpgradeRecord, now: Duration) {
        self.upgrade.record = record;
        self.upgrade.record.crashes += u64::from(self.succession.is_of_a_failure());
        let UpgradeState::Unconfirmed { program } = &self.upgrade.record.state else {
            return;
        };
        match probation::standing() {
            Standing::FellBack => {
                let why = self.succession.why_it_fell_back();
                supervise::error!("the upgrade to {program} failed, and was taken back: {why}");
                let program = program.clone();
                self.upgrade.record.state = UpgradeState::FellBack { program, why };
            }
            Standing::Unproven => {}
            // Nothing could be gone back to.
            Standing::Settled => self.confirm(now),
        }
    }

    /// Confirms a new binary that works, and replaces the roles that run the old one.
    pub(super) fn watch_upgrade(&mut self, now: Duration) {
        self.upgrade.turns += 1;
        match self.upgrade.record.state {
            UpgradeState::Unconfirmed { .. } if self.proves_itself(now) => self.confirm(now),
            // On the way down nothing would come back.
            UpgradeState::Replacing { .. } if !self.going_down() => self.replace_next(now),
            _ => {}
        }
    }

    /// PID 1 itself, as others see it.
    pub(super) fn init_status(&self) -> InitStatus {
        let record = &self.upgrade.record;
        InitStatus {
            program: record.program.clone(),
            since: record.since,
            successions: self.succession.generation,
            crashes: record.crashes,
            last: self.succession.last(),
            upgrades: record.count,
            upgrade: record.state.clone(),
        }
    }

    /// What the owner should know of it.
    pub(super) fn upgrade_notice(&self) -> Option<Notice> {
        match &self.upgrade.record.state {
            UpgradeState::FellBack { why, .. } => Some(super::publish::care(format!(
                "The upgrade of PID 1 was taken back, as the new binary did not prove itself: \
                 {why}. Services went on."
            ))),
            _ => None,
        }
    }

    /// Whether all that this PID 1 is for works: `main` turns, `net` turns, `guard` ticks and has
    /// had an answer from every role that runs.
    fn proves_itself(&self, now: Duration) -> bool {
        let is_unproven = probation::standing() == Standing::Unproven;
        let net = self.net_thread.is_none() || self.vitals.net().get().is_some();
        let guard = self.vitals.guard_age(now) < GUARD_TICKS;
        let answer = [Role::Front, Role::Manager].iter().all(|role| {
            let unit = self.table.get(&role.unit());
            let runs = unit.is_some_and(|unit| unit.life.is_running());
            !runs || self.upgrade.answers[role.index()]
        });
        is_unproven && self.upgrade.turns >= TURNS && net && guard && answer
    }

    fn confirm(&mut self, now: Duration) {
        let UpgradeState::Unconfirmed { program } = &self.upgrade.record.state else {
            return;
        };
        let program = program.clone();
        if let Some(handover) = &self.handover {
            handover.end_probation();
        }
        probation::is_settled();
        supervise::info!("PID 1 is {program} from now on; its roles follow");
        let record = &mut self.upgrade.record;
        record.program = Some(program.clone());
        record.since = now;
        record.to_replace = ORDER.to_vec();
        let left = ORDER.len() as u32;
        record.state = UpgradeState::Replacing { program, left };
        self.changed();
    }

    /// Replaces the roles, each once the one before works.
    fn replace_next(&mut self, now: Duration) {
        if let Some((role, since)) = self.upgrade.replacing {
            let unit = self.table.get(&role.unit());
            let runs = unit.is_some_and(|unit| unit.life.is_running());
            let answers = role == Role::Logd || self.upgrade.answers[role.index()];
            let works = runs && answers && self.retiring.is_empty();
            if !works && now.saturating_sub(since) < REPLACE_PATIENCE {
                return;
            }
            self.upgrade.replacing = None;
            self.upgrade.record.to_replace.retain(|left| *left != role);
        }
        let next = self.upgrade.record.to_replace.first().copied();
        self.upgrade.record.state = self.replacing_state();
        self.changed();
        let Some(role) = next else {
            supervise::info!("all roles run the new binary");
            return;
        };
        self.upgrade.replacing = Some((role, now));
        self.upgrade.answers[role.index()] = false;
        // It can only fail for want of that role, which then is begun with the new binary.
        let _ = self.restart(&role.unit(), now);
    }

    fn replacing_state(&self) -> UpgradeState {
        let record = &self.upgrade.record;
        let program = record.program.clone().unwrap_or_default();
        match record.to_replace.len() {
            0 => UpgradeState::Done { program },
            left => UpgradeState::Replacing {
                program,
                left: left as u32,
            },
        }
    }
}

/// The path of the program that runs, if it is not the root's but in memory: roles and helpers are
/// the same binary as PID 1. Their descriptors have lower numbers, so it means the same there.
pub(super) fn program_in_memory(stage: Stage) -> Option<String> {
    const TMPFS: i64 = 0x0102_1994;
    let own = crash::own_program().filter(|_| stage == Stage::Root)?;
    let kind = fs::statfs(format!("/proc/self/fd/{own}")).ok()?.f_type;
    // The root never is.
    (kind == TMPFS).then(|| format!("/proc/self/fd/{own}"))
}

/// A file that can be sealed and executed.
fn memfd() -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // A kernel that may be told to refuse execution (6.3) must be told otherwise; those before
    // don't know the word.
    fs::memfd_create("init", flags | MemfdFlags::EXEC).or_else(|_| fs::memfd_create("init", flags))
}

/// The least needed first, the one whose clients would notice last.
const ORDER: [Role; 3] = [Role::Logd, Role::Manager, Role::Front];
/// Reading, hashing and a trial of some seconds.
const CHECK_PATIENCE: Duration = Duration::from_secs(120);
/// A healthy PID 1 has proven itself after a second or two; on a machine that is busy with other
/// things it was seen to need ten.
const PROBATION: Duration = Duration::from_secs(60);
/// Turns of `main` that make it believable.
const TURNS: u64 = 5;
const GUARD_TICKS: Duration = Duration::from_secs(1);
/// A role that does not come up does not keep the others on the old binary.
const REPLACE_PATIENCE: Duration = Duration::from_secs(30);
