//! What the tests of the whole box stand on.
//!
//! | module | concept |
//! |---|---|
//! | [`vm`] | a box in QEMU |
//! | [`front`] | the front door in this process, with a service behind it |
//! | [`venv`] | programs from PyPI |
//! | [`netns`] | machines, cables and real peers in network name spaces |

#![forbid(unsafe_code)]

pub mod front;
pub mod netns;
pub mod venv;
pub mod vm;
