//! The control protocol between PID 1 and the processes it started.
//!
//! Each role holds one end of a `SOCK_SEQPACKET` pair as descriptor [`CONTROL_FD`]; a frame is one
//! postcard message, its descriptors beside it. PID 1 trusts no frame: what a role may ask is
//! decided by which socket it asks on. Requests are idempotent, so that a role that was replaced
//! says again what it wants, after asking with [`Request::List`] what is there.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    network::{ChangeTaken, GeneralSetting, NotConfirmed, Wish},
    status::{BoxStatus, Notice, ResolverStatus},
    unit::{Exit, UnitInfo, UnitName},
};

/// The descriptor on which every role finds its control socket.
pub const CONTROL_FD: i32 = 3;

/// The versions of this protocol that this build speaks, oldest and newest.
pub const PROTOCOL: (u16, u16) = (1, 1);

/// A frame's size limit in bytes; a larger one is an error at the sender.
pub const MAX_FRAME: usize = 128 * 1024;

/// Descriptors a frame may carry.
pub const MAX_FDS: usize = 16;

/// Lines in a [`Request::LogTail`].
pub const MAX_TAIL: usize = 12;

/// Bytes in each of them.
pub const MAX_TAIL_LINE: usize = 160;

/// Notices in a [`Request::Notices`].
pub const MAX_NOTICES: usize = 16;

/// Bytes in the text of each of them.
pub const MAX_NOTICE: usize = 400;

/// Ports in a [`Request::Forwards`].
pub const MAX_FORWARDS: usize = 128;

/// Services in a [`Request::Names`].
pub const MAX_NAMES: usize = 512;

/// Bytes in the secret of a [`Request::Unlock`].
pub const MAX_SECRET: usize = 256;

/// From a role to PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First frame of every role: the protocol versions it speaks.
    Hello {
        /// Oldest and newest.
        protocol: (u16, u16),
    },
    /// Manager: what runs? Answered by [`Event::Units`].
    List,
    /// Manager: keep this service running. One descriptor: a memfd with the monitor's plan.
    /// With the same `spec_hash` as the running one it changes nothing.
    StartService(StartService),
    /// Manager: stop this service and forget it. Stopping one that is not there is no error.
    StopService {
        /// The unit to stop.
        unit: UnitName,
    },
    /// Manager: the door's configuration (postcard of `netstack::door::DoorConfig`), handed to the
    /// front and kept for its successors.
    ConfigureDoor(Vec<u8>),
    /// Manager: keep the door's identity (postcard of `netstack::door::Identity`) on the `keep`
    /// partition, for the next boot before data is there.
    KeepIdentity(Vec<u8>),
    /// Logd: the last lines of all units, oldest first, for the emergency page. At most
    /// [`MAX_TAIL`], each cut to [`MAX_TAIL_LINE`] bytes.
    LogTail(Vec<String>),
    /// Manager: what the owner should know of its part, all of it; shown also where no manager is
    /// needed. At most [`MAX_NOTICES`], each cut to [`MAX_NOTICE`] bytes.
    Notices(Vec<Notice>),
    /// Manager: turn the box off or start it again.
    Power(Power),
    /// Manager: end this role and start it again (`front`, `manager`, `logd`).
    RestartRole {
        /// The role's unit.
        unit: UnitName,
    },
    /// Manager: go over to another binary of PID 1. One descriptor: the sealed program. It is
    /// copied, verified and tried before anything changes; what comes of it is in the status.
    Upgrade,
    /// Front: the host name that the box has on its links, as another device has the one wanted.
    /// The wanted one, or that with a number.
    Hostname(String),
    /// Front: somebody says to be the owner. Answered by [`Event::Unlocked`], after a helper has
    /// looked at the secret: the front itself knows nothing to compare it with.
    Unlock {
        /// Comes back in the answer.
        id: u64,
        /// Whose tries are counted together: an IPv4 address, or an IPv6 network of 64 bits.
        from: IpAddr,
        /// At most [`MAX_SECRET`] bytes.
        offered: Secret,
    },
    /// Front: what an owner wants who was let in. Answered by [`Event::Acted`].
    Act {
        /// Comes back in the answer.
        id: u64,
        /// What letting in gave.
        grant: Grant,
        /// What is wanted.
        act: Act,
    },
    /// Manager: the box's ports that lead to services as they are, all of them. Refused are those
    /// that the box needs itself, and all that lead elsewhere than to a service.
    Forwards(Vec<Forward>),
    /// Manager: the services' ids and addresses, all of them, by which they find each other. At most
    /// [`MAX_NAMES`].
    Names(Vec<(String, Ipv4Addr)>),
    /// Front: how its name server does.
    Resolver(Box<ResolverStatus>),
    /// Manager: change a setting of the network. Answered by [`Event::NetworkSet`]; undone again
    /// unless it is confirmed in time.
    SetNetwork {
        /// Comes back in the answer.
        id: u64,
        /// The link or service that it is about.
        link: String,
        /// What is to be.
        wish: Wish,
        /// How long it may take to confirm it, in seconds.
        seconds: u64,
    },
    /// Front and manager: whoever has this token reaches the box after the change. Answered by
    /// [`Event::NetworkConfirmed`], once what it confirms outlives a reboot.
    ConfirmNetwork {
        /// Comes back in the answer.
        id: u64,
        /// Whose tries are counted together; none is root on the box.
        from: Option<IpAddr>,
        /// What the change's client was given.
        token: Secret,
    },
    /// Manager: set something of the time or of names. Answered by [`Event::Acted`].
    SetGeneral {
        /// Comes back in the answer.
        id: u64,
        /// What is to be.
        setting: GeneralSetting,
    },
    /// Manager: undo the change that waits. Answered by [`Event::Acted`].
    UndoNetwork {
        /// Comes back in the answer.
        id: u64,
    },
}

