//! What the tests of the whole box stand on.
//!
//! | module | concept |
//! |---|---|
//! | [`chrome`] | a browser |
//! | [`vm`] | a box in QEMU |
//! | [`netns`] | machines, cables and real peers in network name spaces |

#![forbid(unsafe_code)]

pub mod chrome;
pub mod netns;
pub mod vm;
