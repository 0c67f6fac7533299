//! What a process really does: of each of its threads the state, the CPU time it has used and how
//! often it was given a CPU (proc_pid_stat(5), kernel doc `scheduler/sched-stats`), and where in the
//! kernel it waits. A silent process that is merely not getting a CPU is no dead one.
//!
//! Never allocates: it is read when memory may be short.

use std::{ffi::CStr, mem::MaybeUninit, os::fd::OwnedFd};

use rustix::fs::{Mode, OFlags, RawDir};

/// One thread at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Thread {
    /// Its number.
    pub(super) tid: u32,
    /// Its name, ended by NUL bytes.
    pub(super) name: [u8; 16],
    /// The kernel's letter for what it does: R runs or wants to, S sleeps, D waits for a disk.
    pub(super) state: u8,
    /// CPU time used, in nanoseconds.
    pub(super) cpu: u64,
    /// How often it was given a CPU; zero throughout on a kernel that does not tell.
    pub(super) slices: u64,
}

impl Thread {
    /// Whether its name begins so.
    pub(super) fn is_called(&self, beginning: &str) -> bool {
        self.name.starts_with(beginning.as_bytes())
    }
}

/// The threads of a process at one moment.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    known: [Thread; MAX_THREADS],
    len: usize,
}

impl Default for Threads {
    fn default() -> Self {
        Self {
            known: [Thread::default(); MAX_THREADS],
            len: 0,
        }
    }
}

impl Threads {
    /// Looks at process `pid`. None are left if it is gone.
    pub(super) fn look(&mut self, pid: u32) {
        self.len = 0;
        let Some(folder) = tasks(pid) else { return };
        let mut entries = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&folder, &mut entries);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            let Some(tid) = number(name) else { continue };
            let Some(place) = self.known.get_mut(self.len) else {
                return;
            };
            if let Some(thread) = one(&folder, name, tid) {
                *place = thread;
                self.len += 1;
            }
        }
    }

    /// Whether the first thread of process `pid` has ended while others go on.
    pub(super) fn are_without_first(&self, pid: u32) -> bool {
        let is_over = |thread: &Thread| matches!(thread.state, b'Z' | b'X');
        let first = self.all().iter().find(|thread| thread.tid == pid);
        first.is_some_and(is_over) && !self.all().iter().all(is_over)
    }

    #[cfg(test)]
    pub(super) fn test(threads: &[Thread]) -> Self {
        let mut all = Self::default();
        all.known[..threads.len()].copy_from_slice(threads);
        all.len = threads.len();
        all
    }

    /// The threads seen.
    pub(super) fn all(&self) -> &[Thread] {
        &self.known[..self.len]
    }
}

/// A thread as it is kept for the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its number.
    pub tid: u32,
    /// The kernel's letter for its state.
    pub state: u8,
    /// CPU time that it has used, in milliseconds.
    pub cpu_ms: u64,
    name: [u8; 16],
    wchan: [u8; 32],
    stack: [u8; 96],
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            tid: 0,
            state: b'?',
            cpu_ms: 0,
            name: [0; 16],
            wchan: [0; 32],
            stack: [0; 96],
        }
    }
}

impl Shown {
    pub(super) const WORDS: usize = 2 + (16 + 32 + 96) / 8;

    /// Of a thread of process `pid`.
    pub(super) fn of(pid: u32, thread: &Thread) -> Self {
        let mut shown = Self {
            tid: thread.tid,
            state: thread.state,
            cpu_ms: thread.cpu / 1_000_000,
            name: thread.name,
            ..Self::default()
        };
        let Some(folder) = tasks(pid) else {
            return shown;
        };
        let mut tid = Text::<16>::default();
        tid.number(thread.tid);
        let Ok(tid) = CStr::from_bytes_until_nul(&tid.bytes) else {
            return shown;
        };
        read(&folder, tid, "/wchan", &mut shown.wchan);
        let mut bytes = [0; 1024];
        if let Some(stack) = read(&folder, tid, "/stack", &mut bytes) {
            shown.stack = frames(stack);
        }
        shown
    }

