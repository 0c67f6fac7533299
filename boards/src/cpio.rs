//! Writes the one archive format that the kernel unpacks by itself: cpio, "newc".
//!
//! Owner root, one fixed time, inodes counted from one: the same tree makes the same bytes.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;

use crate::tree::{Node, Tree};

/// Writes `tree`, and a console node, which the kernel opens for us before anything is mounted.
///
/// # Errors
/// When a file of the tree can't be read or `out` not be written.
pub fn write(tree: &Tree, out: impl Write) -> Result<()> {
    let mut archive = Archive {
        out,
        inode: 0,
        at: 0,
    };
    for (path, node) in tree.nodes() {
        match node {
            Node::Directory { mode } => archive.entry(path, DIRECTORY | mode, &[], (0, 0))?,
            Node::File { content, mode } => {
                archive.entry(path, FILE | mode, &content.read()?, (0, 0))?;
            }
            Node::Link(target) => archive.entry(path, LINK, target.as_bytes(), (0, 0))?,
        }
    }
    archive.entry(Path::new("dev"), DIRECTORY | 0o755, &[], (0, 0))?;
    archive.entry(Path::new("dev/console"), CONSOLE, &[], (5, 1))?;
    archive.entry(Path::new("TRAILER!!!"), 0, &[], (0, 0))?;
    Ok(archive.out.flush()?)
}

struct Archive<W> {
    out: W,
    inode: u32,
    at: usize,
}

impl<W: Write> Archive<W> {
    fn entry(&mut self, path: &Path, mode: u32, data: &[u8], device: (u32, u32)) -> Result<()> {
        self.inode += 1;
        let name = path.to_string_lossy();
        let links = if mode & TYPE == DIRECTORY { 2 } else { 1 };
        let fields = [
            self.inode,
            mode,
            0,
            0,
            links,
            0,
            u32::try_from(data.len())?,
            0,
            0,
            device.0,
            device.1,
            u32::try_from(name.len() + 1)?,
            0,
        ];
        self.put(b"070701")?;
        for field in fields {
            self.put(format!("{field:08x}").as_bytes())?;
        }
        self.put(name.as_bytes())?;
        self.put(b"\0")?;
        self.align()?;
        self.put(data)?;
        self.align()?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len();
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        let padding = self.at.next_multiple_of(4) - self.at;
        self.put(&[0; 3][..padding])
    }
}

const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

#[cfg(test)]
mod tests {
    use super::write;
    use crate::tree::Tree;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn the_same_tree_makes_the_same_bytes() {
        let mut tree = Tree::default();
        tree.text("etc/hostname", "box");
        tree.link("init", "usr/lib/pilotlight/init");
        let bytes = |tree: &Tree| {
            let mut bytes = Vec::new();
            write(tree, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(bytes(&tree), bytes(&tree));
        assert_eq!(bytes(&tree).len() % 4, 0);
    }

    #[test]
    fn cpio_reads_what_we_write() {
        let mut tree = Tree::default();
        tree.text("etc/hostname", "box");
        tree.link("init", "etc/hostname");
        let mut bytes = Vec::new();
        write(&tree, &mut bytes).unwrap();
        let started = Command::new("cpio")
            .args(["-it", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut cpio) = started else {
            println!("SKIPPED: cpio_reads_what_we_write: there is no cpio on this machine");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        let mut listed = String::new();
        std::io::Read::read_to_string(&mut cpio.stdout.take().unwrap(), &mut listed).unwrap();
        assert_eq!(listed, "etc\netc/hostname\ninit\ndev\ndev/console\n");
        while cpio.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
    }
}
