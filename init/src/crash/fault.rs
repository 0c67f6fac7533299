//! Fault injection, for tests alone: a line `KIND THREAD` written to a FIFO makes that thread of
//! PID 1, or of the front, fail in that way. The fault happens in the thread itself, in a signal handler on its own
//! stack. Nothing of this is in a box's program.
#![allow(unsafe_code)]

use std::{
    fs, mem, ptr,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use crate::handover::layout;

/// Opens PID 1's FIFO and listens on it in a thread of its own. Makes one for the front as well,
/// which may not.
pub fn listen() {
    // Tests tie PID 1 to its parent's life, but the kernel forgets that when another thread than
    // the first executes the successor.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    for place in [PLACE, PLACE_OF_FRONT] {
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let kind = rustix::fs::FileType::Fifo;
        let made = rustix::fs::mknodat(rustix::fs::CWD, place, kind, mode, 0);
        // Whatever the mask.
        let _ = made.and_then(|()| rustix::fs::chmod(place, mode));
    }
    listen_at(PLACE);
}

/// The same in the front, on its own.
pub fn listen_in_front() {
    listen_at(PLACE_OF_FRONT);
}

fn listen_at(place: &'static str) {
    // SAFETY: an all-zero sigaction is a valid one; the handler takes the one argument that it gets
    // without SA_SIGINFO.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = act as *const () as usize;
        libc::sigaction(SIGNAL, &action, ptr::null_mut());
    }
    let spawned = std::thread::Builder::new()
        .name("fault".to_owned())
        .spawn(move || {
            super::protect_thread();
            // For writing too, so that it never ends.
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
            let Ok(fifo) = rustix::fs::open(place, flags, rustix::fs::Mode::empty()) else {
                return;
            };
            // A line is written at once, and so is never read in two pieces unless many wait.
            let mut lines = [0; 4096];
            while let Ok(n) = rustix::io::read(&fifo, &mut lines) {
                String::from_utf8_lossy(&lines[..n]).lines().for_each(obey);
            }
        });
    drop(spawned);
}

/// The virtual links that are to be looked after like real ones: `pilot.fault.link=NAME` on the
/// command line.
pub fn links() -> Vec<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let words = line.split_whitespace();
    words
        .filter_map(|word| word.strip_prefix("pilot.fault.link="))
        .map(str::to_owned)
        .collect()
}

/// Started as the monitor of a service, it lives, and that is all.
pub fn if_monitor(called: &str) {
    if called == "pilot-monitor" {
        hang();
    }
}

/// In a trial: fails if this binary was made to do so then.
pub fn in_the_trial() {
    in_a_new_binary("in-trial");
}

/// In a turn of `main`, after all was taken over: once, early.
pub fn in_a_turn(turns: u64) {
    if turns == 2 {
        in_a_new_binary("in-turn");
    }
}

/// Fails in the way that the file of this binary says behind its program, if it says so for `when`:
/// `pilot-fault WHEN KIND;`. So one program is many that fail in different ways.
pub fn in_a_new_binary(when: &str) {
    let mut tail = vec![0; TAIL];
    let read = fs::File::open("/proc/self/exe").and_then(|file| {
        use std::os::unix::fs::FileExt as _;
        let length = file.metadata()?.len();
        file.read_exact_at(&mut tail, length.saturating_sub(TAIL as u64))
    });
    let text = String::from_utf8_lossy(&tail);
    let words = text.rsplit_once("pilot-fault ").map(|(_, words)| words);
    let words = words
        .and_then(|words| words.split_once(';'))
        .filter(|_| read.is_ok());
    let Some((at, kind)) = words.and_then(|(words, _)| words.split_once(' ')) else {
        return;
    };
    match kind {
        _ if at != when => {}
        "exit" => std::process::exit(0),
        "panic" => panic!("a panic was asked for"),
        kind => {
            KIND.store(kind_number(kind), Ordering::Release);
            act(0);
        }
    }
}

/// Where a thread panics if it was told to.
pub fn point(thread: &str) {
    let wanted = match thread {
        "main" => &PANICS_OF_MAIN,
        _ => &PANICS_OF_GUARD,
    };
    let more = |n: u32| n.checked_sub(1);
    if wanted
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
        .is_ok()
    {
        panic!("a panic was asked for");
    }
}

/// Ends this process's first thread, and no other.
pub fn end_first_thread() {
    // SAFETY: an all-zero sigaction is a valid one, and the handler takes the one argument that it
    // gets; then a signal is sent to a thread of this process.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = leave as *const () as usize;
        libc::sigaction(SIGNAL, &action, ptr::null_mut());
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::getpid(), SIGNAL);
    }
}

extern "C" fn leave(_: libc::c_int) {
    // SAFETY: ends this thread; what it held is never touched again, as in any thread that hangs.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// Opens files until there are no descriptors left, and keeps them.
fn use_up_descriptors() {
    let most = rustix::process::Rlimit {
        current: Some(FEW_DESCRIPTORS),
        maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, most);
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    while let Ok(fd) = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()) {
        mem::forget(fd);
    }
}

