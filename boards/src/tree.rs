//! A file tree that exists only as a list: what is in it, with which mode, from where.
//!
//! The initramfs and the root are made from such lists, so neither needs a privileged copy, the
//! builder's umask has no say, and the same list makes the same image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache;

/// One thing in the tree. All of it belongs to root.
#[derive(Clone, Debug)]
pub enum Node {
    /// A folder.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A file's content and permission bits.
    File {
        /// Where the content is.
        content: Content,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link and what it says.
    Link(String),
}

/// Where a file's bytes are.
#[derive(Clone, Debug)]
pub enum Content {
    /// Written here.
    Bytes(Vec<u8>),
    /// In a file of the builder's.
    Path(PathBuf),
}

/// Paths relative to the tree's root, and what is there. Sorted, so parents come first.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Tree {
    /// Adds a folder and those above it.
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32) {
        self.parents(path.as_ref());
        self.nodes
            .insert(path.as_ref().into(), Node::Directory { mode });
    }

    /// Adds a file whose content is in a file of the builder's.
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, from: impl Into<PathBuf>) {
        self.parents(path.as_ref());
        let content = Content::Path(from.into());
        self.nodes
            .insert(path.as_ref().into(), Node::File { content, mode });
    }

    /// Adds a readable file with this text.
    pub fn text(&mut self, path: impl AsRef<Path>, text: &str) {
        self.parents(path.as_ref());
        let content = Content::Bytes(text.as_bytes().into());
        self.nodes.insert(
            path.as_ref().into(),
            Node::File {
                content,
                mode: 0o644,
            },
        );
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: impl AsRef<Path>, target: impl Into<String>) {
        self.parents(path.as_ref());
        self.nodes
            .insert(path.as_ref().into(), Node::Link(target.into()));
    }

    /// Whether something is at `path`.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.nodes.contains_key(path.as_ref())
    }

    /// Everything in it, parents first.
    pub fn nodes(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// A name for exactly this tree, contents included.
    ///
    /// # Errors
    /// When a file it is made of can't be read.
    pub fn digest(&self) -> Result<String> {
        let mut parts = Vec::new();
        for (path, node) in self.nodes() {
            parts.push(path.to_string_lossy().into_owned().into_bytes());
            parts.push(match node {
                Node::Directory { mode } => format!("directory {mode:o}").into_bytes(),
                Node::Link(target) => format!("link {target}").into_bytes(),
                Node::File { content, mode } => {
                    let hash = blake3::hash(&content.read()?);
                    format!("file {mode:o} {hash}").into_bytes()
                }
            });
        }
        Ok(cache::digest(parts.iter().map(Vec::as_slice)))
    }

    /// Writes it out under `root`, which must not exist yet.
    ///
    /// # Errors
    /// When anything of it can't be written.
    pub fn write(&self, root: &Path) -> Result<()> {
        fs::create_dir_all(root).with_context(|| root.display().to_string())?;
        set_mode(root, 0o755)?;
        for (path, node) in self.nodes() {
            let to = root.join(path);
            node.write(&to)
                .with_context(|| format!("{} can't be written", to.display()))?;
        }
        Ok(())
    }

    fn parents(&mut self, path: &Path) {
        for parent in path
            .ancestors()
            .skip(1)
            .filter(|parent| *parent != Path::new(""))
        {
            self.nodes
                .entry(parent.into())
                .or_insert(Node::Directory { mode: 0o755 });
        }
    }
}

impl Node {
    fn write(&self, to: &Path) -> Result<()> {
        match self {
            Self::Directory { mode } => {
                fs::create_dir(to)?;
                set_mode(to, *mode)
            }
            Self::File { content, mode } => {
                fs::write(to, content.read()?)?;
                set_mode(to, *mode)
            }
            Self::Link(target) => Ok(symlink(target, to)?),
        }
    }
}

impl Content {
    /// The bytes.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Path(path) => fs::read(path).with_context(|| path.display().to_string()),
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use super::{Node, Tree};
    use std::path::Path;

    #[test]
    fn parents_come_by_themselves_and_first() {
        let mut tree = Tree::default();
        tree.text("usr/lib/os-release", "");
        let paths: Vec<_> = tree.nodes().map(|(path, _)| path.to_owned()).collect();
        assert_eq!(
            paths,
            ["usr", "usr/lib", "usr/lib/os-release"].map(Path::new)
        );
    }

    #[test]
    fn a_later_parent_does_not_undo_a_mode() {
        let mut tree = Tree::default();
        tree.directory("tmp", 0o1777);
        tree.text("tmp/file", "");
        let (_, first) = tree.nodes().next().unwrap();
        assert!(matches!(first, Node::Directory { mode: 0o1777 }));
    }

    #[test]
    fn content_and_mode_both_count() {
        let digest = |text: &str, mode: u32| {
            let mut tree = Tree::default();
            tree.text("a", text);
            tree.directory("b", mode);
            tree.digest().unwrap()
        };
        assert_eq!(digest("x", 0o755), digest("x", 0o755));
        assert_ne!(digest("x", 0o755), digest("y", 0o755));
        assert_ne!(digest("x", 0o755), digest("x", 0o700));
    }
}
