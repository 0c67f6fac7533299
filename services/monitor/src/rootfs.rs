//! The container's root file system, built in the monitor's own mount namespace.
//!
//! From below: the image, straight out of the package file by loop device, its ids shifted to the
//! service's range; an overlay whose upper folder is on data and is *not* shifted (an id-mapped
//! upper makes overlayfs silently read-only) but owned by the range; the volumes, shifted, so that
//! ids on disk stay what they are inside; and `/.pilot` with the agent.
//!
//! The image's content is the publisher's: no path in it is followed out of it.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, StatVfsMountFlags},
    io::Errno,
    mount::MountAttrFlags,
};
use services::plan::{AGENT_FOLDER, FileIdentity, IdRange, Image, Plan, Volume};
use sys::loopdev::{LoopDevice, Window};

use crate::{error::Error, mounts};

/// Where everything is while the container runs.
pub(crate) struct Root {
    /// The container's root file system.
    pub(crate) root: PathBuf,
    /// An empty folder for liblxc to put it on.
    pub(crate) pivot: PathBuf,
    /// A folder for liblxc's own files.
    pub(crate) lxc_folder: PathBuf,
}

/// Puts an empty file system on [`STAGE`] for all that follows.
pub(crate) fn stage() -> Result<(), Error> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let options = [("size", Some(STAGE_SIZE)), ("mode", Some("0755"))];
    let failed = || Error::call("mount a tmpfs on", STAGE);
    let tmpfs = mounts::new("tmpfs", &options, attributes).map_err(failed())?;
    let place = mounts::find(Path::new(STAGE)).map_err(failed())?;
    mounts::attach(&tmpfs, place).map_err(failed())?;
    for name in ["image", "root", "pivot", "lxc", "pilot"] {
        let path = Path::new(STAGE).join(name);
        fs::create_dir(&path).map_err(Error::io("make", path.display()))?;
    }
    Ok(())
}

/// Builds the root file system on the stage.
pub(crate) fn build(plan: &Plan) -> Result<Root, Error> {
    let stage = Path::new(STAGE);
    let ids = user_namespace(plan.ids)?;
    mount_image(&plan.image, &ids, &stage.join("image"))?;
    let root = stage.join("root");
    mount_overlay(plan, &stage.join("image"), &root)?;
    let inside = Inside::open(&root, plan.ids)?;
    inside.write("etc/hostname", &format!("{}\n", plan.hostname))?;
    inside.write("etc/hosts", &hosts(plan))?;
    for volume in &plan.volumes {
        mount_volume(volume, &ids, &inside)?;
    }
    mount_agent(plan, &stage.join("pilot"), &inside)?;
    Ok(Root {
        root,
        pivot: stage.join("pivot"),
        lxc_folder: stage.join("lxc"),
    })
}

fn user_namespace(ids: IdRange) -> Result<OwnedFd, Error> {
    let range = sys::userns::IdRange {
        inside: 0,
        outside: ids.base,
        count: ids.count,
    };
    sys::userns::with_mappings(&[range], &[range]).map_err(|source| Error::IdMap {
        what: "this kernel".to_owned(),
        source,
    })
}

fn mount_image(image: &Image, ids: &OwnedFd, place: &Path) -> Result<(), Error> {
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

fn mount_overlay(plan: &Plan, lower: &Path, place: &Path) -> Result<(), Error> {
    let upper = plan.scratch.join("upper");
    let work = plan.scratch.join("work");
    let failed = |what| move |e| Error::io(what, plan.scratch.display())(e);
    match fs::remove_dir_all(&plan.scratch) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("empty")(e))?,
        _ => {}
    }
    make_folder(&plan.scratch, 0o700)?;
    for folder in [&upper, &work] {
        make_folder(folder, 0o755)?;
        chown(folder, Some(plan.ids.base), Some(plan.ids.base)).map_err(failed("own"))?;
    }
    let text = |path: &Path| path.display().to_string();
    let options = [
        ("lowerdir", Some(text(lower))),
        ("upperdir", Some(text(&upper))),
        ("workdir", Some(text(&work))),
        // It is thrown away at the next start: no need to wait for the disk on its account.
        ("volatile", None),
    ];
    let options: Vec<_> = options
        .iter()
        .map(|(key, value)| (*key, value.as_deref()))
        .collect();
    let failed = || Error::call("mount the overlay on", place.display());
    let mount =
        mounts::new("overlay", &options, MountAttrFlags::MOUNT_ATTR_NODEV).map_err(failed())?;
    mounts::attach(&mount, mounts::find(place).map_err(failed())?).map_err(failed())?;
    let flags = rustix::fs::statvfs(place).map_err(failed())?.f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Err(Error::RootReadOnly);
    }
    Ok(())
}

