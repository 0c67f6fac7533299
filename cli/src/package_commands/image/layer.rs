//! Tar archives, laid into a tree: whole ones, and OCI's layers, which also take away.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    rc::Rc,
};

use tar::{Entry, EntryType};

use super::tree::{Body, Inode, Kind, Tree};

/// Whether names of a certain form take away what lower layers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// They do: it is a layer of an OCI image.
    Applied,
    /// They do not: it is an archive of its own.
    Literal,
}

/// Lays the plain tar archive at `host` into the tree. Returns what was left out, as sentences.
pub(super) fn apply(
    host: &Path,
    whiteouts: Whiteouts,
    tree: &mut Tree,
) -> Result<Vec<String>, String> {
    let Layer {
        steps,
        removed,
        left_out,
    } = read(host, whiteouts)?;
    // They are about lower layers, wherever in this one they stand.
    for (path, removal) in removed {
        let done = match removal {
            Removal::Content => tree.clear(&path),
            Removal::Whole => tree.remove(&path),
        };
        done.map_err(|problem| refuse(&path, problem))?;
    }
    for (path, step) in steps {
        let done = match step {
            Step::Link(target) => tree.link(&path, &target),
            Step::Put(inode) => tree.put(&path, inode),
        };
        done.map_err(|problem| refuse(&path, problem))?;
    }
    Ok(left_out)
}

#[derive(Default)]
struct Layer {
    steps: Vec<(Vec<u8>, Step)>,
    removed: Vec<(Vec<u8>, Removal)>,
    left_out: Vec<String>,
}

enum Step {
    Link(Vec<u8>),
    Put(Rc<Inode>),
}

enum Removal {
    Content,
    Whole,
}

fn read(host: &Path, whiteouts: Whiteouts) -> Result<Layer, String> {
    let file = File::open(host).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let host = Rc::new(host.to_owned());
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut layer = Layer::default();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let path = entry.path_bytes().into_owned();
        let (begin, size) = (entry.raw_file_position(), entry.size());
        if begin.checked_add(size).is_none_or(|end| end > length) {
            let end = "the archive is cut short: fetch it again";
            return Err(refuse(&path, end));
        }
        if whiteouts == Whiteouts::Applied && layer.removes(&path) {
            continue;
        }
        let body = Body {
            host: host.clone(),
            offset: begin,
            size,
        };
        let step = step(&mut entry, body).map_err(|problem| refuse(&path, problem))?;
        match step {
            Some(step) => layer.steps.push((path, step)),
            None if is_device(entry.header().entry_type()) => layer.skip_device(&path)?,
            None => {}
        }
    }
    Ok(layer)
}

impl Layer {
    /// Takes note of a whiteout; false if the path is that of a file.
    fn removes(&mut self, path: &[u8]) -> bool {
        let trimmed = path.strip_suffix(b"/").unwrap_or(path);
        let slash = trimmed.iter().rposition(|byte| *byte == b'/');
        let (folder, name) = trimmed.split_at(slash.map_or(0, |at| at + 1));
        let Some(hidden) = name.strip_prefix(b".wh.") else {
            return false;
        };
        match hidden {
            b".wh..opq" => self.removed.push((folder.to_vec(), Removal::Content)),
            // Notes of an old storage driver to itself.
            _ if hidden.starts_with(b".wh.") => {}
            _ => self
                .removed
                .push(([folder, hidden].concat(), Removal::Whole)),
        }
        true
    }

    fn skip_device(&mut self, path: &[u8]) -> Result<(), String> {
        let shown = String::from_utf8_lossy(path);
        if !is_in_dev(path) {
            return Err(refuse(path, DEVICE));
        }
        self.left_out.push(format!(
            "{shown} is a device: left out, for a container's /dev is made when it starts"
        ));
        Ok(())
    }
}

