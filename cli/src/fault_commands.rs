//! `pilot fault …`: makes a box fail on purpose. Only in tests, on a box whose programs were built for
//! it; any other says that it can't.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Subcommand, ValueEnum};
use rustix::{
    fs::{FallocateFlags, FileType, OFlags, fallocate, fstatvfs},
    termios::{Action, tcflow},
};
use serde_json::json;

use crate::api::{self, ApiError};

/// Ways to fail.
#[derive(Debug, Subcommand)]
pub(crate) enum FaultCommand {
    /// Wedge the manager's pool, in one of the ways of the table of stalls
    Stall {
        /// Which: condvar, mutex, busy-all, ...
        kind: String,
    },
    /// Make one thread crash, panic or hang
    Thread {
        /// How: segv, bus, ill, fpe, abort, overflow, alloc, panic, hang, ...
        kind: String,
        /// Its name: main, net, guard, door, names, or a console's terminal
        thread: String,
        /// Whose thread it is
        #[arg(long, default_value = "init")]
        of: Process,
    },
    /// Leave PID 1 without any
    Exhaust {
        /// Of these
        what: Resource,
    },
    /// Block a terminal's output, as a line at whose other end nobody reads
    Console {
        /// The terminal, such as /dev/ttyS0
        terminal: PathBuf,
        /// Let it flow again
        #[arg(long)]
        over: bool,
    },
    /// Fill the disk that a folder is on, with a file there
    Disk {
        /// The folder
        folder: PathBuf,
        /// Take the file away again
        #[arg(long)]
        over: bool,
    },
}

/// A process with threads that can be made to fail.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Process {
    Init,
    Front,
}

/// What can run out.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Resource {
    Descriptors,
    Memory,
}

/// Does it.
pub(crate) fn run(command: &FaultCommand) -> Result<(), FaultError> {
    match command {
        FaultCommand::Stall { kind } => {
            let params = json!({ "kind": kind });
            api::call(Path::new(api::SOCKET), "fault.inject", &params)?;
            Ok(())
        }
        FaultCommand::Thread { kind, thread, of } => match of {
            Process::Init => tell(INIT, &format!("{kind} {thread}")),
            Process::Front => tell(FRONT, &format!("{kind} {thread}")),
        },
        FaultCommand::Exhaust { what } => match what {
            Resource::Descriptors => tell(INIT, "descriptors all"),
            Resource::Memory => tell(INIT, "memory all"),
        },
        FaultCommand::Console { terminal, over } => {
            let action = if *over { Action::OOn } else { Action::OOff };
            open(terminal, OFlags::NOCTTY)
                .and_then(|terminal| Ok(tcflow(terminal, action)?))
                .map_err(FaultError::file(terminal))
        }
        FaultCommand::Disk { folder, over } => {
            let file = folder.join(FILL);
            let done = match over {
                true => std::fs::remove_file(&file),
                false => fill(&file),
            };
            done.map_err(FaultError::file(&file))
        }
    }
}

/// Why the box was not made to fail.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FaultError {
    /// The manager did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A file can't be had.
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    /// Nobody there obeys.
    #[error("{} is not there: this box's programs were not built to fail", .0.display())]
    NotBuilt(PathBuf),
}

impl FaultError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}

/// Writes a line to the FIFO of a process; without a reader it fails instead of waiting.
fn tell(place: &str, line: &str) -> Result<(), FaultError> {
    let path = Path::new(place);
    let mut fifo = match open(path, OFlags::NONBLOCK) {
        Ok(fifo) if is_fifo(&fifo) => fifo,
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FaultError::file(path)(error));
        }
        Ok(_) | Err(_) => return Err(FaultError::NotBuilt(path.to_owned())),
    };
    writeln!(fifo, "{line}").map_err(FaultError::file(path))
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)
}

fn is_fifo(file: &File) -> bool {
    let stat = rustix::fs::fstat(file);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Takes all that is free, in ever smaller pieces.
fn fill(path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    let mut length = 0;
    let mut piece = {
        let disk = fstatvfs(&file)?;
        disk.f_bavail.saturating_mul(disk.f_frsize)
    };
    while piece >= SMALLEST {
        match fallocate(&file, FallocateFlags::empty(), length, piece) {
            Ok(()) => length += piece,
            Err(rustix::io::Errno::NOSPC) => piece /= 2,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Where the box listens (`init::crash::fault`).
const INIT: &str = "/run/pilot/fault";
const FRONT: &str = "/run/pilot/fault-front";
const FILL: &str = "filled-by-pilot-fault";
/// A block, in bytes.
const SMALLEST: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_built_to_fail_says_so_and_nothing_is_made() {
        let told = tell("/nowhere/fault", "segv main").unwrap_err();
        assert!(
            told.to_string().contains("were not built to fail"),
            "{told}"
        );
        let command = FaultCommand::Console {
            terminal: "/nowhere/tty".into(),
            over: false,
        };
        let told = run(&command).unwrap_err();
        assert!(told.to_string().starts_with("/nowhere/tty: "), "{told}");
    }
}
