//! A netlink socket that never waits: requests out, whole datagrams in.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::SocketAddrNetlink, recvfrom, send, socket_with, sockopt,
    },
};

/// One socket of one netlink family.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// What one reading brought.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// Nothing is there now.
    Empty,
    /// A datagram from the kernel, of one or more frames.
    Frames(&'a [u8]),
    /// Messages were lost, here or in the kernel: what is known is stale.
    Lost,
    /// Not from the kernel; ignored.
    Stranger,
}

impl Socket {
    /// Opens a socket of `protocol` (`None` is rtnetlink) that hears the groups of the mask.
    pub(crate) fn open(protocol: Option<Protocol>, groups: u32) -> Result<Self, Errno> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            protocol,
        )?;
        sockopt::set_socket_recv_buffer_size(&fd, KERNEL_BUFFER)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self {
            fd,
            buffer: vec![0; DATAGRAM_MAX],
        })
    }

    /// Hands bytes to the kernel, which acts on them before this returns.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        send(&self.fd, bytes, SendFlags::empty()).map(drop)
    }

    /// Takes the next datagram.
    pub(crate) fn receive(&mut self) -> Result<Received<'_>, Errno> {
        let (length, from) = match recvfrom(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC) {
            Ok((_, length, from)) => (length, from),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Empty),
            Err(Errno::NOBUFS) => return Ok(Received::Lost),
            Err(errno) => return Err(errno),
        };
        let kernel = from
            .and_then(|from| SocketAddrNetlink::try_from(from).ok())
            .is_some_and(|from| from.pid() == 0);
        match self.buffer.get(..length) {
            _ if !kernel => Ok(Received::Stranger),
            None => Ok(Received::Lost),
            Some(bytes) => Ok(Received::Frames(bytes)),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Messages that may wait in the kernel: enough for some hundred links that change at once.
const KERNEL_BUFFER: usize = 1 << 20;

/// The kernel makes no dump datagram larger than 32 KiB; a notification is smaller.
const DATAGRAM_MAX: usize = 64 << 10;
