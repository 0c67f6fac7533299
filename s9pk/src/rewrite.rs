//! Writing a package again: filtered to one architecture under its own signature, or signed anew.
//!
//! Both carry the signed sizes over and copy bodies from the old file, verifying each on the way.

use std::{
    collections::BTreeSet,
    io::{Seek, Write},
};

use crate::{
    archive::Archive,
    draft::{Content, Directory, Draft, Node},
    error::Error,
    key::Key,
    sign::Commitment,
    source::{Extent, ReadAt},
    toc::Kind,
    writer::{self, Order},
};

/// Writes what `arch` needs of the package and leaves out the rest. Signature and root stay valid.
///
/// # Errors
/// When the package is not complete for `arch`, a file in it is damaged, or writing fails.
pub fn select<R: ReadAt, W: Write + Seek>(
    archive: &Archive<R>,
    arch: &str,
    out: &mut W,
) -> Result<Commitment, Error> {
    let needed = archive.validate(Some(arch))?.needed;
    let draft = draft(archive, |path| is_needed(&needed, path))?;
    let header = archive.header();
    let keep = |_: &Commitment| Ok((header.signer, header.signature));
    writer::write(&draft, keep, out)
}

/// Writes the package signed with another key. Its content and root stay the same.
pub fn resign<R: ReadAt, W: Write + Seek>(
    archive: &Archive<R>,
    key: &Key,
    out: &mut W,
) -> Result<Commitment, Error> {
    let draft = draft(archive, |_| true)?;
    let sign = |commitment: &Commitment| Ok((key.public(), commitment.sign(key)?));
    writer::write(&draft, sign, out)
}

/// The package's tree with what is kept, its bodies to be copied from it.
fn draft<R: ReadAt>(archive: &Archive<R>, keep: impl Fn(&str) -> bool) -> Result<Draft<'_>, Error> {
    let mut draft = Draft {
        order: Order::Rewritten,
        ..Draft::default()
    };
    draft.root.max_size = Some(archive.commitment().root_max_size);
    let mut left_out: Vec<String> = Vec::new();
    for (path, entry) in archive.tree().walk() {
        if left_out.iter().any(|parent| is_within(&path, parent)) {
            continue;
        }
        let (hash, size) = (entry.hash, entry.size);
        let node = match entry.kind {
            Kind::File { position } if keep(&path) => Node::File(Content::Part {
                source: archive.source(),
                extent: Extent { position, size },
                hash,
            }),
            Kind::Directory { .. } if keep(&path) => Node::Directory(Directory {
                max_size: Some(size),
                ..Directory::default()
            }),
            Kind::Directory { .. } => {
                left_out.push(path.clone());
                Node::Missing { hash, size }
            }
            Kind::Missing | Kind::File { .. } => Node::Missing { hash, size },
        };
        draft.put(&path, node)?;
    }
    Ok(draft)
}

/// Whether a path is needed itself, is in a needed directory, or is on the way to something needed.
fn is_needed(needed: &BTreeSet<String>, path: &str) -> bool {
    needed
        .iter()
        .any(|other| path == other || is_within(path, other) || is_within(other, path))
}

fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}
