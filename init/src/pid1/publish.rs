//! The state of the box as PID 1 sees it, made into the one value that everybody shows.

use std::time::Duration;

use netstack::door::{DoorConfig, Upstream};
use supervise::{
    control::Event,
    status::{BoxStatus, DataState, Notice, NoticeLevel, StepOutcome},
};

use super::{Pid1, replace::HELD_BACK, roles::Role};

impl Pid1 {
    /// The state of the box now.
    pub(super) fn status(&self, now: Duration) -> BoxStatus {
        let infos = |services: bool| {
            self.table
                .iter()
                .filter(|(_, unit)| unit.service().is_some() == services)
                .map(|(name, unit)| unit.info(name, now))
                .collect()
        };
        BoxStatus {
            hostname: self.hostname().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.kernel.clone(),
            uptime: now,
            boot: self.boot.reports(),
            roles: infos(false),
            services: infos(true),
            data: self.data.clone(),
            net: self.net.clone(),
            resolver: self.names.status.clone(),
            notices: self.notices(now),
            log: self.log_tail.clone(),
            guard: crate::guard::report(&self.vitals),
            manager_silence: self.vitals.silence(Role::Manager, now),
            going_down: self.down.as_ref().map(|down| down.purpose().to_owned()),
            init: self.init_status(),
            network: self.network_status(now),
        }
    }

    /// The name that the box goes by.
    pub(super) fn hostname(&self) -> &str {
        self.other_hostname.as_ref().unwrap_or(&self.keep.hostname)
    }

    /// Publishes the state if it may have changed, at most once a second.
    pub(super) fn publish(&mut self, now: Duration) {
        if now < self.publish_at {
            return;
        }
        self.publish_at = now
            + if self.dirty {
                PUBLISH_EVERY
            } else {
                REFRESH_EVERY
            };
        self.dirty = false;
        let status = self.status(now);
        self.board.status.set(status.clone());
        for role in [Role::Front, Role::Manager, Role::Logd] {
            self.tell(role, Event::Status(Box::new(status.clone())), vec![]);
        }
    }

    /// Something changed: publish soon.
    pub(super) fn changed(&mut self) {
        if !self.dirty {
            self.dirty = true;
            self.publish_at = self.publish_at.min(self.last_turn + PUBLISH_EVERY);
        }
    }

    /// The data file system's state for the roles that use it, once it is known.
    pub(super) fn data_event(&self) -> Option<Event> {
        match &self.data {
            DataState::Mounted { .. } | DataState::Hanging(_) => Some(Event::Data(Ok(()))),
            DataState::Absent(why) => Some(Event::Data(Err(why.clone()))),
            DataState::Pending => None,
        }
    }

    /// The door's configuration before any manager has said another.
    pub(super) fn first_door(&self) -> DoorConfig {
        DoorConfig {
            hostname: self.keep.hostname.clone(),
            identity: postcard::from_bytes(&self.keep.identity).ok(),
            ca_pem: Some(self.keep.ca_pem.clone()).filter(|pem| !pem.is_empty()),
            dashboard: Upstream::default(),
            routes: Vec::new(),
        }
    }

    /// Roles that failed too often, with the reason.
    fn held_back(&self) -> impl Iterator<Item = Notice> + '_ {
        Role::ALL.into_iter().filter_map(|role| {
            let unit = self.table.get(&role.unit())?;
            let wait = unit.life.retry_in(self.last_turn);
            let why = self.replaced.why[role.index()]?;
            (wait >= HELD_BACK).then(|| {
                bad(format!(
                    "The {} stopped working too often and is tried again in {} s. The last time, \
                     {why}.",
                    role.name(),
                    wait.as_secs()
                ))
            })
        })
    }

    fn notices(&self, now: Duration) -> Vec<Notice> {
        let mut notices = self.trouble.clone();
        notices.extend(self.held_back());
        notices.extend(self.succession.notice(now));
        notices.extend(self.upgrade_notice());
        match &self.data {
            DataState::Absent(why) => {
                notices.push(bad(format!("The data disk can't be used: {why}")))
            }
            DataState::Hanging(since) => notices.push(bad(format!(
                "The data disk has not answered for {} s. Services that need it are stuck with it.",
                since.as_secs()
            ))),
            DataState::Mounted { .. } if self.reserve_is_given => {
                notices.push(bad(RESERVE.to_owned()))
            }
            DataState::Mounted { .. } | DataState::Pending => {}
        }
        if let Some(name) = &self.other_hostname {
            let wanted = &self.keep.hostname;
            notices.push(care(format!(
                "Another device on the network is called {wanted}.local, so this one goes by \
                 {name}.local."
            )));
        }
        notices.extend(self.names.silence().map(care));
        notices.extend(self.managers_notices.iter().cloned());
        for report in self.boot.reports() {
            if let StepOutcome::Failed {
                why, consequence, ..
            } = report.outcome
                && report.name != "data"
            {
                notices.push(care(format!(
                    "Boot step \"{}\" failed: {why}. {consequence}",
                    report.name
                )));
            }
        }
        if !self.left_behind.is_empty() {
            notices.push(care(format!(
                "{} process(es) of ours are stuck in the kernel and were left behind.",
                self.left_behind.len()
            )));
        }
        notices
    }
}

/// Said while the reserve is given back.
const RESERVE: &str = "The data disk is full. The server has given its reserve of 16 MiB back, so \
                       that things can still be deleted: delete what is not needed.";

pub(super) fn bad(text: String) -> Notice {
    Notice {
        level: NoticeLevel::Bad,
        text,
    }
}

pub(super) fn care(text: String) -> Notice {
    Notice {
        level: NoticeLevel::Care,
        text,
    }
}

/// The status is some kilobytes; a busy boot would otherwise send hundreds of them.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
/// Durations in it grow although nothing changes.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
