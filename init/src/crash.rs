//! When PID 1 itself crashes: it executes itself anew, in place, with the same pid and children.
//!
//! | module | concept |
//! |---|---|
//! | [`epitaph`] | what is told of a crash |
//! | [`budget`] | how many crashes are borne before PID 1 does less |
//! | `handler` | from the fault to `execve`: the unsafe part |
//! | [`reserve`] | memory for the moment when there is none |
//! | `afresh` | what `execve` keeps and a fresh boot would not have |
//! | [`probation`] | back to the binary before, if a new one does not prove itself |
//!
//! The handler may only note what happened and execute: what the successor needs is in the
//! hand-over ([`crate::handover`]) at any time.

mod afresh;
pub mod budget;
pub mod epitaph;
#[cfg(feature = "fault")]
pub mod fault;
mod handler;
pub mod probation;
pub mod reserve;

pub use afresh::{WATCHED, begin_afresh};
pub(crate) use handler::MAX_KEPT;
pub use handler::{
    arm, execute_next, hold, keep_also, keep_only, own_program, protect_thread, reexecute,
};
