//! Signed releases of the box's own programs: what a running box may be upgraded to.
//!
//! | module | concept |
//! |---|---|
//! | [`seal`] | the signature behind a program's last byte, and whom it is believed |
//! | [`program`] | whether bytes are a program that can be PID 1 here |

#![forbid(unsafe_code)]

pub mod program;
pub mod seal;

pub use program::Unfit;
pub use seal::{SealError, Sealed, keys, open, seal};

/// The longest program that is looked at, in bytes: several times today's.
pub const MAX_PROGRAM: u64 = 64 << 20;

/// Where a root says whose releases its box trusts: a public key in hexadecimal on each line.
pub const TRUSTED: &str = "/etc/pilotlight/release.pub";
