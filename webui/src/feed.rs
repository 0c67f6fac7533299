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
use tokio::{
    sync::{Notify, broadcast},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    assets,
    document::Document,
    host::{Host, LogLine},
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
        let mut snapshots = host.snapshot();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let document = Document::new(&snapshot, Metrics::read().ok());
            let log = self.log(&*host).await;
            self.publish(to_value(&document), log);
            sleep(LEAST_INTERVAL).await;
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                _ = tick.tick() => {}
                () = self.watched.notified() => {}
            }
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

    /// The last log lines, if anybody watches and the log answers in time.
    async fn log(&self, host: &dyn Host) -> Option<Vec<LogLine>> {
        if self.changes.receiver_count() == 0 {
            return None;
        }
        timeout(LOG_DEADLINE, host.logs(None, LOG_LINES))
            .await
            .ok()?
            .ok()
    }

    fn publish(&self, document: Value, log: Option<Vec<LogLine>>) {
        let mut published = self.published();
        let ops = json_patch::diff(&published.document, &document);
        let log = log.unwrap_or_else(|| published.log.clone());
        let fresh = fresh(&published.log, &log);
        if !ops.0.is_empty() || !fresh.is_empty() {
            published.seq += 1;
            let change = Change {
                seq: published.seq,
                ops,
                log: fresh,
            };
            // Without a socket there is nobody to tell, which is no error.
            let _ = self.changes.send(to_frame(&change));
        }
        published.document = document;
        published.log = log;
        published.at = Instant::now();
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

fn to_value(document: &Document) -> Value {
    // Only a map with keys that are no strings, or a serialiser of its own, could fail.
    serde_json::to_value(document).unwrap_or(Value::Null)
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
        feed.publish(json!({"a": 1}), None);
        let (_, mut changes) = feed.subscribe();
        feed.publish(json!({"a": 1}), None);
        assert!(changes.try_recv().is_err());
        feed.publish(json!({"a": 2}), None);
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
            documents[..joined].iter().for_each(|document| feed.publish(document.clone(), None));
            let (dump, mut changes) = feed.subscribe();
            documents[joined..].iter().for_each(|document| feed.publish(document.clone(), None));

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
