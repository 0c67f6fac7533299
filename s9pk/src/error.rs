//! What can be wrong with a package, as sentences: where it is wrong, and what to do about it.

use std::{io, path::PathBuf};

use crate::{hash::Hash, profile::Deviation};

/// Why a package could not be read, verified or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first bytes belong to another kind of file.
    #[error("this is not an S9PK package but {what}: {remedy}")]
    NotAPackage {
        /// What the first bytes say it is.
        what: &'static str,
        /// What to do with it.
        remedy: &'static str,
    },
    /// S9PK v1, of which only magic and extension are the same.
    #[error("this is a package of the old format S9PK v1: ask its publisher for an S9PK v2 file")]
    OldFormat,
    /// A format version that did not exist when this was written.
    #[error(
        "this is an S9PK package of version {0}, but only version 2 can be read: update the box first"
    )]
    UnknownFormat(u8),
    /// The source has no byte where something should be.
    #[error("{what} lies at bytes {position} to {end}, but the file ends at byte {length}: it was cut short or altered, fetch it again",
        end = u128::from(*position) + u128::from(*size))]
    Truncated {
        /// What lies there.
        what: String,
        /// Its first byte.
        position: u64,
        /// Its length in bytes.
        size: u64,
        /// The file's length in bytes.
        length: u64,
    },
    /// The signer's public key is no point of the curve.
    #[error(
        "the public key in the header (byte 3) is not a valid Ed25519 key: the file was altered, fetch it again"
    )]
    BadSigner,
    /// The signature does not cover this root.
    #[error(
        "the signature in the header (byte 35) does not belong to this content and the key {signer}: the file was altered, fetch it again"
    )]
    BadSignature {
        /// The key that the header names, in hexadecimal.
        signer: String,
    },
    /// It is a sound package, but not the one that was asked for.
    #[error(
        "this is another package than the one asked for: its root is {got}, wanted was {wanted}"
    )]
    WrongRoot {
        /// The root that was asked for.
        wanted: Hash,
        /// The root of this file.
        got: Hash,
    },
    /// A table's size breaks a limit or its own signed size.
    #[error(
        "the table of contents of {path} (byte {position}) has {size} bytes, allowed are {limit} ({reason})"
    )]
    TocTooLarge {
        /// The directory.
        path: String,
        /// Where its table lies.
        position: u64,
        /// The table's size in bytes.
        size: u64,
        /// The size allowed.
        limit: u64,
        /// Which limit that is.
        reason: &'static str,
    },
    /// A table can't be parsed.
    #[error("the table of contents is damaged at byte {offset}: {problem}")]
    Toc {
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A table is not the one that was signed.
    #[error(
        "the table of contents of {path} (byte {position}) is not the one that was signed: the file was altered, fetch it again"
    )]
    TocHash {
        /// The directory.
        path: String,
        /// Where its table lies.
        position: u64,
    },
    /// Directories in directories, too many levels.
    #[error("{path} is nested deeper than {limit} levels, which no package needs")]
    TooDeep {
        /// The directory.
        path: String,
        /// Levels allowed.
        limit: u16,
    },
    /// A file is not the one that was signed.
    #[error(
        "{path} (byte {position}) is not the file that was signed: the package was altered or damaged, fetch it again"
    )]
    FileHash {
        /// The file.
        path: String,
        /// Where it lies.
        position: u64,
    },
    /// A file that is read into memory is larger than it may be.
    #[error("{path} has {size} bytes, at most {limit} are read")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The size allowed.
        limit: u64,
    },
    /// There is no such entry.
    #[error("{path} is not in the package")]
    Absent {
        /// The path looked for.
        path: String,
    },
    /// The entry's content was left out of this file.
    #[error(
        "{path} was left out of this file (it may have been filtered for another architecture): get the whole package"
    )]
    LeftOut {
        /// The entry.
        path: String,
    },
    /// A directory where a file should be, or the other way round.
    #[error("{path} should be a {wanted} and is not")]
    WrongKind {
        /// The entry.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// `manifest.json` is not a manifest.
    #[error("manifest.json is not a valid manifest: {0}")]
    Manifest(#[source] serde_json::Error),
    /// The content is not a package for the architecture.
    #[error("the package's content is not complete: {0}")]
    Content(String),
    /// The format's own reader would take it, the strict profile does not.
    #[error("{0}")]
    Strict(Deviation),
    /// A key file can't be used.
    #[error("the key can't be used: {0}")]
    Key(String),
    /// A name can't be packed.
    #[error("{path} can't be packed: {problem}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file was changed while it was packed.
    #[error("{path} had {expected} bytes when packing began and changed meanwhile: pack again")]
    Changed {
        /// The path in the package.
        path: String,
        /// Its size when packing began.
        expected: u64,
    },
    /// A path of the host can't be packed or written to.
    #[error("{path}: {problem}")]
    HostPath {
        /// The path on this machine.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// Says what was being done when `source` happened.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io {
            what: what.into(),
            source,
        }
    }
}
