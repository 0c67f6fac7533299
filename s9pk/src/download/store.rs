//! The file that a package is fetched into, bytes at their places, with its journal beside it.
//!
//! Power may go at any moment: bytes are made durable before the record that speaks of them, and
//! an old journal is gone before a new file appears.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, ErrorKind, Write},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::journal::{self, Record, State};
use crate::http::Keep;

/// A package that is being fetched.
#[derive(Debug)]
pub(super) struct Store {
    data: File,
    journal: File,
    place: Place,
    state: State,
    /// Whether the length is not known before the end.
    grows: bool,
    /// Written and not in the journal yet.
    unrecorded: Range<u64>,
    /// Bytes written since the last barrier.
    unsynced: u64,
    /// Bytes of the journal that are durable.
    durable: u64,
}

/// The paths beside the file to be made.
#[derive(Clone, Debug)]
struct Place {
    target: PathBuf,
    data: PathBuf,
    journal: PathBuf,
}

impl Store {
    /// Goes on with the download to `target` that was interrupted, if there is one.
    ///
    /// # Errors
    /// When another process is at it, or the disk fails.
    pub(super) fn resume(target: &Path) -> io::Result<Option<Self>> {
        let place = Place::new(target);
        let Some((data, mut journal)) = place.open()? else {
            return Ok(None);
        };
        lock(&data)?;
        let boot = boot();
        let replayed = journal::replay(&mut BufReader::new(&mut journal), &boot)?;
        let metadata = data.metadata()?;
        let ours = |state: &State| (state.length, state.inode) == (metadata.len(), metadata.ino());
        let Some((state, end)) = replayed.filter(|(state, _)| ours(state)) else {
            return Ok(None);
        };
        // What does not count may not be followed by what does.
        journal.set_len(end)?;
        let mut store = Self::new(data, journal, place, state);
        store.append(&Record::Session { boot })?;
        store.barrier()?;
        Ok(Some(store))
    }

    /// Begins a download of `length` bytes to `target`; an older one there is given up. Without a
    /// length the file grows, and can't be resumed.
    ///
    /// # Errors
    /// When another process is at it, or the disk fails.
    pub(super) fn create(target: &Path, length: Option<u64>) -> io::Result<Self> {
        let place = Place::new(target);
        if let Some((data, _)) = place.open()? {
            lock(&data)?;
        }
        place.remove()?;
        let mut options = OpenOptions::new();
        options.read(true).create_new(true);
        let data = options.clone().write(true).open(&place.data)?;
        lock(&data)?;
        let (length, grows) = (length.unwrap_or(0), length.is_none());
        data.set_len(length)?;
        data.sync_all()?;
        let journal = options.append(true).open(&place.journal)?;
        let state = State {
            length,
            inode: data.metadata()?.ino(),
            ..State::default()
        };
        let begin = Record::Begin {
            format: journal::FORMAT,
            length,
            inode: state.inode,
        };
        let mut store = Self::new(data, journal, place, state);
        store.grows = grows;
        store.append(&begin)?;
        store.append(&Record::Session { boot: boot() })?;
        store.barrier()?;
        store.place.sync()?;
        Ok(store)
    }

