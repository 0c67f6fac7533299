//! Small files that are either as they were or as they should be, whenever the power is cut.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Replaces `path` by a file with these bytes. When this returns, they are on the disk.
///
/// Written beside it under another name, synced, renamed, and the folder synced. What a crash
/// leaves of the other name is overwritten by the next call.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // A path of one name is in the working folder, which has no name in it.
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let mut temporary = name.to_owned();
    temporary.push(".new");
    let temporary = folder.join(temporary);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leftovers_do_no_harm() {
        let folder = std::env::temp_dir().join(format!("durable-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("f");
        fs::write(folder.join("f.new"), "half a fi").unwrap();
        for text in ["longer than before", "short"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert!(replace(&folder.join("no/such/folder"), b"").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
