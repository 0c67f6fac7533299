//! The box's name server: what it knows by itself, what it keeps, and whom it asks, as a state
//! machine without sockets or clocks; and beside it the sockets.
//!
//! It is a forwarder with a cache, for the services on the bridge, the box itself and, if its owner
//! wants it, the LAN; never for anybody else. What others say it passes on as bytes, and keeps under
//! the very question that it answers: an upstream that lies can lie about nothing but what it was
//! asked.
//!
//! | module | concept |
//! |---|---|
//! | `wire` | messages as bytes |
//! | `answer`, `cache` | what others said, kept for its time and a while longer |
//! | `internal` | `pilot.internal` and other names that nobody else is asked about |
//! | `forward`, `upstream`, `chance` | who is asked, in which order, and who is believed |
//! | `resolver` | all of it together: a question in, an answer out |
//! | `clients`, `lines`, `frames`, `tls` | sockets of those who ask and of those who are asked |
//! | `service` | resolver and sockets on the loop of `names` |
//! | `stub` | questions of the box's own |
//! | `config`, `status` | what should be, what is |

mod answer;
mod cache;
mod chance;
mod clients;
mod config;
mod forward;
mod frames;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod internal;
mod lines;
mod resolver;
mod service;
mod status;
pub(crate) mod stub;
#[cfg(test)]
mod tests;
mod tls;
mod upstream;
pub(crate) mod wire;

pub use config::{DnsConfig, DnsSettings, NameServer, Privacy};
pub(super) use service::{Service, from_token};
pub use status::{DnsStatus, ServerStatus};
