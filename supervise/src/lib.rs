//! Spawning, reaping, signalling and holding together the processes of a box.
//!
//! One supervisor owns every child: it forks with an explicit list of what the child keeps, watches
//! it by pidfd and `waitid`, puts it into a cgroup so that nothing it leaves behind can hide, and
//! restarts it with a back-off. The box's PID 1 and the agent in each container use the same code.
//!
//! | module | concept |
//! |---|---|
//! | [`unit`] | a supervised process: its name, its state, how it ended |
//! | [`status`] | what PID 1 publishes about the whole box |
//! | [`network`] | the network as its owner sets it and as it is shown |
//! | [`control`] | the control protocol between PID 1 and its roles: types and framing |
//! | [`spawn`] | starting a process with exactly what is listed |
//! | [`reaper`] | taking ended children off the kernel's hands |
//! | [`cgroup`] | control groups: limits, and ending all at once |
//! | [`backoff`] | when to start again |
//! | [`log`] | a log line's way out of a process: one write, never waited for |
//! | [`log_query`] | asking `logd` for lines |
//! | [`utc`] | instants as people write them |

pub mod backoff;
pub mod cgroup;
pub mod control;
mod fork;
pub mod log;
pub mod log_query;
pub mod network;
pub mod reaper;
pub mod spawn;
pub mod status;
pub mod unit;
pub mod utc;
