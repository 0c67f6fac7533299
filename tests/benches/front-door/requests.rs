//! Requests over connections that are kept, one after another on each: HTTP/1.1.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mio::{Events, Interest, Poll, Token};

use super::{
    client::{self, Client, Memory},
    contender::Contender,
    table::Sample,
};

/// Small answers, as an API gives them.
pub(crate) fn small(contender: &Contender, time: Duration) -> Result<Sample> {
    let load = Load::begin(contender, "http/1.1", 32, |_| Http1::new(128))?;
    let got = load.run(contender, time)?;
    Ok(Sample::rate(
        got.units as f64,
        "requests/s",
        "µs",
        1e6,
        &got,
    ))
}

/// Answers of one TLS record, as a page's parts are.
pub(crate) fn larger(contender: &Contender, time: Duration) -> Result<Sample> {
    let load = Load::begin(contender, "http/1.1", 32, |_| Http1::new(16 * 1024))?;
    let got = load.run(contender, time)?;
    Ok(Sample::rate(
        got.units as f64,
        "requests/s",
        "µs",
        1e6,
        &got,
    ))
}

/// Downloads.
pub(crate) fn bulk(contender: &Contender, time: Duration) -> Result<Sample> {
    let load = Load::begin(contender, "http/1.1", 4, |_| Http1::new(16 << 20))?;
    let got = load.run(contender, time)?;
    let gigabytes = got.bytes as f64 / 1e9;
    Ok(Sample::rate(gigabytes, "GB/s", "ms/GB", 1e3, &got))
}

/// What is said on one connection.
pub(crate) trait Script {
    /// The first words.
    fn begin(&mut self, out: &mut Vec<u8>);
    /// Takes what was answered, says what comes next; how many answers were completed.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<u64>;
}

/// What was got in how much time, of both kinds.
pub(crate) struct Got {
    pub(crate) units: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) used: Duration,
}

/// Connections, each with its script.
pub(crate) struct Load<S> {
    poll: Poll,
    events: Events,
    clients: Vec<(Client, S)>,
    scratch: Vec<u8>,
    out: Vec<u8>,
    units: u64,
    bytes: u64,
}

impl<S: Script> Load<S> {
    /// Connects, and waits for an answer on each connection.
    pub(crate) fn begin(
        contender: &Contender,
        alpn: &str,
        count: usize,
        script: impl Fn(usize) -> S,
    ) -> Result<Self> {
        let config = client::config(alpn, Memory::Forgets)?;
        let mut load = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Vec::new(),
            scratch: vec![0; 256 * 1024],
            out: Vec::new(),
            units: 0,
            bytes: 0,
        };
        for nth in 0..count {
            let mut client = Client::begin(contender.address, nth, &config)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            let registry = load.poll.registry();
            registry.register(&mut client.stream, Token(nth), both)?;
            let mut script = script(nth);
            load.out.clear();
            script.begin(&mut load.out);
            client.say(&load.out)?;
            load.clients.push((client, script));
        }
        let until = Instant::now() + PATIENCE;
        while load.bytes < count as u64 * 128 {
            ensure!(Instant::now() < until, "there are no answers");
            load.turn()?;
        }
        let warm = Instant::now() + WARM;
        while Instant::now() < warm {
            load.turn()?;
        }
        Ok(load)
    }

    /// Counts what is answered in `time`.
    pub(crate) fn run(mut self, contender: &Contender, time: Duration) -> Result<Got> {
        let (began, used) = (Instant::now(), contender.used()?);
        (self.units, self.bytes) = (0, 0);
        while began.elapsed() < time {
            self.turn()?;
        }
        Ok(Got {
            units: self.units,
            bytes: self.bytes,
            took: began.elapsed(),
            used: contender.used()? - used,
        })
    }

    fn turn(&mut self) -> Result<()> {
        let pause = Duration::from_millis(20);
        self.poll.poll(&mut self.events, Some(pause))?;
        for event in &self.events {
            let (client, script) = &mut self.clients[event.token().0];
            self.out.clear();
            let (units, bytes, out) = (&mut self.units, &mut self.bytes, &mut self.out);
            let open = client.read(&mut self.scratch, |plain| {
                *bytes += plain.len() as u64;
                *units += script.take(plain, out)?;
                Ok(())
            })?;
            ensure!(open, "a connection was closed");
            if !self.out.is_empty() {
                client.say(&self.out)?;
            }
            client.write()?;
        }
        Ok(())
    }
}

struct Http1 {
    request: Vec<u8>,
    /// An answer's head that is not whole.
    head: Vec<u8>,
    /// What is still to come of its body.
    left: usize,
}

impl Http1 {
    fn new(size: usize) -> Self {
        let request = format!(
            "GET /{size} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {AGENT}\r\nAccept: {ACCEPT}\r\n\
             Accept-Encoding: {ENCODING}\r\nAccept-Language: {LANGUAGE}\r\n\r\n"
        );
        Self {
            request: request.into_bytes(),
            head: Vec::new(),
            left: 0,
        }
    }
}

impl Script for Http1 {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<u64> {
        let mut units = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = bytes.len().min(self.left);
                bytes = &bytes[count..];
                self.left -= count;
            } else {
                let before = self.head.len();
                self.head.extend_from_slice(bytes);
                let Some(end) = self.head.windows(4).position(|end| end == b"\r\n\r\n") else {
                    break;
                };
                let head = std::str::from_utf8(&self.head[..end])?;
                ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                self.left = length.context("there is no length")?.1.parse()?;
                bytes = &bytes[end + 4 - before..];
                self.head.clear();
            }
            if self.left == 0 {
                units += 1;
                self.begin(out);
            }
        }
        Ok(units)
    }
}

/// What a browser says.
pub(crate) const AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
pub(crate) const ACCEPT: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
pub(crate) const ENCODING: &str = "gzip, deflate, br";
pub(crate) const LANGUAGE: &str = "en-US,en;q=0.5";
const WARM: Duration = Duration::from_millis(100);
/// What has not come by then does not.
const PATIENCE: Duration = Duration::from_secs(30);
