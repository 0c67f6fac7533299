//! The files of an image before they are packed: a tree in memory that no path leads out of.
//!
//! Nothing is unpacked on this machine, so images need no root to be made, and a hostile archive
//! has nothing to escape from. Links in the middle of a path are followed within the tree, as a
//! container that has it for its root would.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    rc::Rc,
};

/// An image's files by path: components joined by `/`, none for the root.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<Vec<u8>, Rc<Inode>>,
    root: Rc<Inode>,
}

/// A file with what belongs to it; several paths may share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    /// What it is.
    pub(crate) kind: Kind,
    /// Permission bits, with set-id and sticky.
    pub(crate) mode: u32,
    /// The owner's number.
    pub(crate) uid: u32,
    /// The group's number.
    pub(crate) gid: u32,
    /// Extended attributes.
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    Fifo,
    File(Body),
    Symlink(Vec<u8>),
}

/// Where a file's bytes are on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) host: Rc<PathBuf>,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// What is wrong with a path or with what should be there, as half a sentence.
pub(crate) type Problem = &'static str;

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            root: Rc::new(Inode::directory()),
        }
    }
}

impl Inode {
    /// A directory that nobody described.
    fn directory() -> Self {
        Self {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            xattrs: BTreeMap::new(),
        }
    }

    fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }
}

impl Tree {
    /// The root directory.
    pub(crate) fn root(&self) -> &Inode {
        &self.root
    }

    /// Everything but the root, directories before what is in them.
    pub(crate) fn walk(&self) -> impl Iterator<Item = (&[u8], &Rc<Inode>)> {
        self.nodes
            .iter()
            .map(|(path, inode)| (path.as_slice(), inode))
    }

    /// Puts a file at `path`, in place of what is there; a directory keeps what is in it.
    pub(crate) fn put(&mut self, path: &[u8], inode: Rc<Inode>) -> Result<(), Problem> {
        let place = self.place(path, Missing::Made)?.unwrap_or_default();
        if place.is_empty() {
            if !inode.is_directory() {
                return Err("it would replace the root");
            }
            self.root = inode;
            return Ok(());
        }
        let keeps =
            inode.is_directory() && self.nodes.get(&place).is_some_and(|n| n.is_directory());
        if !keeps {
            self.cut(&place);
        }
        self.nodes.insert(place, inode);
        Ok(())
    }

    /// Puts a second path to the file at `target`.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Problem> {
        let place = self.place(target, Missing::Left)?.unwrap_or_default();
        let inode = self.nodes.get(&place).cloned();
        let inode = inode.ok_or("what it is a hard link to is not there")?;
        if inode.is_directory() {
            return Err("it is a hard link to a directory");
        }
        if self.place(path, Missing::Left)?.as_ref() == Some(&place) {
            return Ok(());
        }
        self.put(path, inode)
    }

    /// Takes away what is at `path`, if anything is.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), Problem> {
        match self.place(path, Missing::Left)? {
            Some(place) if place.is_empty() => Err("it would remove the root"),
            Some(place) => {
                self.cut(&place);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes away what is in the directory at `path`.
    pub(crate) fn clear(&mut self, path: &[u8]) -> Result<(), Problem> {
        match self.place(path, Missing::Left)? {
            Some(place) if place.is_empty() => self.nodes.clear(),
            Some(place) => self.cut_below(&place),
            None => {}
        }
        Ok(())
    }

    fn cut(&mut self, place: &[u8]) {
        self.nodes.remove(place);
        self.cut_below(place);
    }

    fn cut_below(&mut self, place: &[u8]) {
        let begin = [place, b"/"].concat();
        // The byte after the slash: all paths below lie between the two.
        let end = [place, b"0"].concat();
        let below: Vec<_> = self
            .nodes
            .range(begin..end)
            .map(|(p, _)| p.clone())
            .collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// Where `path` leads, all links but one at its end followed. `None` if a directory on the way
    /// is not there and is to be left so.
    fn place(&mut self, path: &[u8], missing: Missing) -> Result<Option<Vec<u8>>, Problem> {
        let mut rest: VecDeque<Vec<u8>> = components(path)?.map(<[u8]>::to_vec).collect();
        let mut place: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                // Only out of a link: above the root is the root.
                place.truncate(place.iter().rposition(|b| *b == b'/').unwrap_or(0));
                continue;
            }
            let next = match place.is_empty() {
                true => name,
                false => [&place[..], b"/", &name].concat(),
            };
            if rest.is_empty() {
                return Ok(Some(next));
            }
            match self.nodes.get(&next).map(|inode| &inode.kind) {
                Some(Kind::Directory) => place = next,
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > LINKS {
                        return Err("too many symbolic links lead to it");
                    }
                    if target.starts_with(b"/") {
                        place.clear();
                    }
                    let parts = target.split(|b| *b == b'/');
                    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                    for part in parts.rev() {
                        rest.push_front(part.to_vec());
                    }
                }
                Some(Kind::Fifo | Kind::File(_)) => return Err("it lies in what is no directory"),
                None if missing == Missing::Left => return Ok(None),
                None => {
                    self.nodes.insert(next.clone(), Rc::new(Inode::directory()));
                    place = next;
                }
            }
        }
        Ok(Some(place))
    }
}

/// What becomes of directories that a path needs and that are not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Left,
    Made,
}