/// A port of the box that the kernel forwards to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// What is forwarded.
    pub transport: Transport,
    /// The box's port.
    pub port: u16,
    /// The service's address and port.
    pub to: SocketAddrV4,
}

/// What a [`Forward`] forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A text that is in no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What an owner was given for a secret: whoever has it is one, for a while.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant(pub [u8; 16]);

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grant")
    }
}

/// What an owner can do on the emergency page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Give the grant back.
    Leave,
    /// Stop everything and start the box again.
    Reboot,
    /// End the manager and start it again.
    RestartManager,
}

/// Why somebody was not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Locked {
    /// One at a time: another secret is being looked at.
    #[error("Another code is being looked at. Try again in a moment.")]
    Busy,
    /// It could not be looked at.
    #[error("The code could not be looked at: {0}.")]
    Failed(String),
    /// Too many wrong ones lately.
    #[error("Too many wrong codes. Wait {wait_s} s and try again.")]
    Throttled {
        /// For how long, in seconds.
        wait_s: u64,
    },
    /// It is not the secret.
    #[error("That is not the setup code. The server's own console shows it.")]
    Wrong,
}

/// A service to keep running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartService {
    /// `service-<id>`.
    pub unit: UnitName,
    /// BLAKE3 of the plan: another hash replaces the running service.
    pub spec_hash: [u8; 32],
    /// How long it may take to end after SIGTERM, in milliseconds, before its cgroup is killed.
    pub stop_timeout_ms: u32,
    /// Stopped before those with a lower number when the box goes down.
    pub stop_order: u32,
    /// Limits of the service's cgroup.
    pub limits: Limits,
}

/// Limits of a cgroup; `None` leaves the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `memory.max` in bytes.
    pub memory_max: Option<u64>,
    /// `memory.low` in bytes.
    pub memory_low: Option<u64>,
    /// `pids.max`.
    pub pids_max: Option<u32>,
    /// `cpu.weight`, 1 to 10000; the kernel's default is 100.
    pub cpu_weight: Option<u32>,
    /// `cpu.max` as a share of one core in per cent (150 is one and a half cores).
    pub cpu_percent: Option<u32>,
}

