//! A connection to a server, plain or TLS. Every wait has a deadline and notices a cancellation.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::http::{
    address::Url,
    cancel::Cancel,
    error::FetchError,
    response::{Event, Head, Receiver, Violation},
};

/// How long to wait, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    /// For a connection, name look-up included.
    pub(crate) connect: Duration,
    /// For the next bytes.
    pub(crate) silence: Duration,
    /// Ends any wait.
    pub(crate) cancel: Cancel,
}

/// A connection, with what was received and not yet looked at.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    url: Url,
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    patience: Patience,
    pace: Pace,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    /// Connects to the server of `url`.
    pub(crate) fn open(
        url: &Url,
        tls: &Arc<ClientConfig>,
        patience: &Patience,
    ) -> Result<Self, FetchError> {
        let deadline = Instant::now() + patience.connect;
        let failed = |source| FetchError::Connect {
            host: url.host_header(),
            source,
        };
        let tcp = connect(url, deadline, &patience.cancel)?;
        tcp.set_nodelay(true)
            .and_then(|()| tcp.set_read_timeout(Some(TICK)))
            .and_then(|()| tcp.set_write_timeout(Some(patience.connect.max(TICK))))
            .map_err(failed)?;
        let stream = if url.is_secure() {
            Stream::Tls(Box::new(handshake(url, tcp, tls, deadline, patience)?))
        } else {
            Stream::Plain(tcp)
        };
        Ok(Self {
            stream,
            url: url.clone(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            begin: 0,
            end: 0,
            patience: patience.clone(),
            pace: Pace::new(),
        })
    }

    /// Whether requests for `url` can be sent here.
    pub(crate) fn leads_to(&self, url: &Url) -> bool {
        let same = |of: &Url| (of.is_secure(), of.port());
        same(&self.url) == same(url) && self.url.host().eq_ignore_ascii_case(url.host())
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<(Receiver, Head), FetchError> {
        let sent = match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(request),
            Stream::Tls(tls) => tls.write_all(request).and_then(|()| tls.flush()),
        };
        sent.map_err(|source| self.broken(source))?;
        self.pace = Pace::new();
        let deadline = Instant::now() + self.patience.silence;
        let mut receiver = Receiver::new();
        loop {
            let (taken, event) = receiver
                .next(&self.buffer[self.begin..self.end])
                .map_err(|violation| self.answer(violation))?;
            self.begin += taken;
            if let Event::Head(head) = event {
                return Ok((receiver, head));
            }
            if self.begin == self.end && self.fill(deadline)? == 0 {
                return Err(self.answer(Violation::Short));
            }
        }
    }

    /// The next bytes of the body, at most `most`; none when it is complete.
    pub(crate) fn body(
        &mut self,
        receiver: &mut Receiver,
        most: usize,
    ) -> Result<&[u8], FetchError> {
        loop {
            let (begin, end) = (self.begin, self.end.min(self.begin.saturating_add(most)));
            let (taken, event) = receiver
                .next(&self.buffer[begin..end])
                .map_err(|violation| self.answer(violation))?;
            let is_body = matches!(event, Event::Body(_));
            let is_end = event == Event::End;
            self.begin += taken;
            if is_body {
                // A body's event is all of the bytes taken.
                return Ok(&self.buffer[begin..begin + taken]);
            }
            if is_end {
                return Ok(&[]);
            }
            let deadline = Instant::now() + self.patience.silence;
            if self.begin == self.end && self.fill(deadline)? == 0 {
                receiver
                    .close()
                    .map_err(|violation| self.answer(violation))?;
                return Ok(&[]);
            }
        }
    }

    /// Whether nothing was received that nobody asked for.
    pub(crate) fn is_clean(&self) -> bool {
        self.begin == self.end
    }

    /// Receives more, once everything received before was looked at. None at the end.
    fn fill(&mut self, deadline: Instant) -> Result<usize, FetchError> {
        loop {
            self.patience.cancel.check()?;
            let read = match &mut self.stream {
                Stream::Plain(tcp) => tcp.read(&mut self.buffer),
                Stream::Tls(tls) => tls.read(&mut self.buffer),
            };
            match read {
                Ok(count) => {
                    (self.begin, self.end) = (0, count);
                    if self.pace.is_too_slow(count, self.patience.silence) {
                        return Err(self.silent());
                    }
                    return Ok(count);
                }
                Err(error) if is_tick(&error) => {
                    if Instant::now() >= deadline {
                        return Err(self.silent());
                    }
                }
                Err(source) => return Err(self.broken(source)),
            }
        }
    }

    fn silent(&self) -> FetchError {
        FetchError::Silent {
            host: self.url.host_header(),
            seconds: self.patience.silence.as_secs(),
        }
    }

    fn broken(&self, source: io::Error) -> FetchError {
        FetchError::Broken {
            host: self.url.host_header(),
            source,
        }
    }

    fn answer(&self, violation: Violation) -> FetchError {
        FetchError::Answer {
            url: self.url.to_string(),
            violation,
        }
    }
}

