//! What a process really does: the state of its threads and the CPU time they have used
//! (proc_pid_stat(5)). A silent process that is merely not getting a CPU is no dead one.
//!
//! Never allocates: it is read when memory may be short.

use std::mem::MaybeUninit;

use rustix::fs::{Mode, OFlags, RawDir};

/// The threads of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// How many threads there are.
    pub threads: u32,
    /// How many of them wait (sleeping, in disk wait, stopped) instead of running or wanting to.
    pub waiting: u32,
    /// How many were stopped by a signal or a tracer.
    pub stopped: u32,
    /// CPU time of all of them, in clock ticks.
    pub cpu_ticks: u64,
}

impl Snapshot {
    /// Of process `pid` now; nothing if it is gone.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let mut path = Text::<32>::default();
        path.push("/proc/").number(pid).push("/task");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?;
        let mut entries = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&folder, &mut entries);
        let mut snapshot = Self::default();
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name().to_bytes();
            if let Ok(name) = str::from_utf8(name)
                && name.bytes().all(|b| b.is_ascii_digit())
            {
                let mut path = Text::<32>::default();
                path.push(name).push("/stat");
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let mut line = [0; 512];
                let stat = rustix::fs::openat(&folder, path.as_str(), flags, Mode::empty());
                if let Ok(Ok(n)) = stat.map(|fd| rustix::io::read(&fd, &mut line[..])) {
                    snapshot.add(&line[..n]);
                }
            }
        }
        Some(snapshot)
    }

    /// Of one thread of this process now; nothing if it is gone.
    pub(super) fn of_own_thread(thread: u32) -> Option<Self> {
        let mut path = Text::<32>::default();
        path.push("/proc/self/task/").number(thread).push("/stat");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let stat = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?;
        let mut line = [0; 512];
        let n = rustix::io::read(&stat, &mut line[..]).ok()?;
        let mut snapshot = Self::default();
        snapshot.add(&line[..n]);
        Some(snapshot)
    }

    /// Whether since `earlier` nothing of it ran and nothing wanted to.
    pub(super) fn is_quiet_since(&self, earlier: &Self) -> bool {
        self.threads > 0 && self.waiting == self.threads && self.cpu_ticks == earlier.cpu_ticks
    }

    fn add(&mut self, stat: &[u8]) {
        // The name in parentheses may hold anything, also parentheses.
        let Some(end) = stat.iter().rposition(|b| *b == b')') else {
            return;
        };
        let mut fields = stat[end + 1..]
            .split(|b| *b == b' ')
            .filter(|field| !field.is_empty());
        let Some(state) = fields.next() else { return };
        self.threads += 1;
        self.waiting += u32::from(!matches!(state, b"R"));
        self.stopped += u32::from(matches!(state, b"T" | b"t"));
        // utime and stime are fields 14 and 15 of the line, the state is field 3.
        for field in fields.skip(10).take(2) {
            let digits = field.iter().filter(|b| b.is_ascii_digit());
            let ticks = digits.fold(0_u64, |n, b| n.wrapping_mul(10) + u64::from(b - b'0'));
            self.cpu_ticks = self.cpu_ticks.wrapping_add(ticks);
        }
    }
}

/// A short text on the stack.
struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }
}

impl<const N: usize> Text<N> {
    fn push(&mut self, text: &str) -> &mut Self {
        let n = text.len().min(N - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&text.as_bytes()[..n]);
        self.len += n;
        self
    }

    fn number(&mut self, n: u32) -> &mut Self {
        let mut digits = [0; 10];
        let mut at = digits.len();
        let mut rest = n;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let text = str::from_utf8(&digits[at..]).unwrap_or("0");
        self.push(text)
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let mut snapshot = Snapshot::default();
        snapshot.add(b"12 (a) R (b) T 1 12 12 0 -1 4194304 90 0 0 0 7 5 0 0 20 0 1 0 100 0 0\n");
        let expected = Snapshot {
            threads: 1,
            waiting: 1,
            stopped: 1,
            cpu_ticks: 12,
        };
        assert_eq!(snapshot, expected);
        snapshot.add(b"rubbish");
        snapshot.add(b"1 (x)");
        assert_eq!(snapshot, expected);
    }

    #[test]
    fn a_thread_that_works_is_told_from_one_that_waits() {
        let me = std::process::id();
        let before = Snapshot::of(me).unwrap();
        let until = std::time::Instant::now() + Duration::from_millis(200);
        while std::time::Instant::now() < until {}
        let after = Snapshot::of(me).unwrap();
        assert!(after.cpu_ticks > before.cpu_ticks);
        assert!(!after.is_quiet_since(&before));
        assert!(Snapshot::of(u32::MAX).is_none());
    }
}
