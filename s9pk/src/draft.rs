//! The tree of a package to be written: from memory, from files of this machine, from a directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{error::Error, hash::Hash, limits, source::Extent, source::ReadAt, toc, writer::Order};

/// A package's tree before it is written.
#[derive(Default)]
pub struct Draft<'a> {
    pub(crate) root: Directory<'a>,
    pub(crate) order: Order,
}

/// A directory of a draft.
#[derive(Default)]
pub(crate) struct Directory<'a> {
    pub(crate) nodes: BTreeMap<String, Node<'a>>,
    /// The size to sign for its table, when it is carried over from another package.
    pub(crate) max_size: Option<u64>,
}

pub(crate) enum Node<'a> {
    File(Content<'a>),
    Directory(Directory<'a>),
    Missing { hash: Hash, size: u64 },
}

/// The content of a file.
pub enum Content<'a> {
    /// In memory.
    Bytes(Vec<u8>),
    /// A file of this machine.
    File(PathBuf),
    /// A part of another package.
    Part {
        /// The other package's bytes.
        source: &'a dyn ReadAt,
        /// Where in them.
        extent: Extent,
        /// What must be there.
        hash: Hash,
    },
}

impl<'a> Draft<'a> {
    /// Everything in the directory `path`. Links and special files are refused.
    pub fn from_dir(path: &Path) -> Result<Self, Error> {
        let mut draft = Self::default();
        let mut pending = vec![(path.to_owned(), String::new())];
        while let Some((directory, prefix)) = pending.pop() {
            let what = || format!("listing {}", directory.display());
            for entry in fs::read_dir(&directory).map_err(Error::io(what()))? {
                let entry = entry.map_err(Error::io(what()))?;
                let host = entry.path();
                let refuse = |problem| Error::HostPath {
                    path: host.clone(),
                    problem,
                };
                let Ok(name) = entry.file_name().into_string() else {
                    return Err(refuse("a name in a package must be UTF-8"));
                };
                let path = format!("{prefix}{name}");
                let kind = entry.file_type().map_err(Error::io(what()))?;
                if kind.is_dir() {
                    draft.add_directory(&path)?;
                    pending.push((host, format!("{path}/")));
                } else if kind.is_file() {
                    draft.add(&path, Content::File(host))?;
                } else {
                    return Err(refuse("only files and directories can be packed"));
                }
            }
        }
        Ok(draft)
    }

    /// Adds a file, or replaces it; directories on the way are made.
    pub fn add(&mut self, path: &str, content: Content<'a>) -> Result<(), Error> {
        self.put(path, Node::File(content))
    }

    /// Adds a directory, if it is not there.
    pub fn add_directory(&mut self, path: &str) -> Result<(), Error> {
        self.directory(path, path).map(|_| ())
    }

    /// Whether there is a file or directory at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// The content of the file at `path`, if there is one.
    pub fn content(&self, path: &str) -> Option<&Content<'a>> {
        match self.get(path)? {
            Node::File(content) => Some(content),
            Node::Directory(_) | Node::Missing { .. } => None,
        }
    }

    /// Names of the files and directories at the root.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.root.nodes.keys().map(String::as_str)
    }

    pub(crate) fn put(&mut self, path: &str, node: Node<'a>) -> Result<(), Error> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        check_name(path, name)?;
        let directory = self.directory(parent, path)?;
        directory.nodes.insert(name.to_owned(), node);
        Ok(())
    }

    /// The directory at `at`, made if needed; `path` is what it is needed for.
    pub(crate) fn directory(&mut self, at: &str, path: &str) -> Result<&mut Directory<'a>, Error> {
        let mut directory = &mut self.root;
        if at.is_empty() {
            return Ok(directory);
        }
        for (depth, name) in at.split('/').enumerate() {
            check_name(path, name)?;
            if depth >= usize::from(limits::DEPTH) {
                return Err(refused(path, "it is nested deeper than 8 levels"));
            }
            let made = || Node::Directory(Directory::default());
            let node = directory.nodes.entry(name.to_owned()).or_insert_with(made);
            let Node::Directory(inner) = node else {
                return Err(refused(path, "a file is where its directory should be"));
            };
            directory = inner;
        }
        Ok(directory)
    }

    fn get(&self, path: &str) -> Option<&Node<'a>> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory = &self.root;
        for name in parent.split('/').filter(|name| !name.is_empty()) {
            let Node::Directory(inner) = directory.nodes.get(name)? else {
                return None;
            };
            directory = inner;
        }
        directory.nodes.get(name)
    }
}

impl Content<'_> {
    pub(crate) fn size(&self, path: &str) -> Result<u64, Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(host) => {
                let metadata = fs::metadata(host).map_err(Error::io(host.display().to_string()))?;
                Ok(metadata.len())
            }
            Self::Part { extent, source, .. } => {
                let length = source.size().map_err(Error::io(path))?;
                extent.within(length, path)?;
                Ok(extent.size)
            }
        }
    }

    /// Refuses a part of another package that is not what was signed there.
    pub(crate) fn expect(&self, path: &str, got: Hash) -> Result<(), Error> {
        match self {
            Self::Part { extent, hash, .. } if *hash != got => Err(Error::FileHash {
                path: path.to_owned(),
                position: extent.position,
            }),
            Self::Bytes(_) | Self::File(_) | Self::Part { .. } => Ok(()),
        }
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Read + '_>, Error> {
        Ok(match self {
            Self::Bytes(bytes) => Box::new(bytes.as_slice()),
            Self::File(host) => {
                let file = File::open(host).map_err(Error::io(host.display().to_string()))?;
                Box::new(file)
            }
            Self::Part { source, extent, .. } => Box::new(Part {
                source: *source,
                rest: *extent,
            }),
        })
    }
}

/// Reads a part of a source from front to back.
struct Part<'a> {
    source: &'a dyn ReadAt,
    rest: Extent,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.rest.size.min(buffer.len() as u64);
        self.source
            .read_exact_at(&mut buffer[..count as usize], self.rest.position)?;
        self.rest.position += count;
        self.rest.size -= count;
        Ok(count as usize)
    }
}

fn check_name(path: &str, name: &str) -> Result<(), Error> {
    toc::name_problem(name).map_or(Ok(()), |problem| Err(refused(path, problem)))
}

fn refused(path: &str, problem: &'static str) -> Error {
    let path = path.to_owned();
    Error::Name { path, problem }
}
