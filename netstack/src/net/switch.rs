//! A switch of the kernel's in /proc/sys that the box wants on.

use std::{io, time::Duration};

use super::clock::Now;

/// One switch. It is never turned off: somebody else may need it.
#[derive(Debug)]
pub(crate) struct Switch {
    path: &'static str,
    off: &'static [&'static str],
    state: State,
}

#[derive(Debug)]
enum State {
    /// Why, and when it is tried again.
    Failed(String, Now),
    On,
    Unset,
}

impl Switch {
    /// The switch at `path`, which nobody has touched yet.
    pub(crate) fn new(path: &'static str) -> Self {
        Self {
            path,
            off: &[],
            state: State::Unset,
        }
    }

    /// The same, with switches that are to be off before it is on, where the kernel has them.
    pub(crate) fn without(self, off: &'static [&'static str]) -> Self {
        Self { off, ..self }
    }

    /// Turns it on, unless it is or has failed just now.
    pub(crate) fn turn_on(&mut self, now: Now) {
        match self.state {
            State::On => return,
            State::Failed(_, retry_at) if retry_at > now => return,
            State::Failed(..) | State::Unset => {}
        }
        self.state = match self.write() {
            Ok(()) => State::On,
            Err(error) => State::Failed(error.to_string(), now + RETRY_PAUSE),
        };
    }

    fn write(&self) -> io::Result<()> {
        for switch in self.off {
            match std::fs::write(switch, "0") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        std::fs::write(self.path, "1")
    }

    /// Has it turned on anew, next time.
    pub(crate) fn doubt(&mut self) {
        self.state = State::Unset;
    }

    /// When [`turn_on`](Self::turn_on) is needed again.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Failed(_, retry_at) => Some(retry_at),
            State::On | State::Unset => None,
        }
    }

    /// Why it is not on, if it was tried.
    pub(crate) fn failure(&self) -> Option<&str> {
        match &self.state {
            State::Failed(why, _) => Some(why),
            State::On | State::Unset => None,
        }
    }
}

const RETRY_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_fails_is_told_and_tried_again_later() {
        let mut switch = Switch::new("/proc/sys/net/there-is-no-such-switch");
        assert_eq!((switch.failure(), switch.deadline()), (None, None));
        switch.turn_on(Duration::ZERO);
        assert!(switch.failure().is_some());
        assert_eq!(switch.deadline(), Some(RETRY_PAUSE));
        switch.turn_on(RETRY_PAUSE / 2);
        assert_eq!(
            switch.deadline(),
            Some(RETRY_PAUSE),
            "its time has not come"
        );
        switch.turn_on(RETRY_PAUSE);
        assert_eq!(switch.deadline(), Some(RETRY_PAUSE * 2));
        switch.doubt();
        assert_eq!(switch.failure(), None);
    }
}
