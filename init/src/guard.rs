//! The thread that tells whether the others still work.
//!
//! It judges by what they do, not by what they say: the door must answer on a loopback socket, the
//! manager's pool must pass heartbeats (which are also the nudge that wakes a parked worker),
//! `logd` must take lines. A verdict goes to `main`, which replaces the role.
//!
//! Must never: allocate after its start, take a lock, wait longer than a tick, touch a disk, or
//! write anywhere but to its sockets.

mod evidence;
mod heartbeat;
mod own;
mod probe;
mod verdict;

use std::{
    os::fd::{AsFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use self::{
    evidence::Snapshot,
    heartbeat::Heartbeat,
    own::Own,
    probe::Probe,
    verdict::{Judge, Limits, Verdict},
};
use crate::{
    crash::{self, epitaph::Cause},
    pid1::roles::Role,
    shared::{Message, ToMain},
    vitals::{RoleRun, Vitals},
};

pub use heartbeat::{Beat, Kind};

/// Starts the thread. Unless it `may_reexecute`, a stuck thread of PID 1 is left to the hardware
/// watchdog.
///
/// # Errors
/// When the kernel gives no thread.
pub fn spawn(
    vitals: Arc<Vitals>,
    to_main: ToMain,
    heartbeat: OwnedFd,
    own_log: Arc<OwnedFd>,
    may_reexecute: bool,
) -> std::io::Result<()> {
    let guard = Guard {
        vitals,
        to_main,
        heartbeat: Heartbeat::new(heartbeat),
        probe: Probe::default(),
        own_log,
        watches: [None; Role::ALL.len()],
        own: Own::new(crate::clock::boottime()),
        may_reexecute,
    };
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(move || guard.run())?;
    Ok(())
}

struct Guard {
    vitals: Arc<Vitals>,
    to_main: ToMain,
    heartbeat: Heartbeat,
    probe: Probe,
    own_log: Arc<OwnedFd>,
    watches: [Option<Watch>; Role::ALL.len()],
    own: Own,
    may_reexecute: bool,
}

/// The run of a role under watch.
#[derive(Clone, Copy)]
struct Watch {
    run: RoleRun,
    judge: Judge,
    condemned: bool,
}

impl Guard {
    fn run(mut self) {
        crash::protect_thread();
        // Without the privilege (in a namespace) it does its work at normal priority.
        let _ = sys::sched::real_time(PRIORITY);
        loop {
            std::thread::sleep(TICK);
            // A panic costs the rest of its tick: what is kept of a role is replaced whole.
            let _ = catch_unwind(AssertUnwindSafe(|| self.tick()));
        }
    }

    fn tick(&mut self) {
        #[cfg(feature = "fault")]
        crash::fault::point("guard");
        let now = crate::clock::boottime();
        self.vitals.guard_tick(now);
        for role in Role::ALL {
            self.watch(role, now);
        }
        if let Some(thread) = self.own.stuck(&self.vitals, now)
            && self.may_reexecute
        {
            crash::reexecute(Cause::Stuck, thread);
        }
    }

    fn watch(&mut self, role: Role, now: Duration) {
        let Some(run) = self.vitals.run(role) else {
            self.watches[role.index()] = None;
            return;
        };
        let known = self.watches[role.index()].filter(|watch| watch.run == run);
        let mut watch = known.unwrap_or_else(|| {
            self.begin(role);
            Watch {
                run,
                judge: Judge::new(limits(role), run.started),
                condemned: false,
            }
        });
        if self.sees_life(role, now) && watch.judge.sign(now) {
            let _ = match role {
                Role::Front => self.to_main.send(Message::DoorAnswers),
                Role::Manager => self.to_main.send(Message::ManagerAnswers),
                Role::Logd => Ok(()),
            };
        }
        if watch.judge.is_suspicious(now) && !watch.condemned {
            watch.condemned = self.judge(role, &mut watch, now);
        }
        self.watches[role.index()] = Some(watch);
    }

    fn begin(&mut self, role: Role) {
        match role {
            Role::Front => self.probe = Probe::default(),
            Role::Manager => self.heartbeat.begin_anew(),
            Role::Logd => {}
        }
    }

    fn sees_life(&mut self, role: Role, now: Duration) -> bool {
        match role {
            Role::Front => self.probe.turn(now),
            Role::Manager => self.heartbeat.turn(now),
            // A log that has taken all there is works.
            Role::Logd => rustix::io::ioctl_fionread(self.own_log.as_fd()) == Ok(0),
        }
    }

    /// Returns whether the run was condemned.
    fn judge(&self, role: Role, watch: &mut Watch, now: Duration) -> bool {
        let why = match watch.judge.verdict(now, Snapshot::of(watch.run.pid)) {
            Verdict::Alive => return false,
            Verdict::Blocked(silence) => {
                format!(
                    "silent for {} ms, and none of its threads runs",
                    silence.as_millis()
                )
            }
            Verdict::Hopeless(silence) => format!("silent for {} s", silence.as_secs()),
        };
        let generation = watch.run.generation;
        // A full queue: `main` is behind, and is told at the next tick.
        self.to_main
            .send(Message::Dead {
                role,
                generation,
                why,
            })
            .is_ok()
    }
}

fn limits(role: Role) -> Limits {
    let (suspicious, quiet) = match role {
        Role::Front => (Duration::from_millis(1500), Duration::from_millis(500)),
        Role::Manager => (Duration::from_millis(500), Duration::from_millis(400)),
        // Behind is its ordinary state while much is logged; only standing still is not.
        Role::Logd => (Duration::from_secs(3), Duration::from_secs(2)),
    };
    let hopeless = match role {
        // A loaded box may be slow; a thread that spins is found by the pool's own measure later.
        Role::Front | Role::Manager => Duration::from_secs(15),
        Role::Logd => Duration::from_secs(60),
    };
    Limits {
        suspicious,
        quiet,
        hopeless,
        startup: Duration::from_secs(60),
    }
}

/// The heartbeat's period: the longest that a parked pool stays silent.
const TICK: Duration = Duration::from_millis(100);

/// Above all ordinary threads; low among the real-time ones.
const PRIORITY: u8 = 10;
