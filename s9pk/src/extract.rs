//! Unpacking a package into a directory of this machine: the only place where its names become
//! paths, and they are checked once more.

use std::{
    fs::{self, File},
    path::Path,
};

use crate::{
    archive::Archive,
    error::Error,
    source::ReadAt,
    toc::{self, Kind},
};

/// Writes every file to the directory `to`, which must not exist; each is verified. A file that
/// turns out wrong is removed again, and the rest is left out.
pub fn extract<R: ReadAt>(archive: &Archive<R>, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(Error::io(format!("making {}", to.display())))?;
    for (path, entry) in archive.tree().walk() {
        let unsafe_name = path.split('/').find_map(toc::name_problem);
        if let Some(problem) = unsafe_name {
            return Err(Error::Name { path, problem });
        }
        let host = to.join(&path);
        let what = format!("writing {}", host.display());
        match entry.kind {
            Kind::Missing => {}
            Kind::Directory { .. } => fs::create_dir(&host).map_err(Error::io(what))?,
            Kind::File { .. } => {
                let mut file = File::create_new(&host).map_err(Error::io(what))?;
                if let Err(error) = archive.copy(&path, &mut file) {
                    // The bad bytes must not stay; that they could not be removed adds nothing.
                    let _ = fs::remove_file(&host);
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
