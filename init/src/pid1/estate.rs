//! What is open for the box as a whole: listening sockets, logs, the heartbeat, the kernel's log
//! and events. Made at boot, inherited after a crash.

use std::os::fd::OwnedFd;

use drivers::uevent::UeventSocket;
use rustix::net::{SocketType, sockopt};
use serde::{Deserialize, Serialize};

use super::{
    Pid1,
    beginning::open,
    inheritance::{self, Legacy},
    sockets::Sockets,
    succession::Succession,
    table::{LogPair, seqpacket_pair},
};
use crate::handover::descriptors::{Handed, Inherited, Naming};

/// The open files.
#[derive(Debug)]
pub(super) struct Estate {
    pub(super) sockets: Sockets,
    /// The manager's end of the heartbeat, and the guard's.
    pub(super) heartbeat: OwnedFd,
    pub(super) guards: OwnedFd,
    pub(super) kmsg: Option<OwnedFd>,
    pub(super) own_log: LogPair,
    pub(super) helper_log: LogPair,
    pub(super) uevents: Option<UeventSocket>,
    /// What could not be had, as sentences.
    pub(super) trouble: Vec<String>,
}

/// The same by name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EstateRecord {
    door: Vec<(u16, Handed)>,
    dashboard: Handed,
    api: Handed,
    log: Handed,
    heartbeat: Handed,
    guards: Handed,
    kmsg: Option<Handed>,
    own_log: LogRecord,
    helper_log: LogRecord,
    uevents: Option<Handed>,
}

/// A unit's two ends of output by name: write, read.
pub(super) type LogRecord = (Handed, Handed);

impl Estate {
    /// The predecessor's, or a new one. To be asked for again when it can't be had.
    pub(super) fn of(legacy: Option<&mut Legacy>, succession: &Succession) -> Result<Self, String> {
        match legacy.and_then(Legacy::estate) {
            Some(estate) => Ok(estate),
            None => {
                if succession.generation > 0 {
                    crate::crash::probation::give_up();
                    inheritance::end_all();
                }
                Self::new()
            }
        }
    }

    /// All new.
    pub(super) fn new() -> Result<Self, String> {
        let text = |what: &'static str| move |e: rustix::io::Errno| format!("{what}: {e}");
        let (sockets, trouble) = Sockets::bind().map_err(|e| format!("sockets: {e}"))?;
        let (heartbeat, guards) = seqpacket_pair().map_err(text("heartbeat"))?;
        let nonblocking = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
        Ok(Self {
            sockets,
            heartbeat,
            guards,
            kmsg: open("/dev/kmsg", nonblocking).ok(),
            own_log: LogPair::new().map_err(text("log"))?,
            helper_log: LogPair::new().map_err(text("log"))?,
            uevents: UeventSocket::open().ok(),
            trouble,
        })
    }

    /// The predecessor's. None unless all that the roles also hold is there and what it should be:
    /// a socket bound anew would not be the one that they listen on.
    pub(super) fn inherit(record: &EstateRecord, from: &mut Inherited) -> Option<Self> {
        let mut listener = |handed: Handed| from.take(handed).filter(is_listener).map(Into::into);
        let (dashboard, api, log) = (
            listener(record.dashboard)?,
            listener(record.api)?,
            listener(record.log)?,
        );
        let door = record.door.iter().map(|(port, handed)| {
            let socket = from.take(*handed).filter(|fd| listens_on(fd, *port))?;
            Some((*port, socket.into()))
        });
        Some(Self {
            sockets: Sockets {
                door: door.collect::<Option<_>>()?,
                dashboard,
                api,
                log,
            },
            heartbeat: from.take(record.heartbeat).filter(is_seqpacket)?,
            guards: from.take(record.guards).filter(is_seqpacket)?,
            kmsg: record.kmsg.and_then(|kmsg| from.take(kmsg)),
            own_log: inherit_log(record.own_log, from)?,
            helper_log: inherit_log(record.helper_log, from)?,
            uevents: record
                .uevents
                .and_then(|uevents| from.take(uevents))
                .map(UeventSocket::from_open)
                .or_else(|| UeventSocket::open().ok()),
            trouble: Vec::new(),
        })
    }
}

impl Pid1 {
    /// Names all that is open for the box as a whole.
    pub(super) fn name_estate(&self, naming: &mut Naming) -> EstateRecord {
        let door = self.sockets.door.iter();
        EstateRecord {
            door: door
                .map(|(port, socket)| (*port, naming.name(socket)))
                .collect(),
            dashboard: naming.name(&self.sockets.dashboard),
            api: naming.name(&self.sockets.api),
            log: naming.name(&self.sockets.log),
            heartbeat: naming.name(&self.heartbeat),
            guards: naming.name(&self.guards),
            kmsg: self.kmsg.as_ref().map(|kmsg| naming.name(kmsg)),
            own_log: name_log(&self.own_log, naming),
            helper_log: name_log(&self.helper_log, naming),
            uevents: self.uevents.as_ref().map(|socket| naming.name(socket)),
        }
    }
}

/// Names both ends of a unit's output.
pub(super) fn name_log(log: &LogPair, naming: &mut Naming) -> LogRecord {
    (naming.name(&log.write), naming.name(&log.read))
}

/// Takes both ends of a unit's output.
pub(super) fn inherit_log(record: LogRecord, from: &mut Inherited) -> Option<LogPair> {
    let mut end = |handed| from.take(handed).filter(is_seqpacket);
    Some(LogPair {
        write: end(record.0)?.into(),
        read: end(record.1)?.into(),
    })
}

/// Whether it is a socket of the kind that control and logs go through.
pub(super) fn is_seqpacket(fd: &OwnedFd) -> bool {
    sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET)
}

/// Whether it is a listening socket.
pub(super) fn is_listener(fd: &OwnedFd) -> bool {
    sockopt::socket_acceptconn(fd) == Ok(true)
}

fn listens_on(fd: &OwnedFd, port: u16) -> bool {
    let name = rustix::net::getsockname(fd).ok();
    let name = name.and_then(|name| std::net::SocketAddr::try_from(name).ok());
    is_listener(fd) && name.is_some_and(|name| name.port() == port)
}
