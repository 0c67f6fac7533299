//! What could not be begun when its time came, for want of a thread or a descriptor, is tried
//! again: PID 1 goes on without it meanwhile.

use std::time::Duration;

use rustix::io::Errno;

use super::{Pid1, Stage};
use crate::{boot::Action, guard, kmsg};

impl Pid1 {
    /// Once a second, the guard, the consoles and `net`, if they are not there.
    pub(super) fn try_again(&mut self, now: Duration) {
        if now < self.try_again_at {
            return;
        }
        self.try_again_at = now + AGAIN;
        if self.stage == Stage::Root && !self.guard_is_up {
            self.start_guard();
        }
        self.open_consoles();
        if self.net_thread.is_none()
            && self.boot.has_begun(Action::Network)
            && let Err(why) = self.start_network()
        {
            supervise::error!("the network's thread does not start: {why}; it is tried again");
        }
        if self.spares.are_short() && self.spares.take() {
            supervise::info!("the reserved descriptors are held again");
        }
        if crate::crash::reserve::take_again() {
            supervise::error!("memory ran out; the reserve was used and is held again");
        }
    }

    /// Starts the thread that judges the others.
    pub(super) fn start_guard(&mut self) {
        let (vitals, to_main) = (self.vitals.clone(), self.to_main.clone());
        let from = self.succession.ends_safe_mode();
        let started = self.guards.try_clone().and_then(|guards| {
            guard::spawn(vitals, to_main, guards, self.own_log.read.clone(), from)
        });
        match started {
            Ok(()) => self.guard_is_up = true,
            Err(why) => kmsg::write(kmsg::ERROR, &format!("the guard does not start: {why}")),
        }
    }
}

/// Descriptors held so that a role can be started, and the door with it, when PID 1 has no others.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<std::os::fd::OwnedFd>);

impl Spares {
    /// Takes as many as are missing. Whether all are there.
    pub(super) fn take(&mut self) -> bool {
        while self.are_short() {
            match super::open("/dev/null", rustix::fs::OFlags::PATH) {
                Ok(spare) => self.0.push(spare),
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Gives them to whoever opens something now.
    pub(super) fn give(&mut self) {
        self.0.clear();
    }

    /// Whether some are missing.
    pub(super) fn are_short(&self) -> bool {
        self.0.len() < SPARES
    }
}

const AGAIN: Duration = Duration::from_secs(1);
/// A start takes about a dozen for a moment.
const SPARES: usize = 24;
