//! From a fault to `execve`: the handler, which may call nothing that allocates or locks.
//!
//! Seen to kill an init (each avoided here): a fault while its signal is blocked, as it is in an
//! ordinary handler; the mask of a handler inherited by the successor; a handler that needs the
//! stack which just overflowed; the kernel's default action. A signal that somebody sends (`kill
//! -SEGV 1`) to an init without a handler is dropped, so between `execve` and [`arm`] one may be
//! lost, which costs nothing.
#![allow(unsafe_code)]

use std::{
    ffi::{CString, c_char, c_int, c_void},
    io::Write as _,
    mem, ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

use super::epitaph::{self, Cause, Words};
use crate::handover::layout;

/// Installs the handlers, and notes how PID 1 was started. Called first of all, and again when
/// `/proc` is there.
pub fn arm() {
    let vectors = Box::leak(Box::new(Vectors::of_this_process()));
    let old = VECTORS.swap(vectors, Ordering::AcqRel);
    // A handler that runs now may still use the old one: it stays, for the two calls there are.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    if OWN.load(Ordering::Acquire) < 0
        && let Ok(exe) = rustix::fs::open("/proc/self/exe", flags, rustix::fs::Mode::empty())
        // Above all numbers that a child is given on purpose: it is started from this descriptor.
        && let Ok(exe) = rustix::io::fcntl_dupfd_cloexec(&exe, ABOVE_TARGETS)
    {
        let own = hold(exe);
        OWN.store(own, Ordering::Release);
        let next = super::probation::take_up(own);
        EXE.store(next.unwrap_or(own), Ordering::Release);
    }
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    if PMSG.load(Ordering::Acquire) < 0
        && let Ok(pmsg) = rustix::fs::open("/dev/pmsg0", flags, rustix::fs::Mode::empty())
    {
        PMSG.store(hold(pmsg), Ordering::Release);
    }
    note_text();
    protect_thread();
    if old.is_null() {
        // SAFETY: registers a function, once.
        unsafe { libc::atexit(on_exit) };
    }
    for signal in SIGNALS {
        // SAFETY: an all-zero sigaction is a valid one; the handler has the signature that
        // SA_SIGINFO asks for and keeps to what is safe in a handler.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// Gives the calling thread a stack for the handler, for the case that its own has overflowed.
/// It is never taken back: PID 1's threads live as long as it does.
pub fn protect_thread() {
    // SAFETY: a new mapping, whose lowest page is made a guard; it is handed to the kernel as
    // this thread's alternate stack and used by nothing else.
    unsafe {
        let all = libc::mmap(
            ptr::null_mut(),
            ALTERNATE_STACK + GUARD_PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
            -1,
            0,
        );
        if all == libc::MAP_FAILED {
            return;
        }
        libc::mprotect(all, GUARD_PAGE, libc::PROT_NONE);
        let stack = libc::stack_t {
            ss_sp: all.byte_add(GUARD_PAGE),
            ss_flags: 0,
            ss_size: ALTERNATE_STACK,
        };
        libc::sigaltstack(&stack, ptr::null_mut());
    }
}

/// Leaves a descriptor open for as long as this image runs, and tells its number.
pub fn hold(fd: std::os::fd::OwnedFd) -> i32 {
    use std::os::fd::IntoRawFd as _;
    fd.into_raw_fd()
}

/// From now on these descriptors, too, outlive a crash.
pub fn keep_also(fds: &[i32]) {
    for (word, bits) in KEPT.iter().zip(bitmap(fds)) {
        word.fetch_or(bits, Ordering::AcqRel);
    }
}

/// From now on these descriptors alone outlive a crash.
pub fn keep_only(fds: &[i32]) {
    for (word, bits) in KEPT.iter().zip(bitmap(fds)) {
        word.store(bits, Ordering::Release);
    }
}

/// Executes PID 1 anew, because of the thread called `thread`. Comes back only when this process
/// is not PID 1.
pub fn reexecute(cause: Cause, thread: &str) {
    if !is_pid1() {
        return;
    }
    let mut words = [0; epitaph::WORDS];
    words[epitaph::CAUSE] = match cause {
        Cause::Signal(..) => epitaph::CAUSE_SIGNAL,
        Cause::Exit => epitaph::CAUSE_EXIT,
        Cause::Panics => epitaph::CAUSE_PANICS,
        Cause::Stuck => epitaph::CAUSE_STUCK,
        Cause::Unconfirmed => epitaph::CAUSE_UNCONFIRMED,
        Cause::Unreadable => epitaph::CAUSE_UNREADABLE,
        Cause::Upgrade => epitaph::CAUSE_UPGRADE,
    };
    let mut name = [0; 16];
    for (byte, letter) in name.iter_mut().zip(thread.bytes()) {
        *byte = letter;
    }
    put_name(&mut words, &name);
    succeed(&mut words, None);
}

/// The next execution is of the program that is open as `fd`.
pub fn execute_next(fd: i32) {
    EXE.store(fd, Ordering::Release);
}

/// The next execution is of this program again.
pub(super) fn execute_ourselves() {
    EXE.store(OWN.load(Ordering::Acquire), Ordering::Release);
}

/// The descriptor of the program that this is, for as long as it runs; none without `/proc`.
pub fn own_program() -> Option<i32> {
    Some(OWN.load(Ordering::Acquire)).filter(|fd| *fd >= 0)
}

/// Something calls `exit`, or `main` returns: PID 1 must not.
extern "C" fn on_exit() {
    reexecute(Cause::Exit, "main");
}

/// The handler.
extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    if !is_pid1() {
        // A child between fork and exec, or a role that was started by hand: it dies of it.
        // SAFETY: sets the default action and returns to the fault, or sends the signal again.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    let mut words = [0; epitaph::WORDS];
    words[epitaph::CAUSE] = epitaph::CAUSE_SIGNAL;
    words[epitaph::SIGNAL] = signal.cast_unsigned().into();
    // SAFETY: the kernel hands both to a handler with SA_SIGINFO, valid while it runs.
    let stack = unsafe {
        words[epitaph::CODE] = u64::from((*info).si_code.cast_unsigned());
        words[epitaph::ADDRESS] = (*info).si_addr() as u64;
        let (instruction, stack) = registers(context.cast());
        words[epitaph::INSTRUCTION] = relative(instruction);
        stack
    };
    succeed(&mut words, Some(stack));
}

/// Notes what happened and executes the successor. Only the first thread does; others that crash
/// meanwhile wait for their end.
fn succeed(words: &mut Words, stack: Option<u64>) {
    let me = thread_id();
    match OWNER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => note(words, stack),
        // A fault in here, while noting: what is noted has to do.
        Err(owner) if owner == me => {}
        Err(_) => loop {
            pause(1000);
        },
    }
    let nested = DEPTH.fetch_add(1, Ordering::AcqRel);
    if !KEPT_DONE.swap(true, Ordering::AcqRel) {
        let_descriptors_live();
    }
    keep_watched_blocked();
    loop {
        execute(nested);
        // Memory or descriptors may be short for a moment; there is nothing else to try.
        pause(50);
    }
}

fn note(words: &mut Words, stack: Option<u64>) {
    words[epitaph::THREAD] = thread_id().cast_unsigned().into();
    words[epitaph::AT] = milliseconds();
    if stack.is_some() {
        let mut name = [0_u8; 16];
        // SAFETY: the kernel writes up to 16 bytes of name there.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        put_name(words, &name);
    }
    #[cfg(feature = "fault")]
    super::fault::in_the_handler();
    // First without the trace, which reads a stack that may be anything.
    let at = write_down(words, None);
    tell_pmsg(words);
    if let (Some(stack), Some(at)) = (stack, at) {
        trace(words, stack);
        write_down(words, Some(at));
    }
}

fn put_name(words: &mut Words, name: &[u8; 16]) {
    for (word, piece) in words[epitaph::NAME..].iter_mut().zip(name.chunks_exact(8)) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(piece);
        *word = u64::from_ne_bytes(bytes);
    }
}

/// Puts an epitaph into the hand-over: anew, or over the one at `again`. Returns where it is.
fn write_down(words: &Words, again: Option<u64>) -> Option<u64> {
    if read_word(layout::MAGIC_AT)? != layout::MAGIC {
        return None;
    }
    let count = read_word(layout::CRASHES_AT)?;
    let at = again.unwrap_or_else(|| layout::epitaph_at(count));
    let offset = libc::off_t::try_from(at).ok()?;
    // SAFETY: the kernel reads this thread's own words; a number that is no descriptor is refused.
    unsafe {
        libc::pwrite(
            layout::FD,
            words.as_ptr().cast(),
            size_of::<Words>(),
            offset,
        );
        if again.is_none() {
            let count = count.wrapping_add(1);
            let offset = layout::CRASHES_AT as libc::off_t;
            libc::pwrite(layout::FD, ptr::from_ref(&count).cast(), 8, offset);
        }
    }
    Some(at)
}

pub(super) fn read_word(at: u64) -> Option<u64> {
    let mut word = 0_u64;
    let offset = libc::off_t::try_from(at).ok()?;
    // SAFETY: the kernel writes at most eight bytes into the word.
    let read = unsafe { libc::pread(layout::FD, ptr::from_mut(&mut word).cast(), 8, offset) };
    (read == 8).then_some(word)
}

/// A line for the memory that outlives a reset, where the board has one.
fn tell_pmsg(words: &Words) {
    let pmsg = PMSG.load(Ordering::Acquire);
    if pmsg < 0 {
        return;
    }
    let mut line = [0_u8; 200];
    let mut rest = &mut line[..];
    let _ = writeln!(
        rest,
        "PID 1 crashed: signal {} code {} address {:#x} at {:#x} thread {} after {} ms",
        words[epitaph::SIGNAL],
        words[epitaph::CODE],
        words[epitaph::ADDRESS],
        words[epitaph::INSTRUCTION],
        words[epitaph::THREAD],
        words[epitaph::AT],
    );
    let left = rest.len();
    // SAFETY: writes this thread's own bytes to a descriptor that is never closed.
    unsafe { libc::write(pmsg, line.as_ptr().cast(), line.len() - left) };
}

/// Notes what on the stack points into the program's code. The stack is read through the kernel,
/// which answers with an error where there is none.
fn trace(words: &mut Words, stack: u64) {
    let (start, end) = (
        TEXT_START.load(Ordering::Acquire),
        TEXT_END.load(Ordering::Acquire),
    );
    let mut found = 0;
    for piece in 0..TRACED_PIECES {
        let mut words_read = [0_u64; TRACED_WORDS];
        let Some(from) = stack.checked_add((piece * size_of_val(&words_read)) as u64) else {
            break;
        };
        let local = libc::iovec {
            iov_base: words_read.as_mut_ptr().cast(),
            iov_len: size_of_val(&words_read),
        };
        let remote = libc::iovec {
            iov_base: from as *mut c_void,
            iov_len: size_of_val(&words_read),
        };
        // SAFETY: the kernel checks the remote side and writes at most the local buffer's length.
        let read = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        if read <= 0 {
            break;
        }
        let whole = (read.unsigned_abs() / 8).min(TRACED_WORDS);
        for word in &words_read[..whole] {
            if (start..end).contains(word) && found < epitaph::MAX_TRACE {
                words[epitaph::TRACE + found] = relative(*word);
                found += 1;
            }
        }
    }
    words[epitaph::DEPTH] = found as u64;
}

fn let_descriptors_live() {
    // SAFETY: only flags of descriptors change.
    unsafe {
        libc::fcntl(layout::FD, libc::F_SETFD, 0);
        for (at, word) in KEPT.iter().enumerate() {
            let mut bits = word.load(Ordering::Acquire);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                libc::fcntl((at * 64) as c_int + bit as c_int, libc::F_SETFD, 0);
            }
        }
    }
}

