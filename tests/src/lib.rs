//! What the tests of the whole box stand on.
//!
//! | module | concept |
//! |---|---|
//! | [`chrome`] | a browser |
//! | [`vm`] | a box in QEMU |
//! | [`kit`] | what it is made of before it boots |
//! | [`package`] | packages that misbehave |
//! | [`load`] | requests at a steady rate |
//! | [`netns`] | machines, cables and real peers in network name spaces |

#![forbid(unsafe_code)]

pub mod chrome;
pub mod kit;
pub mod load;
pub mod netns;
pub mod package;
pub mod vm;
