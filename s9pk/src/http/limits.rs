//! Every bound on what a server may send, each with its reason.

/// Bytes of a response's status line and headers, at most: real ones stay under 4 KiB, servers
/// themselves cap requests at 8 to 32 KiB.
pub const HEAD_SIZE: usize = 32 << 10;

/// Headers of a response, at most: content networks send up to 40.
pub const HEADERS: usize = 100;

/// Bytes of the line that gives a chunk's size: sixteen digits and room for an extension.
pub const CHUNK_LINE: usize = 256;

/// Bytes of the fields behind the last chunk, at most. Nothing of them is used.
pub const TRAILER_SIZE: usize = 8 << 10;

/// Interim responses (`100 Continue`, `103 Early Hints`) before the real one, at most: servers send
/// one or two, and each could otherwise keep us waiting once more.
pub const INTERIM: u8 = 8;

/// Bytes of a URL, at most, also of one that a server redirects to: signed URLs of storage
/// providers have up to 2 KiB.
pub const URL_SIZE: usize = 8 << 10;

/// Bytes of an entity tag or date that is remembered: longer ones are not, which only means that a
/// change is noticed later, by hashes.
pub const VALIDATOR_SIZE: usize = 512;

/// Bytes taken of a file whose length no server says, at most: nobody knows whether it ends, and
/// it can't be resumed.
pub const UNSIZED: u64 = 4 << 30;
