//! A folder of this machine, taken into a tree.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::fs::{lgetxattr, llistxattr};

use super::{
    layer::{DEVICE, LAST_ID, is_in_dev, is_kept},
    tree::{Body, Inode, Kind, Tree},
};
use crate::package_commands::recipe::Owners;

/// Takes the folder `root` into the tree. Returns what was left out, as sentences.
pub(super) fn apply(root: &Path, owners: Owners, tree: &mut Tree) -> Result<Vec<String>, String> {
    let mut left_out = Vec::new();
    let mut linked: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(inner) = pending.pop() {
        let host = root.join(&inner);
        let failed = |error: io::Error| format!("{}: {error}", host.display());
        let refuse = |problem: &str| format!("{}: {problem}", host.display());
        let path = inner.as_os_str().as_bytes();
        let metadata = match path {
            b"" => fs::metadata(&host),
            _ => fs::symlink_metadata(&host),
        };
        let metadata = metadata.map_err(failed)?;
        let kind = metadata.file_type();
        if kind.is_block_device() || kind.is_char_device() {
            if !is_in_dev(path) {
                return Err(refuse(DEVICE));
            }
            left_out.push(refuse(
                "left out, for a container's /dev is made when it starts",
            ));
            continue;
        }
        if kind.is_dir() {
            let names = fs::read_dir(&host).map_err(failed)?;
            for entry in names {
                pending.push(inner.join(entry.map_err(failed)?.file_name()));
            }
        }
        let identity = (metadata.dev(), metadata.ino());
        if !kind.is_dir() && metadata.nlink() > 1 {
            if let Some(first) = linked.get(&identity) {
                tree.link(path, first).map_err(refuse)?;
                continue;
            }
            linked.insert(identity, path.to_vec());
        }
        let inode = inode(&host, &metadata, owners).map_err(|problem| refuse(&problem))?;
        tree.put(path, Rc::new(inode)).map_err(refuse)?;
    }
    Ok(left_out)
}

fn inode(host: &Path, metadata: &Metadata, owners: Owners) -> Result<Inode, String> {
    let said = |error: io::Error| error.to_string();
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        let target = fs::read_link(host).map_err(said)?;
        Kind::Symlink(target.as_os_str().as_bytes().to_vec())
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_file() {
        Kind::File(Body {
            host: Rc::new(host.to_owned()),
            offset: 0,
            size: metadata.len(),
        })
    } else {
        return Err("it is a socket, which an image can't hold: leave it out".to_owned());
    };
    let (uid, gid) = match owners {
        Owners::Keep => (metadata.uid(), metadata.gid()),
        Owners::Root => (0, 0),
    };
    if uid > LAST_ID || gid > LAST_ID {
        return Err(format!(
            "its owner {uid} or group {gid} is above {LAST_ID}, and no container has such"
        ));
    }
    Ok(Inode {
        mode: mode(metadata.mode(), file_type.is_symlink(), owners),
        kind,
        uid,
        gid,
        xattrs: attributes(host).map_err(said)?,
    })
}

/// What the packer's umask took away is given back: a folder packs alike whoever checked it out.
/// Whoever sets a special bit means the rest as well.
fn mode(mode: u32, is_symlink: bool, owners: Owners) -> u32 {
    let mode = mode & 0o7777;
    if is_symlink {
        return 0o777;
    }
    if owners == Owners::Keep || mode & 0o7000 != 0 {
        return mode;
    }
    let shared = mode & 0o500;
    mode & 0o700 | shared >> 3 | shared >> 6
}

fn attributes(host: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; MAX_ATTRIBUTES];
    let size = match llistxattr(host, &mut names) {
        Ok(size) => size,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut attributes = BTreeMap::new();
    for name in names[..size].split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if is_kept(name) {
            let mut value = vec![0; MAX_ATTRIBUTES];
            let size = lgetxattr(host, name, &mut value)?;
            value.truncate(size);
            attributes.insert(name.to_owned(), value);
        }
    }
    Ok(attributes)
}

/// Bytes of a file's names of attributes, and of one's value, at most: as Linux has it.
const MAX_ATTRIBUTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_do_not_depend_on_the_umask_unless_they_are_to_be_kept() {
        for (on_disk, packed) in [
            (0o755, 0o755),
            (0o700, 0o755),
            (0o600, 0o644),
            (0o664, 0o644),
            (0o500, 0o555),
            (0o1777, 0o1777),
            (0o4711, 0o4711),
        ] {
            assert_eq!(mode(on_disk, false, Owners::Root), packed, "{on_disk:o}");
            assert_eq!(mode(on_disk, false, Owners::Keep), on_disk);
        }
        assert_eq!(mode(0o755, true, Owners::Keep), 0o777);
    }
}
