//! The demo package (in the making).
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::debian::Packages;

/// The package and the key it is signed with.
#[derive(Debug)]
pub struct Demo {
    /// The `.s9pk`.
    pub package: PathBuf,
    /// PKCS#8, PEM.
    pub key: PathBuf,
}

/// Builds it.
///
/// # Errors
/// When it can't be.
pub fn build(images: &Path, _packages: &Packages) -> Result<Demo> {
    let package = images.join("demo.s9pk");
    std::fs::write(&package, "")?;
    Ok(Demo {
        package,
        key: images.join("developer.key.pem"),
    })
}