/// The mask is inherited: all that crashes must be open in it, or the next crash is the end.
fn keep_watched_blocked() {
    // SAFETY: signal sets on this stack.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in super::WATCHED {
            libc::sigaddset(&mut set, signal as c_int);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &set, ptr::null_mut());
    }
}

/// Comes back when the kernel refused every way to the binary.
fn execute(nested: u32) {
    let vectors = VECTORS.load(Ordering::Acquire);
    let bare = [c"init".as_ptr(), ptr::null()];
    // SAFETY: the vectors are leaked, so they live; each array ends with a null pointer. The
    // second and later attempts of a crash in here trust nothing that lies in writable memory.
    unsafe {
        let (argv, envp) = if vectors.is_null() || nested > 1 {
            (bare.as_ptr(), bare[1..].as_ptr())
        } else {
            ((*vectors).argv.as_ptr(), (*vectors).envp.as_ptr())
        };
        let exe = EXE.load(Ordering::Acquire);
        if exe >= 0 {
            let empty = c"".as_ptr();
            libc::syscall(
                libc::SYS_execveat,
                exe,
                empty,
                argv,
                envp,
                libc::AT_EMPTY_PATH,
            );
        }
        for path in [c"/proc/self/exe", c"/usr/lib/pilotlight/init", c"/init"] {
            libc::execve(path.as_ptr(), argv, envp);
        }
    }
}

