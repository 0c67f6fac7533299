//! What `main` hears: signals, its own threads, the console's orders, the kernel's events, buttons.

use std::time::Duration;

use nix::sys::signal::Signal;
use supervise::control::Power;

use super::{Pid1, jobs::Purpose, roles::Role};
use crate::{boot::Action, console, shared::Message};

impl Pid1 {
    /// Signals to PID 1: busybox's own commands and the kernel's Ctrl-Alt-Del.
    pub(super) fn take_signals(&mut self, now: Duration) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo.cast_signed()) {
                Ok(Signal::SIGINT | Signal::SIGTERM) => self.go_down(Power::Reboot, now),
                Ok(Signal::SIGUSR1) => self.go_down(Power::Halt, now),
                Ok(Signal::SIGUSR2 | Signal::SIGPWR) => self.go_down(Power::PowerOff, now),
                // SIGCHLD: the reaper looks anyway.
                _ => {}
            }
        }
    }

    pub(super) fn take_messages(&mut self, now: Duration) {
        self.inbox.answer();
        for _ in 0..MESSAGES_A_TURN {
            let Some(message) = self.inbox.next() else {
                return;
            };
            match message {
                Message::Dead {
                    role,
                    generation,
                    cause,
                } => self.replace(role, generation, cause, now),
                Message::Healthy { role, generation } => self.is_healthy(role, generation),
                Message::DoorAnswers => self.role_answers(Role::Front, Action::Front),
                Message::ManagerAnswers => self.role_answers(Role::Manager, Action::Manager),
                Message::Net(status) => self.net_is(*status),
                Message::Order(order, reply) => {
                    let _ = reply.try_send(self.obey(order, now));
                }
                Message::Shell(tty, reply) => self.start_shell(&tty, reply),
            }
        }
    }

    /// Does what the holder of the console wants.
    pub(super) fn obey(&mut self, order: console::Order, now: Duration) -> Result<String, String> {
        match order {
            console::Order::Network(order) => self.obey_network(order, now),
            console::Order::Power(power) => {
                self.go_down(power, now);
                Ok("Going down.".to_owned())
            }
            console::Order::Restart(unit) => {
                self.restart(&unit, now)?;
                Ok(format!("{unit} is being restarted."))
            }
            console::Order::Start(unit) => {
                self.tell_wish(unit.clone(), true);
                if let Some(known) = self.table.get_mut(&unit) {
                    known.life.want();
                    return Ok(format!("{unit} is being started."));
                }
                let manager = self.table.get(&Role::Manager.unit());
                if manager.is_some_and(|manager| manager.life.is_running()) {
                    return Ok(format!("The manager was told to start {unit}."));
                }
                Err(format!(
                    "there is no unit {unit}, and no manager to ask for it"
                ))
            }
            console::Order::Stop(unit) => {
                self.tell_wish(unit.clone(), false);
                self.stop_service(&unit, now)?;
                Ok(format!("{unit} is being stopped."))
            }
        }
    }

    pub(super) fn role_answers(&mut self, role: Role, action: Action) {
        self.upgrade.answers[role.index()] = true;
        self.step_done(action);
    }

    pub(super) fn take_uevents(&mut self) {
        let mut aliases = Vec::new();
        let (mut look, mut lost) = (false, false);
        if let Some(uevents) = &mut self.uevents {
            for _ in 0..UEVENTS_A_TURN {
                let event = match uevents.receive() {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(e) => {
                        supervise::warning!("{e}");
                        lost = true;
                        break;
                    }
                };
                look |= matches!(event.subsystem(), "input" | "block");
                aliases.extend(event.wants_module().map(str::to_owned));
            }
        }
        // Before the first look at all devices is over, it sees these too.
        if self.drivers_done.is_some() && !aliases.is_empty() {
            let mut args = vec!["modalias"];
            args.extend(aliases.iter().map(String::as_str));
            self.start_job(Purpose::Modalias, &args, MODALIAS_PATIENCE);
        }
        if lost && self.drivers_done.is_some() {
            self.start_coldplug(MODALIAS_PATIENCE);
        }
        if look || lost {
            self.hunt_at = Duration::ZERO;
            let _ = self.buttons.look(std::path::Path::new("/sys"));
        }
    }

    pub(super) fn take_buttons(&mut self, now: Duration) {
        let names: Vec<String> = self
            .buttons
            .descriptors()
            .map(|(name, _)| name.to_owned())
            .collect();
        if names.iter().any(|name| self.buttons.pressed(name)) {
            supervise::info!("the power button was pressed");
            self.go_down(Power::PowerOff, now);
        }
    }
}

const MODALIAS_PATIENCE: Duration = Duration::from_secs(60);

/// Bounds on one turn, so that no source of work keeps the others waiting.
const MESSAGES_A_TURN: usize = 64;

const UEVENTS_A_TURN: usize = 256;
