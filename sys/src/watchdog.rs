//! The hardware timer that resets the box when nobody feeds it.
//!
//! Opening the device starts the countdown. It is never closed with the magic `V` that would stop
//! it: whatever ends this process must end in a reset, unless a successor feeds in time.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Mode, OFlags};

use crate::{Error, raw};

/// An armed watchdog.
#[derive(Debug)]
pub struct Watchdog {
    path: PathBuf,
    device: OwnedFd,
}

impl Watchdog {
    /// Opens `/dev/watchdogN`, which arms it.
    ///
    /// # Errors
    /// EBUSY when somebody has it open.
    pub fn arm(path: &Path) -> Result<Self, Error> {
        let device = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::Open {
                path: path.to_owned(),
                errno,
            })?;
        Ok(Self::from_open(path, device))
    }

    /// Takes over a watchdog that is open and armed, from before a re-execution.
    pub fn from_open(path: &Path, device: OwnedFd) -> Self {
        Self {
            path: path.to_owned(),
            device,
        }
    }

    /// Starts the countdown anew. Never waits.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn feed(&self) -> Result<(), Error> {
        raw::watchdog_keep_alive(self.as_fd()).map_err(self.call("WDIOC_KEEPALIVE"))
    }

    /// Asks for a time-out, rounded up to whole seconds; the device chooses the nearest it can,
    /// which comes back.
    ///
    /// # Errors
    /// EINVAL when it is out of the device's range, EOPNOTSUPP when it is fixed.
    pub fn set_timeout(&self, wanted: Duration) -> Result<Duration, Error> {
        let seconds = wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0);
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        raw::watchdog_set_timeout(self.as_fd(), seconds)
            .map(seconds_of)
            .map_err(self.call("WDIOC_SETTIMEOUT"))
    }

    /// The time-out in force.
    ///
    /// # Errors
    /// EOPNOTSUPP when the device does not tell.
    pub fn timeout(&self) -> Result<Duration, Error> {
        raw::watchdog_timeout(self.as_fd())
            .map(seconds_of)
            .map_err(self.call("WDIOC_GETTIMEOUT"))
    }

    /// What the device calls itself.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn identity(&self) -> Result<String, Error> {
        let info = raw::watchdog_support(self.as_fd()).map_err(self.call("WDIOC_GETSUPPORT"))?;
        let end = info
            .identity
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(info.identity.len());
        Ok(String::from_utf8_lossy(&info.identity[..end]).into_owned())
    }

    /// Whether the box started because this device had reset it, as far as it knows.
    ///
    /// # Errors
    /// When the device does not tell.
    pub fn caused_last_boot(&self) -> Result<bool, Error> {
        let bits =
            raw::watchdog_boot_status(self.as_fd()).map_err(self.call("WDIOC_GETBOOTSTATUS"))?;
        Ok(bits & WDIOF_CARDRESET != 0)
    }

    fn call(&self, call: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error {
        Error::call(call, self.path.display().to_string())
    }
}

impl AsFd for Watchdog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn seconds_of(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// `WDIOF_CARDRESET` of `linux/watchdog.h`: the card reset the machine.
const WDIOF_CARDRESET: i32 = 0x20;

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_no_watchdog_says_so() {
        let dog = Watchdog::arm(Path::new("/dev/null")).unwrap();
        assert_eq!(dog.feed().unwrap_err().errno(), Some(Errno::NOTTY));
        assert_eq!(dog.identity().unwrap_err().errno(), Some(Errno::NOTTY));
        let error = dog.set_timeout(Duration::from_millis(10_001)).unwrap_err();
        assert!(error.to_string().contains("/dev/null"), "{error}");
    }
}