/// How the box is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// Stop everything and stay powered.
    Halt,
    /// Stop everything and switch off.
    PowerOff,
    /// Stop everything and start again.
    Reboot,
}

/// From PID 1 to a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Front: a listening socket comes along, for the service port (or 443, 80) it is bound to.
    Listener {
        /// The TCP port.
        port: u16,
    },
    /// Front: the door's configuration, as the manager sent it.
    Door(Vec<u8>),
    /// Logd: the reading end of a unit's output comes along.
    LogSource {
        /// Whose output it is.
        unit: UnitName,
    },
    /// Manager: the listening socket for a service's agent comes along.
    AgentListener {
        /// The service's unit.
        unit: UnitName,
    },
    /// Manager: a service's process ended; PID 1 starts it again by itself after the back-off.
    Exited {
        /// Which.
        unit: UnitName,
        /// Its run.
        generation: u64,
        /// How.
        exit: Exit,
    },
    /// Manager: whoever holds the console wants this service to run, or not to.
    Wanted {
        /// The service's unit.
        unit: UnitName,
        /// Whether it is to run.
        run: bool,
    },
    /// Manager: the answer to [`Request::List`].
    Units(Vec<UnitInfo>),
    /// Manager: the data file system is mounted, or why not. Sent again after every change.
    Data(Result<(), String>),
    /// Manager: the code that lets its holder set up and steer the box.
    SetupCode(String),
    /// Front and manager: the state of the box. Sent after every change, at most once a second.
    Status(Box<BoxStatus>),
    /// The answer to [`Request::Hello`]: the protocol version chosen.
    Welcome {
        /// Chosen version.
        protocol: u16,
    },
    /// A request was refused.
    Refused {
        /// What and why, as a sentence.
        why: String,
    },
    /// Front: to listen on this port no more.
    ListenerGone {
        /// The TCP port.
        port: u16,
    },
    /// Front: the answer to [`Request::Unlock`].
    Unlocked {
        /// The request's.
        id: u64,
        /// What to show with each [`Request::Act`].
        result: Result<Grant, Locked>,
    },
    /// Front and manager: the answer to [`Request::Act`] and [`Request::UndoNetwork`].
    Acted {
        /// The request's.
        id: u64,
        /// Or why not, as a sentence.
        result: Result<(), String>,
    },
    /// Front: what its name server is to be (postcard of `netstack::names::DnsConfig`), but for what
    /// the front knows of the network.
    Names(Vec<u8>),
    /// Front: two sockets come along that are bound to port 53 of one of the box's addresses, for
    /// datagrams and for connections.
    NameSocket {
        /// The address.
        address: IpAddr,
    },
    /// Front: names are not asked for there any more.
    NameSocketGone {
        /// The address.
        address: IpAddr,
    },
    /// Manager: the answer to [`Request::SetNetwork`].
    NetworkSet {
        /// The request's.
        id: u64,
        /// What the client needs, or why not, as a sentence.
        result: Result<ChangeTaken, String>,
    },
    /// Front and manager: the answer to [`Request::ConfirmNetwork`].
    NetworkConfirmed {
        /// The request's.
        id: u64,
        /// Whether it outlives a reboot: a box without its `keep` partition forgets it.
        result: Result<bool, NotConfirmed>,
    },
}

/// What went wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side is gone.
    #[error("the other end of the control socket is closed")]
    Closed,
    /// The kernel refused.
    #[error("the control socket failed: {0}")]
    Io(#[from] Errno),
    /// The bytes are no message.
    #[error("a control frame does not parse: {0}")]
    Malformed(postcard::Error),
    /// The frame was cut by the kernel.
    #[error(
        "a control frame is longer than {MAX_FRAME} bytes or has more than {MAX_FDS} descriptors"
    )]
    TooLong,
}

