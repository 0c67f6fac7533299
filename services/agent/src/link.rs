//! The way to the manager: a Unix socket that may be there or not, come and go.
//!
//! Each report is the whole state, so whatever goes wrong the cure is the same: connect again and
//! say it again. Never waits: a manager that does not read loses its connection.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType},
};
use services::report::AgentReport;

/// The connection, or when to try for one again.
pub(crate) struct Link {
    path: &'static str,
    state: State,
    pause: Duration,
}

enum State {
    Up(OwnedFd),
    Down { retry_at: Instant },
}

impl Link {
    /// A link that is tried for at once.
    pub(crate) fn new(path: &'static str, now: Instant) -> Self {
        Self {
            path,
            state: State::Down { retry_at: now },
            pause: FIRST_PAUSE,
        }
    }

    /// Tries to connect if it is time to. Returns whether it just did, so that a report is due.
    pub(crate) fn connect(&mut self, now: Instant) -> bool {
        if !matches!(self.state, State::Down { retry_at } if now >= retry_at) {
            return false;
        }
        match connect(self.path) {
            Ok(socket) => {
                self.state = State::Up(socket);
                true
            }
            Err(_) => {
                self.down(now);
                false
            }
        }
    }

    /// Sends a report, whole or not at all.
    pub(crate) fn send(&mut self, report: &AgentReport, now: Instant) {
        let State::Up(socket) = &self.state else {
            return;
        };
        let Ok(mut line) = serde_json::to_vec(report) else {
            return;
        };
        line.push(b'\n');
        match rustix::net::send(socket, &line, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == line.len() => self.pause = FIRST_PAUSE,
            Ok(_) | Err(_) => self.down(now),
        }
    }

    /// The manager's end said something or is gone. It has nothing to say yet, so only the end is
    /// of interest.
    pub(crate) fn readable(&mut self, now: Instant) {
        let State::Up(socket) = &self.state else {
            return;
        };
        match rustix::io::read(socket, &mut [0_u8; 256]) {
            Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => self.down(now),
        }
    }

    /// The socket to wait on, if connected.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Up(socket) => Some(socket.as_fd()),
            State::Down { .. } => None,
        }
    }

    /// When [`Self::connect`] is to be called next, if not connected.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        match &self.state {
            State::Up(_) => None,
            State::Down { retry_at } => Some(*retry_at),
        }
    }

    fn down(&mut self, now: Instant) {
        self.state = State::Down {
            retry_at: now + self.pause,
        };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

fn connect(path: &str) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A new manager is to know all services again within a few seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::net::UnixListener,
    };

    use super::*;

    fn report(sequence: u64) -> AgentReport {
        AgentReport {
            sequence,
            daemons: Vec::new(),
            health: None,
            dropped_lines: 0,
            stopping: false,
        }
    }

    #[test]
    fn a_manager_that_comes_late_or_again_is_told() {
        let path = std::env::temp_dir().join(format!("link-{}.sock", std::process::id()));
        let text: &'static str = path.to_str().unwrap().to_owned().leak();
        let mut now = Instant::now();
        let mut link = Link::new(text, now);
        assert!(!link.connect(now), "there is no manager yet");
        link.send(&report(1), now);
        for sequence in 2..5 {
            let listener = UnixListener::bind(&path).unwrap();
            now = link.retry_at().unwrap();
            assert!(link.connect(now));
            link.send(&report(sequence), now);
            let mut line = String::new();
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(stream).read_line(&mut line).unwrap();
            let heard: AgentReport = serde_json::from_str(&line).unwrap();
            assert_eq!(heard.sequence, sequence);
            drop(listener);
            std::fs::remove_file(&path).unwrap();
            link.readable(now);
            assert!(link.socket().is_none(), "the manager is gone");
        }
    }

    #[test]
    fn a_manager_that_does_not_read_is_left() {
        let path = std::env::temp_dir().join(format!("link-full-{}.sock", std::process::id()));
        let text: &'static str = path.to_str().unwrap().to_owned().leak();
        let listener = UnixListener::bind(&path).unwrap();
        let now = Instant::now();
        let mut link = Link::new(text, now);
        assert!(link.connect(now));
        let sent = (0..100_000).take_while(|n| {
            link.send(&report(*n), now);
            link.socket().is_some()
        });
        assert!(sent.count() < 100_000, "no report waits for ever");
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }
}
