//! What the kernel said meanwhile: a file system's errors say more than an errno.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
};

use rustix::fs::OFlags;

/// The kernel's messages from a moment on.
pub(super) struct Messages {
    log: Option<File>,
}

impl Messages {
    /// From now on. Without /dev/kmsg there will be none.
    pub(super) fn from_now() -> Self {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let log = File::options()
            .read(true)
            .custom_flags(flags)
            .open("/dev/kmsg")
            .ok();
        Self {
            log: log.and_then(|mut log| log.seek(SeekFrom::End(0)).ok().map(|_| log)),
        }
    }

    /// Those since then that hold `word`, the last few.
    pub(super) fn about(&mut self, word: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut record = vec![0; LONGEST_RECORD];
        let Some(log) = &mut self.log else {
            return found;
        };
        for _ in 0..MOST_RECORDS {
            match log.read(&mut record) {
                Ok(length) => {
                    found.extend(text(&record[..length]).filter(|text| text.contains(word)))
                }
                // Records were overwritten before they were read: those after them come next.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        let surplus = found.len().saturating_sub(MOST_TOLD);
        found.split_off(surplus)
    }
}

/// The text of `6,1234,5678,-;text\n KEY=value\n`.
fn text(record: &[u8]) -> Option<String> {
    let record = String::from_utf8_lossy(record);
    let (_, text) = record.split_once(';')?;
    Some(text.lines().next()?.to_owned())
}

/// The kernel's own limit (`CONSOLE_EXT_LOG_MAX`).
const LONGEST_RECORD: usize = 8192;

/// A failing disk can write faster than this reads.
const MOST_RECORDS: usize = 2000;

/// The last ones name the consequence, those before it the cause.
const MOST_TOLD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_record_is_what_follows_its_header() {
        let record = b"3,1,2,-;BTRFS error (device vda5): open_ctree failed\n SUBSYSTEM=block\n";
        let expected = "BTRFS error (device vda5): open_ctree failed";
        assert_eq!(text(record).as_deref(), Some(expected));
        assert_eq!(text(b"no header"), None);
    }
}
