//! The clock that is kept right: the kernel's, or one that nobody else sees.

use rustix::time::{ClockId, clock_gettime};

use super::{Correction, packet::SECOND, peer::nanoseconds};
use crate::net::{
    clock::{self, Now},
    config::Clock,
};

/// A clock of the time of the day.
#[derive(Debug)]
pub(crate) struct Wall {
    clock: Clock,
}

impl Wall {
    /// The clock that is wanted.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock }
    }

    /// The clock less the time since boot, in nanoseconds.
    pub(crate) fn base(&self) -> i64 {
        match self.clock {
            Clock::Kernel => kernel_base(),
            Clock::Own(ahead) => kernel_base().saturating_add(ahead),
        }
    }

    /// Does what is to be done.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn correct(&mut self, correction: Correction) -> Result<(), String> {
        match (&mut self.clock, correction) {
            (Clock::Own(ahead), Correction::Step(by) | Correction::Slew { by, .. }) => {
                *ahead = ahead.saturating_add(by);
                Ok(())
            }
            (Clock::Kernel, Correction::Step(by)) => {
                sys::clock::step(by).map_err(|errno| errno.to_string())
            }
            (
                Clock::Kernel,
                Correction::Slew {
                    by,
                    interval,
                    max_error,
                },
            ) => sys::clock::steer(by, interval, max_error).map_err(|errno| errno.to_string()),
        }
    }
}

/// Two clocks can't be read at once: of some tries, the one that took the least.
fn kernel_base() -> i64 {
    let mut best = (Now::MAX, 0);
    for _ in 0..TRIES {
        let before = clock::now();
        let wall = clock_gettime(ClockId::Realtime);
        let took = clock::now().saturating_sub(before);
        if took < best.0 {
            let wall = wall
                .tv_sec
                .saturating_mul(SECOND)
                .saturating_add(wall.tv_nsec);
            best = (took, wall.saturating_sub(nanoseconds(before + took / 2)));
        }
        if took <= CLOSE {
            break;
        }
    }
    best.1
}

/// Reads that take longer were interrupted.
const CLOSE: Now = Now::from_micros(20);
const TRIES: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_our_own_is_moved_and_the_kernel_s_is_not() {
        let kernel = Wall::new(Clock::Kernel);
        let mut own = Wall::new(Clock::Own(-SECOND));
        own.correct(Correction::Step(3 * SECOND))
            .expect("it can be");
        own.correct(Correction::Slew {
            by: SECOND,
            interval: Now::from_secs(64),
            max_error: Now::ZERO,
        })
        .expect("it can be");
        let ahead = own.base() - kernel.base();
        assert!((ahead - 3 * SECOND).abs() < SECOND, "{ahead}");
    }
}
