//! The monitor: one small process a service, which builds the service's container and stays until
//! it has ended.
//!
//! It exists because liblxc is C, forks, and changes signal masks and namespaces of its caller: a
//! crash there must cost one service. It is a direct child of PID 1, which gives it the plan as
//! descriptor 4, the log as standard output and error, and a control group. The plan is the
//! manager's, who is not root; what it must not choose are the arguments, and PID 1's: the folder
//! that the plan's folders must be in, the folder of the agents' sockets, and the agent.
//!
//! All it mounts is in a mount namespace of its own, so that its death cleans up. While it runs,
//! liblxc hands SIGTERM on to the container's first process; it exits as the container did.

mod agent_folder;
mod container;
mod error;
mod exit;
mod image;
mod inside;
mod leftovers;
mod lxc;
mod mounts;
mod namespace;
mod rootfs;

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::fs::{Mode, OFlags};
use services::plan::{PLAN_FD, Plan};

use crate::error::Error;

fn main() -> ExitCode {
    match run() {
        Ok(exit) => exit,
        Err(error) => {
            supervise::error!("{error}");
            ExitCode::from(exit::NOT_STARTED)
        }
    }
}

fn run() -> Result<ExitCode, Error> {
    let places = Places::from_args().ok_or(Error::Usage)?;
    let plan = read_plan()?;
    check_folders(&plan, &places.data)?;
    namespace::own_mounts()
        .map_err(Error::call("unshare the mount namespace of", "the monitor"))?;
    rootfs::stage()?;
    let root = rootfs::build(&plan, &places)?;
    leftovers::clear(&plan)?;
    let outcome = container::run(&plan, &root)?;
    supervise::info!("the container ended: {outcome}");
    Ok(outcome.exit_code())
}

/// What is where on this box.
struct Places {
    data: PathBuf,
    agent_sockets: PathBuf,
    agent_program: PathBuf,
}

impl Places {
    fn from_args() -> Option<Self> {
        let mut args = std::env::args_os().skip(1).map(PathBuf::from);
        let paths = Self {
            data: args.next()?,
            agent_sockets: args.next()?,
            agent_program: args.next()?,
        };
        args.next().is_none().then_some(paths)
    }
}

fn read_plan() -> Result<Plan, Error> {
    // Opened anew by name: the descriptor is PID 1's, shared with others, and so is its position.
    let path = format!("/proc/self/fd/{PLAN_FD}");
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::call("open", "the plan (descriptor 4)"))?;
    let mut bytes = Vec::new();
    File::from(file)
        .take(MAX_PLAN)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", "the plan (descriptor 4)"))?;
    Ok(Plan::from_bytes(&bytes)?)
}

/// The manager writes plans, and is not root: a plan may name no folder but the service's own.
fn check_folders(plan: &Plan, data: &Path) -> Result<(), Error> {
    let own = data.join(&plan.id);
    let folders = plan.volumes.iter().map(|volume| &volume.source);
    for folder in folders.chain([&plan.scratch]) {
        let plain = services::plan::is_inner_path(folder);
        if !plain || !folder.starts_with(&own) || plan.id.contains('/') || plan.id.is_empty() {
            return Err(Error::ForeignFolder(folder.clone(), own));
        }
    }
    Ok(())
}

/// A plan is a few kilobytes; what is longer does not parse.
const MAX_PLAN: u64 = 1 << 20;
