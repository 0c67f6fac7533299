//! HTTP/1.1 as far as fetching parts of a file takes it: one GET at a time, for one range.
//!
//! What the server sends is a stranger's word. [`response`] cuts it into head and body and
//! [`range`] holds it against what was asked, both without I/O and within the bounds of [`limits`].
//! An origin asks the mirrors in order, resumes what breaks and notices what changes; [`Remote`]
//! reads a package with it, and [`Download`](crate::Download) fetches one.

mod address;
mod cancel;
mod client;
mod connection;
mod error;
pub mod limits;
mod mirrors;
mod origin;
pub mod range;
mod remote;
mod request;
pub mod response;

pub use self::{
    address::{Url, UrlError, is_url},
    cancel::Cancel,
    client::{LONGEST_PAUSE, Settings, pem_roots, web_roots},
    error::FetchError,
    remote::Remote,
};
pub(crate) use self::{
    origin::{GAP, Origin},
    remote::{Keep, LEAD, read_through},
};
