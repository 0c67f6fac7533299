//! What was left out of a filtered package, kept beside the tree that was extracted of it: with
//! this, the tree can be packed again under the same root and signature.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    archive::Archive,
    draft::{Draft, Node},
    error::Error,
    hash::Hash,
    source::ReadAt,
    toc::Kind,
    writer::Order,
};

/// What a filtered package does not hold, and what was signed of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LeftOut {
    root_max_size: u64,
    /// The signed size in bytes of each directory's table, by path.
    directories: BTreeMap<String, u64>,
    /// By path.
    entries: BTreeMap<String, Left>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    hash: Hash,
    size: u64,
}

impl LeftOut {
    /// What was left out of a package; `None` if it is whole.
    pub fn of<R: ReadAt>(archive: &Archive<R>) -> Option<Self> {
        let mut left_out = Self {
            root_max_size: archive.commitment().root_max_size,
            directories: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        for (path, entry) in archive.tree().walk() {
            let (hash, size) = (entry.hash, entry.size);
            match entry.kind {
                Kind::Directory { .. } => drop(left_out.directories.insert(path, size)),
                Kind::File { .. } => {}
                Kind::Missing => drop(left_out.entries.insert(path, Left { hash, size })),
            }
        }
        (!left_out.entries.is_empty()).then_some(left_out)
    }

    /// Where it is kept for the tree in the folder `tree`.
    pub fn beside(tree: &Path) -> PathBuf {
        // `tree/.` would be a name inside.
        let mut name: PathBuf = tree.components().collect();
        name.as_mut_os_string().push(".left-out.json");
        name
    }
}

impl Draft<'_> {
    /// Makes this the draft of a filtered package: with entries for what was left out, with the
    /// sizes that were signed, and in the order that filtered packages have.
    ///
    /// # Errors
    /// When something lies where something was left out, or on a path that can't be.
    pub fn leave_out(&mut self, left_out: &LeftOut) -> Result<(), Error> {
        for (path, size) in &left_out.directories {
            self.directory(path, path)?.max_size = Some(*size);
        }
        for (path, left) in &left_out.entries {
            if self.has(path) {
                return Err(Error::Content(format!(
                    "{path} was left out of the package, but is in the folder: remove it there"
                )));
            }
            let Left { hash, size } = *left;
            self.put(path, Node::Missing { hash, size })?;
        }
        self.root.max_size = Some(left_out.root_max_size);
        self.order = Order::Rewritten;
        Ok(())
    }
}
