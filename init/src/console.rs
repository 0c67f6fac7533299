//! The recovery console: what is left to talk to when network, manager and data are gone.
//!
//! One thread in PID 1 for each console that the kernel names. Nobody needs it: it may block on a
//! terminal that takes no more bytes, and only itself suffers. It reads the box's published
//! status, asks `logd` and the kernel with deadlines, and passes orders on to PID 1's main thread
//! through [`Host`]; it never holds a lock while it waits, never touches a file on a disk, and
//! works the same from the initramfs when there is no root.
//!
//! Whoever holds the console holds the box: there is no password here.

mod announce;
mod commands;
mod disks;
mod dmesg;
mod editor;
mod keys;
mod logs;
mod session;
mod terminal;
mod views;

use std::{
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use supervise::{
    control::Power,
    log_query,
    network::{GeneralSetting, Wish},
    status::BoxStatus,
    unit::UnitName,
};

use self::session::Session;
use crate::spares::Spares;

/// What the console needs of PID 1. Each answer is bounded in time by who implements it.
pub trait Host: Send + Sync {
    /// The state of the box as last published. At once.
    fn status(&self) -> Arc<BoxStatus>;

    /// Has PID 1's main thread do something; what came of it as a sentence.
    ///
    /// # Errors
    /// Why it was not done, as a sentence.
    fn request(&self, order: Order) -> Result<String, String>;

    /// The code that the set-up in the browser asks for, while there is one.
    fn setup_code(&self) -> Option<String>;

    /// The certificate of the box's own authority in PEM, once there is one.
    fn ca_pem(&self) -> Option<String>;

    /// Runs a shell as leader of a new session with `tty` as its controlling terminal and standard
    /// input, output and error; returns when it has ended.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    fn shell(&self, tty: OwnedFd) -> Result<(), String>;

    /// Where `logd` is asked for lines.
    fn log_socket(&self) -> &Path {
        Path::new(log_query::SOCKET)
    }
}

/// What the console may ask of PID 1's main thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Change how the network is set.
    Network(NetOrder),
    /// End the box's run.
    Power(Power),
    /// End this service or role, if it runs, and start it again.
    Restart(UnitName),
    /// Start this service or role if it does not run.
    Start(UnitName),
    /// Stop this service and keep it stopped.
    Stop(UnitName),
}

/// What the console may ask of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetOrder {
    /// Keep the change that waits.
    Confirm,
    /// Set something of the time or of names.
    General(GeneralSetting),
    /// Undo the change that waits.
    Rollback,
    /// Change a setting; undone by itself unless it is confirmed.
    Set {
        /// The link or service that it is about.
        link: String,
        /// What is to be.
        wish: Wish,
    },
}

/// The terminals that the kernel uses as consoles; `/dev/console` if it does not say.
pub fn active() -> Vec<PathBuf> {
    let names = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let terminals: Vec<_> = names.split_whitespace().map(terminal_of).collect();
    if terminals.is_empty() {
        vec![PathBuf::from("/dev/console")]
    } else {
        terminals
    }
}

/// Starts a thread for a console; it never ends.
///
/// # Errors
/// The system has no room for another thread.
pub fn spawn(console: &Path, host: &Arc<dyn Host>) -> io::Result<()> {
    let (console, host) = (console.to_owned(), Arc::clone(host));
    let name = console.file_name().unwrap_or_default();
    std::thread::Builder::new()
        .name(name.to_string_lossy().into_owned())
        .stack_size(STACK)
        .spawn(move || keep_talking(&console, &*host))?;
    Ok(())
}

/// A terminal that hangs up, or a panic, costs the session on it; a new one begins after a while.
fn keep_talking(console: &Path, host: &dyn Host) {
    crate::crash::protect_thread();
    let (mut said, mut spare) = (String::new(), Spares::new(SPARE));
    spare.take();
    loop {
        // For whatever is opened next, if nothing else is left.
        spare.give();
        let ended = catch_unwind(AssertUnwindSafe(|| Session::open(console, host)?.run()));
        let why = match ended {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a bug in the console ended its session".to_owned(),
        };
        // A console without a terminal behind it would say the same every few seconds.
        if why != said {
            supervise::warning!(
                "console on {}: {why}; it is opened again",
                console.display()
            );
            said = why;
        }
        spare.take();
        std::thread::sleep(REOPEN_AFTER);
    }
}

/// `tty0` is whichever virtual terminal is in the foreground: no terminal to sit on.
fn terminal_of(name: &str) -> PathBuf {
    Path::new("/dev").join(if name == "tty0" { "tty1" } else { name })
}

/// Plenty for line editing and tables; small, as PID 1's memory is locked.
const STACK: usize = 256 * 1024;
/// A terminal, and what is opened to look at it.
const SPARE: usize = 2;
/// Soon enough for somebody who plugs a cable in, rare enough to cost nothing.
const REOPEN_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_foreground_terminal_stands_for_the_first() {
        assert_eq!(terminal_of("tty0"), Path::new("/dev/tty1"));
        assert_eq!(terminal_of("ttyS0"), Path::new("/dev/ttyS0"));
    }
}
