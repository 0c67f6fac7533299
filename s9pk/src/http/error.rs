//! What can go wrong on the way to a file, as sentences.

use std::{io, time::Duration};

use crate::http::{address::UrlError, response::Violation};

/// Why bytes could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL to fetch from, or a redirection to one that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No URL was given at all.
    #[error("no address to fetch from was given")]
    NoUrl,
    /// The certificates to trust can't be used.
    #[error("the certificates to trust can't be used: {0}")]
    Roots(String),
    /// Somebody called [`Cancel::cancel`](crate::http::Cancel::cancel).
    #[error("the transfer was cancelled")]
    Cancelled,
    /// There is no connection to the server.
    #[error("{host} can't be reached: {source}")]
    Connect {
        /// The server.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {host} broke: {source}")]
    Broken {
        /// The server.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The server has stopped sending, or sends next to nothing.
    #[error("{host} sent nothing, or next to nothing, for {seconds} seconds")]
    Silent {
        /// The server.
        host: String,
        /// For how long.
        seconds: u64,
    },
    /// The server breaks the protocol.
    #[error("{url} can't be fetched from there: {violation}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What the server did.
        violation: Violation,
    },
    /// The server says no.
    #[error("{url}: the server says {status}, {meaning}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// What that means, and what to do.
        meaning: &'static str,
        /// Whether it may be different soon.
        temporary: bool,
        /// How long the server wishes not to be asked again.
        after: Option<Duration>,
    },
    /// One redirection after another.
    #[error("{url} leads from one address to the next without end")]
    Redirects {
        /// Where it began.
        url: String,
    },
    /// It is not the file that was there before, or at the other mirrors.
    #[error("{url} is no longer the file that was begun: it was changed there, fetch it anew")]
    Changed {
        /// The URL.
        url: String,
    },
    /// What came is not what was signed.
    #[error("{url} sends bytes that are not those of the package: {path} is damaged there")]
    Damaged {
        /// The URL.
        url: String,
        /// The entry.
        path: String,
    },
    /// A file without a known length that does not end.
    #[error("{url} does not say how long the file is, and sent more than {limit} bytes")]
    Endless {
        /// The URL.
        url: String,
        /// How much is taken.
        limit: u64,
    },
    /// More than one server was tried.
    #[error("no server could send it: {}", all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    All {
        /// What went wrong with each.
        all: Vec<Self>,
    },
    /// What came can't be kept.
    #[error("what was fetched can't be kept: {0}")]
    Keep(#[source] io::Error),
}

impl FetchError {
    /// Whether it may go better in a moment.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } | Self::Silent { .. } => true,
            Self::Answer { violation, .. } => *violation == Violation::Short,
            Self::Refused { temporary, .. } => *temporary,
            _ => false,
        }
    }

    /// Whether the file is another one now than when it was begun, and no server will have the old
    /// one again.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Changed { .. } => true,
            Self::All { all } => {
                all.iter().any(Self::is_change) && !all.iter().any(Self::is_temporary)
            }
            _ => false,
        }
    }

    /// Whether another server is of no use either.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Cancelled | Self::Keep(_) | Self::NoUrl | Self::Roots(_)
        )
    }

    /// The fetch error that a read over HTTP failed with.
    pub(crate) fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast()
    }
}

impl From<FetchError> for io::Error {
    fn from(error: FetchError) -> Self {
        Self::other(error)
    }
}

/// What a status code means to whoever wants a file.
pub(crate) fn meaning(status: u16) -> &'static str {
    match status {
        401 | 407 => "a login is needed, which is not supported",
        403 => "access is forbidden: the address may have run out, get a new one",
        404 | 410 => "there is no such file: check the address",
        408 | 425 | 429 => "it has too much to do: try again later",
        500..=599 => "it has a problem of its own: try again later",
        _ => "which is no file: check the address",
    }
}
