//! The box's own certificate authority on data, and the door's certificate signed by it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use netstack::{
    ca::{Authority, CaError},
    door::Identity,
};
use services::durable;

/// The authority with the identity last issued.
pub(super) struct Issuer {
    authority: Authority,
    names: BTreeSet<String>,
    identity: Option<Identity>,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssuerError {
    /// Certificates can't be made.
    #[error("the box's certificate authority: {0}")]
    Ca(#[from] CaError),
    /// Its files can't be read or written.
    #[error("the box's certificate authority: {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Issuer {
    /// Opens the authority in `folder`, or makes a new one if there is none.
    ///
    /// # Errors
    /// When its files are there but unreadable: a new authority would break every owner's trust,
    /// so none is made in its stead.
    pub(super) fn open(folder: &Path, box_name: &str) -> Result<Self, IssuerError> {
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        let authority = match (read(&certificate)?, read(&key)?) {
            (Some(certificate), Some(key)) => Authority::load(&certificate, &key)?,
            (None, _) => {
                let authority = Authority::create(box_name, SystemTime::now())?;
                // The certificate last: it is what says that the pair is whole.
                write(&key, &authority.key_pem())?;
                write(&certificate, authority.pem())?;
                authority
            }
            (Some(_), None) => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                return Err(IssuerError::File { path: key, source });
            }
        };
        Ok(Self {
            authority,
            names: BTreeSet::new(),
            identity: None,
        })
    }

    /// An identity for `names`, the same as before while they are the same.
    ///
    /// # Errors
    /// When one is neither a host name nor an address.
    pub(super) fn identity(&mut self, names: BTreeSet<String>) -> Result<&Identity, IssuerError> {
        if self.identity.is_none() || self.names != names {
            let list: Vec<String> = names.iter().cloned().collect();
            self.identity = Some(self.authority.issue(&list, SystemTime::now())?);
            self.names = names;
        }
        Ok(self
            .identity
            .as_ref()
            .expect("issued above if there was none"))
    }

    /// The authority's certificate as PEM.
    pub(super) fn pem(&self) -> &str {
        self.authority.pem()
    }

    /// SHA-256 of the authority's certificate, to compare on the console.
    pub(super) fn fingerprint(&self) -> String {
        self.authority.fingerprint()
    }
}

fn read(path: &Path) -> Result<Option<String>, IssuerError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IssuerError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), IssuerError> {
    durable::replace(path, text.as_bytes()).map_err(|source| IssuerError::File {
        path: path.to_owned(),
        source,
    })
}