/// The names in a path. `..` is refused, for no archive of an image has a use for it.
fn components(path: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Problem> {
    let names = || {
        let names = path.split(|byte| *byte == b'/');
        names.filter(|name| !matches!(*name, b"" | b"."))
    };
    if names().any(|name| name == b"..") {
        return Err("its path has `..` in it");
    }
    if path.contains(&0) {
        return Err("its path has a NUL in it");
    }
    if names().any(|name| name.len() > NAME) {
        return Err("its name is longer than 255 bytes");
    }
    Ok(names())
}

/// As many links as Linux follows in one path.
const LINKS: usize = 40;

/// Bytes of a name, as squashfs and Linux have it.
const NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> Rc<Inode> {
        Rc::new(Inode {
            kind: Kind::File(Body {
                host: Rc::default(),
                offset: 0,
                size,
            }),
            ..Inode::directory()
        })
    }

    fn symlink(target: &str) -> Rc<Inode> {
        Rc::new(Inode {
            kind: Kind::Symlink(target.as_bytes().to_vec()),
            ..Inode::directory()
        })
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let paths = tree.walk().map(|(path, _)| path);
        paths
            .map(|path| String::from_utf8(path.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn parents_are_made_and_everything_is_found_under_one_name() {
        let mut tree = Tree::default();
        tree.put(b"./a//b/file", file(1)).unwrap();
        tree.put(b"/a/b/./file", file(2)).unwrap();
        tree.put(b"a-b", file(3)).unwrap();
        assert_eq!(paths(&tree), ["a", "a-b", "a/b", "a/b/file"]);
        tree.remove(b"a").unwrap();
        assert_eq!(paths(&tree), ["a-b"]);
        tree.remove(b"not/there").unwrap();
        assert_eq!(paths(&tree), ["a-b"], "removing makes nothing");
    }

    #[test]
    fn links_on_the_way_are_followed_and_never_out() {
        let mut tree = Tree::default();
        tree.put(b"usr/bin/sh", file(1)).unwrap();
        tree.put(b"bin", symlink("usr/bin")).unwrap();
        tree.put(b"up", symlink("../../../usr")).unwrap();
        tree.put(b"abs", symlink("/usr/bin")).unwrap();
        tree.put(b"bin/one", file(1)).unwrap();
        tree.put(b"up/bin/two", file(1)).unwrap();
        tree.put(b"abs/three", file(1)).unwrap();
        let found = paths(&tree);
        for name in ["one", "two", "three"] {
            assert!(found.contains(&format!("usr/bin/{name}")), "{found:?}");
        }
        tree.put(b"loop", symlink("loop")).unwrap();
        assert!(tree.put(b"loop/x", file(1)).is_err());
        // At a path's end, the link itself is meant.
        tree.put(b"bin", file(1)).unwrap();
        assert!(paths(&tree).contains(&"usr/bin/sh".to_owned()));
        assert!(tree.put(b"bin/x", file(1)).is_err(), "a file is no folder");
    }

    #[test]
    fn paths_that_lead_out_or_can_not_be_are_refused() {
        let mut tree = Tree::default();
        let long = [b'a'; 256];
        for path in [&b"../x"[..], b"a/../../x", b"a\0", &long] {
            assert!(tree.put(path, file(1)).is_err());
            assert!(tree.link(path, b"a").is_err());
            assert!(tree.remove(path).is_err());
            assert!(tree.clear(path).is_err());
        }
        for root in [&b""[..], b"./", b"/"] {
            assert!(tree.put(root, file(1)).is_err());
            assert!(tree.remove(root).is_err());
            tree.put(root, Rc::new(Inode::directory())).unwrap();
        }
        assert!(paths(&tree).is_empty());
    }

    #[test]
    fn hard_links_share_a_file_until_one_is_replaced() {
        let mut tree = Tree::default();
        tree.put(b"a", file(1)).unwrap();
        tree.link(b"d/b", b"./a").unwrap();
        tree.link(b"a", b"a").unwrap();
        let shared = |tree: &Tree| Rc::ptr_eq(&tree.nodes[&b"a"[..]], &tree.nodes[&b"d/b"[..]]);
        assert!(shared(&tree));
        tree.put(b"a", file(2)).unwrap();
        assert!(!shared(&tree));
        assert!(tree.link(b"c", b"none").is_err());
        assert!(tree.link(b"c", b"d").is_err(), "of a directory");
        assert!(tree.link(b"c", b"").is_err(), "of the root");
    }

    #[test]
    fn a_directory_keeps_what_is_in_it_and_a_file_does_not() {
        let mut tree = Tree::default();
        tree.put(b"d/x", file(1)).unwrap();
        let mut other = Inode::directory();
        other.mode = 0o700;
        tree.put(b"d", Rc::new(other)).unwrap();
        assert_eq!(paths(&tree), ["d", "d/x"]);
        assert_eq!(tree.nodes[&b"d"[..]].mode, 0o700);
        tree.put(b"d", file(1)).unwrap();
        assert_eq!(paths(&tree), ["d"]);
        tree.put(b"e/x", file(1)).unwrap();
        tree.clear(b"e").unwrap();
        assert_eq!(paths(&tree), ["d", "e"]);
        tree.clear(b"").unwrap();
        assert!(paths(&tree).is_empty());
    }
}
