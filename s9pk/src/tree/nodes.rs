//! The nodes of a tree in blocks: growing never moves them, so that the most memory they ever take
//! is what they take at the end. A vector of them would take three times that while it grows.

use std::ops::{Index, IndexMut, Range};

use crate::toc::Entry;

/// An entry and its place in the tree.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) entry: Entry,
    pub(super) parent: usize,
    pub(super) depth: u16,
    pub(super) children: Range<usize>,
}

/// All nodes of a tree, by index.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    /// All but the last are full.
    blocks: Vec<Vec<Node>>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        let last = self.blocks.last().map_or(0, Vec::len);
        self.blocks.len().saturating_sub(1) * BLOCK + last
    }

    pub(super) fn get(&self, index: usize) -> Option<&Node> {
        self.blocks.get(index / BLOCK)?.get(index % BLOCK)
    }
}

impl Extend<Node> for Nodes {
    fn extend<I: IntoIterator<Item = Node>>(&mut self, nodes: I) {
        for node in nodes {
            match self.blocks.last_mut() {
                Some(block) if block.len() < BLOCK => block.push(node),
                _ => self.blocks.push(vec![node]),
            }
        }
    }
}

impl FromIterator<Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        let mut all = Self::default();
        all.extend(nodes);
        all
    }
}

impl Index<usize> for Nodes {
    type Output = Node;

    fn index(&self, index: usize) -> &Node {
        &self.blocks[index / BLOCK][index % BLOCK]
    }
}

impl IndexMut<usize> for Nodes {
    fn index_mut(&mut self, index: usize) -> &mut Node {
        &mut self.blocks[index / BLOCK][index % BLOCK]
    }
}

/// Nodes of a block: half a megabyte of memory, and more than a real package has.
const BLOCK: usize = 4096;
