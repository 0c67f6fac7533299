//! The container's root as seen from outside.
//!
//! Its content is the publisher's, and a symbolic link in it may point anywhere: every path is
//! resolved by the kernel as if this root were the only one (`openat2`, RESOLVE_IN_ROOT).

use std::{
    ffi::OsStr,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use services::plan::IdRange;

use crate::{error::Error, mounts};

/// A container's root, where every path stays inside.
pub(crate) struct Inside {
    root: OwnedFd,
    ids: IdRange,
}

impl Inside {
    /// The root file system mounted at `root`; what is made in it belongs to its own root user.
    pub(crate) fn open(root: &Path, ids: IdRange) -> Result<Self, Error> {
        let root = mounts::find(root).map_err(Error::call("open", root.display()))?;
        Ok(Self { root, ids })
    }

    /// The folder at `path`, made with its parents if it is not there.
    pub(crate) fn folder(&self, path: &Path) -> Result<OwnedFd, Error> {
        let failed = |errno| Error::call("make, in the image,", path.display())(errno);
        let mut at = self
            .find(Path::new("."), OFlags::DIRECTORY)
            .map_err(failed)?;
        let mut so_far = PathBuf::new();
        for part in path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        }) {
            so_far.push(part);
            at = match self.find(&so_far, OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)).map_err(failed)?;
                    self.own(&at, part).map_err(failed)?;
                    self.find(&so_far, OFlags::DIRECTORY).map_err(failed)?
                }
                found => found.map_err(failed)?,
            };
        }
        Ok(at)
    }

    /// Writes a file anew, in a folder made if need be.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<(), Error> {
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        let folder = self.folder(parent)?;
        let failed = |errno| Error::call("write, in the image,", path.display())(errno);
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
        rustix::io::write(&file, text.as_bytes()).map_err(failed)?;
        self.own(&folder, name).map_err(failed)
    }

    fn find(&self, path: &Path, kind: OFlags) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | kind;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    fn own(&self, folder: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let user = rustix::fs::Uid::from_raw(self.ids.base);
        let group = rustix::fs::Gid::from_raw(self.ids.base);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(folder, name, Some(user), Some(group), flags)
    }
}
