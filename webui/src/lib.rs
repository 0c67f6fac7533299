//! The dashboard: the API and the one page that is made of it.
//!
//! Runs on the manager's Tokio pool and listens on Unix sockets only, the door stands before it.
//! It shows what PID 1 publishes and asks its [`Host`] for everything else, touches no disk, and so
//! is up before data is mounted and when it can't be.
//!
//! | module | concept |
//! |---|---|
//! | [`host`] | what the dashboard needs of the manager |
//! | [`document`] | the JSON document that the page shows, made from the host's snapshot |
//! | `feed` | the document's changes as numbered JSON Patches, for any number of sockets |
//! | `socket` | one browser's WebSocket: a dump, then patches, and a heartbeat |
//! | `rpc` | JSON-RPC 2.0: what is a request, what is an error |
//! | `methods` | the API's methods, and their machine-readable description |
//! | `api` | `POST /api`: who calls, whether they may, what comes of it |
//! | `auth` | who may change something: the setup code and its throttle |
//! | `origin` | requests that another site made a browser send are refused |
//! | `http` | paths, headers, and who gets what |
//! | `assets` | the page's files, embedded at build time |
//! | [`metrics`] | load and memory, as the kernel tells them |

#![forbid(unsafe_code)]

mod api;
mod assets;
mod auth;
pub mod document;
mod feed;
pub mod host;
mod http;
mod methods;
pub mod metrics;
mod origin;
mod rpc;
mod serve;
mod socket;
mod upload;

pub use host::{
    Asked, Host, Interface, LogLine, ServiceCommand, ServiceState, ServiceView, Snapshot,
};
pub use serve::{Listeners, ServeError, serve};
