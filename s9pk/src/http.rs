//! HTTP/1.1 as far as fetching parts of a file takes it: one GET at a time, for one range.
//!
//! What the server sends is a stranger's word. [`response`] cuts it into head and body and
//! [`range`] holds it against what was asked, both without I/O and within the bounds of [`limits`].

pub mod limits;
pub mod range;
pub mod response;