/// Sends one frame with its descriptors; waits only if the socket is a blocking one.
///
/// # Errors
/// [`Errno::AGAIN`] in [`FrameError::Io`] when a non-blocking socket is full.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), FrameError> {
    let bytes = postcard::to_stdvec(message).map_err(FrameError::Malformed)?;
    if bytes.len() > MAX_FRAME || fds.len() > MAX_FDS {
        return Err(FrameError::TooLong);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    match rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    ) {
        Ok(_) => Ok(()),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(FrameError::Closed),
        Err(errno) => Err(FrameError::Io(errno)),
    }
}

/// Receives one frame with its descriptors (close-on-exec).
///
/// # Errors
/// [`Errno::AGAIN`] in [`FrameError::Io`] when a non-blocking socket is empty. A malformed frame
/// is consumed, its descriptors closed: the next call gets the next one.
pub fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<(T, Vec<OwnedFd>), FrameError> {
    // Its length first: most looks at a socket find nothing, and most frames are short.
    let look = RecvFlags::PEEK | RecvFlags::TRUNC;
    let length = match rustix::net::recv(socket, &mut [0_u8; 1][..], look) {
        Ok((_, length)) => length,
        Err(Errno::CONNRESET) => return Err(FrameError::Closed),
        Err(errno) => return Err(FrameError::Io(errno)),
    };
    let mut bytes = vec![0; length.clamp(1, MAX_FRAME)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let got = match got {
        Ok(got) => got,
        Err(Errno::CONNRESET) => return Err(FrameError::Closed),
        Err(errno) => return Err(FrameError::Io(errno)),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    // The kernel counts the room in whole words, so one more than agreed may fit.
    if got.flags.intersects(cut) || fds.len() > MAX_FDS {
        return Err(FrameError::TooLong);
    }
    if got.bytes == 0 {
        return Err(FrameError::Closed);
    }
    let message = postcard::from_bytes(&bytes[..got.bytes]).map_err(FrameError::Malformed)?;
    Ok((message, fds))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    #[test]
    fn a_frame_arrives_with_its_descriptor() {
        let (a, b) = pair();
        let unit: UnitName = "front".parse().unwrap();
        send(
            a.as_fd(),
            &Event::LogSource { unit: unit.clone() },
            &[b.as_fd()],
        )
        .unwrap();
        let (event, fds) = receive::<Event>(b.as_fd()).unwrap();
        assert_eq!(event, Event::LogSource { unit });
        assert_eq!(fds.len(), 1);
    }

    #[test]
    fn rubbish_is_an_error_and_the_next_frame_still_arrives() {
        let (a, b) = pair();
        rustix::io::write(&a, &[0xff; 40]).unwrap();
        send(a.as_fd(), &Request::List, &[]).unwrap();
        assert!(matches!(
            receive::<Request>(b.as_fd()),
            Err(FrameError::Malformed(_))
        ));
        assert_eq!(receive::<Request>(b.as_fd()).unwrap().0, Request::List);
    }

    #[test]
    fn the_end_of_the_peer_is_told_from_an_empty_socket() {
        let (a, b) = pair();
        assert!(matches!(
            receive::<Request>(b.as_fd()),
            Err(FrameError::Io(Errno::AGAIN))
        ));
        drop(a);
        assert!(matches!(
            receive::<Request>(b.as_fd()),
            Err(FrameError::Closed)
        ));
    }

    #[test]
    fn secrets_are_in_no_log() {
        let offered = Secret("otter".to_owned());
        let (id, from, grant) = (1, IpAddr::from([0; 4]), Grant([7; 16]));
        let act = Act::Reboot;
        let asked = [
            Request::Unlock { id, from, offered },
            Request::Act { id, grant, act },
        ];
        let shown = format!("{asked:?}");
        assert!(!shown.contains("otter") && !shown.contains('7'), "{shown}");
    }

    #[test]
    fn an_overlong_message_is_refused_before_it_is_sent() {
        let (a, _b) = pair();
        let door = Request::ConfigureDoor(vec![0; MAX_FRAME]);
        assert!(matches!(
            send(a.as_fd(), &door, &[]),
            Err(FrameError::TooLong)
        ));
    }
}
