//! The log's files: `<unit>.log` and its predecessors `.1` and `.2`, bounded one by one and in all.
//!
//! All calls here may hang with the disk; only the store's own thread makes them.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use supervise::{log_query::LogLine, unit::UnitName};

use super::record;

/// How much the files may hold, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// A file is replaced by a new one before it gets larger.
    pub(crate) file: u64,
    /// The oldest files go when all of them together are larger.
    pub(crate) total: u64,
}

/// An open directory of log files.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    boot: String,
    bounds: Bounds,
    open: HashMap<UnitName, LogFile>,
}

impl Directory {
    /// Opens it. `boot` tells this boot from others in the files.
    ///
    /// # Errors
    /// It is not there or may not be written.
    pub(crate) fn open(path: &Path, boot: &str, bounds: Bounds) -> io::Result<Self> {
        let directory = Self {
            path: path.to_owned(),
            boot: boot.to_owned(),
            bounds,
            open: HashMap::new(),
        };
        directory.shrink()?;
        Ok(directory)
    }

    /// The last lines of each unit's files, oldest first; unreadable ones are left out.
    ///
    /// # Errors
    /// The directory can't be read.
    pub(crate) fn tails(&self) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let unit = name
                .to_str()
                .and_then(|name| name.strip_suffix(".log")?.parse().ok());
            let Some(unit) = unit else { continue };
            let Ok(text) = self.tail(&unit) else { continue };
            lines.extend(
                text.lines()
                    .filter_map(|text| record::read(text, &unit, &self.boot)),
            );
        }
        lines.sort_by_key(|line| match line.earlier_boot {
            true => (0, line.unix_ms.unwrap_or(0), line.at),
            false => (1, 0, line.at),
        });
        Ok(lines)
    }

    /// Adds a line to its unit's file, replacing the file first if it is full.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub(crate) fn write(&mut self, line: &LogLine) -> io::Result<()> {
        let record = record::write(line, &self.boot);
        let (limit, size) = (self.bounds.file, self.file(&line.unit)?.size);
        if size > 0 && size + record.len() as u64 > limit {
            self.rotate(&line.unit)?;
        }
        let file = self.file(&line.unit)?;
        file.size += record.len() as u64;
        let written = file.out.write_all(record.as_bytes());
        if written.is_err() {
            // What was written of it is ended when the file is opened again.
            self.open.remove(&line.unit);
        }
        written
    }

    fn file(&mut self, unit: &UnitName) -> io::Result<&mut LogFile> {
        if self.open.len() >= MAX_OPEN && !self.open.contains_key(unit) {
            self.open.clear();
        }
        let path = self.path_of(unit, 0);
        match self.open.entry(unit.clone()) {
            std::collections::hash_map::Entry::Occupied(file) => Ok(file.into_mut()),
            std::collections::hash_map::Entry::Vacant(place) => {
                Ok(place.insert(LogFile::open(&path)?))
            }
        }
    }

    fn rotate(&mut self, unit: &UnitName) -> io::Result<()> {
        // All of them: the oldest may be removed below.
        self.open.clear();
        for age in (0..OLD_FILES).rev() {
            match fs::rename(self.path_of(unit, age), self.path_of(unit, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.shrink()
    }

    /// Removes the oldest files until all together are within bounds.
    fn shrink(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_file() {
                files.push((meta.modified()?, meta.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if total <= self.bounds.total {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }

    /// The last bytes of a unit's files, from the beginning of a line on.
    fn tail(&self, unit: &UnitName) -> io::Result<String> {
        let mut text = tail_of(&self.path_of(unit, 0), TAIL)?;
        if let Some(room) = TAIL.checked_sub(text.len() as u64) {
            let older = tail_of(&self.path_of(unit, 1), room).unwrap_or_default();
            text.insert_str(0, &older);
        }
        Ok(text)
    }

    fn path_of(&self, unit: &UnitName, age: u32) -> PathBuf {
        self.path.join(match age {
            0 => format!("{unit}.log"),
            age => format!("{unit}.log.{age}"),
        })
    }
}

#[derive(Debug)]
struct LogFile {
    out: File,
    size: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let nofollow = OFlags::NOFOLLOW.bits() as i32;
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o640);
        let mut out = options.custom_flags(nofollow).open(path)?;
        let size = out.metadata()?.len();
        let mut last = [b'\n'];
        if size > 0 {
            out.read_exact_at(&mut last, size - 1)?;
        }
        // After a power cut the last line may be cut: it must not swallow the next one.
        if last != *b"\n" {
            out.write_all(b"\n")?;
        }
        Ok(Self { out, size })
    }
}

fn tail_of(path: &Path, bytes: u64) -> io::Result<String> {
    let nofollow = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nofollow)
        .open(path)?;
    let skip = file.metadata()?.len().saturating_sub(bytes);
    file.seek(SeekFrom::Start(skip))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    Ok(match text.split_once('\n') {
        Some((_, whole_lines)) if skip > 0 => whole_lines.to_owned(),
        _ => text.into_owned(),
    })
}

/// Predecessors kept of each file.
const OLD_FILES: u32 = 2;
/// Of each unit's files, in bytes: some hundred lines.
const TAIL: u64 = 64 * 1024;
/// Well below the descriptors a process may have.
const MAX_OPEN: usize = 128;

#[cfg(test)]
mod tests;
