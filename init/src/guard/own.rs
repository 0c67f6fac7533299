//! PID 1's own threads: `main` and `net` must turn their loops. One that does not is stuck for good
//! when it also uses no CPU; then PID 1 is executed anew.

use std::{io::Write as _, time::Duration};

use rustix::fs::{Mode, OFlags};

use crate::vitals::{Turns, Vitals};

/// The watch over them.
#[derive(Debug)]
pub(super) struct Own {
    main: Watched,
    net: Watched,
    last: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    turns: u64,
    last_sign: Duration,
    quiet_since: Option<(Duration, u64)>,
}

impl Own {
    /// Begins to watch.
    pub(super) fn new(now: Duration) -> Self {
        let watched = Watched {
            turns: 0,
            last_sign: now,
            quiet_since: None,
        };
        Self {
            main: watched,
            net: watched,
            last: now,
        }
    }

    /// The name of a thread that is stuck, if one is. Called at every tick.
    pub(super) fn stuck(&mut self, vitals: &Vitals, now: Duration) -> Option<&'static str> {
        // Who did not run itself (the machine slept) has no right to judge.
        let slept = now.saturating_sub(self.last) > OVERSLEPT;
        self.last = now;
        let main = self.main.is_stuck(vitals.main(), slept, now);
        // What `net` does is told by `main`: while that is silent, nothing is known of it.
        let untold = now.saturating_sub(self.main.last_sign) > TOLD_WITHIN;
        let net = self.net.is_stuck(vitals.net(), slept || untold, now);
        main.then_some("main").or(net.then_some("net"))
    }
}

impl Watched {
    fn is_stuck(&mut self, shown: &Turns, slept: bool, now: Duration) -> bool {
        let known = shown.get();
        let turns = known.map_or(0, |(_, turns)| turns);
        if slept || known.is_none() || turns != self.turns {
            self.turns = turns;
            self.last_sign = now;
            self.quiet_since = None;
        }
        let silence = now.saturating_sub(self.last_sign);
        if silence < SUSPICIOUS {
            return false;
        }
        let cpu = known.and_then(|(thread, _)| cpu_of_waiting(thread));
        match (cpu, self.quiet_since) {
            (Some(cpu), Some((since, before))) if cpu == before => {
                now.saturating_sub(since) >= QUIET
            }
            (cpu, _) => {
                self.quiet_since = cpu.map(|cpu| (now, cpu));
                silence >= HOPELESS
            }
        }
    }
}

/// The CPU time used so far (clock ticks) by a thread of this process that waits for something;
/// nothing if it runs or wants to, or is gone (proc_pid_stat(5)). Does not allocate.
fn cpu_of_waiting(thread: u32) -> Option<u64> {
    let mut path = [0_u8; 48];
    let mut rest = &mut path[..];
    write!(rest, "/proc/self/task/{thread}/stat").ok()?;
    let length = path.len() - rest_of(&path);
    let path = str::from_utf8(&path[..length]).ok()?;
    let stat = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut line = [0_u8; 512];
    let n = rustix::io::read(&stat, &mut line[..]).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    let end = line[..n].iter().rposition(|byte| *byte == b')')?;
    let mut fields = str::from_utf8(&line[end + 1..n]).ok()?.split_whitespace();
    if fields.next()? == "R" {
        return None;
    }
    // utime and stime are fields 14 and 15 of the line, the state is field 3.
    let mut ticks = fields.skip(10).map(|field| field.parse::<u64>().ok());
    Some(ticks.next()?? + ticks.next()??)
}

/// How many bytes at the end were not written.
fn rest_of(text: &[u8]) -> usize {
    text.iter().rev().take_while(|byte| **byte == 0).count()
}

/// Both turn at least once a second; a loaded box was seen to keep a thread from its CPU for 3.6 s,
/// and such a one wants to run, which is no evidence.
const SUSPICIOUS: Duration = Duration::from_secs(5);
/// So long must it have waited without using any CPU.
const QUIET: Duration = Duration::from_secs(3);
/// Whatever it does.
const HOPELESS: Duration = Duration::from_secs(60);
/// `main` turns once a second.
const TOLD_WITHIN: Duration = Duration::from_millis(1500);
const OVERSLEPT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute in steps of the guard's; the functions say whether a thread turns then. Returns who
    /// is found stuck, and after how many seconds.
    fn minute(
        main: impl Fn(u64) -> bool,
        net: impl Fn(u64) -> bool,
    ) -> Option<(&'static str, u64)> {
        let vitals = Vitals::default();
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
            let stuck = own.stuck(&vitals, Duration::from_millis(ms));
            found = found.or(stuck.map(|name| (name, ms / 1000)));
        }
        drop(sleeper);
        found
    }

    /// A thread that sleeps until its sender is dropped.
    fn sleeper() -> (std::sync::mpsc::Sender<()>, u32) {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let id = rustix::thread::gettid().as_raw_nonzero().get();
            let _ = tell.send(id.unsigned_abs());
            let _ = ended.recv();
        });
        let thread = told.recv().unwrap();
        while cpu_of_waiting(thread).is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        (end, thread)
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
    fn a_silent_main_is_not_taken_for_a_silent_net() {
        let found = minute(|ms| ms < 10_000, |ms| ms < 9_000);
        assert_eq!(found.map(|(name, _)| name), Some("main"));
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
