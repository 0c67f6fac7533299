//! The fork itself, and what the child does until `execve`: the unsafe part of `spawn`.
//!
//! Between `clone3` and `execve` the child is a copy of one thread of a process with many: it may
//! not allocate, lock, or call anything of libc that might. It makes raw system calls only, on
//! memory that the parent laid out before.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::spawn::Command;

/// All that the child needs, laid out before the fork.
pub(crate) struct Image<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) args: &'a [CString],
    pub(crate) env: &'a [CString],
    pub(crate) command: &'a Command<'a>,
    pub(crate) report: &'a OwnedFd,
}

/// Makes the process. Returns its pid and pidfd in the parent; never returns in the child.
pub(crate) fn fork_exec(image: &Image<'_>) -> Result<(u32, OwnedFd), Errno> {
    let argv = pointers(image.args);
    let envp = pointers(image.env);
    // Room for the copies that the child makes of its descriptors, so that it need not allocate.
    let mut moved = vec![-1; image.command.fds.len()];
    let mut pidfd: i32 = -1;
    let mut flags = libc::CLONE_PIDFD as u64;
    let mut cgroup = 0;
    if let Some(fd) = image.command.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = fd.as_raw_fd() as u64;
    }
    let args = libc::clone_args {
        flags,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    let mask = block_signals();
    // SAFETY: the arguments live through the call and name a plain fork (no shared memory, no new
    // stack); the child only runs `become_image`, which keeps the rules of this module.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        become_image(image, &argv, &envp, &mut moved);
    }
    let errno = std::io::Error::last_os_error();
    restore_signals(&mask);
    if pid < 0 {
        return Err(Errno::from_io_error(&errno).unwrap_or(Errno::INVAL));
    }
    // SAFETY: the kernel stored a new descriptor there (CLONE_PIDFD), which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((
        u32::try_from(pid).expect("the kernel's pids are positive"),
        pidfd,
    ))
}

/// The child: never returns.
fn become_image(
    image: &Image<'_>,
    argv: &[*const c_char],
    envp: &[*const c_char],
    moved: &mut [i32],
) -> ! {
    let mut report = image.report.as_raw_fd();
    let errno = match prepare(image.command, moved, &mut report) {
        Ok(()) => {
            // SAFETY: both arrays end with a null pointer and their strings outlive the call.
            unsafe { libc::execve(image.program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
            // SAFETY: reads the calling thread's own errno.
            unsafe { *libc::__errno_location() }
        }
        Err(errno) => errno.raw_os_error(),
    };
    // SAFETY: open in this child until it ends, here.
    let report = unsafe { BorrowedFd::borrow_raw(report) };
    let _ = rustix::io::write(report, &errno.to_ne_bytes());
    // SAFETY: ends the process without running anything else of it.
    unsafe { libc::_exit(127) }
}

fn prepare(command: &Command<'_>, moved: &mut [i32], report: &mut i32) -> Result<(), Errno> {
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir(c"/")?;
    write_oom_score(command.oom_score_adj);
    let _ = command.schedule.take();
    place_descriptors(&command.fds, moved, report)?;
    if command.controlling_tty {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    if let Some(user) = command.user {
        let (uid, gid) = (
            rustix::process::Uid::from_raw(user.uid),
            rustix::process::Gid::from_raw(user.gid),
        );
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    if command.no_new_privs {
        rustix::thread::set_no_new_privs(true)?;
    }
    default_signals();
    Ok(())
}

/// Puts every listed descriptor at its number and marks all others to be closed by `execve`.
fn place_descriptors(
    fds: &[(BorrowedFd<'_>, i32)],
    moved: &mut [i32],
    report: &mut i32,
) -> Result<(), Errno> {
    // First out of the way of every target, so that descriptors may trade places. No further than
    // that: where descriptors are short, the free ones may be anywhere.
    let above = fds.iter().map(|(_, target)| target + 1).max().unwrap_or(0);
    for ((fd, _), moved) in fds.iter().zip(moved.iter_mut()) {
        *moved = cvt(fcntl_dup_above(fd.as_raw_fd(), above))?;
    }
    if *report < above {
        *report = cvt(fcntl_dup_above(*report, above))?;
    }
    // SAFETY: closes nothing, only marks; touches no memory.
    cvt(unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, CLOSE_RANGE_CLOEXEC) as i32 })?;
    for ((_, target), moved) in fds.iter().zip(moved.iter()) {
        // SAFETY: dup2 onto a number of this child, whose old descriptor nobody uses any more;
        // the copy is not close-on-exec.
        cvt(unsafe { libc::dup2(*moved, *target) })?;
    }
    Ok(())
}

fn fcntl_dup_above(fd: i32, least: i32) -> i32 {
    // SAFETY: makes a new descriptor; touches no memory.
    unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) }
}

fn cvt(result: i32) -> Result<i32, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: reads the calling thread's own errno.
    Err(Errno::from_raw_os_error(unsafe {
        *libc::__errno_location()
    }))
}

/// Best effort: without /proc there is nothing to write to, and the child runs all the same.
fn write_oom_score(score: i16) {
    let mut text = [0_u8; 8];
    let text = format_i16(score, &mut text);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&fd, text);
    }
}

fn format_i16(n: i16, text: &mut [u8; 8]) -> &[u8] {
    let mut rest = n.unsigned_abs();
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        at -= 1;
        text[at] = b'-';
    }
    &text[at..]
}

/// `execve` resets handlers but keeps what is ignored (Rust ignores SIGPIPE) and the mask.
fn default_signals() {
    // SAFETY: an all-zero kernel sigaction is SIG_DFL without flags, and a zero set is empty; the
    // raw calls, since libc's refuse the signals that it keeps for itself (32 and 33).
    unsafe {
        let default = [0_u64; KERNEL_SIGACTION_WORDS];
        for signal in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &default,
                0,
                size_of::<u64>(),
            );
        }
        let none = 0_u64;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &none,
            0,
            size_of::<u64>(),
        );
    }
}

/// No handler of the parent may run in the child.
fn block_signals() -> libc::sigset_t {
    // SAFETY: signal sets on this stack.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        old
    }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: a set that `block_signals` got from the kernel.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut());
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// `linux/sched.h`; libc has it as an i32 that does not hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Handler, flags, restorer and mask: no architecture's `struct sigaction` in the kernel is longer.
const KERNEL_SIGACTION_WORDS: usize = 4;
/// `linux/close_range.h`.
const CLOSE_RANGE_CLOEXEC: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_written_as_decimal_numbers() {
        for n in [0, 7, -1000, 1000, i16::MIN] {
            assert_eq!(format_i16(n, &mut [0; 8]), n.to_string().as_bytes());
        }
    }
}
