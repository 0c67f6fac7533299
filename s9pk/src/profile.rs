//! How strict to be with forms that the format's own reader takes and its packer never writes.
//!
//! Each such form lets one signed package have many faces, or hides bytes nobody looks at. They are
//! refused; told to be lenient, a reader takes them and lists them. No limit that protects memory
//! or time is ever relaxed.

use crate::{error::Error, limits};

/// The form of a package that its own packer would not have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Deviation {
    /// A number in more bytes than it needs.
    #[error("the number at byte {offset} is written in more bytes than it needs")]
    LongVarint {
        /// Where in the file.
        offset: u64,
    },
    /// A name that is not one path segment.
    #[error("the entry name {name:?} at byte {offset} is unsafe: {problem}")]
    Name {
        /// Where in the file.
        offset: u64,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The same name twice in a directory.
    #[error("the entry name {name:?} is twice in the table of contents at byte {offset}")]
    Duplicate {
        /// Where the table lies.
        offset: u64,
        /// The name.
        name: String,
    },
    /// Bytes of a table that no entry uses.
    #[error("{count} bytes at byte {offset} belong to a table of contents but to no entry of it")]
    TocRest {
        /// Where they begin.
        offset: u64,
        /// How many.
        count: u64,
    },
    /// Nested deeper than packages are.
    #[error("{path} is nested deeper than {limit} levels", limit = limits::DEPTH)]
    Depth {
        /// The directory.
        path: String,
    },
    /// A body or table over the header or over another one.
    #[error("{path} (byte {position}) overlaps {other}")]
    Overlap {
        /// The entry.
        path: String,
        /// Where it lies.
        position: u64,
        /// What lies there too.
        other: String,
    },
    /// A file whose body is not all there.
    #[error(
        "{path} should lie at byte {position} with {size} bytes, which is beyond the file's end"
    )]
    BeyondEnd {
        /// The entry.
        path: String,
        /// Where it should lie.
        position: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// Bytes that belong to nothing.
    #[error("{count} bytes at byte {position} belong to no entry of the package")]
    Unclaimed {
        /// Where they begin.
        position: u64,
        /// How many.
        count: u64,
    },
    /// A known path that is a directory instead of a file, or the other way round.
    #[error("{path} should be a {wanted} and is not")]
    Kind {
        /// The entry.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
}

/// Strict, or lenient with a list of what was let pass.
#[derive(Debug, Default)]
pub struct Profile {
    lenient: bool,
    deviations: Vec<Deviation>,
    more: u64,
}

impl Profile {
    /// Refuses every deviation: for everything that is installed.
    pub fn strict() -> Self {
        Self::default()
    }

    /// Lets deviations pass and lists them: for looking at a package.
    pub fn lenient() -> Self {
        Self {
            lenient: true,
            ..Self::default()
        }
    }

    /// Whether deviations pass.
    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// What was let pass, at most [`limits::DEVIATIONS`].
    pub fn deviations(&self) -> &[Deviation] {
        &self.deviations
    }

    /// How many more were let pass than [`Self::deviations`] lists.
    pub fn more(&self) -> u64 {
        self.more
    }

    pub(crate) fn deviates(&mut self, deviation: Deviation) -> Result<(), Error> {
        if !self.lenient {
            return Err(Error::Strict(deviation));
        }
        if self.deviations.len() < limits::DEVIATIONS {
            self.deviations.push(deviation);
        } else {
            self.more += 1;
        }
        Ok(())
    }
}
