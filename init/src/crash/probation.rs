//! While a new binary has to prove itself, whatever would execute PID 1 anew executes the binary
//! before it: a crash, a panic, the guard, an `exit`, and the end of its time, which an alarm tells.
//! So no thread has to be alive for the fall-back. The alarm comes sooner if the new binary does not
//! feed the hardware watchdog: that would cost the whole box.
//!
//! Between `execve` and [`take_up`], the first thing that is done, nothing helps but the hardware
//! watchdog; what a binary does there the trial has shown before.
#![allow(unsafe_code)]

use std::{
    ffi::c_int,
    mem, ptr,
    sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use super::{epitaph::Cause, handler};
use crate::handover::probation::{Identity, Probation};

/// How this binary came to be PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is gone back to, as the one after it did not prove itself.
    FellBack,
    /// It has nothing to prove.
    Settled,
    /// It has to prove itself.
    Unproven,
}

/// Finds out how this binary, open as `own`, came to be PID 1. If it has to prove itself, the
/// descriptor to execute otherwise is returned, and the alarm is set.
pub(super) fn take_up(own: c_int) -> Option<c_int> {
    let probation = Probation::read(handler::read_word)?;
    let is = |fd, identity| identity_of(fd) == Some(identity);
    if !is(own, probation.candidate) {
        STANDING.store(FELL_BACK, Ordering::Release);
        return None;
    }
    if !is(probation.fallback, probation.fallback_is) {
        // There is nothing to go back to.
        return None;
    }
    // SAFETY: sets a flag of an open descriptor, which this image keeps to itself.
    unsafe { libc::fcntl(probation.fallback, libc::F_SETFD, libc::FD_CLOEXEC) };
    // SAFETY: an all-zero sigaction is a valid one; the handler has the signature that is used
    // without SA_SIGINFO and keeps to what is safe in a handler.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_alarm as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigaction(libc::SIGALRM, &action, ptr::null_mut());
    }
    let until = probation.until.as_millis().try_into().unwrap_or(u64::MAX);
    UNTIL.store(until, Ordering::Release);
    put_off_alarm(crate::clock::boottime());
    FALLBACK.store(probation.fallback, Ordering::Release);
    STANDING.store(UNPROVEN, Ordering::Release);
    Some(probation.fallback)
}

/// How this binary came to be PID 1.
pub fn standing() -> Standing {
    match STANDING.load(Ordering::Acquire) {
        FELL_BACK => Standing::FellBack,
        UNPROVEN => Standing::Unproven,
        _ => Standing::Settled,
    }
}

/// The hardware watchdog has been fed, or would have been.
pub fn goes_on(now: Duration) {
    if standing() == Standing::Unproven {
        put_off_alarm(now);
    }
}

/// This binary has proven itself, or knows that it was gone back to: from now on it is the one that
/// is executed anew.
pub fn is_settled() {
    handler::execute_ourselves();
    if STANDING.swap(SETTLED, Ordering::AcqRel) != UNPROVEN {
        return;
    }
    set_alarm(0, 0);
    // SAFETY: sets the default action, and closes a descriptor that nobody else knows.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::close(FALLBACK.swap(-1, Ordering::AcqRel));
    }
}

/// If this binary has to prove itself, it has not: the one before is executed.
pub fn give_up() {
    if standing() == Standing::Unproven {
        super::reexecute(Cause::Unreadable, "main");
    }
}

/// What the kernel calls what is open as `fd`, if anything is.
pub fn identity_of(fd: c_int) -> Option<Identity> {
    // SAFETY: an all-zero stat is a valid one, and the kernel fills it.
    let (result, stat) = unsafe {
        let mut stat: libc::stat = mem::zeroed();
        (libc::fstat(fd, &mut stat), stat)
    };
    (result == 0).then_some(Identity {
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

extern "C" fn on_alarm(_: c_int) {
    super::reexecute(Cause::Unconfirmed, "main");
}

fn put_off_alarm(now: Duration) {
    let until = Duration::from_millis(UNTIL.load(Ordering::Acquire));
    let left = until.saturating_sub(now).min(UNFED);
    // Zero would set none.
    set_alarm(
        left.as_secs() as libc::time_t,
        (left.subsec_micros() as libc::suseconds_t).max(1),
    );
}

fn set_alarm(seconds: libc::time_t, microseconds: libc::suseconds_t) {
    let timer = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: seconds,
            tv_usec: microseconds,
        },
    };
    // SAFETY: the kernel reads the timer.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
}

static STANDING: AtomicU8 = AtomicU8::new(SETTLED);
static FALLBACK: AtomicI32 = AtomicI32::new(-1);
/// When all of its time is up, in milliseconds since the kernel started.
static UNTIL: AtomicU64 = AtomicU64::new(0);
/// Half of the hardware watchdog's time: the binary before has to feed it before that is up.
const UNFED: Duration = Duration::from_secs(15);
const SETTLED: u8 = 0;
const UNPROVEN: u8 = 1;
const FELL_BACK: u8 = 2;
