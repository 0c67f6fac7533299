//! Questions to PID 1 that somebody waits for: each gets its own answer, or none when whoever asked
//! has given up.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use supervise::control::{Event, Request};
use tokio::sync::oneshot;

use super::link::Link;

/// Those that are open.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Event>>,
}

impl Questions {
    /// Asks, and waits for the answer; whoever calls sets the deadline.
    ///
    /// # Errors
    /// Too many are open, or PID 1 is gone.
    pub(super) async fn ask(
        &self,
        link: &Link,
        ask: impl FnOnce(u64) -> Request,
    ) -> Result<Event, String> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut open = self.open();
            open.waiting.retain(|_, sender| !sender.is_closed());
            if open.waiting.len() >= MOST_OPEN {
                return Err("Too much is asked of PID 1 at once; try again in a moment.".to_owned());
            }
            open.last += 1;
            let id = open.last;
            open.waiting.insert(id, sender);
            id
        };
        link.ask(&ask(id));
        answer
            .await
            .map_err(|_| "PID 1 does not answer.".to_owned())
    }

    /// PID 1 has answered.
    pub(super) fn answered(&self, id: u64, answer: Event) {
        if let Some(sender) = self.open().waiting.remove(&id) {
            // Nobody may wait any more.
            let _ = sender.send(answer);
        }
    }

    /// What is behind it is whole at any time.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Owners are few.
const MOST_OPEN: usize = 32;
