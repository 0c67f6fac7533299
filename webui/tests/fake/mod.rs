//! A made-up host that notes what it was told to do.

#![allow(dead_code, reason = "each test file uses another part of it")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use supervise::{
    control::{Power, Secret},
    network::{ChangeTaken, GeneralSetting, Wish},
    status::BoxStatus,
    unit::UnitName,
};
use tokio::sync::watch;
use webui::{Asked, Host, LogLine, ServiceCommand, ServiceState, ServiceView, Snapshot};

pub(crate) const CODE: &str = "maple-river-seven";

pub(crate) struct Fake {
    state: watch::Sender<Arc<Snapshot>>,
    log: Mutex<Vec<LogLine>>,
    log_lost: AtomicBool,
    /// Requests for the lost log: made, and no longer waited for.
    log_asked: AtomicU64,
    log_given_up: AtomicU64,
    done: Mutex<Vec<String>>,
    code: Mutex<Option<String>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let demo = ServiceView {
            id: "demo".to_owned(),
            title: "Demo".to_owned(),
            version: "1.0.0".to_owned(),
            state: ServiceState::Running,
            why: None,
            since: Some(Duration::ZERO),
            restarts: 0,
            interfaces: Vec::new(),
        };
        let status = BoxStatus {
            hostname: "box".to_owned(),
            ..BoxStatus::default()
        };
        let snapshot = Snapshot {
            status,
            services: vec![demo],
        };
        Self {
            state: watch::Sender::new(Arc::new(snapshot)),
            log: Mutex::default(),
            log_lost: AtomicBool::new(false),
            log_asked: AtomicU64::new(0),
            log_given_up: AtomicU64::new(0),
            done: Mutex::default(),
            code: Mutex::new(Some(CODE.to_owned())),
        }
    }

    /// One that has heard nothing of its box yet.
    pub(crate) fn unknown() -> Self {
        let fake = Self::new();
        fake.change(|snapshot| *snapshot = Snapshot::default());
        fake
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        self.state
            .send_modify(|snapshot| change(Arc::make_mut(snapshot)));
    }

    pub(crate) fn say(&self, text: &str) {
        let unit = "demo".to_owned();
        let line = LogLine {
            at: Some(1),
            unit,
            priority: 6,
            text: text.to_owned(),
        };
        self.log.lock().unwrap().push(line);
    }

    /// From now on the log can't be asked.
    pub(crate) fn lose_log(&self) {
        self.log_lost.store(true, Ordering::Relaxed);
    }

    /// How many requests for the lost log were made, and how many of them are no longer waited for.
    pub(crate) fn lost_log(&self) -> (u64, u64) {
        // In this order: one that is waited for was made.
        let given_up = self.log_given_up.load(Ordering::SeqCst);
        (self.log_asked.load(Ordering::SeqCst), given_up)
    }

    pub(crate) fn forget_code(&self) {
        *self.code.lock().unwrap() = None;
    }

    /// What it was told to do, in order.
    pub(crate) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn note(&self, what: String) -> Result<(), String> {
        self.done.lock().unwrap().push(what);
        Ok(())
    }
}

impl Host for Fake {
    fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.state.subscribe()
    }

    fn logs(&self, _unit: Option<UnitName>, lines: usize) -> Asked<'_, Vec<LogLine>> {
        if self.log_lost.load(Ordering::Relaxed) {
            self.log_asked.fetch_add(1, Ordering::SeqCst);
            let given_up = GivenUp(&self.log_given_up);
            return Box::pin(async move {
                let _given_up = given_up;
                std::future::pending().await
            });
        }
        let log = self.log.lock().unwrap().clone();
        let from = log.len().saturating_sub(lines);
        Box::pin(async move { Ok(log[from..].to_vec()) })
    }

    fn service(&self, id: &str, command: ServiceCommand) -> Result<(), String> {
        if id != "demo" {
            return Err(format!("There is no service {id:?}."));
        }
        self.note(format!("{command} {id}"))
    }

    fn power(&self, how: Power) -> Result<(), String> {
        self.note(format!("power {how:?}"))
    }

    fn set_network(&self, link: String, wish: Wish, seconds: u64) -> Asked<'_, ChangeTaken> {
        let noted = self.note(format!("{link} is to be {wish} for {seconds} s"));
        Box::pin(async move {
            noted?;
            Ok(ChangeTaken {
                token: Secret("0123456789abcdef".repeat(2)),
                seconds,
                applies_in: 2,
                addresses: vec![[192, 168, 1, 5].into()],
            })
        })
    }

    fn confirm_network(&self, Secret(token): Secret) -> Asked<'_, bool> {
        let noted = self.note(format!("confirm {token}"));
        Box::pin(async move { noted.map(|()| true) })
    }

    fn set_general(&self, setting: GeneralSetting) -> Asked<'_, ()> {
        let noted = self.note(setting.to_string());
        Box::pin(async move { noted })
    }

    fn undo_network(&self) -> Asked<'_, ()> {
        let noted = self.note("undo".to_owned());
        Box::pin(async move { noted })
    }

    fn restart_role(&self, role: &UnitName) -> Result<(), String> {
        self.note(format!("replace {role}"))
    }

    fn upgrade(&self, program: std::os::fd::OwnedFd) -> Result<(), String> {
        let length = std::fs::File::from(program).metadata().unwrap().len();
        self.note(format!("upgrade to {length} bytes"))
    }

    fn setup_code(&self) -> Option<String> {
        self.code.lock().unwrap().clone()
    }
}

/// Counts when it is dropped.
struct GivenUp<'a>(&'a AtomicU64);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
