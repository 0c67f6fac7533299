//! Those who ask for lines: bounded in number and patience, so that none can hold `logd` up.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    io::Errno,
    net::{SendFlags, SocketFlags},
};
use supervise::log_query::{Answer, Frames, LogLine, Query, frame};

use super::ring::Ring;

/// All connections to the query socket.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    clients: Vec<Client>,
}

impl Clients {
    /// Takes those who wait at the listening socket; turns away who comes when it is full.
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>, now: Instant) {
        for _ in 0..MAX_CLIENTS {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = rustix::net::accept_with(listener, flags) else {
                return;
            };
            if self.clients.len() < MAX_CLIENTS {
                self.clients.push(Client::new(socket, now));
                continue;
            }
            let full = Answer::Refused("too many are reading the log already".to_owned());
            if let Ok(bytes) = frame(&full) {
                let _ = rustix::net::send(&socket, &bytes, NO_WAIT);
            }
        }
    }

    /// Those to poll and for what, in an order that [`Clients::serve`] relies on.
    pub(crate) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.clients
            .iter()
            .map(|client| (client.socket.as_fd(), client.interest()))
    }

    /// Goes on with each as far as it can without waiting. `events` are poll(2)'s, in the order of
    /// [`Clients::interests`].
    pub(crate) fn serve(&mut self, events: &[PollFlags], ring: &Ring, now: Instant) {
        let mut events = events.iter();
        self.clients.retain_mut(|client| {
            let events = events.next().copied().unwrap_or(PollFlags::empty());
            client.serve(events, ring, now)
        });
    }

    /// A new line: those who follow get it, those who are too far behind are cut off.
    pub(crate) fn offer(&mut self, line: &Arc<LogLine>) {
        self.clients.retain_mut(|client| client.offer(line));
    }

    /// Whether some have a deadline to be looked after.
    pub(crate) fn are_waiting(&self) -> bool {
        self.clients.iter().any(Client::is_waiting)
    }
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    asked: Frames<Query>,
    query: Option<Query>,
    lines: VecDeque<Arc<LogLine>>,
    /// Lines still to send before the one that says that all has been sent.
    history: Option<usize>,
    out: Vec<u8>,
    progressed: Instant,
}

impl Client {
    fn new(socket: OwnedFd, now: Instant) -> Self {
        Self {
            socket,
            asked: Frames::default(),
            query: None,
            lines: VecDeque::new(),
            history: None,
            out: Vec::new(),
            progressed: now,
        }
    }

    fn interest(&self) -> PollFlags {
        match (&self.query, self.is_waiting()) {
            (None, _) => PollFlags::IN,
            (Some(_), true) => PollFlags::OUT,
            // poll(2) tells of a hang-up unasked.
            (Some(_), false) => PollFlags::empty(),
        }
    }

    fn is_waiting(&self) -> bool {
        self.query.is_none() || !self.out.is_empty() || self.has_more()
    }

    fn has_more(&self) -> bool {
        !self.lines.is_empty() || self.history.is_some()
    }

    /// Whether to keep it.
    fn serve(&mut self, events: PollFlags, ring: &Ring, now: Instant) -> bool {
        if events.intersects(PollFlags::HUP | PollFlags::ERR) && !events.contains(PollFlags::IN) {
            return false;
        }
        if self.query.is_none() && events.contains(PollFlags::IN) && !self.read(ring) {
            return false;
        }
        if self.query.is_some() && !self.write(now) {
            return false;
        }
        if !self.is_waiting() {
            self.progressed = now;
            return self.query.as_ref().is_some_and(|query| query.follow);
        }
        now.saturating_duration_since(self.progressed) < PATIENCE
    }

    fn read(&mut self, ring: &Ring) -> bool {
        let mut bytes = [0; 1024];
        match rustix::io::read(&self.socket, &mut bytes) {
            Ok(0) => return false,
            Ok(n) => self.asked.push(&bytes[..n]),
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        }
        match self.asked.next() {
            Ok(None) => true,
            Ok(Some(query)) => {
                self.lines = ring.select(&query).into();
                self.history = Some(self.lines.len());
                self.query = Some(query);
                true
            }
            Err(_) => false,
        }
    }

    /// Sends until the socket is full. Whether the connection stands.
    fn write(&mut self, now: Instant) -> bool {
        loop {
            self.fill();
            if self.out.is_empty() {
                return true;
            }
            match rustix::net::send(&self.socket, &self.out, NO_WAIT) {
                Ok(n) => {
                    self.out.drain(..n);
                    self.progressed = now;
                }
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
    }

    fn fill(&mut self) {
        while self.out.len() < OUT && self.has_more() {
            let answer = match self.history {
                Some(0) => {
                    self.history = None;
                    Answer::CaughtUp
                }
                _ => {
                    let Some(line) = self.lines.pop_front() else {
                        return;
                    };
                    self.history = self.history.map(|left| left - 1);
                    Answer::Line((*line).clone())
                }
            };
            // A line is always shorter than a frame may be.
            self.out.extend(frame(&answer).unwrap_or_default());
        }
    }

    /// Whether to keep it.
    fn offer(&mut self, line: &Arc<LogLine>) -> bool {
        let Some(query) = &self.query else {
            return true;
        };
        let wanted = query.follow
            && line.level <= query.level
            && query.unit.as_ref().is_none_or(|unit| *unit == line.unit);
        if wanted {
            self.lines.push_back(Arc::clone(line));
        }
        !wanted || self.lines.len() <= self.history.unwrap_or(0) + MAX_BEHIND
    }
}

/// Console, manager, a few command lines: more is a mistake.
const MAX_CLIENTS: usize = 32;
/// Lines a follower may be behind before it is cut off.
const MAX_BEHIND: usize = 4096;
/// How long a client may take to ask, or to read something of what it asked for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Encoded at a time, in bytes.
const OUT: usize = 64 * 1024;
const NO_WAIT: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
