//! Descriptors held for the moment when there are no others. They are given to whoever opens
//! something that the box can't do without, and taken again after.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// So many descriptors of nothing.
#[derive(Debug)]
pub(crate) struct Spares {
    held: Vec<OwnedFd>,
    wanted: usize,
}

impl Spares {
    /// None yet, of `wanted`. Never allocates again.
    pub(crate) fn new(wanted: usize) -> Self {
        Self {
            held: Vec::with_capacity(wanted),
            wanted,
        }
    }

    /// Takes as many as are missing. Whether all are there.
    pub(crate) fn take(&mut self) -> bool {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        while self.are_short() {
            match rustix::fs::open(c"/dev/null", flags, Mode::empty()) {
                Ok(spare) => self.held.push(spare),
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Gives them to whoever opens something next.
    pub(crate) fn give(&mut self) {
        self.held.clear();
    }

    /// Whether some are missing.
    pub(crate) fn are_short(&self) -> bool {
        self.held.len() < self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::Spares;

    #[test]
    fn they_are_taken_given_and_taken_again() {
        let mut spares = Spares::new(3);
        assert!(spares.are_short());
        assert!(spares.take() && !spares.are_short());
        spares.give();
        assert!(spares.are_short() && spares.take());
    }
}
