//! A client that waits: for the console and the command line.
//!
//! `logd` may be dead or stopped while PID 1 still holds its listening socket, so that a connection
//! succeeds and nobody answers. Nothing here waits longer than its caller allows.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType},
};

use super::{Answer, Frames, FramingError, LogLine, Query, frame};

/// A query that is being answered.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    frames: Frames<Answer>,
    ready: VecDeque<Answer>,
}

impl Client {
    /// Connects and sends the query.
    ///
    /// # Errors
    /// Nobody listens at `socket`, or too many wait there already.
    pub fn ask(socket: &Path, query: &Query) -> Result<Self, QueryError> {
        let address = SocketAddrUnix::new(socket).map_err(QueryError::Connect)?;
        // Non-blocking: with a full queue at a stopped logd, connect(2) would wait for ever.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(QueryError::Connect)?;
        rustix::net::connect(&fd, &address).map_err(QueryError::Connect)?;
        let bytes = frame(query)?;
        // A new socket's buffer holds a query many times over, so this is never cut.
        rustix::net::send(&fd, &bytes, SendFlags::NOSIGNAL).map_err(|errno| match errno {
            // It accepted and went away before the query was sent.
            Errno::PIPE | Errno::CONNRESET => QueryError::Closed,
            errno => QueryError::Io(errno),
        })?;
        Ok(Self {
            socket: fd,
            frames: Frames::default(),
            ready: VecDeque::new(),
        })
    }

    /// The next piece of the answer; `None` if there was none in time.
    ///
    /// # Errors
    /// [`QueryError::Closed`] at the answer's end; else the connection failed.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Answer>, QueryError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Ok(Some(answer));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !readable(self.socket.as_fd(), left).map_err(QueryError::Io)? {
                return Ok(None);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), QueryError> {
        let mut bytes = [0; 16 * 1024];
        match rustix::io::read(&self.socket, &mut bytes) {
            Ok(0) | Err(Errno::CONNRESET) => return Err(QueryError::Closed),
            Ok(n) => self.frames.push(&bytes[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(QueryError::Io(errno)),
        }
        while let Some(answer) = self.frames.next()? {
            self.ready.push_back(answer);
        }
        Ok(())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The lines that are there now, oldest first, all within `wait`.
///
/// # Errors
/// As [`Client::ask`]; [`QueryError::Silent`] if `logd` does not answer in time.
pub fn fetch(socket: &Path, query: &Query, wait: Duration) -> Result<Vec<LogLine>, QueryError> {
    let deadline = Instant::now() + wait;
    let mut client = Client::ask(socket, query)?;
    let mut lines = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match client.next(left)? {
            Some(Answer::Line(line)) => lines.push(line),
            Some(Answer::CaughtUp) => return Ok(lines),
            Some(Answer::Refused(why)) => return Err(QueryError::Refused(why)),
            None => return Err(QueryError::Silent(wait)),
        }
    }
}

/// Why there are no lines.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The answer ended.
    #[error("logd closed the connection")]
    Closed,
    /// Nobody is there.
    #[error("logd can't be reached: {0}; PID 1 starts it again by itself")]
    Connect(Errno),
    /// The bytes make no sense.
    #[error(transparent)]
    Framing(#[from] FramingError),
    /// The connection failed.
    #[error("the connection to logd failed: {0}")]
    Io(Errno),
    /// It does not want to answer.
    #[error("logd refused: {0}")]
    Refused(String),
    /// It is stopped, or overloaded.
    #[error("logd did not answer within {0:?}; PID 1 replaces it if it stays so")]
    Silent(Duration),
}

fn readable(fd: BorrowedFd<'_>, wait: Duration) -> Result<bool, Errno> {
    let wait = Timespec {
        tv_sec: wait.as_secs().min(DAY) as i64,
        tv_nsec: wait.subsec_nanos().into(),
    };
    match poll(
        &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
        Some(&wait),
    ) {
        Ok(n) => Ok(n > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Keeps the kernel's time type from overflowing, in seconds.
const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::net::UnixListener};

    use super::*;
    use crate::log::Level;

    const QUERY: Query = Query {
        unit: None,
        lines: 1,
        follow: false,
        level: Level::Debug,
    };

    fn listener(name: &str) -> (std::path::PathBuf, UnixListener) {
        let path = std::env::temp_dir().join(format!("pilot-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (path.clone(), UnixListener::bind(path).unwrap())
    }

    #[test]
    fn a_silent_logd_is_given_up_in_time() {
        let (path, _listener) = listener("silent");
        let began = Instant::now();
        let outcome = fetch(&path, &QUERY, Duration::from_millis(50));
        assert!(matches!(outcome, Err(QueryError::Silent(_))), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_answer_that_breaks_off_is_told_from_a_complete_one() {
        let (path, listener) = listener("broken");
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client
                .write_all(&frame(&Answer::CaughtUp).unwrap())
                .unwrap();
            let (mut client, _) = listener.accept().unwrap();
            client
                .write_all(&frame(&Answer::CaughtUp).unwrap()[..3])
                .unwrap();
        });
        let wait = Duration::from_secs(5);
        assert_eq!(fetch(&path, &QUERY, wait).unwrap(), []);
        assert!(matches!(
            fetch(&path, &QUERY, wait),
            Err(QueryError::Closed)
        ));
        server.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_absent_logd_is_said_to_be() {
        let outcome = fetch(
            Path::new("/nonexistent/log.sock"),
            &QUERY,
            Duration::from_secs(1),
        );
        assert!(
            matches!(outcome, Err(QueryError::Connect(_))),
            "{outcome:?}"
        );
    }
}