fn mount_volume(volume: &Volume, ids: &OwnedFd, inside: &Inside) -> Result<(), Error> {
    let source = volume.source.display();
    let failed = || Error::call("mount the volume", source.to_string());
    make_folder(&volume.source, 0o755)?;
    let folder = mounts::find(&volume.source).map_err(failed())?;
    let copy = mounts::copy(folder.as_fd()).map_err(failed())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    sys::idmap::apply(copy.as_fd(), ids, attributes).map_err(|error| Error::IdMap {
        what: format!("the volume {source}"),
        source: error,
    })?;
    mounts::attach(&copy, inside.folder(&volume.path)?).map_err(failed())
}

/// `/.pilot`: the agent, its spec and its socket. Owned by the host's root, which nobody inside is.
fn mount_agent(plan: &Plan, place: &Path, inside: &Inside) -> Result<(), Error> {
    let failed = || Error::call("mount the agent for", plan.id.clone());
    let tmpfs = mounts::new(
        "tmpfs",
        &[("size", Some(STAGE_SIZE)), ("mode", Some("0755"))],
        MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID,
    )
    .map_err(failed())?;
    mounts::attach(&tmpfs, mounts::find(place).map_err(failed())?).map_err(failed())?;
    let (program, sockets) = (place.join("agent"), place.join("run"));
    write_new(&program, b"", 0o755)?;
    write_new(&place.join("spec.json"), &plan.agent.to_bytes()?, 0o644)?;
    make_folder(&sockets, 0o755)?;
    for (from, to) in [
        (&plan.agent_program, &program),
        (&plan.agent_sockets, &sockets),
    ] {
        let failed = || Error::call("bind", from.display());
        let copy = mounts::copy(mounts::find(from).map_err(failed())?.as_fd()).map_err(failed())?;
        mounts::attach(&copy, mounts::find(to).map_err(failed())?).map_err(failed())?;
    }
    let tree = mounts::copy_all(mounts::find(place).map_err(failed())?.as_fd()).map_err(failed())?;
    mounts::attach(&tree, inside.folder(Path::new(AGENT_FOLDER))?).map_err(failed())
}

fn hosts(plan: &Plan) -> String {
    format!(
        "127.0.0.1 localhost\n::1 localhost\n{} {}\n{} host.pilot\n",
        plan.network.address, plan.hostname, plan.network.gateway
    )
}

fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::io("make", path.display()))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |e| Error::io("write", path.display())(e);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    std::io::Write::write_all(&mut file, bytes).map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(failed)
}

/// The container's root as seen from outside, where every path stays inside.
struct Inside {
    root: OwnedFd,
    ids: IdRange,
}

impl Inside {
    fn open(root: &Path, ids: IdRange) -> Result<Self, Error> {
        let root = mounts::find(root).map_err(Error::call("open", root.display()))?;
        Ok(Self { root, ids })
    }

    /// The folder at `path`, made with its parents if it is not there.
    fn folder(&self, path: &Path) -> Result<OwnedFd, Error> {
        let failed = |errno| Error::call("make, in the image,", path.display())(errno);
        let mut at = self
            .find(Path::new("."), OFlags::DIRECTORY)
            .map_err(failed)?;
        let mut so_far = PathBuf::new();
        for part in path.components().filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name),
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
    fn write(&self, path: &str, text: &str) -> Result<(), Error> {
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

    fn own(&self, folder: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), Errno> {
        let user = rustix::fs::Uid::from_raw(self.ids.base);
        let group = rustix::fs::Gid::from_raw(self.ids.base);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(folder, name, Some(user), Some(group), flags)
    }
}

/// An empty folder that every root has; what is mounted there is seen by this monitor alone.
const STAGE: &str = "/mnt";
/// For mount points, a spec and liblxc's log.
const STAGE_SIZE: &str = "4m";
const SECTOR: u64 = 512;
