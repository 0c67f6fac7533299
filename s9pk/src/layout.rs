//! Whether the parts of a file lie side by side, as packers write them: nothing over another part,
//! nothing between or behind them that no entry owns.

use crate::{
    error::Error,
    limits,
    profile::{Deviation, Profile},
    source::Extent,
    toc::Kind,
    tree::Tree,
};

/// Checks the places of header, tables and bodies in a file of `length` bytes.
pub(crate) fn check(tree: &Tree, length: u64, profile: &mut Profile) -> Result<(), Error> {
    let mut parts = parts(tree, length, profile)?;
    parts.sort_unstable_by_key(|(extent, _)| (extent.position, extent.size));
    let mut end = limits::HEADER_SIZE;
    let mut owner = None;
    for (extent, index) in parts {
        if extent.position < end {
            profile.deviates(Deviation::Overlap {
                path: tree.path(index),
                position: extent.position,
                other: owner.map_or_else(|| "the header".to_owned(), |index| tree.path(index)),
            })?;
        } else if extent.position > end {
            unclaimed(end, extent.position, profile)?;
        }
        // `parts` holds only what ends within the file.
        let part_end = extent.position + extent.size;
        if part_end > end {
            (end, owner) = (part_end, Some(index));
        }
    }
    if end < length {
        unclaimed(end, length, profile)?;
    }
    Ok(())
}

/// Everything that has bytes of its own and lies within the file.
fn parts(tree: &Tree, length: u64, profile: &mut Profile) -> Result<Vec<(Extent, usize)>, Error> {
    let mut parts = Vec::with_capacity(tree.len());
    for index in 0..tree.len() {
        let entry = tree.entry(index);
        let size = entry.size;
        let extent = match entry.kind {
            Kind::Missing => continue,
            Kind::File { position } => Extent { position, size },
            Kind::Directory { toc } => toc,
        };
        if extent.end().is_none_or(|end| end > length) {
            profile.deviates(Deviation::BeyondEnd {
                path: tree.path(index),
                position: extent.position,
                size: extent.size,
            })?;
        } else if extent.size > 0 {
            parts.push((extent, index));
        }
    }
    Ok(parts)
}

fn unclaimed(position: u64, end: u64, profile: &mut Profile) -> Result<(), Error> {
    let count = end - position;
    profile.deviates(Deviation::Unclaimed { position, count })
}
