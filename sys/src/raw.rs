//! Everything unsafe of this crate: ioctls and system calls behind safe signatures.
//!
//! A function here takes typed arguments that make the call sound whatever their values; whether
//! the values make sense is the kernel's business, which answers with an errno.
#![allow(unsafe_code)]

use std::{
    ffi::c_long,
    mem::size_of,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

use linux_raw_sys::{
    general::{CLONE_CLEAR_SIGHAND, CLONE_NEWUSER, CLONE_PIDFD, clone_args, mount_attr},
    ioctl::{
        WDIOC_GETBOOTSTATUS, WDIOC_GETSUPPORT, WDIOC_GETTIMEOUT, WDIOC_KEEPALIVE, WDIOC_SETTIMEOUT,
    },
    loop_device::{LOOP_CLR_FD, LOOP_CONFIGURE, LOOP_CTL_GET_FREE, loop_config},
};
use rustix::{
    io::{Errno, Result},
    ioctl::{Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter, Updater, ioctl},
};

/// `LOOP_CTL_GET_FREE`: the number of a loop device that is free right now.
pub(crate) fn loop_get_free(control: BorrowedFd<'_>) -> Result<u32> {
    // SAFETY: the request takes no argument and answers with its return value.
    unsafe { ioctl(control, ReturnsNumber::<{ LOOP_CTL_GET_FREE }>) }
}

/// `LOOP_CONFIGURE`: binds a loop device to a file, all at once.
pub(crate) fn loop_configure(device: BorrowedFd<'_>, config: loop_config) -> Result<()> {
    // SAFETY: the request reads one `loop_config`, which holds no pointers.
    unsafe {
        ioctl(
            device,
            Setter::<{ LOOP_CONFIGURE }, loop_config>::new(config),
        )
    }
}

/// `LOOP_CLR_FD`: unbinds a loop device now or, if it is in use, at its last close.
pub(crate) fn loop_clear(device: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request takes no argument.
    unsafe { ioctl(device, NoArg::<{ LOOP_CLR_FD }>::new()) }
}

/// `struct watchdog_info` of `linux/watchdog.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct WatchdogInfo {
    pub(crate) options: u32,
    pub(crate) firmware_version: u32,
    pub(crate) identity: [u8; 32],
}

/// `WDIOC_GETSUPPORT`: what this watchdog is and can do.
pub(crate) fn watchdog_support(device: BorrowedFd<'_>) -> Result<WatchdogInfo> {
    // SAFETY: the request writes one `watchdog_info`, any bytes of which are valid.
    unsafe { ioctl(device, Getter::<{ WDIOC_GETSUPPORT }, WatchdogInfo>::new()) }
}

/// `WDIOC_SETTIMEOUT`: asks for a time-out in seconds; the one chosen comes back.
pub(crate) fn watchdog_set_timeout(device: BorrowedFd<'_>, seconds: i32) -> Result<i32> {
    let mut chosen = seconds;
    // SAFETY: the request reads and writes one int.
    unsafe {
        ioctl(
            device,
            Updater::<{ WDIOC_SETTIMEOUT }, i32>::new(&mut chosen),
        )
    }?;
    Ok(chosen)
}

/// `WDIOC_GETTIMEOUT`: the time-out in seconds.
pub(crate) fn watchdog_timeout(device: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: the request writes one int.
    unsafe { ioctl(device, Getter::<{ WDIOC_GETTIMEOUT }, i32>::new()) }
}

/// `WDIOC_GETBOOTSTATUS`: why the box started, as `WDIOF_*` bits.
pub(crate) fn watchdog_boot_status(device: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: the request writes one int.
    unsafe { ioctl(device, Getter::<{ WDIOC_GETBOOTSTATUS }, i32>::new()) }
}

/// `WDIOC_KEEPALIVE`: starts the countdown anew.
pub(crate) fn watchdog_keep_alive(device: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the kernel ignores this request's argument.
    unsafe { ioctl(device, NoArg::<{ WDIOC_KEEPALIVE }>::new()) }
}

/// `mount_setattr` on the mount that `mount` is the root of, with all below it if `recursive`.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &mount_attr,
) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, and the kernel reads exactly the size given of `attributes`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(attributes),
            size_of::<mount_attr>(),
        )
    };
    result(answer).map(drop)
}

/// A child that does nothing until the writing end of its pipe is closed everywhere.
pub(crate) struct ParkedChild {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

/// Starts a child in a new user namespace that waits for the end of `park_reader`'s pipe, and then
/// ends. It sends no signal when it ends, and only [`wait_parked`] can reap it: no other waiter of
/// this process sees it.
pub(crate) fn park_in_new_userns(
    park_reader: BorrowedFd<'_>,
    park_writer: BorrowedFd<'_>,
) -> Result<ParkedChild> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all zeroes is a valid `clone_args`: no flags, no pointers.
    let mut args: clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(CLONE_NEWUSER | CLONE_PIDFD) | CLONE_CLEAR_SIGHAND;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    // SAFETY: without CLONE_VM the child has its own copy of this stack and memory, so this is a
    // fork: returning twice is sound. The child makes system calls only (it may have been cloned
    // from a process with threads, whose locks are held for ever in the copy) and never returns.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_mut(&mut args),
            size_of::<clone_args>(),
        )
    };
    let pid = result(answer)?;
    if pid == 0 {
        stay_parked(park_reader.as_raw_fd(), park_writer.as_raw_fd());
    }
    // SAFETY: the call succeeded with CLONE_PIDFD, so the kernel put a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(ParkedChild {
        pid: u32::try_from(pid).map_err(|_| Errno::RANGE)?,
        pidfd,
    })
}

/// Waits for a child of [`park_in_new_userns`], which sends no signal at its end (`__WALL`).
pub(crate) fn wait_parked(child: &ParkedChild) -> Result<()> {
    loop {
        // SAFETY: a null `siginfo_t` is allowed: nothing is written.
        let answer = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                libc::id_t::try_from(child.pidfd.as_fd().as_raw_fd()).map_err(|_| Errno::BADF)?,
                ptr::null_mut(),
                libc::WEXITED | libc::__WALL,
            )
        };
        match result(c_long::from(answer)) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

fn stay_parked(reader: RawFd, writer: RawFd) -> ! {
    let mut byte = 0_u8;
    // SAFETY: system calls only, on numbers of descriptors of this child's own table and a byte of
    // its own stack; `exit_group` does not return.
    unsafe {
        libc::syscall(libc::SYS_close, writer);
        libc::syscall(libc::SYS_read, reader, ptr::from_mut(&mut byte), 1);
        loop {
            libc::syscall(libc::SYS_exit_group, 0);
        }
    }
}

fn result(answer: c_long) -> Result<c_long> {
    if answer >= 0 {
        return Ok(answer);
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// A request without argument that answers with its return value.
struct ReturnsNumber<const OPCODE: Opcode>;

// SAFETY: no pointer is passed, so the kernel neither reads nor writes our memory.
unsafe impl<const OPCODE: Opcode> Ioctl for ReturnsNumber<OPCODE> {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        ptr::null_mut()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut std::ffi::c_void) -> Result<u32> {
        u32::try_from(answer).map_err(|_| Errno::RANGE)
    }
}
