//! What `execve` keeps of the thread that crashed and a fresh boot would not have: undone first.
//!
//! Kept: scheduling policy (the guard's is real-time), affinity, signal mask, timer slack, ignored
//! signals. The name becomes that of the descriptor that was executed. Dropped, and made anew by
//! whoever needs it: memory locks, alternate stacks, epoll sets, POSIX timers, handlers.

use nix::sys::signal::{SigSet, Signal};
use rustix::thread::CpuSet;

/// The signals that PID 1 takes by descriptor. They stay blocked through a re-execution, so that
/// one that comes just then waits for the successor: unblocked, the kernel would drop it, as it
/// drops any signal to an init that has no handler for it.
pub const WATCHED: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGPWR,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Makes the calling thread, the only one there is, what it is in a fresh boot.
pub fn begin_afresh() {
    let mut watched = SigSet::empty();
    WATCHED.iter().for_each(|signal| watched.add(*signal));
    let _ = watched.thread_set_mask();
    let _ = sys::sched::normal();
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    // The kernel takes what there is of them.
    let _ = rustix::thread::sched_setaffinity(None, &all);
    let _ = rustix::thread::set_current_timer_slack(None);
    let _ = rustix::thread::set_name(c"init");
}