/// Takes all memory that there is, up to a limit that is set to what there is, and keeps it.
fn use_up_memory() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    let as_it_is = rustix::process::Rlimit {
        current: size.map(|kilobytes| kilobytes * 1024),
        maximum: rustix::process::getrlimit(rustix::process::Resource::As).maximum,
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::As, as_it_is);
    for size in [1 << 16, 1 << 12, 1 << 8, 1 << 5] {
        // Not through the reserve: that is what is to be left.
        // SAFETY: blocks that are never freed, of sizes that are not zero.
        while !unsafe { libc::malloc(size) }.is_null() {}
    }
}

/// In the crash handler: a fault there, if that was asked for.
pub(super) fn in_the_handler() {
    if KIND.load(Ordering::Acquire) == kind_number("double") {
        segv();
    }
}

fn obey(line: &str) {
    let mut words = line.split_whitespace();
    let (Some(kind), Some(thread)) = (words.next(), words.next()) else {
        return;
    };
    let count = words.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    match (kind, thread) {
        ("panic", "main") => PANICS_OF_MAIN.store(count, Ordering::Release),
        ("descriptors", _) => use_up_descriptors(),
        ("memory", _) => use_up_memory(),
        ("forgive", _) => write_word(layout::CRASHES_AT, 0),
        ("panic", _) => PANICS_OF_GUARD.store(count, Ordering::Release),
        _ => {
            KIND.store(kind_number(kind), Ordering::Release);
            for (name, id) in threads() {
                if kind == "all" || name == thread {
                    // SAFETY: sends a signal to a thread of this process; numbers alone.
                    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, SIGNAL) };
                }
            }
        }
    }
}

/// Into the hand-over, behind its owner's back.
fn write_word(at: u64, word: u64) {
    let bytes = word.to_ne_bytes();
    // SAFETY: the kernel reads these bytes and writes a file of this process.
    unsafe { libc::pwrite(layout::FD, bytes.as_ptr().cast(), 8, at as libc::off_t) };
}

fn threads() -> Vec<(String, i32)> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let named = |task: fs::DirEntry| {
        let id = task.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let name = name.trim_end();
        // The first thread has the program's name.
        let is_first = i32::try_from(std::process::id()) == Ok(id);
        let name = if is_first { "main" } else { name };
        Some((name.to_owned(), id))
    };
    tasks.flatten().filter_map(named).collect()
}

extern "C" fn act(_: libc::c_int) {
    if let Some((_, fault)) = KINDS.get(KIND.load(Ordering::Acquire)) {
        fault();
    }
}

fn kind_number(kind: &str) -> usize {
    let known = KINDS.iter().position(|(name, _)| *name == kind);
    known.unwrap_or(usize::MAX)
}

/// All ways.
const KINDS: &[(&str, fn())] = &[
    ("abort", || std::process::abort()),
    ("all", segv),
    ("alloc", || {
        std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u64; 512]>())
    }),
    ("bus", bus),
    ("double", segv),
    ("fpe", || raise(libc::SIGFPE)),
    ("hang", hang),
    ("ill", illegal),
    ("overflow", || {
        std::hint::black_box(recurse(0));
    }),
    ("rubbish", rubbish),
    ("segv", segv),
    ("tidy-segv", || raise(libc::SIGSEGV)),
];

fn hang() {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

fn segv() {
    // SAFETY: none: a fault is what is wanted, and the page at zero is never mapped.
    unsafe { ptr::without_provenance_mut::<u32>(8).write_volatile(1) };
}

/// A crash with nothing whole to hand over. In `main` itself, which can't publish anything after it.
fn rubbish() {
    for slot in 0..layout::SLOTS {
        let at = layout::slot_at(slot);
        (0..100).for_each(|word| write_word(at + word * 8, word.wrapping_mul(RUBBISH)));
    }
    segv();
}

/// A mapped page of a file that has none.
fn bus() {
    // SAFETY: a new mapping of an empty memfd; reading it is the fault that is wanted.
    unsafe {
        let fd = libc::memfd_create(c"bus".as_ptr(), libc::MFD_CLOEXEC);
        let flags = libc::MAP_SHARED;
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ, flags, fd, 0);
        page.cast::<u8>().read_volatile();
    }
}

fn illegal() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the fault is what is wanted.
    unsafe {
        std::arch::asm!("ud2")
    };
    #[cfg(not(target_arch = "x86_64"))]
    raise(libc::SIGILL);
}

fn raise(signal: i32) {
    // SAFETY: sends a signal to this thread.
    unsafe { libc::raise(signal) };
}

fn recurse(n: u64) -> u64 {
    let room = std::hint::black_box([n; 128]);
    if room[0] == u64::MAX {
        return 0;
    }
    recurse(n + 1) + room[1]
}

static KIND: AtomicUsize = AtomicUsize::new(usize::MAX);
static PANICS_OF_MAIN: AtomicU32 = AtomicU32::new(0);
static PANICS_OF_GUARD: AtomicU32 = AtomicU32::new(0);

/// Bytes at the end of a binary that may say how it is to fail: a seal and a few words.
const TAIL: usize = 256;
const PLACE: &str = "/run/pilot/fault";
const PLACE_OF_FRONT: &str = "/run/pilot/fault-front";
/// Any number that looks like none of ours.
const RUBBISH: u64 = 0x9e37_79b9_7f4a_7c15;
/// More than PID 1 has open, few enough to be used up at once.
const FEW_DESCRIPTORS: u64 = 160;
/// A real-time signal that nothing else uses.
const SIGNAL: i32 = 44;