    /// Its name.
    pub fn name(&self) -> &str {
        text(&self.name)
    }

    /// Where in the kernel it waits; `0` if it does not.
    pub fn wchan(&self) -> &str {
        text(&self.wchan)
    }

    /// The kernel's functions that it is in, innermost first.
    pub fn stack(&self) -> &str {
        text(&self.stack)
    }

    pub(super) fn to_words(self) -> [u64; Self::WORDS] {
        let mut words = [0; Self::WORDS];
        words[0] = u64::from(self.tid) << 8 | u64::from(self.state);
        words[1] = self.cpu_ms;
        let texts = self.name.iter().chain(&self.wchan).chain(&self.stack);
        for (at, byte) in texts.enumerate() {
            words[2 + at / 8] |= u64::from(*byte) << (8 * (at % 8));
        }
        words
    }

    pub(super) fn from_words(words: &[u64]) -> Self {
        let byte = |at: usize| (words[2 + at / 8] >> (8 * (at % 8))) as u8;
        Self {
            tid: (words[0] >> 8) as u32,
            state: words[0] as u8,
            cpu_ms: words[1],
            name: std::array::from_fn(byte),
            wchan: std::array::from_fn(|at| byte(16 + at)),
            stack: std::array::from_fn(|at| byte(48 + at)),
        }
    }

    #[cfg(test)]
    pub(super) fn test(name: &str, wchan: &str) -> Self {
        let mut shown = Self {
            tid: 4242,
            state: b'S',
            cpu_ms: 7,
            ..Self::default()
        };
        shown.name[..name.len()].copy_from_slice(name.as_bytes());
        shown.wchan[..wchan.len()].copy_from_slice(wchan.as_bytes());
        shown
    }
}

/// The state of a process's first thread; none if the process is gone.
pub(super) fn state_of_first(pid: u32) -> Option<u8> {
    let mut path = Text::<32>::default();
    path.push("/proc/").number(pid).push("/stat");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()?;
    let mut bytes = [0; 512];
    let n = rustix::io::read(&fd, &mut bytes).ok()?;
    Some(parse(pid, &bytes[..n])?.state)
}

fn one(folder: &OwnedFd, name: &CStr, tid: u32) -> Option<Thread> {
    let mut bytes = [0; 512];
    let mut thread = parse(tid, read(folder, name, "/stat", &mut bytes)?)?;
    let mut bytes = [0; 96];
    if let Some((cpu, slices)) = read(folder, name, "/schedstat", &mut bytes).and_then(schedstat) {
        (thread.cpu, thread.slices) = (cpu, slices);
    }
    Some(thread)
}

fn tasks(pid: u32) -> Option<OwnedFd> {
    let mut path = Text::<32>::default();
    path.push("/proc/").number(pid).push("/task");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path.as_str(), flags, Mode::empty()).ok()
}

/// Reads a thread's small file into `bytes`.
fn read<'a>(folder: &OwnedFd, tid: &CStr, file: &str, bytes: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut path = Text::<32>::default();
    path.push(tid.to_str().ok()?).push(file);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, path.as_str(), flags, Mode::empty()).ok()?;
    let n = rustix::io::read(&fd, &mut *bytes).ok()?;
    Some(&bytes[..n])
}

fn number(name: &CStr) -> Option<u32> {
    name.to_str().ok()?.parse().ok()
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    str::from_utf8(&bytes[..end]).unwrap_or("?")
}

