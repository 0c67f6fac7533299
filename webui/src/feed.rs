//! The document's changes as numbered JSON Patches (RFC 6902), for any number of sockets.
//!
//! One task makes the document, compares it with the one before, and sends the difference to all
//! sockets at once. A socket that reads too slowly loses changes, notices, and takes the whole
//! document instead; nobody waits for it, and no more than [`MAX_BEHIND`] changes are kept for it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use supervise::log::Level;
use tokio::{
    sync::{Notify, broadcast},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    assets,
    document::Document,
    host::{Host, LogLine, Snapshot},
    metrics::{self, Metrics},
};

/// The document of now and the channel of its changes.
pub(crate) struct Feed {
    published: Mutex<Published>,
    changes: broadcast::Sender<Utf8Bytes>,
    watched: Notify,
}

struct Published {
    seq: u64,
    document: Value,
    log: Vec<LogLine>,
    at: Instant,
}

/// First frame of a socket, and again whenever it lost something.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dump<'a> {
    dump: &'a Value,
    seq: u64,
    ui: &'a str,
    log: &'a [LogLine],
    uptime_ms: u128,
}

/// What changed from the frame `seq - 1`.
#[derive(Serialize)]
struct Change<'a> {
    seq: u64,
    ops: json_patch::Patch,
    log: &'a [LogLine],
}

#[derive(Serialize)]
struct Heartbeat {
    hb: Pulse,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pulse {
    pool_age_ms: u128,
    uptime_ms: u128,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let published = Published {
            seq: 0,
            document: Value::Null,
            log: Vec::new(),
            at: Instant::now(),
        };
        let (changes, _) = broadcast::channel(MAX_BEHIND);
        Self {
            published: Mutex::new(published),
            changes,
            watched: Notify::new(),
        }
    }

    /// Publishes what `host` says until it is gone.
    pub(crate) async fn run(&self, host: Arc<dyn Host>) {
        tokio::select! {
            () = self.follow_state(&*host) => {}
            () = self.follow_log(&*host) => {}
        }
    }

    async fn follow_state(&self, host: &dyn Host) {
        let mut snapshots = host.snapshot();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            // The manager begins with an empty one; shown as it is, it would say that all is well.
            if !snapshot.status.hostname.is_empty() {
                self.publish(Document::new(&snapshot, Metrics::read().ok()).into_value());
            }
            sleep(LEAST_INTERVAL).await;
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                _ = tick.tick() => {}
            }
        }
    }

    /// On its own, so that a log that does not answer holds up nothing.
    async fn follow_log(&self, host: &dyn Host) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.watched.notified() => {}
            }
            if self.changes.receiver_count() == 0 {
                continue;
            }
            let lines = match timeout(LOG_DEADLINE, host.logs(None, LOG_LINES)).await {
                Ok(Ok(lines)) => lines,
                Ok(Err(_)) | Err(_) => known_to_pid_1(&host.snapshot().borrow()),
            };
            self.publish_log(lines);
            sleep(LEAST_INTERVAL).await;
        }
    }

    /// The document as one frame, and every change after it.
    pub(crate) fn subscribe(&self) -> (Utf8Bytes, broadcast::Receiver<Utf8Bytes>) {
        let published = self.published();
        // Under the lock: a change is either in the dump or comes after it.
        let changes = self.changes.subscribe();
        let dump = Dump {
            dump: &published.document,
            seq: published.seq,
            ui: assets::TREE,
            log: &published.log,
            uptime_ms: metrics::uptime().as_millis(),
        };
        let frame = to_frame(&dump);
        drop(published);
        self.watched.notify_one();
        (frame, changes)
    }

    /// The document as it is now; `null` before the first snapshot.
    pub(crate) fn document(&self) -> Value {
        self.published().document.clone()
    }

    /// A frame that says that this server lives, and how long ago the document was looked at.
    pub(crate) fn heartbeat(&self) -> Utf8Bytes {
        let pool_age_ms = self.published().at.elapsed().as_millis();
        let uptime_ms = metrics::uptime().as_millis();
        to_frame(&Heartbeat {
            hb: Pulse {
                pool_age_ms,
                uptime_ms,
            },
        })
    }

    fn publish(&self, document: Value) {
        let mut published = self.published();
        let ops = json_patch::diff(&published.document, &document);
        published.document = document;
        published.at = Instant::now();
        if !ops.0.is_empty() {
            self.announce(&mut published, ops, &[]);
        }
    }

    fn publish_log(&self, log: Vec<LogLine>) {
        let mut published = self.published();
        let fresh = fresh(&published.log, &log);
        if !fresh.is_empty() {
            self.announce(&mut published, json_patch::Patch::default(), fresh);
        }
        published.log = log;
    }

    fn announce(&self, published: &mut Published, ops: json_patch::Patch, log: &[LogLine]) {
        published.seq += 1;
        let change = Change {
            seq: published.seq,
            ops,
            log,
        };
        // Without a socket there is nobody to tell, which is no error.
        let _ = self.changes.send(to_frame(&change));
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        // Every field is replaced whole: a panic in between leaves nothing half done.
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lines of `now` that come after those of `before`, both being the end of one long log.
fn fresh<'a>(before: &[LogLine], now: &'a [LogLine]) -> &'a [LogLine] {
    let known = (0..=now.len()).rev().find(|&n| before.ends_with(&now[..n]));
    &now[known.unwrap_or(0)..]
}

