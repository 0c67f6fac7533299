//! `/.pilot`, our own folder in the container: the agent, its spec and its socket.
//!
//! It belongs to the host's root, which nobody inside is, so that a service can neither change its
//! agent nor its spec.

use std::{
    fs,
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::Path,
};

use rustix::mount::MountAttrFlags;
use services::plan::{AGENT_FOLDER, Plan};

use crate::{
    Places,
    error::Error,
    inside::Inside,
    mounts,
    rootfs::{STAGE_SIZE, make_folder},
};

/// Builds the folder at `place`, where nobody can bend a path, and attaches it in the container.
pub(crate) fn mount(
    plan: &Plan,
    places: &Places,
    place: &Path,
    inside: &Inside,
) -> Result<(), Error> {
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
    let own_sockets = places.agent_sockets.join(&plan.id);
    for (from, to) in [(&places.agent_program, &program), (&own_sockets, &sockets)] {
        let failed = || Error::call("bind", from.display());
        let copy = mounts::copy(mounts::find(from).map_err(failed())?.as_fd()).map_err(failed())?;
        mounts::attach(&copy, mounts::find(to).map_err(failed())?).map_err(failed())?;
    }
    let tree = mounts::copy_all(mounts::find(place).map_err(failed())?.as_fd()).map_err(failed())?;
    mounts::attach(&tree, inside.folder(Path::new(AGENT_FOLDER))?).map_err(failed())
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let failed = |e| Error::io("write", path.display())(e);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
        .map_err(failed)
}
