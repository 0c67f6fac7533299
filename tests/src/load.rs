//! Requests at a steady rate, whatever becomes of those before: an open loop, as many people are.
//!
//! A box that is slow gets no fewer of them, only later; each one that is not answered is told of.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread::{self, JoinHandle},
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

/// Queues a request whenever one is due, and has connections take them from there.
fn run(target: &Target, rate: u32, enough: &AtomicBool) -> Tally {
    let tally = Mutex::new(Tally::default());
    let (due, requests) = mpsc::channel::<Instant>();
    let requests = Mutex::new(requests);
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| connection(target, &requests, &tally));
        }
        let began = Instant::now();
        for n in 0.. {
            let at = began + Duration::from_secs(1) * n / rate;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if enough.load(Ordering::Relaxed) || due.send(at).is_err() {
                break;
            }
            lock(&tally).requests += 1;
        }
        drop(due);
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Makes one request after the other, until there are no more.
fn connection(target: &Target, requests: &Mutex<Receiver<Instant>>, tally: &Mutex<Tally>) {
    let mut kept = None;
    loop {
        let next = lock(requests).recv();
        let Ok(made) = next else { return };
        let mut answer = ask(target, &mut kept);
        for _ in 1..target.tries {
            if answer.is_err() {
                lock(tally).broken += 1;
                answer = ask(target, &mut kept);
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
    }
}

/// The status of an answer, on the connection that is kept, if it is, or on a new one.
fn ask(target: &Target, kept: &mut Option<(Instant, Session)>) -> Result<u16> {
    let mut session = match kept.take() {
        Some((since, session)) if since.elapsed() < KEPT => session,
        _ => Session::open(target.port, &target.host, &target.trust, PATIENCE)?,
    };
    let status = session.get(&target.path, PATIENCE)?.status;
    *kept = Some((Instant::now(), session));
    Ok(status)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many as a few browsers have: more would, on an emulated box, time out in their handshakes.
const CONNECTIONS: u32 = 16;

/// The door closes connections that were idle for more than a minute.
const KEPT: Duration = Duration::from_secs(30);

/// Longer than anything here takes: what counts is whether there is an answer.
const PATIENCE: Duration = Duration::from_secs(300);
