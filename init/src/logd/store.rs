//! The way of lines to the disk: a bounded queue, and the one thread that may hang.
//!
//! The main thread only ever swaps what is behind a lock that nobody holds while working. When the
//! disk is slow or hangs, lines beyond the bound are counted, and the count is written when it is
//! back.

use std::{
    collections::VecDeque,
    mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::event::EventfdFlags;
use supervise::log_query::LogLine;

use super::{ring::cost, writer};

/// The main thread's side.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
}

/// What comes back from the disk.
#[derive(Debug)]
pub(crate) enum News {
    /// The last lines of the files, oldest first. Once, after the first opening.
    Replayed(Vec<LogLine>),
    /// Something to tell the owner, as a sentence.
    Problem(String),
}

impl Store {
    /// Starts the thread; the directory is not touched before [`Store::open`].
    ///
    /// # Errors
    /// The system has no room for a descriptor or a thread.
    pub(crate) fn start(path: PathBuf, boot: String) -> std::io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            wake,
            inbox: Mutex::default(),
            work: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("files".into())
            .spawn(move || writer::run(&theirs, &path, &boot))?;
        Ok(Self { shared })
    }

    /// The data file system is there: read what the files have, and take lines.
    pub(crate) fn open(&self) {
        self.shared.set_open(true);
    }

    /// The data file system is going, or gone: write what is queued if possible, close the files.
    pub(crate) fn close(&self) {
        self.shared.set_open(false);
    }

    /// Whether lines are taken.
    pub(crate) fn is_open(&self) -> bool {
        self.shared.inbox().open
    }

    /// Queues lines, or counts them when the disk is too far behind.
    pub(crate) fn push(&self, lines: &[Arc<LogLine>]) {
        let mut inbox = self.shared.inbox();
        for line in lines {
            if inbox.bytes + cost(line) > MAX_QUEUE {
                inbox.lost += 1;
            } else {
                inbox.bytes += cost(line);
                inbox.lines.push_back(Arc::clone(line));
            }
        }
        drop(inbox);
        self.shared.work.notify_one();
    }

    /// Counts lines that were lost before they could be queued.
    pub(crate) fn count_lost(&self, lines: u64) {
        self.shared.inbox().lost += lines;
    }

    /// What has come back since the last time. The store's descriptor is readable when there is
    /// something.
    pub(crate) fn news(&self) -> Vec<News> {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        mem::take(&mut self.shared.inbox().news)
    }

    /// Closes the files, and waits for that no longer than `wait`. Whether it was done in time.
    pub(crate) fn end(&self, wait: Duration) -> bool {
        self.close();
        let closing = |inbox: &mut Inbox| !inbox.idle;
        let inbox = self.shared.inbox();
        let waited = self.shared.work.wait_timeout_while(inbox, wait, closing);
        waited.is_ok_and(|(inbox, _)| inbox.idle)
    }
}

impl AsFd for Store {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

/// What the two threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    /// Signalled in both directions: there is work, there is none left.
    work: Condvar,
    wake: OwnedFd,
}

/// What there is to do for the store's thread.
#[derive(Debug)]
pub(crate) struct Work {
    /// Whether the files are to be open after the lines are written.
    pub(crate) open: bool,
    /// Lines to write.
    pub(crate) lines: VecDeque<Arc<LogLine>>,
    /// Lines that were lost before them.
    pub(crate) lost: u64,
}

impl Shared {
    /// Waits until there is something to do; `is_open` is whether the files are open now.
    pub(crate) fn next_work(&self, is_open: bool) -> Work {
        let mut inbox = self.inbox();
        while inbox.open == is_open && (!is_open || inbox.lines.is_empty()) {
            inbox.idle = true;
            self.work.notify_all();
            inbox = self
                .work
                .wait(inbox)
                .unwrap_or_else(PoisonError::into_inner);
        }
        inbox.idle = false;
        inbox.bytes = 0;
        let (lines, lost) = (mem::take(&mut inbox.lines), mem::take(&mut inbox.lost));
        Work {
            open: inbox.open,
            lines,
            lost,
        }
    }

    /// Tells the main thread.
    pub(crate) fn tell(&self, news: News) {
        let mut inbox = self.inbox();
        // The main thread takes them at once; if it does not, nobody is there to tell.
        if inbox.news.len() < MAX_NEWS {
            inbox.news.push(news);
        }
        drop(inbox);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn set_open(&self, open: bool) {
        let mut inbox = self.inbox();
        inbox.open = open;
        inbox.idle = false;
        drop(inbox);
        self.work.notify_one();
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Inbox {
    open: bool,
    idle: bool,
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    lost: u64,
    news: Vec<News>,
}

/// In bytes: what the ring holds and a little more, so that all of it fits after a late mount.
const MAX_QUEUE: usize = 5 << 20;
const MAX_NEWS: usize = 64;
