//! PID 1's own threads: `main` and `net` must turn their loops. One that does not is stuck for good
//! when it also uses no CPU; then PID 1 is executed anew.

use std::time::Duration;

use super::{
    evidence::Threads,
    verdict::{Case, Part, Silence},
};
use crate::vitals::{Turns, Vitals};

/// The watch over them.
#[derive(Debug)]
pub(super) struct Own {
    main: Watched,
    net: Watched,
    last: Duration,
}

#[derive(Debug)]
struct Watched {
    case: Case,
    turns: u64,
    turned: Duration,
}

impl Own {
    /// Begins to watch.
    pub(super) fn new(now: Duration) -> Self {
        let watched = || Watched {
            case: Case::default(),
            turns: 0,
            turned: now,
        };
        Self {
            main: watched(),
            net: watched(),
            last: now,
        }
    }

    /// The name of a thread that is stuck, if one is.
    pub(super) fn stuck(&mut self, vitals: &Vitals, now: Duration) -> Option<&'static str> {
        // Who did not run itself (the machine slept) has no right to judge.
        let slept = now.saturating_sub(self.last) > OVERSLEPT;
        self.last = now;
        let main = self.main.is_stuck(vitals.main(), slept, now);
        // What `net` does is told by `main`.
        let net = self.net.is_stuck(vitals.net(), slept, now);
        main.then_some("main").or(net.then_some("net"))
    }
}

impl Watched {
    fn is_stuck(&mut self, shown: &Turns, slept: bool, now: Duration) -> bool {
        let Some((thread, turns)) = shown.get() else {
            self.turned = now;
            return false;
        };
        if slept || turns != self.turns {
            self.turns = turns;
            self.turned = now;
            self.case.clear();
        }
        if now.saturating_sub(self.turned) < Part::Own.limits().suspicious {
            return false;
        }
        let mut threads = Threads::default();
        threads.look_at_own(thread);
        self.case.look(now, &threads);
        let silence = Silence {
            part: Part::Own,
            since: self.turned,
            thread: None,
        };
        self.case.verdict(now, &silence).is_some()
    }
}

const OVERSLEPT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute in steps of the guard's; `turns` says whether a thread turns then. Returns who is
    /// found stuck, and after how many seconds.
    fn minute(
        main: impl Fn(u64) -> bool,
        net: impl Fn(u64) -> bool,
    ) -> Option<(&'static str, u64)> {
        let vitals = Vitals::default();
        // A thread that sleeps: without a thread there would be no evidence.
        let (sleeper, thread) = sleeper();
        let mut own = Own::new(Duration::ZERO);
        let mut found = None;
        for ms in (0..59_000).step_by(100) {
            for (turns, does) in [(vitals.main(), main(ms)), (vitals.net(), net(ms))] {
                turns.set_thread(thread);
                if does {
                    turns.turn();
                }
            }
            found = found.or(own
                .stuck(&vitals, Duration::from_millis(ms))
                .map(|name| (name, ms / 1000)));
        }
        drop(sleeper);
        found
    }

    fn sleeper() -> (std::sync::mpsc::Sender<()>, u32) {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = tell.send(
                rustix::thread::gettid()
                    .as_raw_nonzero()
                    .get()
                    .unsigned_abs(),
            );
            let _ = ended.recv();
        });
        let thread = told.recv().unwrap();
        // Until it sleeps.
        let (mut threads, mut before) = (Threads::default(), Vec::new());
        loop {
            std::thread::sleep(Duration::from_millis(20));
            threads.look_at_own(thread);
            if threads.all() == before && before[0].state == b'S' {
                return (end, thread);
            }
            before = threads.all().to_vec();
        }
    }

    #[test]
    fn threads_that_turn_are_left_alone() {
        assert_eq!(minute(|_| true, |ms| ms % 1000 == 0), None);
    }

    #[test]
    fn a_thread_that_sleeps_for_ever_is_found() {
        assert_eq!(minute(|_| true, |ms| ms < 20_000), Some(("net", 27)));
        assert_eq!(minute(|ms| ms < 10_000, |_| true), Some(("main", 17)));
    }

    #[test]
    fn a_thread_that_never_began_is_not_missed() {
        assert_eq!(minute(|_| true, |_| false), None);
    }

    #[test]
    fn a_machine_that_slept_condemns_nobody() {
        let vitals = Vitals::default();
        vitals.main().turn();
        let mut own = Own::new(Duration::ZERO);
        assert_eq!(own.stuck(&vitals, Duration::from_millis(100)), None);
        assert_eq!(own.stuck(&vitals, Duration::from_secs(9000)), None);
        vitals.main().turn();
        assert_eq!(own.stuck(&vitals, Duration::from_secs(9001)), None);
    }
}
