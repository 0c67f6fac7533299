//! Where everything goes: places and order of tables and bodies, known before any is read.

use std::{
    collections::VecDeque,
    io::{Seek, SeekFrom, Write},
    ops::Range,
};

use super::{WRITING, copy, put};
use crate::{
    draft::{Content, Directory, Draft, Node},
    error::Error,
    hash::Hash,
    limits,
    source::Extent,
    toc::{self, Entry, Kind},
};

/// The order of a package's root table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// By name, as the packer writes new packages.
    #[default]
    Fresh,
    /// What is read first comes first, as it writes packages again that it had read.
    Rewritten,
}

/// Every entry with its place, parents before children, in the order of their bodies.
pub(super) struct Plan<'d, 'a> {
    places: Vec<Place<'d, 'a>>,
    end: u64,
}

struct Place<'d, 'a> {
    entry: Entry,
    path: String,
    content: Option<&'d Content<'a>>,
    max_size: Option<u64>,
    children: Range<usize>,
}

impl<'d, 'a> Plan<'d, 'a> {
    /// Breadth first: a table gives its entries their places as it is placed itself.
    pub(super) fn new(draft: &'d Draft<'a>) -> Result<Self, Error> {
        let mut places = vec![Place::directory(String::new(), String::new(), &draft.root)];
        let mut queue = VecDeque::from([(0, &draft.root)]);
        let mut end = limits::HEADER_SIZE;
        let mut tables = 0;
        while let Some((parent, directory)) = queue.pop_front() {
            let mut children = list(&places[parent].path, directory)?;
            let order = if parent == 0 {
                draft.order
            } else {
                Order::Fresh
            };
            children.sort_by(|(left, _), (right, _)| order.key(left).cmp(&order.key(right)));
            let size = toc::size(children.iter().map(|(place, _)| &place.entry));
            tables += size;
            check_table(&places[parent].path, size, tables, directory.max_size)?;
            if parent == 0 {
                places[0].set_place(&mut end, size);
            }
            let begin = places.len();
            for (mut place, directory) in children {
                let inner = directory
                    .map(|directory| list(&place.path, directory))
                    .transpose()?;
                let inner =
                    inner.map(|inner| toc::size(inner.iter().map(|(place, _)| &place.entry)));
                let size = inner.unwrap_or(place.entry.size);
                place.set_place(&mut end, size);
                queue.extend(directory.map(|directory| (places.len(), directory)));
                places.push(place);
            }
            places[parent].children = begin..places.len();
        }
        Ok(Self { places, end })
    }

    pub(super) fn copy_bodies<W: Write + Seek>(&mut self, out: &mut W) -> Result<(), Error> {
        let mut buffer = vec![0; limits::COPY_BUFFER];
        for place in &mut self.places {
            let (Kind::File { position }, Some(content)) = (place.entry.kind, place.content) else {
                continue;
            };
            out.seek(SeekFrom::Start(position))
                .map_err(Error::io(WRITING))?;
            place.entry.hash = copy(&place.path, content, place.entry.size, out, &mut buffer)?;
        }
        Ok(())
    }

    /// Hashes directories from the innermost out.
    pub(super) fn seal(&mut self) {
        for index in (0..self.places.len()).rev() {
            if !matches!(self.places[index].entry.kind, Kind::Directory { .. }) {
                continue;
            }
            let mut entries = self.entries(index);
            let full = toc::size(entries.iter());
            entries.sort_by(|left, right| left.name.cmp(&right.name));
            let hash = toc::sighash(&entries);
            let place = &mut self.places[index];
            place.entry.hash = hash;
            place.entry.size = place.max_size.unwrap_or(full);
        }
    }

    pub(super) fn write_tables<W: Write + Seek>(&self, out: &mut W) -> Result<(), Error> {
        for index in 0..self.places.len() {
            if let Kind::Directory { toc: extent } = self.places[index].entry.kind {
                put(
                    out,
                    extent.position,
                    &toc::encode(self.entries(index).iter()),
                )?;
            }
        }
        Ok(())
    }

    /// The root directory, once it is sealed.
    pub(super) fn root(&self) -> &Entry {
        &self.places[0].entry
    }

