//! A log line's way out of a process.
//!
//! Every process of ours has as standard output and error one end of a `SOCK_SEQPACKET` pair, set
//! non-blocking; `logd` reads the other end, and PID 1 keeps a copy of that end so that a new
//! `logd` goes on where the old one stopped. A line is one packet: written whole or, when `logd`
//! is behind, dropped and counted. Never waits, never takes a lock, never touches a disk.
//!
//! A line may begin with `<N>`, N a syslog priority from 0 to 7, as the kernel's do.

use std::{
    fmt,
    io::Write as _,
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

/// How grave a line is (syslog's numbers, RFC 5424, 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Level {
    /// Something failed.
    Error = 3,
    /// Something is not as it should be.
    Warning = 4,
    /// Something happened.
    Info = 6,
    /// Only of use to developers.
    Debug = 7,
}

/// Writes one line to standard error, or drops and counts it when nobody takes it at once.
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    line_to(std::io::stderr().as_fd(), level, text);
}

/// Writes one line to `fd` as one packet; see [`line`].
pub fn line_to(fd: BorrowedFd<'_>, level: Level, text: fmt::Arguments<'_>) {
    let mut packet = Packet {
        bytes: [0; MAX_LINE],
        len: 0,
    };
    let lost = DROPPED.swap(0, Ordering::Relaxed);
    let _ = write!(packet, "<{}>", level as u8);
    if lost > 0 {
        let _ = write!(packet, "({lost} lines were dropped before this one) ");
    }
    let _ = writeln!(packet, "{text}");
    if rustix::io::write(fd, &packet.bytes[..packet.len]).is_err() {
        DROPPED.fetch_add(lost + 1, Ordering::Relaxed);
    }
}

/// Lines dropped and not yet told of.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Logs at [`Level::Info`].
#[macro_export]
macro_rules! info { ($($t:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($t)*)) } }
/// Logs at [`Level::Warning`].
#[macro_export]
macro_rules! warning { ($($t:tt)*) => { $crate::log::line($crate::log::Level::Warning, format_args!($($t)*)) } }
/// Logs at [`Level::Error`].
#[macro_export]
macro_rules! error { ($($t:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($t)*)) } }

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Longer lines are cut: the packet lives on the stack, also in a crash or out of memory.
const MAX_LINE: usize = 2048;

struct Packet {
    bytes: [u8; MAX_LINE],
    len: usize,
}

impl std::io::Write for Packet {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        let room = &mut self.bytes[self.len..];
        let n = text.len().min(room.len());
        room[..n].copy_from_slice(&text[..n]);
        self.len += n;
        // What does not fit is cut, which is no error to the formatter.
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::net::UnixDatagram};

    use super::*;

    #[test]
    fn a_line_is_one_packet_with_its_priority() {
        let (writer, reader) = UnixDatagram::pair().unwrap();
        line_to(
            writer.as_fd(),
            Level::Warning,
            format_args!("disk {} is slow", "vda"),
        );
        let mut bytes = [0; 100];
        let n = std::fs::File::from(std::os::fd::OwnedFd::from(reader))
            .read(&mut bytes)
            .unwrap();
        assert_eq!(&bytes[..n], b"<4>disk vda is slow\n");
    }

    #[test]
    fn an_overlong_line_is_cut_not_lost() {
        let (writer, reader) = UnixDatagram::pair().unwrap();
        line_to(
            writer.as_fd(),
            Level::Info,
            format_args!("{}", "x".repeat(9000)),
        );
        let mut bytes = [0; 9000];
        assert_eq!(reader.recv(&mut bytes).unwrap(), MAX_LINE);
    }
}