/// What an entry asks for; nothing if it is no file that an image can hold.
fn step(entry: &mut Entry<'_, impl std::io::Read>, body: Body) -> Result<Option<Step>, String> {
    let kind = entry.header().entry_type();
    let xattrs = attributes(entry)?;
    let target = || {
        let target = entry.link_name_bytes();
        target.ok_or_else(|| "it is a link to nothing".to_owned())
    };
    let kind = match kind {
        EntryType::Regular | EntryType::Continuous => Kind::File(body),
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(target()?.into_owned()),
        EntryType::Fifo => Kind::Fifo,
        EntryType::Link => return Ok(Some(Step::Link(target()?.into_owned()))),
        EntryType::Block | EntryType::Char | EntryType::XGlobalHeader => return Ok(None),
        EntryType::GNUSparse => return Err(SPARSE.to_owned()),
        other => {
            let byte = other.as_byte();
            return Err(format!("it is of the unknown kind {byte}"));
        }
    };
    let header = entry.header();
    let number = |number: std::io::Result<u64>| {
        let number = number.map_err(|error| error.to_string())?;
        let fits = u32::try_from(number).ok().filter(|id| *id <= LAST_ID);
        fits.ok_or_else(|| {
            format!("its owner or group {number} is above {LAST_ID}, and no container has such")
        })
    };
    let mode = header.mode().map_err(|error| error.to_string())?;
    Ok(Some(Step::Put(Rc::new(Inode {
        kind,
        mode: mode & 0o7777,
        uid: number(header.uid())?,
        gid: number(header.gid())?,
        xattrs,
    }))))
}

fn attributes(
    entry: &mut Entry<'_, impl std::io::Read>,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut attributes = BTreeMap::new();
    let extensions = entry.pax_extensions().map_err(|error| error.to_string())?;
    for extension in extensions.into_iter().flatten() {
        let extension = extension.map_err(|error| error.to_string())?;
        let key = String::from_utf8_lossy(extension.key_bytes()).into_owned();
        if key.starts_with("GNU.sparse.") {
            return Err(SPARSE.to_owned());
        }
        if let Some(name) = key.strip_prefix("SCHILY.xattr.")
            && is_kept(name)
        {
            attributes.insert(name.to_owned(), extension.value_bytes().to_vec());
        }
    }
    Ok(attributes)
}

/// Attributes that mean the same on every machine: not labels of the packer's own.
pub(super) fn is_kept(attribute: &str) -> bool {
    attribute == "security.capability" || attribute.starts_with("user.")
}

/// Whether a path is in the folder that every container's own `/dev` hides.
pub(super) fn is_in_dev(path: &[u8]) -> bool {
    let mut names = path.split(|byte| *byte == b'/');
    let first = names.find(|name| !matches!(*name, b"" | b"."));
    first == Some(b"dev")
}

fn is_device(kind: EntryType) -> bool {
    matches!(kind, EntryType::Block | EntryType::Char)
}

fn damaged(error: std::io::Error) -> String {
    format!("the archive is damaged ({error}): fetch or make it again")
}

fn refuse(path: &[u8], problem: impl AsRef<str>) -> String {
    let (path, problem) = (String::from_utf8_lossy(path), problem.as_ref());
    format!("its entry {path:?} can't be used: {problem}")
}

/// Why a device is refused.
pub(super) const DEVICE: &str =
    "it is a device, which an image can't hold outside of /dev: leave it out";

const SPARSE: &str = "it is stored as a sparse file: make the archive without --sparse";

/// A container's users and groups are numbered from 0 to this.
pub(super) const LAST_ID: u32 = 65_535;

/// The bytes of a plain tar archive by name, for those that hold other archives.
pub(super) fn members(host: &Path) -> Result<BTreeMap<String, Member>, String> {
    let file = File::open(host).map_err(|error| error.to_string())?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut members = BTreeMap::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("./").to_owned();
        let member = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                Member::Bytes(entry.raw_file_position(), entry.size())
            }
            EntryType::Link | EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = PathBuf::from(String::from_utf8_lossy(&target).into_owned());
                match entry.header().entry_type() {
                    EntryType::Link => Member::Alias(target),
                    _ => Member::Alias(Path::new(&path).with_file_name("").join(target)),
                }
            }
            _ => continue,
        };
        members.insert(path, member);
    }
    Ok(members)
}

/// What a name in an archive stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// The same as another name, relative to the archive's root.
    Alias(PathBuf),
    /// Bytes: their offset in the archive, and how many.
    Bytes(u64, u64),
}
