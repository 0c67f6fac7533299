//! Connections made and ended, as many as go: full handshakes, and such as bring a ticket.

use std::{
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use mio::{Events, Interest, Poll, Token};
use rustls::{ClientConfig, HandshakeKind};

use super::{
    client::{self, Client, Memory},
    contender::Contender,
    requests::Got,
    table::Sample,
};

/// Handshakes in which the certificate is shown.
pub(crate) fn full(contender: &Contender, time: Duration) -> Result<Sample> {
    measure(contender, time, Memory::Forgets)
}

/// Handshakes of clients that come back.
pub(crate) fn resumed(contender: &Contender, time: Duration) -> Result<Sample> {
    measure(contender, time, Memory::Keeps)
}

fn measure(contender: &Contender, time: Duration, memory: Memory) -> Result<Sample> {
    let config = client::config("http/1.1", memory)?;
    let mut storm = Storm::new(contender.address, config, AT_ONCE)?;
    // The first ones, when there are no tickets, are not counted.
    let until = Instant::now() + PATIENCE;
    while storm.made < 4 * AT_ONCE as u64 {
        ensure!(Instant::now() < until, "only {} were made", storm.made);
        storm.run(Instant::now() + WARM, &AtomicBool::new(false))?;
    }
    let (began, used, before) = (Instant::now(), contender.used()?, storm.made);
    let was_resumed = storm.resumed;
    storm.run(began + time, &AtomicBool::new(false))?;
    let got = Got {
        units: storm.made - before,
        bytes: 0,
        took: began.elapsed(),
        used: contender.used()? - used,
    };
    let resumed = (storm.resumed - was_resumed) as f64 / got.units as f64;
    match memory {
        Memory::Forgets => ensure!(resumed == 0.0, "handshakes were resumed"),
        Memory::Keeps => ensure!(resumed > 0.9, "only {resumed} of handshakes were resumed"),
    }
    Ok(Sample::rate(
        got.units as f64,
        "handshakes/s",
        "µs",
        1e6,
        &got,
    ))
}

/// New connections, so many at once.
pub(crate) struct Storm {
    to: SocketAddr,
    config: Arc<ClientConfig>,
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    scratch: Vec<u8>,
    /// How many connections were begun.
    begun: usize,
    /// How many went through their handshake and were ended in order.
    pub(crate) made: u64,
    resumed: u64,
}

impl Storm {
    pub(crate) fn new(to: SocketAddr, config: Arc<ClientConfig>, at_once: usize) -> Result<Self> {
        let mut storm = Self {
            to,
            config,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Vec::new(),
            scratch: vec![0; 32 * 1024],
            begun: 0,
            made: 0,
            resumed: 0,
        };
        for slot in 0..at_once {
            let client = storm.begin(slot)?;
            storm.clients.push(client);
        }
        Ok(storm)
    }

    /// Goes on until then, or until it is enough.
    pub(crate) fn run(&mut self, until: Instant, enough: &AtomicBool) -> Result<()> {
        while Instant::now() < until && !enough.load(Ordering::Relaxed) {
            self.poll
                .poll(&mut self.events, Some(Duration::from_millis(20)))?;
            let slots: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
            for slot in slots {
                if self.step(slot)? {
                    self.clients[slot] = self.begin(slot)?;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, slot: usize) -> Result<Client> {
        self.begun += 1;
        let mut client = Client::begin(self.to, self.begun, &self.config)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut client.stream, Token(slot), both)?;
        Ok(client)
    }

    /// Whether a connection is through.
    ///
    /// The client says that it ends as soon as its handshake is done, and waits for the server's
    /// end: then the server is done with all of it, its tickets included.
    fn step(&mut self, slot: usize) -> Result<bool> {
        let client = &mut self.clients[slot];
        let before = client.tls.is_handshaking();
        // Once more, as the end may have come together with the last bytes.
        let open = client.read(&mut self.scratch, |_| Ok(()))?
            && client.read(&mut self.scratch, |_| Ok(()))?;
        if before && !client.tls.is_handshaking() {
            client.tls.send_close_notify();
            client.write()?;
            client.stream.shutdown(Shutdown::Write)?;
        } else {
            client.write()?;
        }
        if open {
            return Ok(false);
        }
        ensure!(!client.tls.is_handshaking(), "a handshake broke off");
        self.made += 1;
        let kind = client.tls.handshake_kind();
        self.resumed += u64::from(kind == Some(HandshakeKind::Resumed));
        Ok(true)
    }
}

const AT_ONCE: usize = 32;
const WARM: Duration = Duration::from_millis(150);
/// What has not come by then does not.
const PATIENCE: Duration = Duration::from_secs(60);