fn is_pid1() -> bool {
    // SAFETY: takes and returns numbers. Not libc's, which could remember it through a fork.
    unsafe { libc::syscall(libc::SYS_getpid) == 1 }
}

fn thread_id() -> i32 {
    // SAFETY: takes and returns numbers.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

fn milliseconds() -> u64 {
    u64::try_from(crate::clock::boottime().as_millis()).unwrap_or(0)
}

fn pause(milliseconds: i64) {
    let time = libc::timespec {
        tv_sec: milliseconds / 1000,
        tv_nsec: milliseconds % 1000 * 1_000_000,
    };
    // SAFETY: the kernel reads the time and writes nothing.
    unsafe { libc::nanosleep(&time, ptr::null_mut()) };
}

/// The instruction and the stack pointer at the fault.
///
/// # Safety
/// `context` is what the kernel handed to a handler that still runs.
#[cfg(target_arch = "x86_64")]
unsafe fn registers(context: *const libc::ucontext_t) -> (u64, u64) {
    // SAFETY: as the caller promises.
    let registers = unsafe { &(*context).uc_mcontext.gregs };
    (
        registers[libc::REG_RIP as usize].cast_unsigned(),
        registers[libc::REG_RSP as usize].cast_unsigned(),
    )
}

/// The instruction and the stack pointer at the fault.
///
/// # Safety
/// `context` is what the kernel handed to a handler that still runs.
#[cfg(target_arch = "aarch64")]
unsafe fn registers(context: *const libc::ucontext_t) -> (u64, u64) {
    // SAFETY: as the caller promises.
    let machine = unsafe { &(*context).uc_mcontext };
    (machine.pc, machine.sp)
}

/// Where the program's code is, for traces.
fn note_text() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let here = arm as *const () as u64;
    let ranges = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let parse = |text| u64::from_str_radix(text, 16).ok();
        Some((parse(start)?, parse(end)?, rest))
    });
    let exe = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let exe = exe.to_string_lossy();
    for (start, end, rest) in ranges {
        if BASE.load(Ordering::Acquire) == 0 && !exe.is_empty() && rest.ends_with(&*exe) {
            BASE.store(start, Ordering::Release);
        }
        if (start..end).contains(&here) {
            TEXT_START.store(start, Ordering::Release);
            TEXT_END.store(end, Ordering::Release);
        }
    }
}

