//! The guard's own request to the door: a plain GET on a loopback socket, never waited for.

use std::{net::Ipv4Addr, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrV4, SocketFlags, SocketType, socket_with,
    },
};

use crate::{pid1::sockets::PROBE, spares::Spares};

/// One request at a time, one a second.
#[derive(Debug, Default)]
pub(super) struct Probe {
    state: State,
    /// It could not even ask, which tells nothing of the door.
    pub(super) is_blind: bool,
}

#[derive(Debug, Default)]
enum State {
    Asked {
        socket: OwnedFd,
        at: Duration,
    },
    Connecting {
        socket: OwnedFd,
        at: Duration,
    },
    #[default]
    Ready,
    Resting {
        until: Duration,
    },
}

impl Probe {
    /// Goes on with the request under way. Returns whether the door answered just now.
    pub(super) fn turn(&mut self, spares: &mut Spares, now: Duration) -> bool {
        let (state, answered) = match std::mem::take(&mut self.state) {
            State::Ready => (self.connect(spares, now), false),
            State::Resting { until } if now < until => (State::Resting { until }, false),
            State::Resting { .. } => (self.connect(spares, now), false),
            State::Connecting { socket, at } => (ask(socket, at, now), false),
            State::Asked { socket, at } => hear(socket, at, now),
        };
        self.state = state;
        answered
    }

    fn connect(&mut self, spares: &mut Spares, now: Duration) -> State {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = || socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = open().or_else(|_| {
            spares.give();
            open()
        });
        self.is_blind = socket.is_err();
        let Ok(socket) = socket else {
            return rest(now);
        };
        match rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, PROBE)) {
            Ok(()) | Err(Errno::INPROGRESS) => State::Connecting { socket, at: now },
            Err(_) => rest(now),
        }
    }
}

fn ask(socket: OwnedFd, at: Duration, now: Duration) -> State {
    match rustix::net::send(&socket, REQUEST, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Ok(n) if n == REQUEST.len() => State::Asked { socket, at },
        Err(Errno::AGAIN | Errno::NOTCONN) if now - at < GIVE_UP => {
            State::Connecting { socket, at }
        }
        Ok(_) | Err(_) => rest(now),
    }
}

fn hear(socket: OwnedFd, at: Duration, now: Duration) -> (State, bool) {
    let mut answer = [0_u8; 64];
    match rustix::net::recv(&socket, &mut answer[..], RecvFlags::DONTWAIT) {
        Ok((n, _)) => (rest(now), answer[..n].starts_with(b"HTTP/1.1 200")),
        Err(Errno::AGAIN) if now.saturating_sub(at) < GIVE_UP => {
            (State::Asked { socket, at }, false)
        }
        Err(_) => (rest(now), false),
    }
}

fn rest(now: Duration) -> State {
    State::Resting {
        until: now + PERIOD,
    }
}

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const PERIOD: Duration = Duration::from_millis(500);
/// A request that was swallowed (the front was replaced) is asked anew.
const GIVE_UP: Duration = Duration::from_secs(5);
