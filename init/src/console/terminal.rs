//! The terminal a console sits on: raw mode, reading with a deadline, writing what may block.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
    termios::{InputModes, LocalModes, OptionalActions, OutputModes, Termios},
};

/// An open terminal in raw mode.
#[derive(Debug)]
pub(crate) struct Terminal {
    fd: OwnedFd,
    path: PathBuf,
    /// Read while something else was being looked for.
    ahead: VecDeque<u8>,
}

impl Terminal {
    /// Opens it and makes it raw.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Non-blocking: opening a serial line must not wait for a carrier, and reads have deadlines.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let mut modes = rustix::termios::tcgetattr(&fd)?;
        modes.make_raw();
        rustix::termios::tcsetattr(&fd, OptionalActions::Now, &modes)?;
        Ok(Self {
            fd,
            path: path.to_owned(),
            ahead: VecDeque::new(),
        })
    }

    /// Opens it anew after a hang-up.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.path)?;
        Ok(())
    }

    /// Another descriptor of it for a program that expects a terminal as terminals usually are.
    /// When that program's session ends the kernel hangs the terminal up: open it again then.
    pub(crate) fn lend(&self) -> io::Result<OwnedFd> {
        let fd = rustix::fs::open(
            &self.path,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut modes = rustix::termios::tcgetattr(&fd)?;
        cook(&mut modes);
        rustix::termios::tcsetattr(&fd, OptionalActions::Now, &modes)?;
        Ok(fd)
    }

    /// Columns, if the terminal says.
    pub(crate) fn width(&self) -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(&self.fd).ok()?;
        (size.ws_col > 0).then_some(size.ws_col.into())
    }

    /// The next byte typed; `None` if there was none in time.
    pub(crate) fn read(&mut self, wait: Duration) -> io::Result<Option<u8>> {
        if self.ahead.is_empty() && self.ready(PollFlags::IN, Some(wait))? {
            self.fill()?;
        }
        Ok(self.ahead.pop_front())
    }

    /// Whether Ctrl-C was typed. What was typed before it is forgotten.
    pub(crate) fn interrupted(&mut self) -> io::Result<bool> {
        if self.ahead.len() < MAX_AHEAD && self.ready(PollFlags::IN, Some(Duration::ZERO))? {
            self.fill()?;
        }
        let stop = self.ahead.iter().rposition(|&byte| byte == CTRL_C);
        if let Some(at) = stop {
            self.ahead.drain(..=at);
        }
        Ok(stop.is_some())
    }

    /// Writes text: line feeds become line ends, other control characters show as `?`, so that
    /// nothing that is shown can play tricks with the terminal.
    pub(crate) fn print(&mut self, text: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(text.len() + 64);
        for c in text.chars() {
            match c {
                '\n' => bytes.extend_from_slice(b"\r\n"),
                '\t' => bytes.push(b'\t'),
                c if c.is_control() => bytes.push(b'?'),
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.write(&bytes)
    }

    /// Writes bytes as they are; waits for as long as the terminal takes none.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.fd, bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::AGAIN) => {
                    self.ready(PollFlags::OUT, None)?;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut bytes = [0; 256];
        match rustix::io::read(&self.fd, &mut bytes) {
            Ok(0) => return Err(io::Error::other("the terminal hung up")),
            Ok(n) => self.ahead.extend(&bytes[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    fn ready(&self, what: PollFlags, wait: Option<Duration>) -> io::Result<bool> {
        let wait = wait.map(|wait| Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        });
        match poll(
            &mut [PollFd::from_borrowed_fd(self.fd.as_fd(), what)],
            wait.as_ref(),
        ) {
            Ok(n) => Ok(n > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The modes of a terminal that lines are typed on, whatever was left behind on it.
fn cook(modes: &mut Termios) {
    modes.input_modes |= InputModes::ICRNL | InputModes::IXON | InputModes::BRKINT;
    modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    modes.local_modes |= LocalModes::ICANON
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::ISIG
        | LocalModes::IEXTEN;
}

const CTRL_C: u8 = 3;
/// What is typed while something is shown is kept up to here; the kernel's buffer holds the rest.
const MAX_AHEAD: usize = 4096;
