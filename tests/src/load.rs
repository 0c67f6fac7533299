//! Requests at a steady rate, whatever becomes of those before: an open loop, as many people are.
//!
//! A box that stops answering gets no fewer of them; each one that is not answered is told of.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, Scope},
    time::{Duration, Instant},
};

use anyhow::Result;
use boards::web::{Session, Trust};

/// What is asked for, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// A port of localhost that speaks TLS.
    pub port: u16,
    /// The name it is asked by.
    pub host: String,
    /// The path.
    pub path: String,
    /// Whose certificates are trusted.
    pub trust: Trust,
    /// Whether connections are kept for the next request.
    pub keep_alive: bool,
    /// How often a request whose connection breaks is made; browsers make it twice.
    pub tries: u32,
}

/// Load under way. Dropped, it goes on until the process ends.
pub struct Load {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

/// What became of all requests.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were made.
    pub requests: u32,
    /// How many of them were answered with status 200.
    pub answered: u32,
    /// How many connections broke, if the request was made once more.
    pub broken: u32,
    /// Those without an answer: what became of each.
    pub failed: Vec<String>,
    /// How long the slowest answer took.
    pub slowest: Duration,
}

impl Load {
    /// Begins with `rate` requests a second.
    pub fn begin(target: Target, rate: u32) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&enough);
        let thread = thread::spawn(move || run(&target, rate, &seen));
        Self { enough, thread }
    }

    /// Makes no more requests and waits for the answers to those made.
    ///
    /// # Panics
    /// When the thread that made them did.
    pub fn end(self) -> Tally {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load panicked")
    }
}

fn run(target: &Target, rate: u32, enough: &AtomicBool) -> Tally {
    let (began, tally) = (Instant::now(), Mutex::new(Tally::default()));
    let idle = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for n in 0.. {
            let due = began + Duration::from_secs(1) * n / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if enough.load(Ordering::Relaxed) {
                return;
            }
            lock(&tally).requests += 1;
            request(scope, target, &idle, &tally);
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn request<'scope>(
    scope: &'scope Scope<'scope, '_>,
    target: &'scope Target,
    idle: &'scope Mutex<Vec<Idle>>,
    tally: &'scope Mutex<Tally>,
) {
    scope.spawn(move || {
        let made = Instant::now();
        let mut answer = ask(target, idle);
        for _ in 1..target.tries {
            if answer.is_err() {
                lock(tally).broken += 1;
                answer = ask(target, idle);
            }
        }
        let mut tally = lock(tally);
        match answer {
            Ok(200) => {
                tally.answered += 1;
                tally.slowest = tally.slowest.max(made.elapsed());
            }
            Ok(status) => tally.failed.push(format!("status {status}")),
            Err(why) => tally.failed.push(format!("{why:#}")),
        }
    });
}

/// The status of an answer; an error if there was none.
fn ask(target: &Target, idle: &Mutex<Vec<Idle>>) -> Result<u16> {
    let kept = lock(idle).pop();
    let mut session = match kept {
        Some(Idle { session, since }) if since.elapsed() < KEPT => session,
        _ => Session::open(target.port, &target.host, &target.trust, PATIENCE)?,
    };
    let status = session.get(&target.path, PATIENCE)?.status;
    if target.keep_alive {
        let since = Instant::now();
        lock(idle).push(Idle { session, since });
    }
    Ok(status)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that waits for its next request.
struct Idle {
    session: Session,
    since: Instant,
}

/// The door closes connections that were idle for more than a minute.
const KEPT: Duration = Duration::from_secs(30);

/// Longer than anything here takes: what counts is whether there is an answer.
const PATIENCE: Duration = Duration::from_secs(120);
