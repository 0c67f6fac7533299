//! What could not be begun when its time came, for want of a thread or a descriptor, is tried
//! again: PID 1 goes on without it meanwhile.

use std::time::Duration;

use supervise::control::Event;

use super::{Pid1, Stage, roles::Role, sockets};
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
        self.open_ports();
        self.open_names();
        self.keep_time(now);
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

    /// Opens those of the door's own ports that could not be opened before.
    fn open_ports(&mut self) {
        for port in sockets::OWN {
            // What can't be had stays among the box's troubles.
            if let Ok(Some(listener)) = self.sockets.open_port(port) {
                supervise::info!("port {port} is open after all");
                self.tell(Role::Front, Event::Listener { port }, vec![listener]);
                let about = format!("port {port} ");
                self.trouble
                    .retain(|notice| !notice.text.starts_with(&about));
                self.changed();
            }
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

const AGAIN: Duration = Duration::from_secs(1);
/// A start takes about a dozen for a moment.
pub(super) const SPARES: usize = 24;