/// PID 1's own few lines, for when the log can't be asked.
fn known_to_pid_1(snapshot: &Snapshot) -> Vec<LogLine> {
    let line = |text: &String| LogLine {
        at: None,
        unit: "init".to_owned(),
        priority: Level::Info as u8,
        text: text.clone(),
    };
    snapshot.status.log.iter().map(line).collect()
}

fn to_frame(frame: &impl Serialize) -> Utf8Bytes {
    serde_json::to_string(frame).unwrap_or_default().into()
}

/// Changes kept for a socket that reads slowly; at the shortest interval, some seconds' worth.
const MAX_BEHIND: usize = 32;
/// How often load, memory and log are looked at.
const TICK: Duration = Duration::from_secs(2);
/// Changes within it are told as one; short enough for nobody to see.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
/// The log is shown as far as it answers in time.
const LOG_DEADLINE: Duration = Duration::from_secs(1);
/// As many as the page shows at first.
const LOG_LINES: usize = 50;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine {
            at: None,
            unit: "demo".to_owned(),
            priority: 6,
            text: text.to_owned(),
        }
    }

    #[test]
    fn only_new_lines_are_sent() {
        let lines = |texts: &[&str]| texts.iter().map(|text| line(text)).collect::<Vec<_>>();
        for (before, now, new) in [
            (&[][..], &["a", "b"][..], &["a", "b"][..]),
            (&["a", "b"], &["a", "b"], &[]),
            (&["a", "b"], &["b", "c"], &["c"]),
            (&["a", "a"], &["a", "a", "a"], &["a"]),
            (&["a", "b"], &["x", "y"], &["x", "y"]),
            (&["a", "b", "c"], &["c"], &[]),
        ] {
            assert_eq!(
                fresh(&lines(before), &lines(now)),
                lines(new),
                "{before:?} {now:?}"
            );
        }
    }

    #[test]
    fn what_does_not_change_is_not_sent() {
        let feed = Feed::new();
        feed.publish(json!({"a": 1}));
        let (_, mut changes) = feed.subscribe();
        feed.publish(json!({"a": 1}));
        assert!(changes.try_recv().is_err());
        feed.publish(json!({"a": 2}));
        assert!(changes.try_recv().unwrap().contains("\"seq\":2"));
    }

    fn any_document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z/~]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z/~]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_dump_and_the_changes_after_it_are_the_document(
            documents in prop::collection::vec(any_document(), 1..8),
            joined in 0usize..8,
        ) {
            let feed = Feed::new();
            let joined = joined % documents.len();
            documents[..joined].iter().for_each(|document| feed.publish(document.clone()));
            let (dump, mut changes) = feed.subscribe();
            documents[joined..].iter().for_each(|document| feed.publish(document.clone()));

            let dump: Value = serde_json::from_str(&dump).unwrap();
            let (mut seen, mut seq) = (dump["dump"].clone(), dump["seq"].as_u64().unwrap());
            while let Ok(change) = changes.try_recv() {
                let change: Value = serde_json::from_str(&change).unwrap();
                let ops = serde_json::from_value::<json_patch::Patch>(change["ops"].clone()).unwrap();
                json_patch::patch(&mut seen, &ops).unwrap();
                seq += 1;
                prop_assert_eq!(change["seq"].as_u64(), Some(seq));
            }
            prop_assert_eq!(&seen, documents.last().unwrap());
            prop_assert_eq!(seen, feed.document());
        }
    }
}