    /// The package's length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.state.length
    }

    /// How many bytes are there.
    pub(super) fn done(&self) -> u64 {
        self.state.present.size()
    }

    /// Whether all bytes of a range were verified.
    pub(super) fn is_verified(&self, range: Range<u64>) -> bool {
        self.state.verified.holds(range)
    }

    /// Records that a range is what was signed.
    pub(super) fn verified(&mut self, range: Range<u64>) -> io::Result<()> {
        self.record(Record::Verified(range.start, range.end))
    }

    /// Records that a range is not what was signed.
    pub(super) fn forget(&mut self, range: Range<u64>) -> io::Result<()> {
        self.record(Record::Dropped(range.start, range.end))
    }

    /// Makes all that was written and recorded durable.
    pub(super) fn barrier(&mut self) -> io::Result<()> {
        let synced = self.sync();
        if synced.is_err() {
            // After a failed sync nobody knows what reached the disk: only what was before counts.
            let _ = self.journal.set_len(self.durable);
        }
        synced
    }

    /// Puts the whole package in place, durably, and the journal away.
    ///
    /// # Errors
    /// When the disk fails; the download can be resumed then.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.barrier()?;
        fs::rename(&self.place.data, &self.place.target)?;
        self.place.sync()?;
        fs::remove_file(&self.place.journal)?;
        self.place.sync()
    }

    /// Gives the download up.
    pub(super) fn discard(self) -> io::Result<()> {
        self.place.remove()
    }

    fn new(data: File, journal: File, place: Place, state: State) -> Self {
        Self {
            data,
            journal,
            place,
            state,
            grows: false,
            unrecorded: 0..0,
            unsynced: 0,
            durable: 0,
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.data.sync_data()?;
        self.append(&Record::Synced)?;
        self.journal.sync_data()?;
        self.durable = self.journal.metadata()?.len();
        self.unsynced = 0;
        Ok(())
    }

    fn record(&mut self, record: Record) -> io::Result<()> {
        self.flush()?;
        self.state.apply(&record);
        self.append(&record)
    }

    /// Records what was written.
    fn flush(&mut self) -> io::Result<()> {
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        let Range { start, end } = std::mem::take(&mut self.unrecorded);
        self.append(&Record::Present(start, end))
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        self.journal.write_all(&journal::encode(record)?)
    }
}

impl Keep for Store {
    fn until(&self, position: u64) -> u64 {
        self.state.present.until(position)
    }

    fn put(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let end = position + bytes.len() as u64;
        if self.grows {
            self.state.length = self.state.length.max(end);
        } else if end > self.state.length {
            // The journal knows the file by its length.
            return Err(ErrorKind::InvalidInput.into());
        }
        self.data.write_all_at(bytes, position)?;
        self.state.present.add(position..end);
        if self.unrecorded.end != position {
            self.flush()?;
            self.unrecorded.start = position;
        }
        self.unrecorded.end = end;
        if end - self.unrecorded.start >= RECORDED {
            self.flush()?;
        }
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNCED {
            self.barrier()?;
        }
        Ok(())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.data, buffer, offset)
    }
}

