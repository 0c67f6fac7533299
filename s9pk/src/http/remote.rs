//! A package at its servers as a source of bytes: what is read is fetched, and little else.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    coverage::Coverage,
    http::{address::Url, client::Settings, error::FetchError, origin::Origin},
    source::{Extent, ReadAt},
};

/// A file at its servers. Small parts that were read once are kept in a temporary file, large ones
/// only pass through; from a server without ranges, all up to what is wanted is kept.
#[derive(Debug)]
pub struct Remote {
    length: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    origin: Origin,
    kept: Kept,
    passing: Range<u64>,
}

#[derive(Debug)]
struct Kept {
    file: File,
    coverage: Coverage,
}

impl Remote {
    /// Asks the servers in order for the file's beginning, until one has it.
    ///
    /// # Errors
    /// When no server has it, or there is no place for a temporary file.
    pub fn open(urls: &[Url], settings: &Settings) -> Result<Self, FetchError> {
        let mut inner = Inner {
            origin: Origin::new(urls, settings)?,
            kept: Kept {
                file: temporary().map_err(FetchError::Keep)?,
                coverage: Coverage::default(),
            },
            passing: 0..0,
        };
        let kept = &mut inner.kept;
        let mut put = |position, bytes: &[u8]| kept.put(position, bytes);
        let length = match inner.origin.learn(LEAD)? {
            Some(length) => {
                inner.origin.fetch(0..length.min(LEAD), &mut put)?;
                length
            }
            None => inner.origin.fetch_all(&mut put)?,
        };
        Ok(Self {
            length,
            inner: Mutex::new(inner),
        })
    }

    /// Bytes received up to now, without headers.
    pub fn received(&self) -> u64 {
        self.lock().origin.received()
    }

    /// Requests made up to now.
    pub fn requests(&self) -> u64 {
        self.lock().origin.requests()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for Remote {
    fn size(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        let end = end.filter(|end| *end <= self.length);
        let end = end.ok_or(ErrorKind::UnexpectedEof)?;
        let mut inner = self.lock();
        let is_passing = inner.passing.start <= offset && end <= inner.passing.end;
        if is_passing && inner.kept.until(offset) < end {
            return inner.pass(buffer, offset);
        }
        let Inner { origin, kept, .. } = &mut *inner;
        read_through(origin, kept, self.length, buffer, offset)
    }

    fn advise(&self, extent: Extent) {
        let end = extent.end().unwrap_or(u64::MAX).min(self.length);
        if extent.size > KEPT_AT_MOST {
            self.lock().passing = extent.position..end;
        }
    }
}

impl Inner {
    /// Fetches without keeping: one request for all that was foretold.
    fn pass(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.origin.look_ahead(self.passing.end);
        let end = offset + buffer.len() as u64;
        self.origin.fetch(offset..end, &mut |position, bytes| {
            // The origin gives what was asked for, in order.
            let begin = (position - offset) as usize;
            buffer[begin..begin + bytes.len()].copy_from_slice(bytes);
            Ok(())
        })?;
        Ok(())
    }
}

/// Where fetched bytes are kept.
pub(crate) trait Keep {
    /// Where the bytes kept from `position` on end.
    fn until(&self, position: u64) -> u64;

    /// Keeps bytes at `position`.
    fn put(&mut self, position: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads bytes that are kept.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Keep for Kept {
    fn until(&self, position: u64) -> u64 {
        self.coverage.until(position)
    }

    fn put(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, position)?;
        self.coverage.add(position..position + bytes.len() as u64);
        Ok(())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

/// Reads from a file of `length` bytes: what is kept from there, the rest, and a bit more, from
/// its servers.
pub(crate) fn read_through(
    origin: &mut Origin,
    kept: &mut impl Keep,
    length: u64,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<()> {
    let end = offset.checked_add(buffer.len() as u64);
    let end = end.filter(|end| *end <= length);
    let end = end.ok_or(ErrorKind::UnexpectedEof)?;
    origin.look_ahead(0);
    loop {
        let from = kept.until(offset);
        if from >= end {
            return kept.read(buffer, offset);
        }
        let to = end.max(from.saturating_add(READ_AHEAD)).min(length);
        let from = origin.flows_from().unwrap_or(from).min(from);
        origin.fetch(from..to, &mut |position, bytes| kept.put(position, bytes))?;
    }
}

/// A file without a name, which ends with its last user.
fn temporary() -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = env::temp_dir().join(format!("pilot-{}-{count}.part", process::id()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Asked for at first: header and root table, and in most packages everything small.
pub(crate) const LEAD: u64 = 64 << 10;
/// Asked for at least, as the next small thing often follows.
const READ_AHEAD: u64 = 16 << 10;
/// Files up to this size are kept once they were read: manifest, icon and texts.
const KEPT_AT_MOST: u64 = 1 << 20;
