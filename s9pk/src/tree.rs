//! All tables of a package as one tree, and the loader that asks for them one by one.
//!
//! The loader does no I/O: it says which bytes it wants and is fed them, so that it works over
//! files and over HTTP ranges. The tree is a flat list in breadth-first order: a thousand nested
//! directories are as harmless as a thousand in a row.

mod nodes;

use std::{cmp::Ordering, iter, ops::Range};

use self::nodes::{Node, Nodes};
use crate::{
    error::Error,
    header::Header,
    limits,
    profile::{Deviation, Profile},
    source::Extent,
    toc::{self, Entry, Kind},
};

/// A package's directories and files. Node 0 is the root.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Nodes,
}

impl Tree {
    /// The entry at `path` (segments joined by `/`); the root for an empty path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.find(path).map(|index| self.entry(index))
    }

    /// The names and entries in the directory at `path`, sorted by name; none if it is no directory.
    pub fn list(&self, path: &str) -> impl ExactSizeIterator<Item = &Entry> {
        let children = self.find(path).map_or(0..0, |index| self.children(index));
        children.map(|index| self.entry(index))
    }

    /// Every entry but the root with its path; directories before what is in them.
    pub fn walk(&self) -> impl Iterator<Item = (String, &Entry)> {
        (1..self.nodes.len()).map(|index| (self.path(index), self.entry(index)))
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn entry(&self, index: usize) -> &Entry {
        &self.nodes[index].entry
    }

    pub(crate) fn children(&self, index: usize) -> Range<usize> {
        self.nodes[index].children.clone()
    }

    /// The path of a node; `the root` for the root, as it is only shown there.
    pub(crate) fn path(&self, mut index: usize) -> String {
        if index == 0 {
            return "the root".to_owned();
        }
        let mut segments = Vec::new();
        while index != 0 {
            segments.push(self.nodes[index].entry.name.as_str());
            index = self.nodes[index].parent;
        }
        segments.reverse();
        segments.join("/")
    }

    fn find(&self, path: &str) -> Option<usize> {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.into_iter().try_fold(0, |index, name| {
            let mut children = self.children(index);
            while !children.is_empty() {
                let middle = children.start + children.len() / 2;
                match self.entry(middle).name.as_str().cmp(name) {
                    Ordering::Less => children.start = middle + 1,
                    Ordering::Equal => return Some(middle),
                    Ordering::Greater => children.end = middle,
                }
            }
            None
        })
    }
}

/// Builds the tree: ask [`wanted`](Self::wanted), [`feed`](Self::feed) it, until nothing is wanted.
#[derive(Debug)]
pub struct Loader {
    tree: Tree,
    next: usize,
    loaded: u64,
    length: u64,
}

impl Loader {
    /// Begins with the root that `header` names, in a file of `length` bytes.
    pub fn new(header: &Header, length: u64) -> Self {
        let root = Entry {
            name: String::new(),
            hash: header.commitment.root_sighash,
            size: header.commitment.root_max_size,
            kind: Kind::Directory {
                toc: header.root_toc,
            },
        };
        let root = Node {
            entry: root,
            parent: 0,
            depth: 0,
            children: 0..0,
        };
        Self {
            tree: Tree {
                nodes: iter::once(root).collect(),
            },
            next: 0,
            loaded: 0,
            length,
        }
    }

    /// The next table to feed, its size checked against every limit; `None` when all are loaded.
    pub fn wanted(&mut self, profile: &mut Profile) -> Result<Option<Extent>, Error> {
        while let Some(node) = self.tree.nodes.get(self.next) {
            if let Kind::Directory { toc } = node.entry.kind {
                self.check(toc, profile)?;
                return Ok(Some(toc));
            }
            self.next += 1;
        }
        Ok(None)
    }

    /// Takes the bytes of the table that was wanted.
    pub fn feed(&mut self, window: &[u8], profile: &mut Profile) -> Result<(), Error> {
        let directory = &self.tree.nodes[self.next];
        let Kind::Directory { toc } = directory.entry.kind else {
            return Ok(());
        };
        let depth = directory.depth + 1;
        let entries = toc::parse(window, toc.position, profile)?;
        if toc::sighash(&entries) != directory.entry.hash {
            return Err(Error::TocHash {
                path: self.tree.path(self.next),
                position: toc.position,
            });
        }
        let begin = self.tree.nodes.len();
        let parent = self.next;
        self.tree
            .nodes
            .extend(entries.into_iter().map(|entry| Node {
                entry,
                parent,
                depth,
                children: 0..0,
            }));
        self.tree.nodes[parent].children = begin..self.tree.nodes.len();
        self.loaded += toc.size;
        self.next += 1;
        Ok(())
    }

    /// The tree, once nothing more is wanted.
    pub fn finish(self) -> Tree {
        self.tree
    }

    fn check(&self, toc: Extent, profile: &mut Profile) -> Result<(), Error> {
        let node = &self.tree.nodes[self.next];
        let caps = [
            (node.entry.size, "its signed size"),
            (limits::TOC_SIZE, "the limit for one table"),
            (
                limits::ALL_TOCS_SIZE - self.loaded,
                "what is left of the limit for all tables together",
            ),
        ];
        if let Some(&(limit, reason)) = caps.iter().find(|(limit, _)| toc.size > *limit) {
            return Err(Error::TocTooLarge {
                path: self.tree.path(self.next),
                position: toc.position,
                size: toc.size,
                limit,
                reason,
            });
        }
        let path = || self.tree.path(self.next);
        if node.depth > limits::LENIENT_DEPTH {
            let limit = limits::LENIENT_DEPTH;
            return Err(Error::TooDeep {
                path: path(),
                limit,
            });
        }
        if node.depth > limits::DEPTH {
            profile.deviates(Deviation::Depth { path: path() })?;
        }
        toc.within(self.length, format!("the table of contents of {}", path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_ARCH: &[u8] = include_bytes!("../tests/fixtures/two-arch.s9pk");

    fn load(file: &[u8]) -> Result<Tree, Error> {
        let mut profile = Profile::strict();
        let mut loader = Loader::new(&Header::parse(&file[..155])?, file.len() as u64);
        while let Some(toc) = loader.wanted(&mut profile)? {
            let begin = toc.position as usize;
            loader.feed(&file[begin..begin + toc.size as usize], &mut profile)?;
        }
        Ok(loader.finish())
    }

    #[test]
    fn entries_are_found_by_path() {
        let tree = load(TWO_ARCH).unwrap();
        let squashfs = tree.get("images/x86_64/main.squashfs").unwrap();
        assert_eq!(squashfs.size, 4096);
        assert!(tree.get("images/x86_64/absent").is_none());
        assert!(tree.get("manifest.json/x").is_none());
        let arches: Vec<_> = tree
            .list("images")
            .map(|entry| entry.name.as_str())
            .collect();
        assert_eq!(arches, ["aarch64", "x86_64"]);
    }

    #[test]
    fn every_walked_path_leads_back_to_its_entry() {
        let tree = load(TWO_ARCH).unwrap();
        assert_eq!(tree.walk().count(), 18);
        for (path, entry) in tree.walk() {
            assert_eq!(tree.get(&path), Some(entry), "{path}");
        }
    }
}
