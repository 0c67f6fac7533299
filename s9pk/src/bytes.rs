//! A window of the file's bytes, read front to back; every refusal names the offset in the file.

use crate::{error::Error, hash::Hash};

/// Reads from a window that begins at a known offset of the file.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Cursor<'a> {
    /// Reads `window`, which begins at byte `offset` of the file.
    pub(crate) fn new(window: &'a [u8], offset: u64) -> Self {
        Self {
            rest: window,
            offset,
        }
    }

    /// The offset in the file of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> u64 {
        self.rest.len() as u64
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(Error::Toc {
                offset: self.offset,
                problem: "an entry goes on beyond the table's end",
            });
        };
        self.rest = rest;
        self.offset += count as u64;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    /// The next unsigned 64-bit number, big-endian.
    pub(crate) fn number(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// The next hash.
    pub(crate) fn hash(&mut self) -> Result<Hash, Error> {
        Ok(Hash::from(self.array()?))
    }
}
