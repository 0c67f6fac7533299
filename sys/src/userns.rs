//! A user namespace with given mappings, held by a descriptor alone.
//!
//! The kernel takes the mapping of an id-mapped mount from a user namespace, and a namespace is
//! born with a process in it. So a child is cloned into a new one, its maps are written from
//! outside, the namespace is opened, and the child is ended and waited for by its pidfd: it sends
//! no SIGCHLD and no other waiter of this process can see it.

use std::{
    fmt,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    pipe::PipeFlags,
    process::Signal,
};

use crate::{Error, raw};

/// A range of ids inside the namespace and what it is outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first id inside.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many ids, at least one.
    pub count: u32,
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// Makes a user namespace that maps these user and group ids.
///
/// Needs CAP_SETUID and CAP_SETGID over the ids outside, and /proc of the caller's pid namespace.
/// Takes about a millisecond.
///
/// # Errors
/// When a range is empty or overflows, ranges overlap, or the kernel allows no more namespaces.
pub fn with_mappings(users: &[IdRange], groups: &[IdRange]) -> Result<OwnedFd, Error> {
    let users = map_file(users)?;
    let groups = map_file(groups)?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(Error::call("pipe2", "the parked child"))?;
    let child = raw::park_in_new_userns(reader.as_fd(), writer.as_fd())
        .map_err(Error::call("clone3", "a new user namespace"))?;
    let namespace = write_maps(child.pid, &users, &groups).and_then(|()| open_namespace(child.pid));
    // The end of the pipe ends it as well, even if this process is killed here.
    drop(writer);
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
    raw::wait_parked(&child).map_err(Error::call("waitid", "the parked child"))?;
    namespace
}

fn map_file(ranges: &[IdRange]) -> Result<String, Error> {
    let mut text = String::new();
    for range in ranges {
        let last = range.count.checked_sub(1);
        let fits = |first: u32| last.is_some_and(|last| first.checked_add(last).is_some());
        if !fits(range.inside) || !fits(range.outside) {
            return Err(Error::BadMapping(range.to_string()));
        }
        text.push_str(&format!("{range}\n"));
    }
    if text.is_empty() {
        return Err(Error::BadMapping("without any range".into()));
    }
    Ok(text)
}

fn write_maps(pid: u32, users: &str, groups: &str) -> Result<(), Error> {
    for (name, map) in [("uid_map", users), ("gid_map", groups)] {
        let path = format!("/proc/{pid}/{name}");
        let file = open(&path, OFlags::WRONLY)?;
        // The kernel takes a map in one write or not at all.
        rustix::io::write(&file, map.as_bytes()).map_err(Error::call("write", path))?;
    }
    Ok(())
}

fn open_namespace(pid: u32) -> Result<OwnedFd, Error> {
    open(&format!("/proc/{pid}/ns/user"), OFlags::RDONLY)
}

fn open(path: &str, access: OFlags) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| Error::Open {
        path: path.into(),
        errno,
    })
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd as _, unix::fs::MetadataExt as _};

    use super::*;

    const RANGE: IdRange = IdRange {
        inside: 0,
        outside: 1_000_000,
        count: 65_536,
    };

    #[test]
    fn the_namespace_outlives_its_child_and_no_child_is_left() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to map ids it does not own");
            return;
        }
        let namespace = with_mappings(&[RANGE], &[RANGE]).unwrap();
        let link = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        assert!(
            std::fs::read_link(&link)
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("user:[")
        );
        let own = std::fs::metadata("/proc/self/ns/user").unwrap();
        assert_ne!(std::fs::metadata(&link).unwrap().ino(), own.ino());
        let tasks = std::fs::read_to_string(format!(
            "/proc/self/task/{}/children",
            rustix::thread::gettid().as_raw_nonzero()
        ));
        // Without CONFIG_PROC_CHILDREN there is nothing to look at.
        if let Ok(children) = tasks {
            assert_eq!(children, "");
        }
    }

    #[test]
    fn empty_and_overflowing_ranges_are_refused() {
        for bad in [
            IdRange { count: 0, ..RANGE },
            IdRange {
                outside: u32::MAX,
                count: 2,
                ..RANGE
            },
            IdRange {
                inside: u32::MAX,
                count: 2,
                ..RANGE
            },
        ] {
            assert!(matches!(
                with_mappings(&[bad], &[RANGE]),
                Err(Error::BadMapping(_))
            ));
        }
        assert!(matches!(
            with_mappings(&[], &[RANGE]),
            Err(Error::BadMapping(_))
        ));
    }

    #[test]
    fn what_the_kernel_refuses_leaves_no_child() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root to map ids it does not own");
            return;
        }
        let overlapping = [
            RANGE,
            IdRange {
                outside: 3_000_000,
                ..RANGE
            },
        ];
        let error = with_mappings(&overlapping, &[RANGE]).unwrap_err();
        assert_eq!(error.errno(), Some(rustix::io::Errno::INVAL), "{error}");
    }
}
