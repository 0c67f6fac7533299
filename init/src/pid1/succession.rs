//! Handing over: everything that `main` knows is published before anybody can miss it, and what
//! came of the last crash is told.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use supervise::{
    status::{DataState, NetSummary, Notice},
    unit::UnitName,
};

use super::{Pid1, inheritance, keeping::Written, publish, shutdown::Down};
use crate::{
    boot::Action,
    crash::{
        self,
        budget::{self, Course},
        epitaph::Cause,
        probation::{self, Standing},
    },
    handover::{
        self, Handover,
        descriptors::{Handed, Inherited, Naming},
        records::{self, Tag},
    },
    keep::Keep,
    kmsg,
};

/// How PID 1 came to be.
#[derive(Clone, Debug)]
pub(super) struct Succession {
    /// How often it was executed anew since the box booted.
    pub(super) generation: u64,
    executions: u64,
    last: Option<String>,
    /// Whether the last execution was asked for by an upgrade, or by the end of one.
    is_upgrade: bool,
    /// Whether nothing is told of after going over to another binary.
    went_over: bool,
    /// When its crashes will be so long ago that it does everything again.
    safe_until: Option<Duration>,
    /// Whether it has said, and which, that it is in safe mode.
    told: Option<bool>,
}

/// The state, but for the process table and what is open.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SettledRecord<'a> {
    pub(super) helpers_started: u64,
    pub(super) left_behind: Cow<'a, [u32]>,
    pub(super) empty_groups: Vec<String>,
    pub(super) reserve_is_given: bool,
    pub(super) managers_notices: Cow<'a, [Notice]>,
    pub(super) down: Option<Cow<'a, Down>>,
    pub(super) watchdog: Option<WatchdogRecord<'a>>,
    pub(super) console_is_up: bool,
    pub(super) keep: Cow<'a, Keep>,
    pub(super) keep_is_there: bool,
    pub(super) keep_write: Option<Written>,
    pub(super) door: Option<Cow<'a, [u8]>>,
    pub(super) wishes: Cow<'a, BTreeMap<UnitName, bool>>,
    pub(super) found: Cow<'a, [Action]>,
    pub(super) drivers_done: Option<Duration>,
    pub(super) data: Cow<'a, DataState>,
    pub(super) data_was_mounted: bool,
    pub(super) data_asked: Option<Duration>,
    pub(super) net: Cow<'a, NetSummary>,
    pub(super) trouble: Cow<'a, [Notice]>,
    pub(super) log_tail: Cow<'a, [String]>,
    pub(super) other_hostname: Option<Cow<'a, str>>,
}

/// The armed hardware watchdog.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WatchdogRecord<'a> {
    pub(super) device: Handed,
    pub(super) identity: Cow<'a, str>,
    pub(super) node: Cow<'a, str>,
    pub(super) timeout: Duration,
    pub(super) hardware: bool,
    pub(super) caused_last_boot: bool,
}

/// Opens the hand-over and tells of what happened. After too many crashes it waits a little.
pub(super) fn begin() -> (Option<Handover>, Succession) {
    let handover = match Handover::open() {
        Ok(handover) => Some(handover),
        Err(errno) => {
            let text = format!("nothing can be handed over to a successor: {errno}");
            kmsg::write(kmsg::ERROR, &text);
            None
        }
    };
    let generation = handover.as_ref().map_or(0, Handover::generation);
    let (crashes, epitaphs) = handover
        .as_ref()
        .map_or((0, Vec::new()), Handover::epitaphs);
    let last = epitaphs.last().map(ToString::to_string);
    let cause = epitaphs.last().map(|epitaph| epitaph.cause);
    let failures = handover::failures(&epitaphs);
    let course = budget::course(&failures, super::now());
    if let (Some(last), 1..) = (&last, generation) {
        let text = format!("executed anew ({generation}), since {last}");
        kmsg::write(kmsg::ERROR, &text);
    }
    if let Course::Safe { pause } = course {
        kmsg::write(kmsg::ERROR, "too many crashes: PID 1 waits, and does less");
        std::thread::sleep(pause);
    }
    // What is handed over may tell any time.
    let latest = failures.into_iter().max().unwrap_or_default();
    let latest = latest.min(super::now());
    let safe_until = (course != Course::Normal).then_some(latest + budget::REFILLED_AFTER);
    let succession = Succession {
        generation,
        executions: crashes,
        last,
        is_upgrade: cause.is_some_and(|cause| !cause.is_failure()),
        went_over: cause == Some(Cause::Upgrade),
        safe_until,
        told: None,
    };
    (handover, succession)
}

impl Succession {
    /// Whether PID 1 does less, after too many crashes.
    pub(super) fn is_safe_mode(&self, now: Duration) -> bool {
        now < self.ends_safe_mode()
    }

    /// When it begins to do everything: at once, or after a time without a crash.
    pub(super) fn ends_safe_mode(&self) -> Duration {
        self.safe_until.unwrap_or_default()
    }

    /// What the owner is told.
    pub(super) fn notice(&self, now: Duration) -> Option<Notice> {
        let last = self.last.as_ref().filter(|_| self.generation > 0)?;
        if self.is_upgrade && !self.is_safe_mode(now) {
            return None;
        }
        Some(if self.is_safe_mode(now) {
            publish::bad(format!(
                "PID 1 has crashed too often ({} times) and does no more than it must. Services go \
                 on. The last time {last}.",
                self.executions
            ))
        } else {
            publish::care(format!(
                "PID 1 was executed anew {} time(s); services went on. The last time {last}.",
                self.generation
            ))
        })
    }

