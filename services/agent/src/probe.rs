//! The health probe: asks the service again and again, from inside its container.
//!
//! On a thread of its own, so that a service that takes a connection and then says nothing holds
//! up the probe alone; its last answer then only grows old, which the manager sees.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use services::{
    plan::{HealthProbe, ProbeKind},
    report::Health,
};

/// A probe that runs.
pub(crate) struct Probe {
    answer: Arc<Mutex<Option<Answer>>>,
    wake: OwnedFd,
}

struct Answer {
    result: Result<String, String>,
    at: Instant,
}

impl Probe {
    /// Starts asking.
    pub(crate) fn start(spec: HealthProbe) -> std::io::Result<Self> {
        let (wake, mut waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let answer = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&answer);
        let ask = move || {
            let interval = Duration::from_millis(spec.interval_ms.into()).max(SHORTEST_PAUSE);
            let mut pause = SHORTEST_PAUSE;
            loop {
                let result = ask(&spec.kind, spec.port, interval);
                if result.is_ok() {
                    pause = interval;
                }
                let new = Answer {
                    result,
                    at: Instant::now(),
                };
                *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
                // Full means that the agent has not looked yet: it will.
                let _ = waker.write(&[0]);
                thread::sleep(pause);
                pause = (pause * 2).min(interval);
            }
        };
        thread::Builder::new().name("probe".to_owned()).spawn(ask)?;
        Ok(Self {
            answer,
            wake: wake.into(),
        })
    }

    /// Readable when there is a new answer.
    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.wake
    }

    /// The last answer, if there is one yet.
    pub(crate) fn health(&self, now: Instant) -> Option<Health> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.as_ref().map(|answer| Health {
            healthy: answer.result.is_ok(),
            detail: match &answer.result {
                Ok(detail) | Err(detail) => detail.clone(),
            },
            age: now.saturating_duration_since(answer.at),
        })
    }
}

fn ask(kind: &ProbeKind, port: u16, patience: Duration) -> Result<String, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, patience)
        .map_err(|e| format!("port {port} takes no connection: {e}"))?;
    match kind {
        ProbeKind::Tcp => Ok(format!("port {port} takes connections")),
        ProbeKind::Http(path) => {
            let head = fetch_head(stream, path, patience)
                .map_err(|e| format!("port {port} does not answer: {e}"))?;
            judge(&head)
        }
    }
}

fn fetch_head(mut stream: TcpStream, path: &str, patience: Duration) -> std::io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    stream.set_write_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let (mut head, mut chunk) = (Vec::new(), [0; 256]);
    while !head.contains(&b'\n') && head.len() < LONGEST_STATUS_LINE {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => break,
            n => head.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(head)
}

/// A status line of HTTP/1 (RFC 9112, 4) with a status below 400 is a good answer.
fn judge(head: &[u8]) -> Result<String, String> {
    let line = String::from_utf8_lossy(head.split(|b| *b == b'\n').next().unwrap_or_default());
    let mut words = line.trim().splitn(3, ' ');
    let is_http = words
        .next()
        .is_some_and(|version| version.starts_with("HTTP/1."));
    let status: Option<u16> = words.next().and_then(|status| status.parse().ok());
    match status.filter(|_| is_http) {
        Some(status @ 100..400) => Ok(format!("answers with status {status}")),
        Some(status) => Err(format!("answers with status {status}")),
        None => Err("answers with something that is not HTTP".to_owned()),
    }
}

/// Between the first questions, so that a service that just came up is soon known to be. A spec
/// that asked without pause for ever would be an attack on its own service.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_STATUS_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn answers_are_judged_by_their_status() {
        for (head, healthy) in [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.0 302 Found\n", true),
            ("HTTP/1.1 404 Not Found\r\n", false),
            ("HTTP/1.1 503\r\n", false),
            ("SSH-2.0-OpenSSH_9.2\r\n", false),
            ("HTTP/1.1 banana\r\n", false),
            ("", false),
        ] {
            assert_eq!(judge(head.as_bytes()).is_ok(), healthy, "{head:?}");
        }
    }

    #[test]
    fn a_service_that_says_nothing_is_unhealthy_in_time() {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = silent.local_addr().unwrap().port();
        let (kind, patience) = (ProbeKind::Http("/".to_owned()), Duration::from_millis(300));
        let began = Instant::now();
        assert!(ask(&kind, port, patience).is_err());
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(ask(&ProbeKind::Tcp, port, patience).is_ok());
        drop(silent);
        assert!(ask(&ProbeKind::Tcp, port, patience).is_err());
    }
}
