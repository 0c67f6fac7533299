//! Control groups (cgroup v2, kernel doc `admin-guide/cgroup-v2`): made, limited, killed, removed.
//!
//! A unit's processes live in a group of their own, so that nothing it leaves behind can hide:
//! ending the group ends them all, however they daemonised.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::control::Limits;

/// One control group, by its path in the cgroup2 file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

/// What went wrong with a control group.
#[derive(Debug, thiserror::Error)]
#[error("control group {path}: {what}: {source}")]
pub struct CgroupError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

impl Cgroup {
    /// The group at `path` below the mounted hierarchy `root`, made with its parents if it is not
    /// there; the controllers of [`CONTROLLERS`] are handed down to it where the kernel has them.
    pub fn create(root: &Path, path: &str) -> Result<Self, CgroupError> {
        let mut at = root.to_owned();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            hand_down_controllers(&at);
            at.push(part);
            match fs::create_dir(&at) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(CgroupError {
                        path: at,
                        what: "can't be made",
                        source: e,
                    });
                }
                _ => {}
            }
        }
        Ok(Self { path: at })
    }

    /// The same, but a new one, if nothing lives in the one that is there.
    ///
    /// Linux from 6.14 on kills whatever is started (`CLONE_INTO_CGROUP`) in a group that was ever
    /// killed: it compares how often the group was killed with how often its parent process's was.
    /// (Seen on 6.18; so a group is used for one run.)
    pub fn create_anew(root: &Path, path: &str) -> Result<Self, CgroupError> {
        let _ = remove_tree(&root.join(path), MAX_DEPTH);
        Self::create(root, path)
    }

    /// The group's folder, opened, for starting a process in it (`CLONE_INTO_CGROUP`).
    pub fn open(&self) -> Result<OwnedFd, CgroupError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty())
            .map_err(|errno| self.error("can't be opened", errno.into()))
    }

    /// Where the group is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the limits. A controller that this kernel lacks is no error: the limit can't be kept.
    pub fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        let bytes = |n: u64| n.to_string();
        self.set("memory.max", limits.memory_max.map(bytes))?;
        self.set("memory.low", limits.memory_low.map(bytes))?;
        self.set("pids.max", limits.pids_max.map(|n| n.to_string()))?;
        self.set(
            "cpu.weight",
            limits.cpu_weight.map(|n| n.clamp(1, 10_000).to_string()),
        )?;
        let quota =
            |percent: u32| format!("{} {CPU_PERIOD_US}", percent.max(1) * CPU_PERIOD_US / 100);
        self.set("cpu.max", limits.cpu_percent.map(quota))
    }

    /// Kills every process in the group and in those below it (`cgroup.kill`). Remove it and make it
    /// anew before starting anything in it again: Linux kills at once what is cloned into a group
    /// that was ever killed (seen on 6.12 and 6.18; a side effect of the fix of a race with fork).
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
            .map_err(|e| self.error("can't be killed", e))
    }

    /// Whether any process lives in the group or below it.
    pub fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Removes the group and those below it. Nothing may live in them.
    pub fn remove(&self) -> Result<(), CgroupError> {
        remove_tree(&self.path, MAX_DEPTH).map_err(|e| self.error("can't be removed", e))
    }

    fn set(&self, file: &'static str, value: Option<String>) -> Result<(), CgroupError> {
        let Some(value) = value else { return Ok(()) };
        match self.write(file, &value) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|e| self.error("refuses a limit", e)),
        }
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        // No O_CREAT: in cgroupfs it would only blur the error.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(self.path.join(file), flags, Mode::empty())?;
        rustix::io::write(&fd, value.as_bytes())?;
        Ok(())
    }

    fn error(&self, what: &'static str, source: io::Error) -> CgroupError {
        CgroupError {
            path: self.path.clone(),
            what,
            source,
        }
    }
}

/// Lets groups below `path` have limits. A group with processes in it can't (EBUSY), and then the
/// groups below it simply have none.
fn hand_down_controllers(path: &Path) {
    for controller in CONTROLLERS {
        let _ = fs::write(
            path.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
}

fn remove_tree(path: &Path, depth: u32) -> io::Result<()> {
    if let (Some(depth), Ok(entries)) = (depth.checked_sub(1), fs::read_dir(path)) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path(), depth)?;
            }
        }
    }
    match fs::remove_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What units are limited by.
pub const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "io"];

/// The kernel's own default period of `cpu.max`, in microseconds.
const CPU_PERIOD_US: u32 = 100_000;

/// A service may make groups below its own; a stack overflow in PID 1 by their depth it may not.
const MAX_DEPTH: u32 = 32;
