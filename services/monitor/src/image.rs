//! A package's image, mounted straight out of the package file, its ids shifted.

use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::mount::MountAttrFlags;
use services::plan::{FileIdentity, Image};
use sys::loopdev::{LoopDevice, Window};

use crate::{error::Error, mounts};

/// Mounts the image, read-only, on the folder `place`.
pub(crate) fn mount(image: &Image, ids: &OwnedFd, place: &Path) -> Result<(), Error> {
    let name = image.package.display().to_string();
    let package = File::open(&image.package).map_err(Error::io("open", name.clone()))?;
    let metadata = package
        .metadata()
        .map_err(Error::io("stat", name.clone()))?;
    if FileIdentity::of(&metadata) != image.identity {
        return Err(Error::PackageChanged(image.package.clone()));
    }
    let window = Window {
        offset: image.offset,
        // A loop device has whole sectors only. What follows the image is the package's too.
        size: image.size.next_multiple_of(SECTOR),
        read_only: true,
    };
    let device = LoopDevice::attach(package.as_fd(), window).map_err(Error::Image)?;
    let source = device.path().display().to_string();
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
    let options = [("source", Some(source.as_str())), ("ro", None)];
    let failed = || Error::call("mount the image of", name.clone());
    let mount = mounts::new("squashfs", &options, attributes).map_err(failed())?;
    sys::idmap::apply(mount.as_fd(), ids, MountAttrFlags::empty()).map_err(|source| {
        Error::IdMap {
            what: format!("the image of {name}"),
            source,
        }
    })?;
    let place = mounts::find(place).map_err(failed())?;
    mounts::attach(&mount, place).map_err(failed())
}

const SECTOR: u64 = 512;
