//! Squashfs images from trees, the same bytes each time, by the host's `mksquashfs`.
//!
//! The tree goes to it as a tar archive through a pipe, sorted and without times, so that neither
//! the order nor the dates of this machine's folders show, and nothing is unpacked on the way.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output},
    rc::Rc,
    thread,
};

use tar::{Builder, EntryType, Header};

use super::tree::{Body, Inode, Kind, Tree};

/// Makes the image `to` of a tree. The error is a sentence.
pub(super) fn squash(tree: &Tree, to: &Path) -> Result<(), String> {
    let (reader, writer) = io::pipe().map_err(|error| error.to_string())?;
    let mut command = command(tree.root(), to);
    command.stdin(reader);
    thread::scope(|scope| {
        // The command holds the pipe's other end: it must go once the program has ended, or a
        // program that fails would leave this side writing for ever.
        let running = scope.spawn(move || command.output());
        let written = write(tree, writer);
        let output = running.join().unwrap_or_else(|_| {
            let panicked = "the thread that ran it panicked";
            Err(io::Error::other(panicked))
        });
        check(&output, written)
    })
}

fn command(root: &Inode, to: &Path) -> Command {
    let mut command = Command::new("mksquashfs");
    command.arg("-").arg(to).args(REPRODUCIBLY);
    command.arg("-root-mode").arg(format!("{:o}", root.mode));
    command.arg("-root-uid").arg(root.uid.to_string());
    command.arg("-root-gid").arg(root.gid.to_string());
    // It would win over the times given here.
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

fn check(output: &io::Result<Output>, written: io::Result<()>) -> Result<(), String> {
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("mksquashfs is not there: install the package squashfs-tools".to_owned());
        }
        Err(error) => return Err(format!("mksquashfs can't be run: {error}")),
    };
    // When it fails, writing does too; what it says is nearer to the cause.
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("mksquashfs: {}: {}", output.status, said.trim()));
    }
    written.map_err(|error| error.to_string())
}

fn write(tree: &Tree, pipe: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(BufWriter::with_capacity(BUFFER, pipe));
    let mut links = std::collections::HashMap::new();
    for (path, inode) in tree.walk() {
        let host = Path::new(OsStr::from_bytes(path));
        let shared = Rc::strong_count(inode) > 1;
        let first = shared.then(|| links.get(&Rc::as_ptr(inode))).flatten();
        let mut header = header(inode);
        if let Some(first) = first {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            archive.append_link(&mut header, host, first)?;
            continue;
        }
        if shared {
            links.insert(Rc::as_ptr(inode), host);
        }
        append(&mut archive, &mut header, host, inode)?;
    }
    archive.into_inner()?.flush()
}

fn append<W: Write>(
    archive: &mut Builder<W>,
    header: &mut Header,
    path: &Path,
    inode: &Inode,
) -> io::Result<()> {
    let attributes: Vec<_> = inode
        .xattrs
        .iter()
        .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.as_slice()))
        .collect();
    let attributes = attributes
        .iter()
        .map(|(name, value)| (name.as_str(), *value));
    archive.append_pax_extensions(attributes)?;
    match &inode.kind {
        Kind::Directory | Kind::Fifo => archive.append_data(header, path, io::empty()),
        Kind::Symlink(target) => {
            archive.append_link(header, path, Path::new(OsStr::from_bytes(target)))
        }
        Kind::File(body) => archive.append_data(header, path, open(body)?),
    }
}

fn open(body: &Body) -> io::Result<impl Read + use<>> {
    let named = |error: io::Error| io::Error::other(format!("{}: {error}", body.host.display()));
    let mut file = File::open(&*body.host).map_err(named)?;
    if body.offset > 0 {
        file.seek(SeekFrom::Start(body.offset)).map_err(named)?;
    }
    let host = body.host.clone();
    Ok(Exactly {
        file,
        left: body.size,
        host: host.display().to_string(),
    })
}

/// Fails where a file ends early: the archive's reader would take what follows for its rest.
struct Exactly {
    file: File,
    left: u64,
    host: String,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.left.min(buffer.len() as u64) as usize;
        let count = self.file.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            let changed = format!("{} changed while it was packed: pack again", self.host);
            return Err(io::Error::other(changed));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn header(inode: &Inode) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(inode.mode);
    header.set_uid(inode.uid.into());
    header.set_gid(inode.gid.into());
    header.set_mtime(0);
    let (kind, size) = match &inode.kind {
        Kind::Directory => (EntryType::Directory, 0),
        Kind::Fifo => (EntryType::Fifo, 0),
        Kind::File(body) => (EntryType::Regular, body.size),
        Kind::Symlink(_) => (EntryType::Symlink, 0),
    };
    header.set_entry_type(kind);
    header.set_size(size);
    header
}

/// Zstandard unpacks several times as fast as the default, gzip.
const REPRODUCIBLY: [&str; 10] = [
    "-tar",
    "-quiet",
    "-no-progress",
    "-noappend",
    "-comp",
    "zstd",
    "-all-time",
    "0",
    "-mkfs-time",
    "0",
];

/// Bytes written at once.
const BUFFER: usize = 128 << 10;
