//! A daemon's output, cut into lines and passed on to the log.
//!
//! Never waits: the pipe is read when it has something, and a line that the log does not take at
//! once is dropped and counted there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// The reading end of one run's standard output and error.
pub(crate) struct Output {
    daemon: String,
    pipe: OwnedFd,
    lines: Lines,
}

impl Output {
    /// `pipe` must be non-blocking.
    pub(crate) fn new(daemon: &str, pipe: OwnedFd) -> Self {
        Self {
            daemon: daemon.to_owned(),
            pipe,
            lines: Lines::default(),
        }
    }

    /// Passes on what is there, up to a bound. Returns whether there may be more, ever.
    pub(crate) fn pump(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS_AT_ONCE {
            match rustix::io::read(&self.pipe, &mut chunk) {
                Ok(0) => {
                    self.lines.finish(|line| say(&self.daemon, line));
                    return false;
                }
                Ok(n) => self.lines.push(&chunk[..n], |line| say(&self.daemon, line)),
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

fn say(daemon: &str, line: &[u8]) {
    supervise::info!("{daemon}: {}", String::from_utf8_lossy(line));
}

/// Bytes in, lines out. A line that is too long comes in pieces.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(&[u8])) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    tell(self.rest.strip_suffix(b"\r").unwrap_or(&self.rest));
                    self.rest.clear();
                }
                byte => {
                    self.rest.push(*byte);
                    if self.rest.len() == LONGEST {
                        tell(&self.rest);
                        self.rest.clear();
                    }
                }
            }
        }
    }

    fn finish(&mut self, mut tell: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            tell(&self.rest);
            self.rest.clear();
        }
    }
}

const CHUNK: usize = 8 * 1024;
/// One daemon that writes without end must not keep the agent from the others.
const CHUNKS_AT_ONCE: usize = 8;
/// Fits a log packet together with the daemon's name.
const LONGEST: usize = 1800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_bytes_are_cut() {
        let text = b"one\r\n\ntwo\nrest";
        for size in 1..text.len() {
            let (mut lines, mut told) = (Lines::default(), Vec::new());
            for chunk in text.chunks(size) {
                lines.push(chunk, |line| told.push(line.to_vec()));
            }
            lines.finish(|line| told.push(line.to_vec()));
            let expected: [&[u8]; 4] = [b"one", b"", b"two", b"rest"];
            assert_eq!(told, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let (mut lines, mut told) = (Lines::default(), 0);
        lines.push(&[b'x'; 10 * LONGEST], |line| told += line.len());
        assert_eq!((told, lines.rest.len()), (10 * LONGEST, 0));
    }
}
