//! Where a package's bytes come from: anything that can be read at an offset.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError},
};

use crate::error::Error;

/// Where something lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of its first byte from the file's start.
    pub position: u64,
    /// Its length in bytes.
    pub size: u64,
}

impl Extent {
    /// The offset after its last byte; `None` if that does not fit 64 bits.
    pub fn end(&self) -> Option<u64> {
        self.position.checked_add(self.size)
    }

    /// Refuses what does not lie within a file of `length` bytes; `what` is named in the error.
    pub(crate) fn within(&self, length: u64, what: impl Into<String>) -> Result<(), Error> {
        match self.end() {
            Some(end) if end <= length => Ok(()),
            _ => Err(Error::Truncated {
                what: what.into(),
                position: self.position,
                size: self.size,
                length,
            }),
        }
    }
}

/// Bytes that can be read at any offset, by several readers at once.
pub trait ReadAt: Sync {
    /// How many bytes there are.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on; fewer are an error.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Foretells that all of `extent` is about to be read, front to back. What comes from afar is
    /// asked for at once then.
    fn advise(&self, extent: Extent) {
        let _ = extent;
    }
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn advise(&self, extent: Extent) {
        (**self).advise(extent);
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Box<R> {
    fn size(&self) -> io::Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn advise(&self, extent: Extent) {
        (**self).advise(extent);
    }
}

/// Anything that reads and seeks, one reader at a time.
#[derive(Debug)]
pub struct Seekable<T>(Mutex<T>);

impl<T: Read + Seek> Seekable<T> {
    /// Wraps `inner`; where it stands does not matter.
    pub fn new(inner: T) -> Self {
        Self(Mutex::new(inner))
    }
}

impl<T: Read + Seek + Send> ReadAt for Seekable<T> {
    fn size(&self) -> io::Result<u64> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seek(SeekFrom::End(0))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seek(SeekFrom::Start(offset))?;
        inner.read_exact(buffer)
    }
}
