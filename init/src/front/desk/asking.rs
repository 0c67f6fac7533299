//! Questions to PID 1 over the control socket: each waits for its own answer, for a time.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use supervise::{
    control::{self, Act, Event, Grant, Locked, Request, Secret},
    network::NotConfirmed,
};

use super::locked;

#[derive(Debug)]
pub(super) struct Asking {
    control: Arc<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, SyncSender<Reply>>>,
}

#[derive(Debug)]
enum Reply {
    Acted(Result<(), String>),
    Confirmed(Result<bool, NotConfirmed>),
    Unlocked(Result<Grant, Locked>),
}

impl Asking {
    pub(super) fn new(control: Arc<OwnedFd>) -> Self {
        Self {
            control,
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        }
    }

    /// Whether `offered` is the box's secret.
    pub(super) fn unlock(&self, from: IpAddr, offered: Secret) -> Result<Grant, Locked> {
        let ask = |id| Request::Unlock { id, from, offered };
        match self.ask(ask) {
            Ok(Reply::Unlocked(result)) => result,
            Ok(_) => Err(Locked::Failed(OTHER.to_owned())),
            Err(why) => Err(Locked::Failed(why)),
        }
    }

    /// Has done what the holder of `grant` wants.
    pub(super) fn act(&self, grant: Grant, act: Act) -> Result<(), String> {
        let ask = |id| Request::Act { id, grant, act };
        match self.ask(ask)? {
            Reply::Acted(result) => result,
            _ => Err(OTHER.to_owned()),
        }
    }

    /// Has the change of the network kept that `token` belongs to; whether that outlives a reboot.
    ///
    /// # Errors
    /// In the outer result, that PID 1 did not answer.
    pub(super) fn confirm(
        &self,
        from: IpAddr,
        token: Secret,
    ) -> Result<Result<bool, NotConfirmed>, String> {
        let from = Some(from);
        match self.ask(|id| Request::ConfirmNetwork { id, from, token })? {
            Reply::Confirmed(result) => Ok(result),
            _ => Err(OTHER.to_owned()),
        }
    }

    /// Takes an answer; other events are none.
    pub(super) fn hear(&self, event: &Event) {
        let (id, reply) = match event {
            Event::Acted { id, result } => (id, Reply::Acted(result.clone())),
            Event::NetworkConfirmed { id, result } => (id, Reply::Confirmed(result.clone())),
            Event::Unlocked { id, result } => (id, Reply::Unlocked(result.clone())),
            _ => return,
        };
        if let Some(waiting) = locked(&self.waiting).remove(id) {
            let _ = waiting.try_send(reply);
        }
    }

    fn ask(&self, ask: impl FnOnce(u64) -> Request) -> Result<Reply, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = sync_channel(1);
        locked(&self.waiting).insert(id, sender);
        let sent = control::send(self.control.as_fd(), &ask(id), &[]);
        let reply = match sent {
            Ok(()) => answer
                .recv_timeout(PATIENCE)
                .map_err(|_| "PID 1 has not answered".to_owned()),
            Err(e) => Err(e.to_string()),
        };
        locked(&self.waiting).remove(&id);
        reply
    }
}

const OTHER: &str = "another question was answered";
/// More than the helper that looks at a secret has, and less than the door waits.
const PATIENCE: Duration = Duration::from_secs(90);
