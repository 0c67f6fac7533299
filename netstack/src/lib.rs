//! The box's network: loops on mio, each on a thread of its own and apart from any runtime, so that
//! no stall elsewhere can silence the box.
//!
//! Every protocol is a state machine without sockets or clocks; the loops around them carry bytes
//! and time in and out. A loop is told what should be, makes it so again and again, and goes on
//! with the last it was told when everybody else is dead.
//!
//! | module | where it runs | concept |
//! |---|---|---|
//! | [`ca`] | manager | the box's own certificate authority |
//! | [`door`] | thread of the front | TLS, reverse proxy, health and emergency pages |
//! | [`names`] | thread of the front | multicast DNS; the name server of box and services |
//! | [`net`] | thread of PID 1 | links, DHCP, addresses and routes, the time, the services' bridge, NAT |

#![forbid(unsafe_code)]

pub mod ca;
pub mod door;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod names;
pub mod net;
