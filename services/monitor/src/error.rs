//! Why a container can't be built: the sentence that the owner reads in the service's log.

use std::{io, path::PathBuf};

use rustix::io::Errno;

/// What went wrong, and with what.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "usage: monitor DATA_FOLDER AGENT_SOCKETS_FOLDER AGENT_PROGRAM, with the plan as descriptor 4"
    )]
    Usage,
    #[error("{0}")]
    Plan(#[from] services::plan::PlanError),
    #[error("the plan names {0}, which is not in the service's own folder {1}")]
    ForeignFolder(PathBuf, PathBuf),
    #[error("can't {what} {path}: {source}")]
    Io {
        what: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("the package {0} is not the file that was verified; the manager must look at it again")]
    PackageChanged(PathBuf),
    #[error("the image can't be mounted: {0}")]
    Image(sys::Error),
    #[error(
        "user ids can't be shifted on {what}: {source}. Images need a kernel of at least 6.12, volumes a file system that allows it (btrfs, ext4, xfs)"
    )]
    IdMap { what: String, source: sys::Error },
    #[error("the container's root came up read-only, so nothing can be mounted in it")]
    RootReadOnly,
    #[error("{0}")]
    Cgroup(#[from] supervise::cgroup::CgroupError),
    #[error("processes of the last run do not end ({0}); a disk may hang")]
    LeftoverProcesses(PathBuf),
    #[error("the last run's network link {0} does not go away")]
    LeftoverLink(String),
    #[error("liblxc does not load: {0}")]
    Library(#[from] libloading::Error),
    #[error("liblxc makes no container object for {0:?}")]
    NoContainer(String),
    #[error("liblxc refuses the setting {key} = {value:?}")]
    Setting { key: String, value: String },
    #[error("the container did not start; liblxc's own messages are above")]
    NotStarted,
}

impl Error {
    pub(crate) fn call(what: &'static str, path: impl ToString) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::io(what, path)(errno.into())
    }

    pub(crate) fn io(what: &'static str, path: impl ToString) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_string(),
            source,
        }
    }
}
