//! The kernel's clock of the day, moved at once or steered without a jump (adjtimex(2)).
#![allow(unsafe_code)]

use std::time::Duration;

use rustix::io::Errno;

/// Moves the clock by so many nanoseconds at once. The kernel takes its time for unsynchronised
/// until it is [steered](steer).
///
/// # Errors
/// `EPERM` without `CAP_SYS_TIME`; `EINVAL` for a time that the kernel can't hold, or one earlier
/// than its start would be in 1970.
pub fn step(nanoseconds: i64) -> Result<(), Errno> {
    let mut change = unchanged();
    change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO | libc::ADJ_STATUS;
    // The loop begins anew with the next steering: it learns the rate from the time between two of
    // them, by the very clock that is moved here, and a step back would be learned as a wild rate.
    change.status = libc::STA_UNSYNC;
    change.time.tv_sec = nanoseconds.div_euclid(SECOND) as libc::time_t;
    // In nanoseconds, as `ADJ_NANO` says, and never negative.
    change.time.tv_usec = nanoseconds.rem_euclid(SECOND) as libc::suseconds_t;
    adjust(change)
}

/// Has the kernel bring the clock nearer by so many nanoseconds, half a second at most, and learn
/// its rate from it. It is done within `interval`, which is the time to the next such call; 16 s
/// to 4 h. The kernel takes its time for right, to `max_error`, from then on, and sets the hardware
/// clock by it.
///
/// # Errors
/// `EPERM` without `CAP_SYS_TIME`.
pub fn steer(nanoseconds: i64, interval: Duration, max_error: Duration) -> Result<(), Errno> {
    let mut change = unchanged();
    change.modes = libc::ADJ_OFFSET
        | libc::ADJ_NANO
        | libc::ADJ_STATUS
        | libc::ADJ_TIMECONST
        | libc::ADJ_MAXERROR
        | libc::ADJ_ESTERROR;
    change.status = libc::STA_PLL;
    change.offset = nanoseconds.clamp(-SECOND / 2, SECOND / 2) as libc::c_long;
    change.constant = constant(interval);
    let error = libc::c_long::try_from(max_error.as_micros()).unwrap_or(libc::c_long::MAX);
    change.maxerror = error;
    change.esterror = error;
    adjust(change)
}

/// The loop's time constant. What is left shrinks by a factor of e in 2^(constant + 2) seconds, so
/// in a quarter of the interval.
fn constant(interval: Duration) -> libc::c_long {
    let exponent = interval.as_secs().max(1).ilog2();
    libc::c_long::from(exponent.saturating_sub(4).min(CONSTANT_MAX))
}

fn unchanged() -> libc::timex {
    // SAFETY: `timex` is integers alone, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn adjust(mut change: libc::timex) -> Result<(), Errno> {
    // SAFETY: the kernel reads and writes one `timex`, which lives through the call.
    let result = unsafe { libc::adjtimex(&mut change) };
    if result != -1 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// Nanoseconds.
const SECOND: i64 = 1_000_000_000;
/// `MAXTC` of `linux/timex.h`.
const CONSTANT_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_gone_within_the_interval() {
        let of = |seconds| constant(Duration::from_secs(seconds));
        assert_eq!([of(0), of(16), of(64), of(1024)], [0, 0, 2, 6]);
        assert_eq!(of(1 << 20), 10);
    }

    #[test]
    fn nothing_to_change_is_no_error() {
        // Reads the clock's state: no mode is set.
        adjust(unchanged()).unwrap();
    }
}
