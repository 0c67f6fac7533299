//! The few kernel calls that neither the standard library nor rustix wraps, made safe.
//!
//! Everything unsafe is in the private module `raw` and in [`packet`], each block with its proof;
//! the modules below turn it into types that cannot be misused. Nothing here knows about the box:
//! what a loop device or a user namespace is for, its callers decide.
//!
//! | module | concept |
//! |---|---|
//! | [`clock`] | the time of the day, stepped or steered |
//! | [`loopdev`] | a part of a file as a block device |
//! | [`idmap`] | mounts whose files appear with shifted owners |
//! | [`packet`] | whole Ethernet frames in and out of one link |
//! | [`sched`] | how a thread stands with the scheduler |
//! | [`userns`] | a user namespace with given mappings, held by descriptor |
//! | [`watchdog`] | the hardware timer that resets the box when nobody feeds it |

pub mod clock;
pub mod idmap;
pub mod loopdev;
pub mod packet;
mod raw;
pub mod sched;
pub mod userns;
pub mod watchdog;

use std::path::PathBuf;

use rustix::io::Errno;

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A device or pseudo file did not open.
    #[error("{path} does not open: {errno}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A call failed.
    #[error("{call} failed on {what}: {errno}")]
    Call {
        /// The call's name, as in its manual page.
        call: &'static str,
        /// What it was to act on.
        what: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Every free loop device was taken by somebody else before it could be configured.
    #[error("no loop device could be had in {tries} tries: others keep taking them first")]
    LoopContended {
        /// Tries made.
        tries: u32,
    },
    /// A mapping the kernel would refuse, or that maps nothing.
    #[error("the id mapping {0} is empty or overflows 32 bits")]
    BadMapping(String),
}

impl Error {
    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { errno, .. } | Self::Call { errno, .. } => Some(*errno),
            Self::LoopContended { .. } | Self::BadMapping(_) => None,
        }
    }

    fn call(call: &'static str, what: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let what = what.into();
        move |errno| Self::Call { call, what, errno }
    }
}