/// An address in the program as it is in its file, whatever the kernel's randomisation.
fn relative(address: u64) -> u64 {
    let text = TEXT_START.load(Ordering::Acquire)..TEXT_END.load(Ordering::Acquire);
    if text.contains(&address) {
        address - BASE.load(Ordering::Acquire)
    } else {
        address
    }
}

/// The arguments and environment of this process, laid out for `execve`.
struct Vectors {
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
}

impl Vectors {
    fn of_this_process() -> Self {
        use std::os::unix::ffi::OsStringExt as _;
        let leak = |bytes: Vec<u8>| -> Option<*const c_char> {
            Some(CString::new(bytes).ok()?.into_raw().cast_const())
        };
        let end = || std::iter::once(ptr::null());
        let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            [name.into_vec(), value.into_vec()].join(&b'=')
        };
        Self {
            argv: std::env::args_os()
                .filter_map(|arg| leak(arg.into_vec()))
                .chain(end())
                .collect(),
            envp: std::env::vars_os()
                .filter_map(|pair| leak(variable(pair)))
                .chain(end())
                .collect(),
        }
    }
}

fn bitmap(fds: &[i32]) -> [u64; MAX_KEPT / 64] {
    let mut words = [0; MAX_KEPT / 64];
    for fd in fds.iter().filter_map(|fd| usize::try_from(*fd).ok()) {
        if let Some(word) = words.get_mut(fd / 64) {
            *word |= 1 << (fd % 64);
        }
    }
    words
}

static OWNER: AtomicI32 = AtomicI32::new(0);
static DEPTH: AtomicU32 = AtomicU32::new(0);
static KEPT_DONE: AtomicBool = AtomicBool::new(false);
/// What is executed, and what this program itself is.
static EXE: AtomicI32 = AtomicI32::new(-1);
static OWN: AtomicI32 = AtomicI32::new(-1);
static PMSG: AtomicI32 = AtomicI32::new(-1);
static VECTORS: AtomicPtr<Vectors> = AtomicPtr::new(ptr::null_mut());
static KEPT: [AtomicU64; MAX_KEPT / 64] = [const { AtomicU64::new(0) }; MAX_KEPT / 64];
static TEXT_START: AtomicU64 = AtomicU64::new(0);
static TEXT_END: AtomicU64 = AtomicU64::new(0);
static BASE: AtomicU64 = AtomicU64::new(0);

/// All that a bug can raise.
const SIGNALS: [c_int; 5] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
];

/// The handler, the kernel's frame with the widest registers, and a fault in the handler.
const ALTERNATE_STACK: usize = 64 * 1024;
const GUARD_PAGE: usize = 64 * 1024;
const ABOVE_TARGETS: i32 = 64;
/// Descriptors above are not handed over: PID 1 is far from having so many.
pub(crate) const MAX_KEPT: usize = 4096;
const TRACED_PIECES: usize = 8;
const TRACED_WORDS: usize = 64;
