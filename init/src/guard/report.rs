//! What the guard saw and did, in the form that everybody shows.

use supervise::status::{GuardCounts, GuardEvent, GuardReport};

use super::Record;
use crate::{
    pid1::roles::Role,
    vitals::{Step, Vitals},
};

/// The counts of each role, and the last events.
pub fn report(vitals: &Vitals) -> GuardReport {
    let counts = |role: Role| GuardCounts {
        role: role.name().to_owned(),
        nudged: vitals.counted(role, Step::Nudge),
        evidence: vitals.counted(role, Step::Evidence),
        replaced: vitals.counted(role, Step::Replace),
        held_back: vitals.counted(role, Step::HoldBack),
    };
    GuardReport {
        counts: Role::ALL.into_iter().map(counts).collect(),
        events: vitals.ring.read(EVENTS).iter().map(event).collect(),
    }
}

fn event(record: &Record) -> GuardEvent {
    let threads = record.threads.iter().map(|thread| {
        format!(
            "{} {} {} at {}, {} ms of CPU: {}",
            thread.tid,
            thread.name(),
            char::from(thread.state),
            thread.wchan(),
            thread.cpu_ms,
            thread.stack()
        )
    });
    GuardEvent {
        at: record.at,
        role: record.role.name().to_owned(),
        generation: record.generation,
        replaced: record.condemned,
        why: record.cause.to_string(),
        silence: record.cause.silence,
        threads: threads.collect(),
    }
}

/// In every status that is published, so not many.
const EVENTS: usize = 6;
