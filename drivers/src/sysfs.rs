//! Reading the small files of /sys.

use std::{fs, io, path::Path};

use crate::Error;

/// The file's text without surrounding white space.
pub(crate) fn text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The file's text; `None` when it can't be read, as for a device that has just gone.
pub(crate) fn optional(path: &Path) -> Option<String> {
    text(path).ok()
}

/// The file's number, if it holds one.
pub(crate) fn number(path: &Path) -> Option<u64> {
    optional(path)?.parse().ok()
}

/// The names in a folder, sorted; none when the folder is not there.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let read = |source| Error::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(read(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not UTF-8 is none the kernel gives.
        names.extend(entry.map_err(read)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}