fn parse(tid: u32, stat: &[u8]) -> Option<Thread> {
    // The name in parentheses may hold anything, also parentheses.
    let start = stat.iter().position(|b| *b == b'(')? + 1;
    let end = stat.iter().rposition(|b| *b == b')')?;
    let mut thread = Thread {
        tid,
        ..Thread::default()
    };
    let name = stat.get(start..end)?;
    let len = name.len().min(thread.name.len());
    thread.name[..len].copy_from_slice(&name[..len]);
    let mut fields = stat[end + 1..]
        .split(|b| *b == b' ')
        .filter(|field| !field.is_empty());
    thread.state = *fields.next()?.first()?;
    // utime and stime are fields 14 and 15 of the line, the state is field 3.
    let ticks: u64 = fields.skip(10).take(2).map(digits).sum();
    thread.cpu = ticks.saturating_mul(TICK_NS);
    Some(thread)
}

/// CPU time in nanoseconds and the number of times it ran.
fn schedstat(line: &[u8]) -> Option<(u64, u64)> {
    let mut fields = line.trim_ascii().split(|b| *b == b' ');
    Some((digits(fields.next()?), digits(fields.nth(1)?)))
}

fn digits(field: &[u8]) -> u64 {
    let digits = field.iter().filter(|b| b.is_ascii_digit());
    digits.fold(0_u64, |n, b| {
        n.wrapping_mul(10).wrapping_add(u64::from(b - b'0'))
    })
}

/// The names of the innermost functions of a stack as the kernel prints it:
/// `[<0>] futex_do_wait+0x38/0x70` a line.
fn frames(stack: &[u8]) -> [u8; 96] {
    let mut names = [0; 96];
    let mut at = 0;
    for line in stack.split(|b| *b == b'\n') {
        let Some(name) = line.strip_prefix(b"[<0>] ") else {
            continue;
        };
        let name = name.split(|b| *b == b'+').next().unwrap_or_default();
        let gap = usize::from(at > 0);
        if at + gap + name.len() > names.len() {
            break;
        }
        if gap > 0 {
            names[at] = b' ';
        }
        at += gap;
        names[at..at + name.len()].copy_from_slice(name);
        at += name.len();
    }
    names
}

/// A short text on the stack, ended by a NUL byte.
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
        let n = text.len().min(N - 1 - self.len);
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

/// The manager has two workers, 32 threads for what blocks, and a handful of its own.
pub(super) const MAX_THREADS: usize = 48;
/// Of how many threads the owner is shown all.
pub(super) const MAX_SHOWN: usize = 8;
/// `USER_HZ` is 100 on every architecture that we boot on.
const TICK_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let line = b"12 (a) R (b) T 1 12 12 0 -1 4194304 90 0 0 0 7 5 0 0 20 0 1 0 100 0 0\n";
        let thread = parse(12, line).unwrap();
        assert!(thread.is_called("a) R (b"));
        assert_eq!((thread.state, thread.cpu), (b'T', 120_000_000));
        assert!(parse(1, b"rubbish").is_none() && parse(1, b"1 (x)").is_none());
    }

    #[test]
    fn a_stack_is_shortened_to_its_functions() {
        let stack = b"[<0>] futex_do_wait+0x38/0x70\n[<0>] __futex_wait+0x91/0x100\n";
        let shown = Shown {
            stack: frames(stack),
            ..Shown::default()
        };
        assert_eq!(shown.stack(), "futex_do_wait __futex_wait");
    }

    #[test]
    fn a_process_is_seen_with_its_threads_and_where_they_wait() {
        let (send, wait) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::Builder::new()
            .name("evidence-waits".to_owned())
            .spawn(move || wait.recv())
            .unwrap();
        let (me, mut threads) = (std::process::id(), Threads::default());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let found = loop {
            threads.look(me);
            let found = threads
                .all()
                .iter()
                .find(|thread| thread.is_called("evidence-waits") && thread.state == b'S');
            match found {
                Some(found) => break *found,
                None => assert!(std::time::Instant::now() < deadline),
            }
        };
        let shown = Shown::of(me, &found);
        assert_eq!(shown.name(), "evidence-waits");
        assert_eq!(Shown::from_words(&shown.to_words()), shown);
        threads.look(u32::MAX);
        assert!(threads.all().is_empty());
        drop(send);
        let _ = waiting.join();
    }
}
