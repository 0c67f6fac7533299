//! S9PK v2, the package format: a signed Merkle archive that can be read in parts.
//!
//! Packages come from anywhere, and anyone can sign one, so a valid signature says nothing about
//! the sizes, names and positions inside. Everything here is checked before it is allocated or
//! followed, nothing recurses, and no name of a package is ever joined to a path of the host but
//! through [`extract`]. The core does no I/O: [`header`] and [`toc`] parse bytes, [`tree::Loader`]
//! says which bytes it wants next, and [`archive::Archive`] fetches them from a [`source::ReadAt`].
//!
//! Reading: [`Archive::open`] checks header, signature, all tables and the manifest;
//! [`Archive::verify`] every file; [`Archive::validate`] that the content is a package for an
//! architecture. Whose key it is signed with is for [`trust`] to say. Writing: [`Draft`] and [`pack`], byte for byte as the format's own packer does.

#![forbid(unsafe_code)]

pub mod archive;
mod bytes;
pub mod content;
mod coverage;
mod download;
pub mod draft;
pub mod durable;
pub mod error;
pub mod extract;
pub mod hash;
pub mod header;
mod hex;
pub mod http;
pub mod key;
mod layout;
mod left_out;
pub mod limits;
pub mod locale;
pub mod manifest;
pub mod profile;
mod range;
pub mod request;
pub mod rewrite;
pub mod sign;
pub mod source;
pub mod toc;
pub mod tree;
pub mod trust;
pub mod varint;
mod verify;
pub mod version;
pub mod writer;

pub use archive::Archive;
pub use content::Validated;
pub use download::{Download, DownloadError, Outcome, Progress};
pub use draft::{Content, Draft};
pub use error::Error;
pub use hash::Hash;
pub use key::{Key, PublicKey};
pub use left_out::LeftOut;
pub use manifest::{Id, Manifest};
pub use profile::{Deviation, Profile};
pub use sign::Commitment;
pub use source::{Extent, ReadAt, Seekable};
pub use version::{ExtendedVersion, Version, VersionRange};
pub use writer::pack;
