//! The process table: every unit with its process, its sockets and its log. It is the truth about
//! what runs; the manager's picture is made from it.

use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};
use supervise::{
    backoff::Policy,
    cgroup::Cgroup,
    control::{self, Event, FrameError, StartService},
    spawn::Child,
    unit::{UnitInfo, UnitName},
};

use super::{roles::Role, unit::Life};

/// All units, by name.
pub type Table = BTreeMap<UnitName, Unit>;

/// One unit.
#[derive(Debug)]
pub struct Unit {
    /// Its life as a state machine.
    pub life: Life,
    /// What it is.
    pub kind: Kind,
    /// Its control group, once it was started.
    pub cgroup: Option<Cgroup>,
    /// Its process, while there is one.
    pub child: Option<Child>,
    /// PID 1's end of its control socket, and what did not fit into it yet.
    pub control: Option<Outbox>,
    /// Its output.
    pub log: LogPair,
}

/// What a unit is.
#[derive(Debug)]
pub enum Kind {
    /// One of PID 1's own.
    Role(Role),
    /// A service in its container.
    Service(Box<Service>),
}

/// A service that the manager asked for.
#[derive(Debug)]
pub struct Service {
    /// What it asked for.
    pub spec: StartService,
    /// The monitor's plan, handed on unread.
    pub plan: OwnedFd,
    /// Where the service's agent finds the manager, whichever manager that is.
    pub agents: Arc<OwnedFd>,
}

impl Unit {
    /// A unit that is wanted and was not started yet.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new(kind: Kind) -> Result<Self, Errno> {
        let policy = match kind {
            Kind::Role(_) => Policy::ROLE,
            Kind::Service(_) => Policy::SERVICE,
        };
        Ok(Self {
            life: Life::new(policy),
            kind,
            cgroup: None,
            child: None,
            control: None,
            log: LogPair::new()?,
        })
    }

    /// The role, if it is one.
    pub fn role(&self) -> Option<Role> {
        match self.kind {
            Kind::Role(role) => Some(role),
            Kind::Service(_) => None,
        }
    }

    /// The service, if it is one.
    pub fn service(&self) -> Option<&Service> {
        match &self.kind {
            Kind::Role(_) => None,
            Kind::Service(service) => Some(service),
        }
    }

    /// The entry as others see it.
    pub fn info(&self, name: &UnitName, now: Duration) -> UnitInfo {
        let hash = self
            .service()
            .map_or([0; 32], |service| service.spec.spec_hash);
        self.life.info(name, hash, now)
    }

    /// Sends an event if it has a control socket.
    pub fn tell(&mut self, event: Event, fds: Vec<Arc<OwnedFd>>) {
        if let Some(outbox) = &mut self.control {
            outbox.push(event, fds);
        }
    }
}

/// A control socket and the events that wait for room in it.
#[derive(Debug)]
pub struct Outbox {
    socket: OwnedFd,
    waiting: VecDeque<(Event, Vec<Arc<OwnedFd>>)>,
    briefed: bool,
}

impl Outbox {
    /// With nothing to send yet, to one that knows nothing.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            waiting: VecDeque::new(),
            briefed: false,
        }
    }

    /// All that a new process must know was pushed.
    pub fn was_briefed(&mut self) {
        self.briefed = true;
    }

    /// Whether a successor has to tell everything anew.
    pub fn owes_something(&self) -> bool {
        !self.briefed || self.is_behind()
    }

    /// The socket.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Sends as soon as there is room. A state of the box that a newer one overtakes is not sent.
    pub fn push(&mut self, event: Event, fds: Vec<Arc<OwnedFd>>) {
        if matches!(event, Event::Status(_)) {
            self.waiting
                .retain(|(waiting, _)| !matches!(waiting, Event::Status(_)));
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((event, fds));
        }
        self.flush();
    }

    /// Sends what there is room for.
    pub fn flush(&mut self) {
        while let Some((event, fds)) = self.waiting.front() {
            let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
            // Whoever is gone or refuses the frame gets everything anew when it is replaced.
            if let Err(FrameError::Io(Errno::AGAIN)) =
                control::send(self.socket.as_fd(), event, &fds)
            {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Whether something waits for room.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// The two ends of a unit's output. PID 1 keeps both: the writing end for the unit's next process,
/// the reading end for the next `logd`.
#[derive(Clone, Debug)]
pub struct LogPair {
    /// Standard output and error of the unit.
    pub write: Arc<OwnedFd>,
    /// What `logd` reads.
    pub read: Arc<OwnedFd>,
}

impl LogPair {
    /// A pair that holds some hundred lines while nobody reads.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn new() -> Result<Self, Errno> {
        let (write, read) = seqpacket_pair()?;
        Ok(Self {
            write: Arc::new(write),
            read: Arc::new(read),
        })
    }
}

/// A non-blocking, close-on-exec pair of sockets that keep message borders.
///
/// # Errors
/// When the process is out of descriptors.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// A role that is this far behind is about to be replaced, and then told everything anew.
const MAX_WAITING: usize = 512;
