//! A folder for what is on its way into a package.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};

use super::error::PackageError;

/// A folder beside what is made, gone when this is.
#[derive(Debug)]
pub(crate) struct Workshop {
    path: PathBuf,
    count: Cell<u32>,
}

impl Workshop {
    /// Makes one beside the file `to`.
    pub(crate) fn beside(to: &Path) -> Result<Self, PackageError> {
        let path = super::beside(to, &format!(".{}.work", std::process::id()));
        fs::create_dir(&path).map_err(PackageError::io(&path))?;
        let count = Cell::new(0);
        Ok(Self { path, count })
    }

    /// A path in it that was never given before.
    pub(crate) fn next(&self) -> PathBuf {
        let count = self.count.get();
        self.count.set(count + 1);
        self.path.join(count.to_string())
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // The package is written by now, or its error is told: what stays here harms nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}
