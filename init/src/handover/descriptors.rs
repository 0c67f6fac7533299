//! Open files that outlive a crash. Each is named by its number and what the kernel calls its
//! inode, so that a number which meanwhile means something else is not taken for it.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};

use serde::{Deserialize, Serialize};

use crate::{crash, inherited};

/// A descriptor as the state names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    number: i32,
    device: u64,
    inode: u64,
}

/// Collects what a state names, for [`crash::keep_only`].
#[derive(Debug, Default)]
pub struct Naming(Vec<i32>);

impl Naming {
    /// Names a descriptor.
    pub fn name(&mut self, fd: &impl AsFd) -> Handed {
        let fd = fd.as_fd();
        let stat = rustix::fs::fstat(fd);
        let number = fd.as_raw_fd();
        self.0.push(number);
        Handed {
            number,
            device: stat.as_ref().map_or(0, |stat| stat.st_dev),
            inode: stat.as_ref().map_or(0, |stat| stat.st_ino),
        }
    }

    /// The numbers named.
    pub fn numbers(&self) -> &[i32] {
        &self.0
    }
}

/// What a successor was left open. Whatever is not taken is closed with this.
#[derive(Debug)]
pub struct Inherited {
    open: BTreeMap<i32, OwnedFd>,
    taken: Vec<i32>,
}

impl Inherited {
    /// Takes hold of everything that outlived `execve`. To be called once, while there is one
    /// thread.
    pub fn collect() -> Self {
        let numbers = (FIRST..crash::MAX_KEPT as i32).filter(|number| *number != super::layout::FD);
        let open = numbers
            .filter_map(|number| Some((number, inherited::take_if_left_open(number)?)))
            .collect();
        Self {
            open,
            taken: Vec::new(),
        }
    }

    /// These alone.
    #[cfg(any(test, fuzzing))]
    pub fn of(fds: Vec<OwnedFd>) -> Self {
        Self {
            open: fds.into_iter().map(|fd| (fd.as_raw_fd(), fd)).collect(),
            taken: Vec::new(),
        }
    }

    /// Takes what the state calls `handed`, if it is still that. It stays open through another
    /// crash until [`Inherited::settle`], so that nothing is lost before the first publication.
    pub fn take(&mut self, handed: Handed) -> Option<OwnedFd> {
        let fd = self.open.remove(&handed.number)?;
        let stat = rustix::fs::fstat(&fd).ok()?;
        if (stat.st_dev, stat.st_ino) != (handed.device, handed.inode) {
            return None;
        }
        self.taken.push(handed.number);
        Some(fd)
    }

    /// The state is published anew: what was taken outlives the next crash because it says so, and
    /// what was not is closed. Returns how many that were.
    pub fn settle(self) -> usize {
        self.taken.iter().for_each(|n| inherited::close_on_exec(*n));
        self.open.len()
    }

    /// How many were left open and not taken.
    pub fn left(&self) -> usize {
        self.open.len()
    }
}

/// After those of the standard streams, which are made anew.
const FIRST: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_taken_once_and_only_if_it_is_the_one_named() {
        let (a, b) = rustix::pipe::pipe().unwrap();
        let other = rustix::fs::memfd_create("other", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut naming = Naming::default();
        let named = naming.name(&a);
        let wrong = Handed {
            number: other.as_raw_fd(),
            ..named
        };
        let mut inherited = Inherited::of(vec![a, b, other]);
        assert!(inherited.take(named).is_some());
        assert!(inherited.take(named).is_none(), "taken twice");
        assert!(inherited.take(wrong).is_none(), "another file");
        assert_eq!(inherited.left(), 1);
    }
}
