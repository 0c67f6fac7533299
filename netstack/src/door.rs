//! The front door: TLS, and a reverse proxy to the dashboard and the services.
//!
//! It runs on one mio loop in an unprivileged process of its own, so that whatever becomes of the
//! rest of the box, it answers: with the service asked for, or with a page that says what is wrong.
//! It is told what to do over a channel ([`channel`]) and keeps its last configuration when nobody
//! tells it anything any more. It must never wait for anyone but `poll`: no lock, no blocking
//! write, no name resolution, no file.
//!
//! | module | concept |
//! |---|---|
//! | [`config`], [`view`], [`command`] | what the door is told |
//! | `engine`, `listen`, `serve` | the loop; who gets in; what is done for one client |
//! | `client`, `link`, `socket` | connections to clients and to places behind the door |
//! | `talk`, `session`, `http2` | a conversation, in one version of HTTP or the other |
//! | `exchange`, `flow` | one request in it, and its bytes: no I/O, no clock |
//! | `head`, `request`, `response`, `body` | HTTP/1.1, read strictly and written anew |
//! | `vhost`, `site` | which request goes where |
//! | `page`, `emergency` | pages that the door makes itself |
//! | `limits`, `census`, `ballast`, `wheel` | how much, for whom, and for how long |
//! | `tls`, `x25519`, `secure`, `hello` | certificates; keys; records; what a client asks for |
//! | `access`, `buffer` | the access log; bytes |

use std::{net::TcpListener, time::Instant};

mod access;
mod ballast;
mod body;
mod buffer;
mod census;
mod client;
pub mod command;
pub mod config;
#[cfg(test)]
mod conversations;
mod emergency;
mod engine;
mod exchange;
mod flow;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod head;
mod hello;
mod http2;
mod limits;
mod link;
mod listen;
mod page;
mod request;
mod response;
mod secure;
mod serve;
mod session;
mod site;
mod socket;
mod talk;
mod tls;
mod vhost;
pub mod view;
mod wheel;
mod x25519;

pub use command::{Command, Receiver, SendError, Sender, channel};
pub use config::{DoorConfig, Identity, Route, RouteKind, Upstream};
pub use limits::Limits;
pub use page::{STYLE, escape};
pub use view::{EmergencyView, LineState, RoleLine};

/// What the door begins with.
pub struct Setup {
    /// The plain loopback socket on which the guard asks for `/health`.
    pub probe: Option<TcpListener>,
    /// How much it takes on; fewer connections if the process may not open enough descriptors.
    pub limits: Limits,
    /// Takes its log, a line at a time. It must not wait.
    pub log: Box<dyn FnMut(&str) + Send>,
}

/// Why the door could not open, or had to close.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No throw-away certificate could be made.
    #[error("The door's own certificate could not be made. {0}")]
    Certificate(#[from] crate::ca::CaError),
    /// Certificate and key do not fit.
    #[error("The certificate can't be used: {0}.")]
    Identity(rustls::Error),
    /// The probe's socket can't be listened on.
    #[error("The health probe's socket can't be listened on: {0}.")]
    Listen(std::io::Error),
    /// The loop's wait failed.
    #[error("The door can't wait for its sockets: {0}. It has to be started anew.")]
    Poll(std::io::Error),
    /// The receiver was used for another door already.
    #[error("A door's channel can be used only once.")]
    Used,
    /// TLS could not be set up.
    #[error("TLS can't be set up: {0}.")]
    Tls(rustls::Error),
}

/// Opens the door and keeps it open until [`Command::Shutdown`].
///
/// It listens on nothing but the probe until it is told to, and goes to nobody but its own pages
/// until it is configured. The calling thread is its loop.
///
/// # Errors
/// When it can't open, or its loop breaks; then start another with the sockets that are kept.
pub fn run(setup: Setup, mut receiver: Receiver) -> Result<(), DoorError> {
    let poll = receiver.poll.take().ok_or(DoorError::Used)?;
    engine::Engine::new(poll, setup, Instant::now())?.run(&receiver)
}
