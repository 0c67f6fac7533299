//! The kernel's last messages, straight from the kernel: they are there when `logd` is not.

use std::{collections::VecDeque, io, os::fd::AsFd as _, path::Path};

use rustix::fs::{Mode, OFlags};

use super::views;
use crate::logd::kmsg::{self, KernelMessage};

/// The last `lines` messages as text, with a word on how many more there are.
///
/// # Errors
/// The kernel's log can't be read.
pub(crate) fn tail(lines: usize) -> io::Result<String> {
    tail_of(Path::new(kmsg::PATH), lines)
}

fn tail_of(path: &Path, lines: usize) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let kernel = rustix::fs::open(path, flags, Mode::empty())?;
    let (mut last, mut all) = (VecDeque::new(), 0);
    // Bounded, as messages may come faster than they are read.
    while all < MAX_MESSAGES {
        let Some(message) = kmsg::next(kernel.as_fd())? else {
            break;
        };
        all += 1;
        last.push_back(message);
        if last.len() > lines {
            last.pop_front();
        }
    }
    let mut text: String = last.iter().map(shown).collect();
    if all > last.len() {
        text += &format!(
            "({} of {all} messages; `dmesg -n {all}` shows all)\n",
            last.len()
        );
    }
    Ok(text)
}

fn shown(message: &KernelMessage) -> String {
    format!("[{:>12}] {}\n", views::seconds(message.at), message.text)
}

/// Several times what the kernel's default buffer holds.
const MAX_MESSAGES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_kernel_log_is_an_error_and_not_an_empty_one() {
        assert!(tail_of(Path::new("/nonexistent/kmsg"), 5).is_err());
    }
}
