//! The front: the unprivileged process that strangers talk to. Its door and its names run each on
//! a thread of its own; the main thread hears PID 1 and tells them.
//!
//! Holds no key but its leaf's and opens no file. It begins knowing nothing: listening sockets,
//! configuration and the state of the box come from PID 1, which tells every new front the same.
//! Asked to end (SIGTERM), it finishes what it has begun: its successor accepts already.

mod desk;
mod names;
pub(crate) mod view;

use std::{
    net::TcpListener,
    os::fd::{AsFd as _, OwnedFd},
    process::ExitCode,
    sync::Arc,
};

use netstack::door::{self, Command, DoorConfig, Limits, SendError, Sender, Setup, Upstream};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags},
    process::Resource,
};
use supervise::control::{self, CONTROL_FD, Event, FrameError, PROTOCOL, Request};

use self::desk::Desk;
use crate::pid1::{
    OWNERS_FD,
    sockets::{OWNERS, PROBE},
};

/// Runs the front until PID 1 ends it or the door breaks.
pub fn run() -> ExitCode {
    let control = Arc::new(crate::inherited::take(CONTROL_FD));
    let owners = crate::inherited::take_if_open(OWNERS_FD);
    match serve(&control, owners) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            supervise::error!("the front ends: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve(control: &Arc<OwnedFd>, owners: Option<OwnedFd>) -> Result<(), String> {
    // Each client is a descriptor or two; the kernel's first limit is meant for select(2).
    let mut descriptors = rustix::process::getrlimit(Resource::Nofile);
    descriptors.current = descriptors.maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, descriptors);
    control::send(control.as_fd(), &Request::Hello { protocol: PROTOCOL }, &[])
        .map_err(|e| e.to_string())?;
    let end = asked_to_end().map_err(|e| e.to_string())?;
    #[cfg(feature = "fault")]
    crate::crash::fault::listen_in_front();
    let (sender, receiver) = door::channel().map_err(|e| e.to_string())?;
    let mut early = Vec::new();
    let probe = loop {
        let (event, fds) = next(control)?;
        match (event, fds) {
            (Event::Listener { port: PROBE }, fds) => break fds.into_iter().next(),
            other => early.push(other),
        }
    };
    let setup = Setup {
        probe: probe.map(TcpListener::from),
        limits: Limits::default(),
        log: Box::new(|line| supervise::info!("{line}")),
    };
    let loop_thread = std::thread::Builder::new()
        .name("door".to_owned())
        .spawn(move || {
            // A door that broke is replaced with its process; the sockets are PID 1's.
            let ended = door::run(setup, receiver);
            if let Err(e) = &ended {
                supervise::error!("{e}");
            }
            std::process::exit(i32::from(ended.is_err()));
        })
        .map_err(|e| format!("no thread for the door: {e}"))?;
    let mut names = names::Publisher::start(control).map_err(|e| format!("no names: {e}"))?;
    let desk = Arc::new(Desk::new(control.clone()));
    if let Some(listener) = owners {
        let opened = desk.clone().open(listener);
        let socket = Upstream::Unix(OWNERS.into());
        opened.and_then(|()| {
            sender
                .send(Command::Owner(socket))
                .map_err(|e| e.to_string())
        })?;
    }
    let tell = |names: &mut names::Publisher, event, fds| {
        let fds = names.hear(&event, fds);
        desk.hear(&event);
        tell(&sender, event, fds)
    };
    for (event, fds) in early {
        tell(&mut names, event, fds)?;
    }
    while !loop_thread.is_finished() {
        if is_asked_to_end(control, &end) {
            let _ = sender.send(Command::Shutdown);
            names.retire();
            // Its thread ends the process.
            return loop_thread
                .join()
                .map_err(|_| "its door panicked".to_owned());
        }
        let (event, fds) = next(control)?;
        tell(&mut names, event, fds)?;
    }
    Ok(())
}

/// Readable when PID 1 wants this front to end. To be called while there is one thread.
fn asked_to_end() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Waits for whichever comes first: to be asked to end, or something to hear.
fn is_asked_to_end(control: &OwnedFd, end: &SignalFd) -> bool {
    let mut fds = [
        PollFd::new(control, PollFlags::IN),
        PollFd::new(end, PollFlags::IN),
    ];
    // An error (EINTR) is as good as a wake-up: what is heard next is waited for.
    let _ = rustix::event::poll(&mut fds, None);
    fds[1].revents().contains(PollFlags::IN)
}

fn next(control: &OwnedFd) -> Result<(Event, Vec<OwnedFd>), String> {
    loop {
        match control::receive::<Event>(control.as_fd()) {
            Ok(received) => return Ok(received),
            Err(e @ (FrameError::Closed | FrameError::Io(_))) => return Err(e.to_string()),
            Err(e) => supervise::warning!("PID 1 said something strange: {e}"),
        }
    }
}

fn tell(door: &Sender, event: Event, fds: Vec<OwnedFd>) -> Result<(), String> {
    let command = match event {
        // The door has had it since it began, and takes no TLS on it: PID 1 tells everything anew.
        Event::Listener { port: PROBE } => return Ok(()),
        Event::Listener { port } => {
            let Some(listener) = fds.into_iter().next() else {
                return Ok(());
            };
            Command::Listen {
                port,
                listener: TcpListener::from(listener),
            }
        }
        Event::ListenerGone { port } => Command::Close { port },
        Event::Door(bytes) => match postcard::from_bytes::<DoorConfig>(&bytes) {
            Ok(config) => Command::Configure(Box::new(config)),
            Err(e) => {
                supervise::error!("the door's configuration does not parse: {e}");
                return Ok(());
            }
        },
        Event::Status(status) => Command::View(Box::new(view::emergency(&status))),
        _ => return Ok(()),
    };
    match door.send(command) {
        Ok(()) => Ok(()),
        // A state of the box that is soon followed by the next.
        Err(SendError::Full(command)) if matches!(*command, Command::View(_)) => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}
