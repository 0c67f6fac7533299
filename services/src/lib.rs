//! Services: packages that run, each in a container of its own.
//!
//! | module | concept |
//! |---|---|
//! | [`plan`] | what a monitor is to build: the whole container in one value |
//! | [`report`] | what a container's agent says of itself |

#![forbid(unsafe_code)]

pub mod plan;
pub mod report;
