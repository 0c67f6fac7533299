use std::{io, path::PathBuf, time::Duration};

use rustix::io::Errno;

use super::{candidate::Unacceptable, tool::Ended};

/// Why a helper failed, in words for the box's owner.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Not a verb, or wrongly used.
    #[error("a helper can't be asked this: {args:?}")]
    Usage {
        /// What was asked.
        args: String,
    },
    /// The answer has no JSON form.
    #[error("the answer could not be written as JSON: {0}")]
    Answer(serde_json::Error),
    /// A secret could not be looked at.
    #[error("{0}")]
    Secret(String),
    /// The hardware did not give something.
    #[error(transparent)]
    Hardware(#[from] drivers::Error),
    /// A file may not be PID 1.
    #[error("{0}")]
    Candidate(#[from] Unacceptable),
    /// A file or device failed.
    #[error("{path} can't be {done}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried, as a participle.
        done: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("{0}")]
    Spawn(#[from] supervise::spawn::SpawnError),
    /// A program failed.
    #[error("{program} failed ({ended}): {output}")]
    Tool {
        /// Its name.
        program: String,
        /// How it ended.
        ended: Ended,
        /// The end of what it wrote.
        output: String,
    },
    /// A program did not end in time.
    #[error("{program} was ended after {} seconds without a result", patience.as_secs())]
    ToolTooSlow {
        /// Its name.
        program: String,
        /// How long it had.
        patience: Duration,
    },
    /// The partition holds something else.
    #[error(
        "the data partition {device} holds {content}, not this box's data; nothing was changed. If \
         it is not needed, erase it (blkdiscard or dd in the recovery shell) and start again"
    )]
    ForeignData {
        /// The device.
        device: PathBuf,
        /// What it holds.
        content: String,
    },
    /// The beginning of the data is damaged.
    #[error(
        "the beginning of the data on {device} is damaged ({what}); it may be saved from another \
         machine with `btrfs rescue super-recover`. Nothing was changed"
    )]
    DamagedData {
        /// The device.
        device: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The kernel did not mount data.
    #[error("the data on {device} can't be mounted: {reason} ({errno}). Nothing was changed")]
    MountData {
        /// The device.
        device: PathBuf,
        /// What that means.
        reason: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel did not mount the root.
    #[error("the root on {device} can't be mounted: {reason}")]
    MountRoot {
        /// The device.
        device: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Data was mounted read-only.
    #[error("the data on {device} can only be read: {reason}")]
    ReadOnlyData {
        /// The device.
        device: PathBuf,
        /// What the kernel said.
        reason: String,
    },
    /// A module could not be loaded.
    #[error("{why}")]
    Module {
        /// Why.
        why: String,
    },
    /// There is no data to act on.
    #[error("nothing is mounted at {at}")]
    NotMounted {
        /// Where.
        at: PathBuf,
    },
    /// Data could not be unmounted.
    #[error("{at} can't be unmounted: {errno}; held by {}", holders.join(", "))]
    Busy {
        /// Where.
        at: PathBuf,
        /// The kernel's answer.
        errno: Errno,
        /// By whom.
        holders: Vec<String>,
    },
    /// There is too much to keep.
    #[error("{bytes} bytes are too many for the keep partition; {most} fit")]
    KeepTooLong {
        /// How much.
        bytes: usize,
        /// How much fits.
        most: usize,
    },
    /// What was written is not what is read.
    #[error(
        "the keep partition {device} does not hold what was written to it; the copy before is \
             still good"
    )]
    KeepNotWritten {
        /// The device.
        device: PathBuf,
    },
}

impl HelperError {
    /// For `map_err`: this was tried on this file.
    pub(super) fn file(
        path: impl Into<PathBuf>,
        done: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, done, source }
    }
}
