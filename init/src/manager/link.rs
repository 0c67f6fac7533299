//! The manager's end of its control socket.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use supervise::control::{self, Event, FrameError, PROTOCOL, Request};
use tokio::sync::mpsc;

/// Sends requests to PID 1.
#[derive(Clone, Debug)]
pub(super) struct Link {
    socket: Arc<OwnedFd>,
}

/// An event of PID 1 with its descriptors.
pub(super) type Received = (Event, Vec<OwnedFd>);

impl Link {
    /// Says hello on `socket`, and has a thread of its own take events from it: PID 1 must be
    /// heard also when the pool is busy.
    ///
    /// # Errors
    /// When the kernel gives no thread, or PID 1 is gone.
    pub(super) fn open(socket: OwnedFd) -> io::Result<(Self, mpsc::Receiver<Received>)> {
        let socket = Arc::new(socket);
        let (events, received) = mpsc::channel(MAX_EVENTS);
        let link = Self {
            socket: socket.clone(),
        };
        link.ask(&Request::Hello { protocol: PROTOCOL });
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                while let Some(received) = next(&socket) {
                    if events.blocking_send(received).is_err() {
                        return;
                    }
                }
                // Without PID 1 nobody starts anything; it starts a new manager when it is back.
                std::process::exit(0);
            })?;
        Ok((link, received))
    }

    /// Sends a request.
    pub(super) fn ask(&self, request: &Request) {
        self.ask_with(request, &[]);
    }

    /// Sends a request with descriptors.
    pub(super) fn ask_with(&self, request: &Request, fds: &[BorrowedFd<'_>]) {
        if let Err(e) = control::send(self.socket.as_fd(), request, fds) {
            supervise::error!("PID 1 can't be asked: {e}");
        }
    }
}

fn next(socket: &OwnedFd) -> Option<Received> {
    loop {
        match control::receive::<Event>(socket.as_fd()) {
            Ok(received) => return Some(received),
            Err(FrameError::Closed | FrameError::Io(_)) => return None,
            Err(e) => supervise::warning!("PID 1 said something strange: {e}"),
        }
    }
}

/// PID 1 says little; a manager that is this far behind waits for itself.
const MAX_EVENTS: usize = 1024;
