//! A client that polls a service and the health page over HTTPS, each time over a new connection
//! and, if it is to, over one that it keeps all the while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use boards::web::{self, Session, Trust};
use tests::vm::Vm;

/// The client, at work on a thread of its own.
pub(super) struct Client {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What it saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How many requests were made.
    pub(super) requests: usize,
    /// How long each answer took.
    pub(super) took: Vec<Duration>,
    /// What failed, each as a sentence.
    pub(super) failed: Vec<String>,
}

impl Client {
    /// Begins to poll. With `keeps`, one connection must serve until the end.
    pub(super) fn begin(vm: &Vm, trust: &Trust, keeps: bool) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (port, trust, seen) = (vm.https_port(), trust.clone(), Arc::clone(&over));
        let thread = thread::spawn(move || poll(port, &trust, keeps, &seen));
        Self { over, thread }
    }

    /// Ends it after the round under way.
    pub(super) fn end(self) -> Result<Seen> {
        self.over.store(true, Ordering::Release);
        self.thread.join().ok().context("the client panicked")
    }
}

impl Seen {
    /// Makes sure that all was answered, but for `most` of them.
    pub(super) fn all_but(&self, most: usize, what: &str) -> Result<()> {
        let Self {
            requests,
            took,
            failed,
        } = self;
        println!(
            "{what}: {requests} requests, {} answered, median {} ms, p99 {} ms",
            took.len(),
            share(took, 50).as_millis(),
            share(took, 99).as_millis()
        );
        ensure!(failed.len() <= most, "{what}: clients saw {failed:#?}");
        ensure!(*requests > 0, "{what}: no request was made");
        Ok(())
    }
}

/// The time within which this percentage of all came.
pub(super) fn share(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * percent / 100;
    times.get(at).copied().unwrap_or_default()
}

fn poll(port: u16, trust: &Trust, keeps: bool, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut kept = keeps.then(|| Session::open(port, SERVICE, trust, PATIENCE));
    while !over.load(Ordering::Acquire) || seen.requests == 0 {
        for (host, path) in [(SERVICE, "/"), ("localhost", "/health")] {
            seen.note(host, || web::https(port, host, path, trust, PATIENCE));
        }
        match &mut kept {
            Some(Ok(session)) => {
                seen.note("the connection that is kept", || session.get("/", PATIENCE))
            }
            Some(Err(why)) => seen.failed.push(format!("no connection to keep: {why:#}")),
            None => {}
        }
        thread::sleep(PAUSE);
    }
    seen
}

impl Seen {
    fn note(&mut self, what: &str, ask: impl FnOnce() -> Result<web::Response>) {
        let began = Instant::now();
        self.requests += 1;
        match ask() {
            Ok(response) if response.status == 200 => self.took.push(began.elapsed()),
            Ok(response) => self
                .failed
                .push(format!("{what}: status {}", response.status)),
            Err(why) => self.failed.push(format!(
                "{what}, after {} ms: {why:#}",
                began.elapsed().as_millis()
            )),
        }
    }
}

const SERVICE: &str = "demo.localhost";
const PAUSE: Duration = Duration::from_millis(100);
/// Of one answer, on an emulated box of a machine where everything else runs too.
const PATIENCE: Duration = Duration::from_secs(300);
