//! What the tests of the whole box stand on.
//!
//! | module | concept |
//! |---|---|
//! | [`chrome`] | a browser |
//! | [`vm`] | a box in QEMU |
//! | [`native`] | our PID 1 in name spaces of its own |
//! | [`netns`] | machines, cables and real peers in network name spaces |

#![forbid(unsafe_code)]

pub mod chrome;
pub mod native;
pub mod netns;
pub mod vm;