    /// Whether the last execution was because of a crash, or the like.
    pub(super) fn is_of_a_failure(&self) -> bool {
        self.generation > 0 && !self.is_upgrade
    }

    /// Why PID 1 was executed anew the last time, as a sentence.
    pub(super) fn last(&self) -> Option<String> {
        self.last.clone().filter(|_| self.generation > 0)
    }

    /// Why a new binary was given up, as a sentence.
    pub(super) fn why_it_fell_back(&self) -> String {
        match &self.last {
            Some(last) if !self.went_over => last.clone(),
            _ => "it could not be executed, or ended without a word".to_owned(),
        }
    }

    /// In words for whoever looks into [`PLACE`].
    fn told_as(&self, safe: bool) -> String {
        format!(
            "generation {}\ncrashes {}\nsafe {safe}\nlast {}\n",
            self.generation,
            self.executions,
            self.last.as_deref().unwrap_or("none"),
        )
    }
}

impl Pid1 {
    /// Publishes the state for a successor, if it has changed.
    pub(super) fn hand_on(&mut self) {
        if self.handover.is_none() {
            return;
        }
        let mut naming = Naming::default();
        let mut state = Vec::with_capacity(USUAL_STATE);
        let written = self.write_state(&mut state, &mut naming);
        // In this order no state that may be read names what would be closed.
        crash::keep_also(naming.numbers());
        let Some(handover) = &mut self.handover else {
            return;
        };
        let published = written
            .map_err(|e| e.to_string())
            .and_then(|()| handover.publish(&state).map_err(|e| e.to_string()));
        match published {
            Ok(()) => crash::keep_only(naming.numbers()),
            Err(why) => supervise::error!("the state can't be handed over: {why}"),
        }
    }

    /// The state is published and the old one no longer needed: from here on a crash costs nothing.
    pub(super) fn settle(&mut self, inherited: Option<Inherited>) {
        let left = inherited.map_or(0, Inherited::settle);
        if left > 0 {
            supervise::warning!("{left} descriptors of before the crash were of no use");
        }
        if let Some(handover) = &self.handover {
            handover.taken_over();
            if probation::standing() == Standing::FellBack {
                // It was told of above, and is over.
                handover.end_probation();
                probation::is_settled();
            }
        }
    }

    /// Says that PID 1 has begun and is ready for the next crash, and when it leaves safe mode.
    pub(super) fn tell_succession(&mut self, now: Duration) {
        let safe = self.succession.is_safe_mode(now);
        let told = self.succession.told.replace(safe);
        if told != Some(safe) {
            if told.is_some() {
                supervise::info!("PID 1 has not crashed for long and does everything again");
            } else if self.succession.generation > 0 {
                let last = self
                    .succession
                    .last
                    .as_deref()
                    .unwrap_or("nobody knows why");
                supervise::error!(
                    "PID 1 was executed anew ({}): {last}",
                    self.succession.generation
                );
            }
            let _ = std::fs::write(PLACE, self.succession.told_as(safe));
        }
    }

    fn write_state(&self, state: &mut Vec<u8>, naming: &mut Naming) -> Result<(), postcard::Error> {
        records::push(state, Tag::Boot, 1, &self.boot.record())?;
        records::push(state, Tag::Sockets, 1, &self.name_estate(naming))?;
        records::push(state, Tag::Units, 1, &self.name_units(naming))?;
        records::push(state, Tag::Jobs, 1, &self.name_jobs(naming))?;
        records::push(state, Tag::Settled, 1, &self.settled(naming))?;
        records::push(state, Tag::Upgrade, 1, self.upgrade_record())?;
        records::push(state, Tag::Retiring, 1, &self.name_retiring())?;
        records::push(state, Tag::Forwards, 1, &self.forwards)?;
        records::push(state, Tag::Names, 1, &self.name_names(naming))?;
        self.changes.push(state)
    }

    fn settled(&self, naming: &mut Naming) -> SettledRecord<'_> {
        let watchdog = self.watchdog.as_ref().map(|armed| WatchdogRecord {
            device: naming.name(&armed.device),
            identity: Cow::Borrowed(&armed.identity),
            node: armed.node.to_string_lossy(),
            timeout: armed.timeout,
            hardware: armed.hardware,
            caused_last_boot: armed.caused_last_boot,
        });
        SettledRecord {
            helpers_started: self.helpers_started,
            left_behind: Cow::Borrowed(&self.left_behind),
            empty_groups: self
                .empty_groups
                .iter()
                .map(inheritance::relative)
                .collect(),
            reserve_is_given: self.reserve_is_given,
            managers_notices: Cow::Borrowed(&self.managers_notices),
            down: self.down.as_ref().map(Cow::Borrowed),
            watchdog,
            console_is_up: self.console_is_up,
            keep: Cow::Borrowed(&self.keep),
            keep_is_there: self.keep_is_there,
            keep_write: self.keep_write,
            door: self.door.as_deref().map(Cow::Borrowed),
            wishes: Cow::Borrowed(&self.wishes),
            found: Cow::Borrowed(&self.found),
            drivers_done: self.drivers_done,
            data: Cow::Borrowed(&self.data),
            data_was_mounted: self.data_was_mounted,
            data_asked: self.data_asked,
            net: Cow::Borrowed(&self.net),
            trouble: Cow::Borrowed(&self.trouble),
            log_tail: Cow::Borrowed(&self.log_tail),
            other_hostname: self.other_hostname.as_deref().map(Cow::Borrowed),
        }
    }
}

/// Where PID 1 says which generation it is, once it has taken over whole.
const PLACE: &str = "/run/pilot/succession";
/// A box with a few services.
const USUAL_STATE: usize = 16 * 1024;