impl Place {
    fn new(target: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = OsString::from(target);
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            target: target.to_owned(),
            data: beside(".part"),
            journal: beside(".part.journal"),
        }
    }

    /// Both files, if both are there.
    fn open(&self) -> io::Result<Option<(File, File)>> {
        let mut options = OpenOptions::new();
        let mut open = |path: &Path, append| {
            let opened = options.read(true).write(true).append(append).open(path);
            match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                opened => opened.map(Some),
            }
        };
        let data = open(&self.data, false)?;
        let journal = open(&self.journal, true)?;
        Ok(data.zip(journal))
    }

    /// Removes both, the journal first: it must never be beside another file.
    fn remove(&self) -> io::Result<()> {
        for path in [&self.journal, &self.data] {
            match fs::remove_file(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
            self.sync()?;
        }
        Ok(())
    }

    /// Makes the names durable.
    fn sync(&self) -> io::Result<()> {
        let folder = self.target.parent().filter(|it| *it != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Two processes would write over each other's bytes.
fn lock(data: &File) -> io::Result<()> {
    match data.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            ErrorKind::ResourceBusy,
            "another download to the same file is running",
        )),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The id of this boot of the machine, empty if there is none: then nothing survives.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Bytes written before they are recorded: what a killed process fetches again, at most.
const RECORDED: u64 = 64 << 10;
/// Bytes written before they are made durable: what a power loss costs, at most. On a card that
/// writes 20 MB/s it is a sync a second.
const SYNCED: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("s9pk-store-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn target(&self) -> PathBuf {
            self.0.join("a.s9pk")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
            let mut names: Vec<_> = entries.map(|it| name(it).into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_written_is_there_for_the_next_process() {
        let folder = Folder::new("next");
        let mut store = Store::create(&folder.target(), Some(200_000)).unwrap();
        store.put(0, &[1; 100_000]).unwrap();
        store.put(150_000, &[2; 10]).unwrap();
        store.verified(0..60_000).unwrap();
        drop(store);
        let mut store = Store::resume(&folder.target()).unwrap().unwrap();
        assert_eq!((store.length(), store.until(0)), (200_000, 100_000));
        assert!(store.is_verified(10..60_000) && !store.is_verified(0..60_001));
        assert_eq!(store.until(150_000), 150_010);
        let mut byte = [0];
        store.read(&mut byte, 150_009).unwrap();
        assert_eq!(byte, [2]);
        store.forget(0..60_000).unwrap();
        drop(store);
        let store = Store::resume(&folder.target()).unwrap().unwrap();
        assert_eq!((store.until(0), store.until(60_000)), (0, 100_000));
        assert_eq!(store.done(), 40_010);
    }

    #[test]
    fn a_finished_download_is_the_file_alone() {
        let folder = Folder::new("finished");
        let mut store = Store::create(&folder.target(), Some(5)).unwrap();
        store.put(0, b"hello").unwrap();
        assert!(store.put(5, b"!").is_err(), "beyond the end");
        assert_eq!(folder.names(), ["a.s9pk.part", "a.s9pk.part.journal"]);
        store.finish().unwrap();
        assert_eq!(folder.names(), ["a.s9pk"]);
        assert_eq!(fs::read(folder.target()).unwrap(), b"hello");
        assert!(Store::resume(&folder.target()).unwrap().is_none());
    }

    #[test]
    fn a_journal_of_another_file_counts_nothing() {
        let folder = Folder::new("other");
        let mut store = Store::create(&folder.target(), Some(5)).unwrap();
        store.put(0, b"hello").unwrap();
        store.verified(0..5).unwrap();
        drop(store);
        let part = folder.0.join("a.s9pk.part");
        // Made beside the old one, so that its inode is another.
        fs::write(folder.0.join("new"), "other").unwrap();
        fs::rename(folder.0.join("new"), &part).unwrap();
        assert!(Store::resume(&folder.target()).unwrap().is_none());
        // One that was cut is none either.
        drop(Store::create(&folder.target(), Some(5)).unwrap());
        fs::write(&part, "hell").unwrap();
        assert!(Store::resume(&folder.target()).unwrap().is_none());
        fs::remove_file(&part).unwrap();
        assert!(Store::resume(&folder.target()).unwrap().is_none());
    }

    #[test]
    fn two_processes_do_not_write_to_one_file() {
        let folder = Folder::new("two");
        let store = Store::create(&folder.target(), Some(5)).unwrap();
        let busy = Store::resume(&folder.target()).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
        assert!(Store::create(&folder.target(), Some(5)).is_err());
        drop(store);
        assert!(Store::resume(&folder.target()).unwrap().is_some());
    }

    #[test]
    fn a_barrier_comes_by_itself_and_is_all_that_counts_after_a_power_loss() {
        let folder = Folder::new("barrier");
        let mut store = Store::create(&folder.target(), Some(4 * SYNCED)).unwrap();
        let piece = vec![7; 1 << 20];
        for index in 0..20 {
            store.put(index << 20, &piece).unwrap();
        }
        drop(store);
        let journal = File::open(folder.0.join("a.s9pk.part.journal")).unwrap();
        let replay = |boot: &str| journal::replay(&mut BufReader::new(&journal), boot);
        let (state, _) = replay("another boot").unwrap().unwrap();
        assert_eq!(state.present.size(), SYNCED);
    }
}
