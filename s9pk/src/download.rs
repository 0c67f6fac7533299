//! Fetching a whole package to a file: verified on the way, and continued where it was cut.

mod journal;
mod progress;
mod store;

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub use self::progress::Progress;
use self::{progress::Meter, store::Store};
use crate::{
    archive::Archive,
    error::Error,
    hash::Hash,
    http::{FetchError, GAP, Keep, LEAD, Origin, Settings, Url, read_through},
    limits,
    sign::Commitment,
    source::{Extent, ReadAt},
    toc::Kind,
    tree::Tree,
};

/// A package to be fetched. The file appears once all of it is verified and durable; until then
/// there are `FILE.part` and `FILE.part.journal` beside it, from which the next call goes on.
#[derive(Clone, Debug)]
pub struct Download {
    /// Where it is, most preferred first.
    pub urls: Vec<Url>,
    /// The file to make.
    pub target: PathBuf,
    /// The root that it must have, if that is known.
    pub expected: Option<Hash>,
    /// Whom to trust, and how long to wait.
    pub settings: Settings,
}

/// What a download came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the package's signer signed.
    pub commitment: Commitment,
    /// The file's length in bytes.
    pub length: u64,
    /// Bytes received for it by this call, without headers.
    pub received: u64,
    /// Requests made by this call.
    pub requests: u64,
}

/// Why a package could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// It did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What came is no sound package.
    #[error(transparent)]
    Package(Error),
    /// The file can't be written.
    #[error("{}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Download {
    /// Fetches what is missing, and tells how that is getting on.
    ///
    /// # Errors
    /// When no server has it, it is damaged everywhere, or the disk fails. What was fetched stays,
    /// unless it is of no use.
    pub fn run(&self, progress: &mut dyn FnMut(&Progress)) -> Result<Outcome, DownloadError> {
        let mut begun = Store::resume(&self.target).map_err(self.disk())?;
        let mut urls = self.urls.clone();
        let mut may_restart = self.expected.is_none();
        let (mut received, mut requests) = (0, 0);
        loop {
            let origin = Origin::new(&urls, &self.settings)?;
            let resumed = begun.is_some();
            let job = match begun.take() {
                Some(store) => Job::new(origin, store),
                None => self.begin(origin)?,
            };
            let ended = self.complete(&job, resumed, progress);
            let Parts { origin, mut store } = job.into_parts();
            received += origin.received();
            requests += origin.requests();
            let error = match ended {
                Ok(commitment) => {
                    let length = store.length();
                    store.finish().map_err(self.disk())?;
                    return Ok(Outcome {
                        commitment,
                        length,
                        received,
                        requests,
                    });
                }
                Err(error) => error,
            };
            let changed = matches!(&error, DownloadError::Fetch(error) if error.is_change());
            let unsound = matches!(error, DownloadError::Package(_));
            if !changed && !unsound {
                // The error says what to do; a failed sync only means that more is fetched again.
                let _ = store.barrier();
                return Err(error);
            }
            if !resumed && changed && !std::mem::take(&mut may_restart) {
                return Err(error);
            }
            store.discard().map_err(self.disk())?;
            if !resumed && unsound {
                // What this server has is no package; the next may have one.
                urls.remove(origin.server());
                if urls.is_empty() {
                    return Err(error);
                }
            }
        }
    }

    fn begin(&self, mut origin: Origin) -> Result<Job, DownloadError> {
        let length = origin.learn(LEAD)?;
        let mut store = Store::create(&self.target, length).map_err(self.disk())?;
        let mut put = |position, bytes: &[u8]| store.put(position, bytes);
        let begun = match length {
            Some(length) => origin.fetch(0..length.min(LEAD), &mut put),
            None => origin.fetch_all(&mut put).map(drop),
        };
        if let Err(error) = begun {
            // The error says what to do; a failed sync only means that more is fetched again.
            let _ = store.barrier();
            return Err(error.into());
        }
        Ok(Job::new(origin, store))
    }

    /// Fetches tables and files; all of them are there afterwards.
    fn complete(
        &self,
        job: &Job,
        resumed: bool,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<Commitment, DownloadError> {
        if resumed {
            job.confirm()?;
        }
        let archive = Archive::open(job).map_err(DownloadError::from_archive)?;
        if let Some(wanted) = self.expected
            && wanted != archive.root_sighash()
        {
            let got = archive.root_sighash();
            return Err(DownloadError::Package(Error::WrongRoot { wanted, got }));
        }
        let mut parts = job.parts();
        parts.keep_tables(&archive).map_err(self.disk())?;
        let mut run = Run {
            files: files(archive.tree()),
            meter: Meter::new(parts.store.length(), Instant::now()),
            settings: &self.settings,
            progress,
            ahead: 0,
        };
        for index in 0..run.files.len() {
            run.file(&mut parts, index)?;
        }
        run.tell(&parts.store, parts.origin.received());
        Ok(archive.commitment())
    }

    fn disk(&self) -> impl Fn(io::Error) -> DownloadError {
        |source| DownloadError::Store {
            path: self.target.clone(),
            source,
        }
    }
}

impl DownloadError {
    /// What a package's reader says of bytes that did not come is what the fetching says of them.
    pub(crate) fn from_archive(error: Error) -> Self {
        match error {
            Error::Io { what, source } => match FetchError::from_io(source) {
                Ok(fetch) => Self::Fetch(fetch),
                Err(source) => Self::Package(Error::Io { what, source }),
            },
            error => Self::Package(error),
        }
    }
}

/// A package whose bytes are in a store, or come into it when they are read.
#[derive(Debug)]
struct Job(Mutex<Parts>);

#[derive(Debug)]
struct Parts {
    origin: Origin,
    store: Store,
}

