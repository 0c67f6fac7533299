//! Services: packages that run, each in a container of its own.
//!
//! Nothing here waits for the network or spawns anything: packages and what the box remembers go
//! in, plans for monitors and requests to PID 1 come out, and the same code can ask a hundred
//! times whether all is as it should be.
//!
//! | module | concept |
//! |---|---|
//! | [`spec`] | `service.toml`: how a package's author says the service runs |
//! | [`plan`] | what a monitor is to build: the whole container in one value |
//! | [`report`] | what a container's agent says of itself |
//! | [`registry`] | what the box remembers: each service's number, and whether it is to run |
//! | [`keys`] | which publisher's key each service has |
//! | [`durable`] | files that survive a power cut |

#![forbid(unsafe_code)]

pub mod durable;
pub mod keys;
pub mod plan;
pub mod registry;
pub mod report;
pub mod spec;
