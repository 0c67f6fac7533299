//! The role `logd`: takes lines from everybody, keeps the last ones in memory and all in files.
//!
//! Nobody waits for it: writers drop and count when it is behind. It in turn waits for nobody: a
//! disk that hangs holds one thread of it, not the lines in memory nor those who read them; a
//! reader who is slow is cut off; a source that floods is held to its quota, and what it lost is
//! said in its own log. What it reads is hostile: bounded in length, and escaped before it is kept.
//!
//! When it dies, PID 1 starts another and hands it the same sources: what was not read yet is
//! still in them, and the last lines of the files are put before the new ones.

mod clients;
mod clock;
mod directory;
pub(crate) mod kmsg;
mod quota;
mod record;
mod ring;
mod source;
mod store;
mod text;
mod turn;
mod writer;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

use supervise::control::{CONTROL_FD, FrameError};

use crate::inherited;

/// What the role is given.
#[derive(Debug)]
pub struct Setup {
    /// The control socket to PID 1.
    pub control: OwnedFd,
    /// The socket that clients of [`supervise::log_query`] connect to, listening.
    pub queries: OwnedFd,
    /// `/dev/kmsg`, open for reading: the same open file for every `logd`, so that a new one goes
    /// on where the old one stopped.
    pub kernel: Option<OwnedFd>,
    /// Where the files are kept, once PID 1 says that data is mounted.
    pub directory: PathBuf,
}

/// Why the role ended.
#[derive(Debug, thiserror::Error)]
pub enum LogdError {
    /// It could not begin to talk to PID 1.
    #[error("logd's control socket can't be used: {0}")]
    Control(#[from] FrameError),
    /// The kernel refused what it can't do without.
    #[error("logd can't go on: {0}")]
    Io(#[from] io::Error),
}

/// The role with what PID 1 gave it: control socket, query socket and, perhaps, the kernel's log.
pub fn run() -> ExitCode {
    let given = |number: i32| Path::new(&format!("/proc/self/fd/{number}")).is_symlink();
    // Looked at before anything is opened that could take the number.
    let kernel = given(KERNEL_FD).then(|| inherited::take(KERNEL_FD));
    let (control, queries) = (inherited::take(CONTROL_FD), inherited::take(QUERIES_FD));
    match serve(Setup {
        control,
        queries,
        kernel,
        directory: PathBuf::from(DIRECTORY),
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            supervise::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until PID 1 closes the control socket; queued lines are then written first, if the disk
/// takes them within two seconds.
///
/// # Errors
/// It could not start, or poll(2) failed.
pub fn serve(setup: Setup) -> Result<(), LogdError> {
    turn::Logd::start(setup)?.run()
}

/// Where the role finds its listening socket and `/dev/kmsg`.
const QUERIES_FD: i32 = 4;
const KERNEL_FD: i32 = 5;
/// Made by the helper that mounts data, for this role's user.
const DIRECTORY: &str = "/data/logs";