impl Job {
    fn new(origin: Origin, store: Store) -> Self {
        Self(Mutex::new(Parts { origin, store }))
    }

    fn into_parts(self) -> Parts {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the servers still have the package that was begun.
    fn confirm(&self) -> Result<(), FetchError> {
        let Parts { origin, store } = &mut *self.parts();
        let mut header = [0; limits::HEADER_SIZE as usize];
        if store.until(0) >= limits::HEADER_SIZE {
            store.read(&mut header, 0).map_err(FetchError::Keep)?;
            return origin.resume(store.length(), &header);
        }
        // It was cut before it began.
        origin.learn(LEAD).map(drop)
    }
}

impl ReadAt for Job {
    fn size(&self) -> io::Result<u64> {
        Ok(self.parts().store.length())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Parts { origin, store } = &mut *self.parts();
        let length = store.length();
        read_through(origin, store, length, buffer, offset)
    }
}

impl Parts {
    /// Records that header, tables and manifest are what was signed: the archive is open.
    fn keep_tables(&mut self, archive: &Archive<&Job>) -> io::Result<()> {
        self.store.verified(0..limits::HEADER_SIZE)?;
        self.table(archive.header().root_toc)?;
        for (_, entry) in archive.tree().walk() {
            if let Kind::Directory { toc } = entry.kind {
                self.table(toc)?;
            }
        }
        self.store.barrier()
    }

    fn table(&mut self, toc: Extent) -> io::Result<()> {
        // The archive has read it at these offsets.
        self.store.verified(toc.position..toc.position + toc.size)
    }
}

/// A file of the package: where it lies, and what it must be.
#[derive(Debug)]
struct Wanted {
    path: String,
    position: u64,
    end: u64,
    hash: Hash,
}

/// All files, in the order in which they lie.
fn files(tree: &Tree) -> Vec<Wanted> {
    let mut files: Vec<_> = tree
        .walk()
        .filter_map(|(path, entry)| match entry.kind {
            Kind::File { position } => Some(Wanted {
                path,
                position,
                // An open archive has checked that it ends within the file.
                end: position + entry.size,
                hash: entry.hash,
            }),
            Kind::Missing | Kind::Directory { .. } => None,
        })
        .collect();
    files.sort_by_key(|file| (file.position, file.end));
    files
}

/// The fetching of all files.
struct Run<'a> {
    files: Vec<Wanted>,
    meter: Meter,
    settings: &'a Settings,
    progress: &'a mut dyn FnMut(&Progress),
    ahead: u64,
}

impl Run<'_> {
    /// Fetches and verifies a file, unless that was done.
    fn file(&mut self, parts: &mut Parts, index: usize) -> Result<(), FetchError> {
        let (range, hash) = (self.files[index].range(), self.files[index].hash);
        if !range.is_empty() && parts.store.is_verified(range.clone()) {
            return Ok(());
        }
        for attempt in 1.. {
            let fresh = parts.store.until(range.start) == range.start;
            let server = parts.origin.server();
            if self.bytes(parts, index)? == hash {
                break;
            }
            parts
                .store
                .forget(range.clone())
                .map_err(FetchError::Keep)?;
            // Only who sent all of it is to blame; what several sent is fetched from one.
            let blamed = fresh && parts.origin.server() == server;
            if blamed || attempt == ATTEMPTS {
                parts.origin.damaged(&self.files[index].path)?;
            }
        }
        parts.store.verified(range).map_err(FetchError::Keep)
    }

    /// The hash of a file, read as far as it is there, and fetched from there on.
    fn bytes(&mut self, parts: &mut Parts, index: usize) -> Result<Hash, FetchError> {
        let Range { start, end } = self.files[index].range();
        let mut hasher = blake3::Hasher::new();
        let from = parts.store.until(start).min(end);
        self.reread(&parts.store, start..from, &mut hasher)?;
        if end > self.ahead {
            self.ahead = self.foresee(&parts.store, index);
        }
        let Parts { origin, store } = parts;
        origin.look_ahead(self.ahead);
        let mut received = origin.received();
        origin.fetch(from..end, &mut |position, bytes| {
            store.put(position, bytes)?;
            hasher.update(bytes);
            received += bytes.len() as u64;
            if self.meter.is_due(Instant::now()) {
                self.tell(store, received);
            }
            Ok(())
        })?;
        Ok(hasher.finalize().into())
    }

    /// Hashes what an earlier process has fetched.
    fn reread(
        &self,
        store: &Store,
        range: Range<u64>,
        hasher: &mut blake3::Hasher,
    ) -> Result<(), FetchError> {
        let mut buffer =
            vec![0; (range.end - range.start).min(limits::COPY_BUFFER as u64) as usize];
        let mut at = range.start;
        while at < range.end {
            self.settings.cancel.check()?;
            let part = &mut buffer[..(range.end - at).min(limits::COPY_BUFFER as u64) as usize];
            store.read(part, at).map_err(FetchError::Keep)?;
            hasher.update(part);
            at += part.len() as u64;
        }
        Ok(())
    }

    /// How far one request may go: over files that follow each other and are not there yet.
    fn foresee(&self, store: &Store, index: usize) -> u64 {
        let mut ahead = self.files[index].end;
        for file in &self.files[index + 1..] {
            if file.position > ahead.saturating_add(GAP) {
                break;
            }
            if store.until(file.position) < file.end {
                ahead = file.end;
            }
        }
        ahead
    }

    fn tell(&mut self, store: &Store, received: u64) {
        let now = Instant::now();
        (self.progress)(&self.meter.read(now, store.done(), received));
    }
}

impl Wanted {
    fn range(&self) -> Range<u64> {
        self.position..self.end
    }
}

/// Times that a file with wrong bytes is fetched before its last sender is blamed anyway.
const ATTEMPTS: u32 = 3;
