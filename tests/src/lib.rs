//! What the tests of the whole box stand on.
//!
//! | module | concept |
//! |---|---|
//! | [`vm`] | a box in QEMU |
//! | [`load`] | requests at a steady rate |
//! | [`netns`] | machines, cables and real peers in network name spaces |

#![forbid(unsafe_code)]

pub mod load;
pub mod netns;
pub mod vm;
