//! Services: packages that run, each in a container of its own.
//!
//! Nothing here waits for the network or spawns anything: packages and what the box remembers go
//! in, plans for monitors and requests to PID 1 come out, and the same code can ask a hundred
//! times whether all is as it should be.
//!
//! | module | concept |
//! |---|---|
//! | [`spec`] | `service.toml`: how a package's author says the service runs |
//! | [`catalog`] | the packages on this box, verified and tied to their publishers |
//! | [`package`] | a verified package, and the plan for it |
//! | [`plan`] | what a monitor is to build: the whole container in one value |
//! | [`reconcile`] | what to ask of PID 1 so that what runs is what should run |
//! | [`view`] | a service as its owner sees it |
//! | [`report`] | what a container's agent says of itself |
//! | [`reader`] | a package file, verified to the last byte |
//! | [`registry`] | what the box remembers: each service's number, and whether it is to run |
//!
//! Which publisher's key each service has is kept by [`s9pk::trust`].

#![forbid(unsafe_code)]

pub mod catalog;
pub mod package;
pub mod plan;
pub mod ports;
pub mod reader;
pub mod reconcile;
pub mod registry;
pub mod report;
pub mod spec;
pub mod view;

pub use s9pk::{durable, trust};

/// The kernel modules that monitors need, to be loaded where they are not built in before the first
/// service is started: a kernel that looks for them itself finds no `modprobe`.
pub const MODULES: &[&str] = &["loop", "overlay", "squashfs"];