/// Notices a server that sends a byte now and then, so that no silence is ever too long.
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new() -> Self {
        let since = Instant::now();
        Self { since, bytes: 0 }
    }

    fn is_too_slow(&mut self, count: usize, window: Duration) -> bool {
        self.bytes += count as u64;
        let passed = self.since.elapsed();
        if passed < window {
            return false;
        }
        let slow = self.bytes < SLOWEST * passed.as_secs();
        *self = Self::new();
        slow
    }
}

/// Looks up the name and connects, in a thread of its own: neither can be interrupted, and a name
/// look-up has no deadline. A thread that is left behind ends with its last attempt.
fn connect(url: &Url, deadline: Instant, cancel: &Cancel) -> Result<TcpStream, FetchError> {
    let host = url.host_header();
    let failed = |source| FetchError::Connect {
        host: host.clone(),
        source,
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    let address = (url.host().to_owned(), url.port());
    thread::Builder::new()
        .name("connect".to_owned())
        .spawn(move || {
            // Nobody waits any more: then the connection is closed again.
            let _ = sender.send(connect_any(&address, deadline));
        })
        .map_err(failed)?;
    loop {
        cancel.check()?;
        match receiver.recv_timeout(TICK) {
            Ok(connected) => return connected.map_err(failed),
            Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(_) => return Err(failed(ErrorKind::TimedOut.into())),
        }
    }
}

fn connect_any(address: &(String, u16), deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for address in (address.0.as_str(), address.1).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left.min(ONE_ADDRESS)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn handshake(
    url: &Url,
    mut tcp: TcpStream,
    config: &Arc<ClientConfig>,
    deadline: Instant,
    patience: &Patience,
) -> Result<StreamOwned<ClientConnection, TcpStream>, FetchError> {
    let failed = |source| FetchError::Connect {
        host: url.host_header(),
        source,
    };
    let name = ServerName::try_from(url.host().to_owned())
        .map_err(|error| failed(io::Error::new(ErrorKind::InvalidInput, error)))?;
    let mut tls = ClientConnection::new(Arc::clone(config), name)
        .map_err(|error| failed(io::Error::other(error)))?;
    while tls.is_handshaking() {
        patience.cancel.check()?;
        match tls.complete_io(&mut tcp) {
            Ok(_) => {}
            Err(error) if is_tick(&error) => {}
            Err(error) => return Err(failed(error)),
        }
        if Instant::now() >= deadline {
            return Err(failed(ErrorKind::TimedOut.into()));
        }
    }
    Ok(StreamOwned::new(tls, tcp))
}

fn is_tick(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// How often a wait looks whether it was cancelled.
const TICK: Duration = Duration::from_millis(100);
/// For one of a host's addresses, so that a dead one leaves time for the others.
const ONE_ADDRESS: Duration = Duration::from_secs(5);
/// Received at once: enough to keep up with 10 Gbit/s, and a fraction of the memory allowed.
const BUFFER: usize = 128 << 10;
/// Bytes a second below which a server is as good as silent: a package would take weeks.
const SLOWEST: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_as_good_as_silence() {
        let mut pace = Pace::new();
        assert!(!pace.is_too_slow(1, Duration::from_secs(3600)));
        pace.since = Instant::now() - Duration::from_secs(10);
        assert!(pace.is_too_slow(1, Duration::from_secs(10)));
        pace.since = Instant::now() - Duration::from_secs(10);
        assert!(!pace.is_too_slow(1 << 20, Duration::from_secs(10)));
    }
}