    /// The length of the package in bytes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    fn entries(&self, index: usize) -> Vec<Entry> {
        let children = self.places[index].children.clone();
        self.places[children]
            .iter()
            .map(|place| place.entry.clone())
            .collect()
    }
}

impl<'d, 'a> Place<'d, 'a> {
    fn directory(name: String, path: String, directory: &'d Directory<'a>) -> Self {
        let kind = Kind::Directory {
            toc: Extent {
                position: 0,
                size: 0,
            },
        };
        let mut place = Self::new(name, path, kind, UNKNOWN, 0);
        place.max_size = directory.max_size;
        place
    }

    fn new(name: String, path: String, kind: Kind, hash: Hash, size: u64) -> Self {
        Self {
            entry: Entry {
                name,
                hash,
                size,
                kind,
            },
            path,
            content: None,
            max_size: None,
            children: 0..0,
        }
    }

    /// Takes the next `size` bytes of the file.
    fn set_place(&mut self, end: &mut u64, size: u64) {
        match &mut self.entry.kind {
            Kind::Missing => return,
            Kind::File { position } => *position = *end,
            Kind::Directory { toc } => {
                *toc = Extent {
                    position: *end,
                    size,
                }
            }
        }
        // Too long for a file in any case: writing says so.
        *end = end.saturating_add(size);
    }
}

impl Order {
    /// Directories, then files, then what was left out; in each, by priority and name.
    fn key<'e>(self, place: &'e Place<'_, '_>) -> (u8, usize, &'e str) {
        let entry = &place.entry;
        let group = match entry.kind {
            Kind::Directory { .. } => 0,
            Kind::File { .. } => 1,
            Kind::Missing => 2,
        };
        let prioritised = self == Self::Rewritten && group < 2;
        let priority = if prioritised {
            priority(&entry.name)
        } else {
            0
        };
        (group, priority, &entry.name)
    }
}

type Listed<'d, 'a> = Vec<(Place<'d, 'a>, Option<&'d Directory<'a>>)>;

fn list<'d, 'a>(path: &str, directory: &'d Directory<'a>) -> Result<Listed<'d, 'a>, Error> {
    let nodes = directory.nodes.iter();
    nodes
        .map(|(name, node)| {
            let path = match path {
                "" => name.clone(),
                _ => format!("{path}/{name}"),
            };
            let name = name.clone();
            Ok(match node {
                Node::Directory(inner) => (Place::directory(name, path, inner), Some(inner)),
                Node::Missing { hash, size } => {
                    (Place::new(name, path, Kind::Missing, *hash, *size), None)
                }
                Node::File(content) => {
                    let size = content.size(&path)?;
                    let kind = Kind::File { position: 0 };
                    let mut place = Place::new(name, path, kind, UNKNOWN, size);
                    place.content = Some(content);
                    (place, None)
                }
            })
        })
        .collect()
}

fn check_table(path: &str, size: u64, all: u64, signed: Option<u64>) -> Result<(), Error> {
    if let Some(limit) = signed.filter(|limit| size > *limit) {
        return Err(Error::TocTooLarge {
            path: path.to_owned(),
            position: 0,
            size,
            limit,
            reason: "what was signed of the package; files can't be added to a filtered one",
        });
    }
    if size <= limits::TOC_SIZE && all <= limits::ALL_TOCS_SIZE {
        return Ok(());
    }
    Err(Error::TocTooLarge {
        path: path.to_owned(),
        position: 0,
        size,
        limit: limits::TOC_SIZE,
        reason: "the limit for one table; pack fewer files, or put them into an image",
    })
}

/// What readers want first.
fn priority(name: &str) -> usize {
    let known = |known: &&str| match *known {
        "icon" => name.rsplit_once('.').map_or(name, |(stem, _)| stem) == "icon",
        known => name == known,
    };
    PRIORITY.iter().position(known).unwrap_or(PRIORITY.len())
}

const PRIORITY: [&str; 8] = [
    "manifest.json",
    "icon",
    "LICENSE.md",
    "instructions.md",
    "dependencies",
    "javascript.squashfs",
    "assets.squashfs",
    "images",
];

/// Stands where a hash is not known yet.
const UNKNOWN: Hash = Hash::ZERO;
