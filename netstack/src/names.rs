//! Names, one mio loop on a thread of the front. Multicast DNS, so that `https://<hostname>.local/`
//! works on every LAN without anybody's help, and the box and its services are found by browsing for
//! `_https._tcp`. And DNS, for the box and its services, which find each other as
//! `<id>.pilot.internal`, and everybody else by asking others.
//!
//! Like the door it needs nobody: it goes on with what it was last told.
//!
//! | module | concept |
//! |---|---|
//! | `command`, `engine`, `sockets` | the loop, how it is told, the sockets of a link |
//! | `dns` | the name server |
//! | `mdns` | the responder, without sockets or clocks |
//! | `zone` | what is published, as records |

mod command;
pub(crate) mod dns;
mod engine;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing {
    pub use super::{dns::fuzzing::dns, mdns::fuzzing::mdns};
}
mod mdns;
mod sockets;
mod zone;

pub use command::{Command, QUEUE, Receiver, Sender, channel};
pub use dns::{DnsConfig, DnsSettings, DnsStatus, NameServer, Privacy, ServerStatus};
pub use engine::run;
pub use zone::{Published, Site};

/// What the loop is given when it starts.
pub struct Setup {
    /// Takes a sentence for the log, and must not wait.
    pub log: Box<dyn FnMut(&str) + Send>,
    /// Is told the host name that the box has on its links: the one wanted, or the next that
    /// nobody else has. Must not wait.
    pub on_hostname: Box<dyn FnMut(&str) + Send>,
    /// Is told how the name server does: soon after somebody whom it asks falls silent or is back,
    /// and now and then while it has work. Must not wait.
    pub on_dns: Box<dyn FnMut(&DnsStatus) + Send>,
}
