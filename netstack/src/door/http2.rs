//! HTTP/2 towards clients (RFC 9113), without I/O and without a clock.
//!
//! A [`Connection`] takes the bytes that the client sent, gives the bytes that it is to get, and
//! holds one [`Stream`] for each request under way. A stream is a conversation like one over
//! HTTP/1.1: it asks for a connection to a place and speaks HTTP/1.1 there, so what is behind the
//! door need not know HTTP/2. Nothing is pushed, priorities are read and ignored, trailers dropped.
//!
//! | module | concept |
//! |---|---|
//! | `connection` | streams and their turns, frames out, the end of it all |
//! | `connection::incoming` | frames in: windows, settings, requests |
//! | `stream` | one request and its answer |
//! | `message` | a field section as a request |
//! | `patience` | what a client may do that costs us and brings it nothing |
//! | `frame`, `hpack`, `huffman` | the formats |

mod connection;
#[cfg(test)]
mod conversations;
mod frame;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
pub(super) mod hpack;
mod huffman;
mod message;
mod patience;
mod stream;

pub(super) use connection::Connection;
