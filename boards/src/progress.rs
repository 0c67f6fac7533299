//! Tells the person who waits what is being waited for.
//!
//! A step that is over within a second says nothing; a longer one is announced while it runs and
//! tells afterwards how long it took. All of it goes to stderr: stdout belongs to what was asked for.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Does `work`, showing `what` if it takes longer than a second.
pub fn step<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let (done, over) = mpsc::channel::<()>();
    let outcome = thread::scope(|scope| {
        scope.spawn(move || {
            if over.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("   {what} ...");
            }
        });
        let outcome = work();
        drop(done);
        outcome
    });
    let took = started.elapsed();
    if took > SILENCE {
        eprintln!("   {what}: {:.1} s", took.as_secs_f64());
    }
    outcome
}

/// One line for the person who waits.
pub fn say(line: &str) {
    eprintln!("   {line}");
}

/// How long a step may take before it is worth a line: people notice a pause at about a second.
const SILENCE: Duration = Duration::from_secs(1);
