use std::{io, path::PathBuf};

use rustix::io::Errno;

/// What the hardware, or the kernel speaking for it, did not give.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("{path} can't be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The uevent socket failed.
    #[error("the kernel's device events can't be had: {what}: {errno}")]
    UeventSocket {
        /// Which step.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Events came faster than they were read, and some are lost.
    #[error("device events were lost: look again at what is there (coldplug)")]
    UeventsLost,
    /// A module is neither in the index nor built into the kernel.
    #[error("there is no kernel module {name} in {dir}")]
    NoModule {
        /// The module.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The kernel refused a module.
    #[error("the kernel does not take the module {path}: {errno}")]
    ModuleRefused {
        /// The module's file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The index of modules contradicts itself.
    #[error("the module {name} depends on itself or on more than {limit} others")]
    DependencyLoop {
        /// The module.
        name: String,
        /// The longest chain that is followed.
        limit: usize,
    },
    /// No partition has this label.
    #[error("no disk has a partition labelled {label}")]
    NoPartition {
        /// The label.
        label: String,
    },
    /// More than one partition has this label.
    #[error(
        "more than one partition is labelled {label} ({}): remove the disk that does not belong \
         to this box",
        names.join(", ")
    )]
    AmbiguousPartition {
        /// The label.
        label: String,
        /// The kernel's names of the partitions.
        names: Vec<String>,
    },
    /// A disk has no valid partition table.
    #[error("{disk} has no valid GPT: {why}")]
    NoPartitionTable {
        /// The disk.
        disk: String,
        /// What is wrong with the first copy, and with the second.
        why: String,
    },
    /// There is no watchdog, not even the kernel's own.
    #[error("this machine has no watchdog the kernel knows of")]
    NoWatchdog,
    /// The watchdog refused.
    #[error("the watchdog can't be used: {0}")]
    Watchdog(#[source] sys::Error),
    /// The clock could not be set.
    #[error("the clock can't be set: {0}")]
    Clock(#[source] Errno),
}
