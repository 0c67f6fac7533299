//! The container's root file system, built in the monitor's own mount namespace.
//!
//! From below: the image, straight out of the package file by loop device, its ids shifted to the
//! service's range; an overlay whose upper folder is on data and is *not* shifted (an id-mapped
//! upper makes overlayfs silently read-only) but owned by the range; the volumes, shifted, so that
//! ids on disk stay what they are inside; and `/.pilot` with the agent.
//!
//! The image's content is the publisher's: no path in it is followed out of it.

use std::{
    fs,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, chown},
    },
    path::{Path, PathBuf},
};

use rustix::{fs::StatVfsMountFlags, mount::MountAttrFlags};
use services::plan::{IdRange, Plan, Volume};

use crate::{Places, agent_folder, error::Error, image, inside::Inside, mounts};

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
pub(crate) fn build(plan: &Plan, places: &Places) -> Result<Root, Error> {
    let stage = Path::new(STAGE);
    let ids = user_namespace(plan.ids)?;
    image::mount(&plan.image, &ids, &stage.join("image"))?;
    let root = stage.join("root");
    mount_overlay(plan, &stage.join("image"), &root)?;
    let inside = Inside::open(&root, plan.ids)?;
    for folder in MOUNT_POINTS {
        inside.folder(Path::new(folder))?;
    }
    inside.write("etc/hostname", &format!("{}\n", plan.hostname))?;
    inside.write("etc/hosts", &hosts(plan))?;
    inside.write("etc/resolv.conf", &resolver(plan))?;
    for volume in &plan.volumes {
        mount_volume(volume, &ids, &inside)?;
    }
    agent_folder::mount(plan, places, &stage.join("pilot"), &inside)?;
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

fn mount_overlay(plan: &Plan, lower: &Path, place: &Path) -> Result<(), Error> {
    let upper = plan.scratch.join("upper");
    let work = plan.scratch.join("work");
    let failed = |what| move |e| Error::io(what, plan.scratch.display())(e);
    make_folder(&plan.scratch, 0o700)?;
    // Nobody put a link there who has us empty some other folder.
    mounts::find(&plan.scratch).map_err(Error::call("open", plan.scratch.display()))?;
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

fn hosts(plan: &Plan) -> String {
    format!(
        "127.0.0.1 localhost\n::1 localhost\n{} {}\n{} host.pilot\n",
        plan.network.address, plan.hostname, plan.network.gateway
    )
}

/// The box itself is asked for names; other services are found by their ids alone.
fn resolver(plan: &Plan) -> String {
    format!(
        "nameserver {}\nsearch pilot.internal\n",
        plan.network.gateway
    )
}

pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::io("make", path.display()))
}

/// What the container's start mounts on; an image from a build without an init may lack them.
const MOUNT_POINTS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// An empty folder that every root has; what is mounted there is seen by this monitor alone.
const STAGE: &str = "/mnt";
/// For mount points, a spec and liblxc's log.
pub(crate) const STAGE_SIZE: &str = "4m";
