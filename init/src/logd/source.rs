//! A process's output, as far as `logd` has read it.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SocketType},
};
use supervise::{log::Level, unit::UnitName};

use super::{
    quota::Quota,
    text::{Assembler, Text},
};

/// The reading end of a unit's output: a packet socket, a stream socket or a pipe.
#[derive(Debug)]
pub(crate) struct Source {
    unit: UnitName,
    fd: OwnedFd,
    kind: Kind,
    assembler: Assembler,
    read_at: Instant,
    quota: Quota,
}

impl Source {
    /// Takes over a reading end.
    pub(crate) fn new(unit: UnitName, fd: OwnedFd, now: Instant) -> Self {
        let kind = match rustix::net::sockopt::socket_type(&fd) {
            Ok(SocketType::SEQPACKET | SocketType::DGRAM) => Kind::Packets,
            Ok(_) => Kind::Stream,
            Err(_) => Kind::Pipe,
        };
        // Nobody else reads here, so the flag, which is shared with PID 1's copy, is ours to set.
        let _ = rustix::io::ioctl_fionbio(&fd, true);
        let (assembler, quota) = (Assembler::default(), Quota::new(now));
        Self {
            unit,
            fd,
            kind,
            assembler,
            read_at: now,
            quota,
        }
    }

    /// Whose output it is.
    pub(crate) fn unit(&self) -> &UnitName {
        &self.unit
    }

    /// Whether `other` is another descriptor of the same socket or pipe.
    pub(crate) fn is_same(&self, other: BorrowedFd<'_>) -> bool {
        match (rustix::fs::fstat(&self.fd), rustix::fs::fstat(other)) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        }
    }

    /// Reads what is there, up to a share that leaves others their turn; calls `line` with each
    /// complete line that is within the source's quota. Whether more may come; `hung_up` is
    /// whether poll(2) says that all writers are gone.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        hung_up: bool,
        now: Instant,
        line: &mut dyn FnMut(Text),
    ) -> bool {
        let mut share = SHARE;
        self.read_at = now;
        while share > 0 {
            match self.receive(buffer) {
                // An empty packet is no end as long as somebody can write.
                Ok(0) if self.kind == Kind::Packets && !hung_up => share -= 1,
                Ok(0) => return false,
                Ok(n) => {
                    share = share.saturating_sub(n.max(MIN_READ));
                    self.take(&buffer[..n], now, line);
                }
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Gives out what waited too long for its end: an unfinished line, a count of dropped ones.
    pub(crate) fn tick(&mut self, now: Instant, line: &mut dyn FnMut(Text)) {
        if self.assembler.has_unfinished() && now.duration_since(self.read_at) >= UNFINISHED {
            self.assembler.finish().map(&mut *line);
        }
        self.quota.settle(now).map(dropped).map(line);
    }

    /// Gives out all that is left, when the source has ended.
    pub(crate) fn end(&mut self, line: &mut dyn FnMut(Text)) {
        self.assembler.finish().map(&mut *line);
        self.quota.give_up().map(dropped).map(line);
    }

    /// Whether [`Source::tick`] will have something to do soon.
    pub(crate) fn is_waiting(&self) -> bool {
        self.assembler.has_unfinished() || self.quota.is_behind()
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self.kind {
            Kind::Packets | Kind::Stream => {
                let (_, n) = rustix::net::recv(&self.fd, buffer, RecvFlags::DONTWAIT)?;
                Ok(n)
            }
            Kind::Pipe => rustix::io::read(&self.fd, buffer),
        }
    }

    fn take(&mut self, bytes: &[u8], now: Instant, line: &mut dyn FnMut(Text)) {
        let quota = &mut self.quota;
        let within_quota = |text: Text| {
            quota.settle(now).map(dropped).map(&mut *line);
            if quota.admits(text.text.len(), now) {
                line(text);
            }
        };
        match self.kind {
            Kind::Packets => self.assembler.push_packet(bytes, within_quota),
            Kind::Stream | Kind::Pipe => self.assembler.push(bytes, within_quota),
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Holds the largest packet that the kernel's default limits let anybody send.
pub(crate) const READ_BUFFER: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Packets,
    Pipe,
    Stream,
}

fn dropped(count: u64) -> Text {
    let text = format!("({count} lines were dropped here: they came faster than can be kept)");
    Text {
        level: Level::Warning,
        text,
    }
}

/// Bytes a source may be read for before the others have their turn.
const SHARE: usize = 256 * 1024;
/// What reading a packet counts for at least, however short.
const MIN_READ: usize = 512;
/// A prompt without an end of line is worth showing after this.
const UNFINISHED: Duration = Duration::from_millis(500);
