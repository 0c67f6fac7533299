//! Lines to the kernel's log: before `logd` is there, after it has gone, and for what must be on
//! the console whatever happens (kernel doc `ABI/testing/dev-kmsg`).

use rustix::fs::{Mode, OFlags};

/// Writes one line. Without /dev/kmsg it is lost, as there is nowhere else.
pub fn write(level: u8, text: &str) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::open("/dev/kmsg", flags, Mode::empty()) {
        // The kernel takes no record that is longer.
        let end = text.floor_char_boundary(MAX_TEXT);
        let _ = rustix::io::write(
            &fd,
            format!("<{level}>pilot: {}\n", &text[..end]).as_bytes(),
        );
    }
}

/// Something failed.
pub const ERROR: u8 = 3;
/// Shown on the console whatever its level.
pub const NOTICE: u8 = 2;
/// Something happened.
pub const INFO: u8 = 6;

const MAX_TEXT: usize = 900;
