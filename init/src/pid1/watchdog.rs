//! The hardware watchdog: armed late in the boot, and fed as long as the guard lives to judge the
//! others.

use std::{path::Path, time::Duration};

use drivers::watchdog;

use super::{Pid1, jobs::Purpose, steps::Begun};
use crate::{boot::Action, crash, helper::answer, kmsg};

impl Pid1 {
    /// Arms the watchdog, after its driver was loaded if there is none.
    pub(super) fn begin_watchdog(&mut self, patience: Duration) {
        let begun = self.find_watchdog(patience);
        self.begun(Action::Watchdog, begun);
    }

    /// The kernel's own watchdog was loaded, or can't be: then the box does without.
    pub(super) fn softdog_loaded(&mut self, result: Result<String, String>) {
        let loaded = result.and_then(|answer| {
            let modules: answer::Modules =
                serde_json::from_str(&answer).map_err(|e| e.to_string())?;
            match modules.failed.into_iter().next() {
                Some(why) => Err(why),
                None => Ok(()),
            }
        });
        let begun = match loaded {
            Ok(()) => self.arm_watchdog(),
            Err(why) => Ok(Begun::Skipped(format!(
                "this machine has no hardware watchdog, and {why}"
            ))),
        };
        self.begun(Action::Watchdog, begun);
    }

    fn arm_watchdog(&mut self) -> Result<Begun, String> {
        let armed =
            watchdog::arm(Path::new("/sys"), WATCHDOG_TIMEOUT).map_err(|e| e.to_string())?;
        let seconds = armed.timeout.as_secs();
        let help = match armed.hardware {
            true => "",
            false => ", unless its kernel hangs too: there is no hardware watchdog",
        };
        supervise::info!(
            "watchdog {} resets a box that hangs for {seconds} s{help}",
            armed.identity
        );
        if armed.caused_last_boot {
            self.trouble.push(super::publish::care(
                "The hardware watchdog restarted the server: it had stopped working.".to_owned(),
            ));
        }
        self.watchdog = Some(armed);
        Ok(Begun::Done)
    }

    /// Feeds the hardware watchdog, as long as the guard is alive to judge the others.
    pub(super) fn feed_watchdog(&mut self, now: Duration) {
        let lives = self.vitals.guard_age(now) <= GUARD_IS_DEAD_AFTER;
        if self.guard_lives == Some(!lives) {
            self.tell_of_guard(lives);
        }
        self.guard_lives = self.guard_lives.map(|_| lives).or(lives.then_some(true));
        if !lives || now < self.feed_at {
            return;
        }
        self.feed_at = now + FEED_EVERY;
        if let Some(watchdog) = &self.watchdog {
            let _ = watchdog.device.feed();
        }
        crash::probation::goes_on(now);
    }

    /// On the console too: after the reset that follows, it may be all that is known.
    fn tell_of_guard(&self, lives: bool) {
        let text = match (lives, &self.watchdog) {
            (true, _) => "the guard works again",
            (false, Some(_)) => "the guard does nothing any more: the watchdog is no longer fed",
            (false, None) => "the guard does nothing any more, and there is no watchdog",
        };
        kmsg::write(kmsg::ERROR, text);
        supervise::error!("{text}");
    }

    pub(super) fn find_watchdog(&mut self, patience: Duration) -> Result<Begun, String> {
        if watchdog::candidates(Path::new("/sys")).is_ok_and(|found| found.is_empty()) {
            self.start_job(Purpose::Softdog, &["load", watchdog::SOFTWARE], patience);
            return Ok(Begun::Pending);
        }
        self.arm_watchdog()
    }
}

/// Long enough for a box that is only busy, short enough that nobody has driven there yet.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(30);
/// A guard that has not ticked for so long is stuck itself.
const GUARD_IS_DEAD_AFTER: Duration = Duration::from_secs(5);
const FEED_EVERY: Duration = Duration::from_secs(1);
