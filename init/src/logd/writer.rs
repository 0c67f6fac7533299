//! The thread that writes the log's files. It may hang in any call to the disk.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use supervise::{log::Level, log_query::LogLine};

use super::{
    directory::{Bounds, Directory},
    store::{News, Shared, Work},
};

/// Does the store's work for ever.
pub(crate) fn run(shared: &Shared, path: &Path, boot: &str) {
    let mut writer = Writer::new(shared, path, boot);
    loop {
        let work = shared.next_work(writer.is_open);
        writer.work(&work);
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    path: &'a Path,
    boot: &'a str,
    /// Whether the files are meant to be open; after an error they are not, until the next try.
    is_open: bool,
    directory: Option<Directory>,
    replayed: bool,
    /// Lines that could not be written, not told of yet.
    lost: u64,
    complained: Option<Instant>,
}

impl<'a> Writer<'a> {
    fn new(shared: &'a Shared, path: &'a Path, boot: &'a str) -> Self {
        Self {
            shared,
            path,
            boot,
            is_open: false,
            directory: None,
            replayed: false,
            lost: 0,
            complained: None,
        }
    }

    fn work(&mut self, work: &Work) {
        self.lost += work.lost;
        if work.open && !self.is_open {
            self.attempt(Self::replay);
        }
        for line in &work.lines {
            if !self.attempt(|writer| writer.write(line)) {
                self.lost += 1;
            }
        }
        self.is_open = work.open;
        if !work.open {
            self.directory = None;
        }
    }

    fn replay(&mut self) -> io::Result<()> {
        if !self.replayed {
            let lines = self.directory()?.tails()?;
            self.replayed = true;
            self.shared.tell(News::Replayed(lines));
        }
        Ok(())
    }

    fn write(&mut self, line: &Arc<LogLine>) -> io::Result<()> {
        if self.lost > 0 {
            let text = format!(
                "({} lines of all units are missing: the disk was behind)",
                self.lost
            );
            let unit = line.unit.clone();
            let missing = LogLine {
                unit,
                level: Level::Warning,
                text,
                ..(**line).clone()
            };
            self.directory()?.write(&missing)?;
            self.lost = 0;
        }
        self.directory()?.write(line)
    }

    fn directory(&mut self) -> io::Result<&mut Directory> {
        if self.directory.is_none() {
            self.directory = Some(Directory::open(self.path, self.boot, BOUNDS)?);
        }
        // Just filled.
        self.directory
            .as_mut()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Whether it worked; if not, says so, but not for every line.
    fn attempt(&mut self, action: impl FnOnce(&mut Self) -> io::Result<()>) -> bool {
        let Err(error) = action(self) else {
            return true;
        };
        self.directory = None;
        if self
            .complained
            .is_none_or(|at| at.elapsed() > COMPLAIN_EVERY)
        {
            self.complained = Some(Instant::now());
            let path = self.path.display();
            let text =
                format!("lines can't be written to {path}: {error}; memory has the last ones");
            self.shared.tell(News::Problem(text));
        }
        false
    }
}

/// 64 MiB hold weeks of a quiet box; a file of 1 MiB is still opened by any editor.
const BOUNDS: Bounds = Bounds {
    file: 1 << 20,
    total: 64 << 20,
};
/// Often enough to be among the last lines that somebody looks at.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
