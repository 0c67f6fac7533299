//! How long clients that are in wait for their answers while others storm the door.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use mio::{Events, Interest, Poll, Token};

use super::{
    client::{self, Client, Memory},
    contender::Contender,
    handshakes::Storm,
    requests::Got,
    table::Sample,
};

/// The 99th percentile of answers' latencies, with the storm's rate.
pub(crate) fn latency(contender: &Contender, time: Duration) -> Result<Sample> {
    let enough = Arc::new(AtomicBool::new(false));
    let storm = {
        let (enough, to) = (Arc::clone(&enough), contender.address);
        thread::spawn(move || -> Result<(u64, Duration)> {
            let config = client::config("http/1.1", Memory::Forgets)?;
            let mut storm = Storm::new(to, config, AT_ONCE)?;
            let began = Instant::now();
            storm.run(began + LONG, &enough)?;
            Ok((storm.made, began.elapsed()))
        })
    };
    thread::sleep(Duration::from_millis(100));
    let used = contender.used()?;
    let began = Instant::now();
    let to = contender.address;
    let live = thread::spawn(move || -> Result<Vec<Duration>> {
        // Who measures goes before who storms, where that is allowed.
        let _ = rustix::process::nice(-10);
        Live::begin(to)?.run(time * 2)
    });
    let live = live.join().map_err(|_| anyhow!("who measures panicked"));
    let (took, used) = (began.elapsed(), contender.used()? - used);
    enough.store(true, Ordering::Relaxed);
    let (made, stormed) = storm.join().map_err(|_| anyhow!("the storm panicked"))??;
    let mut all = live??;
    ensure!(all.len() > 100, "only {} answers", all.len());
    all.sort_unstable();
    let p99 = all[all.len() * 99 / 100];
    let units = (made as f64 * took.as_secs_f64() / stormed.as_secs_f64()) as u64;
    let got = Got {
        units,
        bytes: 0,
        took,
        used,
    };
    Ok(Sample::latency(p99, &got))
}

/// Clients that ask now and then.
struct Live {
    poll: Poll,
    events: Events,
    clients: Vec<(Client, Option<Instant>)>,
    scratch: Vec<u8>,
    latencies: Vec<Duration>,
}

impl Live {
    fn begin(to: SocketAddr) -> Result<Self> {
        let config = client::config("http/1.1", Memory::Forgets)?;
        let mut live = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(64),
            clients: Vec::new(),
            scratch: vec![0; 16 * 1024],
            latencies: Vec::new(),
        };
        for nth in 0..CLIENTS {
            let mut client = Client::begin(to, nth, &config)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            let registry = live.poll.registry();
            registry.register(&mut client.stream, Token(nth), both)?;
            client.say(REQUEST)?;
            live.clients.push((client, Some(Instant::now())));
        }
        // All have been answered once.
        let until = Instant::now() + LONG;
        while live.clients.iter().any(|(_, asked)| asked.is_some()) {
            ensure!(Instant::now() < until, "there are no answers");
            live.turn()?;
        }
        live.latencies.clear();
        Ok(live)
    }

    fn run(&mut self, time: Duration) -> Result<Vec<Duration>> {
        let began = Instant::now();
        let (mut next, mut turn) = (began, 0);
        while began.elapsed() < time {
            if Instant::now() >= next {
                next += PAUSE;
                turn = (turn + 1) % CLIENTS;
                let (client, asked) = &mut self.clients[turn];
                if asked.is_none() {
                    *asked = Some(Instant::now());
                    client.say(REQUEST)?;
                    client.write()?;
                }
            }
            self.turn()?;
        }
        Ok(std::mem::take(&mut self.latencies))
    }

    fn turn(&mut self) -> Result<()> {
        let pause = Duration::from_millis(1);
        self.poll.poll(&mut self.events, Some(pause))?;
        for event in &self.events {
            let (client, asked) = &mut self.clients[event.token().0];
            let latencies = &mut self.latencies;
            // An answer this small comes in one piece.
            let open = client.read(&mut self.scratch, |_| {
                latencies.extend(asked.take().map(|at| at.elapsed()));
                Ok(())
            })?;
            ensure!(open, "a connection was closed");
            client.write()?;
        }
        Ok(())
    }
}

const CLIENTS: usize = 16;
const PAUSE: Duration = Duration::from_millis(2);
const REQUEST: &[u8] = b"GET /128 HTTP/1.1\r\nHost: localhost\r\n\r\n";
const AT_ONCE: usize = 64;
const LONG: Duration = Duration::from_secs(60);
