//! When a line was written.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// An instant on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// Since the kernel started.
    pub(crate) at: Duration,
    /// In milliseconds since 1970, if the clock has been set.
    pub(crate) unix_ms: Option<u64>,
}

impl Stamp {
    /// Now.
    pub(crate) fn now() -> Self {
        let wall = duration(clock_gettime(ClockId::Realtime));
        let unix_ms = Some(wall.as_millis() as u64).filter(|&ms| ms >= FIRST_SANE);
        Self {
            at: duration(clock_gettime(ClockId::Boottime)),
            unix_ms,
        }
    }

    /// The instant at `at` since the kernel started, going back from this one.
    pub(crate) fn back_at(self, at: Duration) -> Self {
        let ago = self.at.saturating_sub(at).as_millis() as u64;
        Self {
            at,
            unix_ms: self.unix_ms.map(|ms| ms.saturating_sub(ago)),
        }
    }
}

/// The beginning of this boot's id, by which the files tell boots apart.
pub(crate) fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let short: String = id.chars().take_while(char::is_ascii_hexdigit).collect();
    if short.is_empty() {
        "unknown".to_owned()
    } else {
        short
    }
}

fn duration(time: Timespec) -> Duration {
    let (s, ns) = (
        time.tv_sec.max(0) as u64,
        time.tv_nsec.clamp(0, 999_999_999) as u32,
    );
    Duration::new(s, ns)
}

/// 2025-01-01: no box with this program has a right clock that says less.
const FIRST_SANE: u64 = 1_735_689_600_000;
