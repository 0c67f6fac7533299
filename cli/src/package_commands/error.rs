//! What can go wrong with a package on the command line, as sentences.

use std::{
    io,
    path::{Path, PathBuf},
};

use s9pk::trust::TrustError;

/// Why a command about packages failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackageError {
    /// The package, or a file for it.
    #[error("{}: {source}", path.display())]
    Package {
        /// The package or key.
        path: PathBuf,
        /// What is wrong with it.
        source: s9pk::Error,
    },
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The package can't be fetched.
    #[error(transparent)]
    Fetch(#[from] s9pk::http::FetchError),
    /// The package can't be downloaded.
    #[error(transparent)]
    Download(#[from] s9pk::DownloadError),
    /// The `service.toml` can't be packed.
    #[error("{}: {problem}", path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// There is no making an image of this.
    #[error("{}: {why}", path.display())]
    Image {
        /// The source.
        path: PathBuf,
        /// Why, and the remedy.
        why: String,
    },
    /// It is not clear whose it is.
    #[error("{}: {source}", path.display())]
    Trust {
        /// The package, or the store.
        path: PathBuf,
        /// Why.
        source: Box<TrustError>,
    },
    /// There is no place for what is remembered.
    #[error("neither HOME nor XDG_CONFIG_HOME is set: name the file of trusted keys with --store")]
    NoStore,
    /// What was found does not fit into JSON.
    #[error("the package can't be shown as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl PackageError {
    /// Says which package or store `source` is about.
    pub(crate) fn trust(path: &Path) -> impl FnOnce(TrustError) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::Trust {
            path,
            source: Box::new(source),
        }
    }

    /// Says which file `source` happened to.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.as_ref().to_owned(),
            source,
        }
    }
}

/// Says which package or key `source` is about.
pub(crate) fn at(path: &Path) -> impl FnOnce(s9pk::Error) -> PackageError {
    move |source| PackageError::Package {
        path: path.to_owned(),
        source,
    }
}
