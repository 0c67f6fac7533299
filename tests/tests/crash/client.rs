//! A client that polls the box over HTTPS and opens plain connections all the while.

use std::{
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use boards::web;
use tests::native::Native;

/// The client, at work on a thread of its own.
pub(crate) struct Client<'a> {
    _native: &'a Native,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

impl<'a> Client<'a> {
    /// Begins to ask; the first answer must be a good one.
    pub(crate) fn start(native: &'a Native) -> Result<Self> {
        let trust = native.authority()?;
        native.get(&trust, "demo.localhost", "/")?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let machine = native.machine().name().to_owned();
        let (stopped, count) = (stop.clone(), asked.clone());
        // In the box's network for as long as it lives.
        let namespace = std::fs::File::open(format!("/run/netns/{machine}"))?;
        let thread = thread::spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            let entered = rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(kind),
            );
            let mut failures: Vec<String> = Vec::new();
            failures.extend(
                entered
                    .err()
                    .map(|e| format!("no way into its network: {e}")),
            );
            while !stopped.load(Ordering::Acquire) {
                if let Err(why) = ask(&trust) {
                    failures.push(format!("{why:#}"));
                    thread::sleep(Duration::from_millis(100));
                }
                count.fetch_add(1, Ordering::AcqRel);
                thread::sleep(Duration::from_millis(5));
            }
            failures
        });
        Ok(Self {
            _native: native,
            stop,
            asked,
            thread,
        })
    }

    /// Ends it, after one more whole round. Returns what failed.
    pub(crate) fn stop(self) -> Result<Vec<String>> {
        let before = self.asked.load(Ordering::Acquire);
        let began = Instant::now();
        while self.asked.load(Ordering::Acquire) < before + 2 && began.elapsed() < ROUND {
            thread::sleep(Duration::from_millis(10));
        }
        self.stop.store(true, Ordering::Release);
        let failures = self.thread.join().ok().context("the client panicked")?;
        println!("{} rounds", self.asked.load(Ordering::Acquire));
        Ok(failures)
    }
}

fn ask(trust: &web::Trust) -> Result<()> {
    for port in [443, 80] {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        TcpStream::connect_timeout(&address, ROUND)
            .with_context(|| format!("no connection to port {port}"))?;
    }
    let response = web::https(443, "demo.localhost", "/", trust, ROUND)?;
    anyhow::ensure!(response.status == 200, "status {}", response.status);
    Ok(())
}

/// On a loaded machine.
const ROUND: Duration = Duration::from_secs(60);
