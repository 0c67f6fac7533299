//! What PID 1's guard saw and did, as JSON.

use std::time::Duration;

use serde_json::{Value, json};
use supervise::status::{GuardEvent, GuardReport};

/// The counts of each role, and the last events.
pub(super) fn report(report: &GuardReport) -> Value {
    let events: Vec<_> = report.events.iter().map(event).collect();
    json!({ "counts": counts(report), "events": events })
}

/// How often each step was taken, by role.
pub(super) fn counts(report: &GuardReport) -> Value {
    let counts = report.counts.iter().map(|counts| {
        let steps = json!({
            "nudged": counts.nudged,
            "evidence": counts.evidence,
            "replaced": counts.replaced,
            "heldBack": counts.held_back,
        });
        (counts.role.clone(), steps)
    });
    Value::Object(counts.collect())
}

fn event(event: &GuardEvent) -> Value {
    json!({
        "atMs": millis(event.at),
        "role": event.role,
        "generation": event.generation,
        "replaced": event.replaced,
        "why": event.why,
        "silenceMs": millis(event.silence),
        "threads": event.threads,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_with_its_threads() {
        let silence = GuardEvent {
            at: Duration::from_secs(70),
            role: "manager".to_owned(),
            generation: 2,
            replaced: true,
            why: "its pool ran no task".to_owned(),
            silence: Duration::from_millis(612),
            threads: vec!["12 worker-0 S at futex_do_wait".to_owned()],
        };
        let told = report(&GuardReport {
            counts: Vec::new(),
            events: vec![silence],
        });
        assert_eq!(told["events"][0]["silenceMs"], 612);
        assert_eq!(
            told["events"][0]["threads"][0],
            "12 worker-0 S at futex_do_wait"
        );
    }
}
