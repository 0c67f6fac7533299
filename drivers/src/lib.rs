//! The hardware as the kernel shows it: what is there, and what must be loaded to use it.
//!
//! Most of it reads small files of /sys, which never touches a disk, and takes the folder's path as
//! an argument, so that tests have a /sys of their own. What can take long (loading a module probes
//! its devices) or can hang (reading a partition table) is marked as such and belongs in a helper
//! process, never in PID 1.
//!
//! | module | concept |
//! |---|---|
//! | [`uevent`] | the kernel's news of devices that come and go |
//! | [`coldplug`] | the devices that came before anybody listened |
//! | [`module`] | kernel modules: which one a device needs, what it depends on, loading |
//! | [`block`] | disks and partitions, found by label |
//! | [`gpt`] | a disk's partition table, with partition types |
//! | [`watchdog`] | which hardware watchdog to trust |
//! | [`clock`] | a clock that never goes back before what is known to have been |
//! | [`button`] | the power button |
//! | [`console`] | the kernel's consoles |
#![forbid(unsafe_code)]

pub mod block;
pub mod button;
pub mod clock;
pub mod coldplug;
pub mod console;
mod error;
pub mod gpt;
pub mod module;
mod sysfs;
pub mod uevent;
pub mod watchdog;

pub use error::Error;
