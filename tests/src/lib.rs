//! What the tests of the whole box stand on.
//!
//! | module | concept |
//! |---|---|
//! | [`chrome`] | a browser |
//! | [`vm`] | a box in QEMU |
//! | [`kit`] | what it is made of before it boots |
//! | [`package`] | packages that misbehave |
//! | [`stalls`] | ways to wedge a pool |
//! | [`front`] | the front door in this process, with a service behind it |
//! | [`venv`] | programs from PyPI |
//! | [`load`] | requests at a steady rate |
//! | [`strace`] | a thread whose system calls are seen, or fail |
//! | [`native`] | our PID 1 in name spaces of its own |
//! | [`owner`] | the box's owner at the emergency page |
//! | [`netns`] | machines, cables and real peers in network name spaces |
//! | [`dhcp`] | the DHCP servers of routers

#![forbid(unsafe_code)]

pub mod chrome;
pub mod dhcp;
pub mod front;
pub mod kit;
pub mod load;
pub mod native;
pub mod netns;
pub mod owner;
pub mod package;
pub mod stalls;
pub mod strace;
pub mod venv;
pub mod vm;
