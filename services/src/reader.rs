//! A package file, opened and verified whole: the step from bytes of anybody's to a [`Package`].

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use s9pk::{
    Archive,
    content::{self, image_path},
    limits,
};
use serde::Deserialize;

use crate::{
    catalog::Signed,
    package::{Package, PackageImage},
    plan::FileIdentity,
    spec::{ServiceSpec, SpecError},
};

/// Why a file is no package that can run here.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk said no.
    #[error("it can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// Its bytes are not what was signed, or no package.
    #[error("{0}")]
    Archive(#[from] s9pk::Error),
    /// Its description of what runs is wrong.
    #[error("{0}")]
    Spec(#[from] SpecError),
    /// It is made for StartOS alone.
    #[error(
        "it has no service.toml, only StartOS's JavaScript, which this version of Pilotlight does \
         not run"
    )]
    NoSpec,
    /// A small file in it can't be understood.
    #[error("its {path} does not parse: {why}")]
    Text {
        /// The file in the package.
        path: String,
        /// Why.
        why: String,
    },
    /// Names of units, links and folders are made of the id.
    #[error("its id {0:?} is too long; at most {MAX_ID} characters can be used here")]
    LongId(String),
}

/// Opens and verifies the package at `path`, to the last byte. Reads the whole file.
///
/// # Errors
/// Why it can't be used, as a sentence.
pub fn read(path: &Path) -> Result<Signed, String> {
    open(path).map_err(|e| e.to_string())
}

fn open(path: &Path) -> Result<Signed, ReadError> {
    let file = File::open(path)?;
    let identity = FileIdentity::of(&file.metadata()?);
    let archive = Archive::open(file)?;
    archive.verify()?;
    archive.validate(Some(ARCH))?;
    if !archive.has_file(content::SERVICE) {
        return Err(ReadError::NoSpec);
    }
    let spec = ServiceSpec::parse(&text(&archive, content::SERVICE)?)?;
    let manifest = archive.manifest();
    let id = manifest.id.to_string();
    if id.len() > MAX_ID {
        return Err(ReadError::LongId(id));
    }
    let package = Package {
        id,
        title: manifest.title.clone(),
        version: manifest.version.to_string(),
        path: path.to_owned(),
        identity,
        images: images(&archive)?,
        spec,
    };
    Ok(Signed {
        package: Arc::new(package),
        id: manifest.id.clone(),
        signer: archive.signer(),
    })
}

fn images(archive: &Archive<File>) -> Result<BTreeMap<String, PackageImage>, ReadError> {
    let mut images = BTreeMap::new();
    for entry in archive.tree().list(&format!("images/{ARCH}")) {
        if let Some(id) = entry.name.strip_suffix(".squashfs") {
            images.insert(id.to_owned(), image(archive, id)?);
        }
    }
    Ok(images)
}

fn image(archive: &Archive<File>, id: &str) -> Result<PackageImage, ReadError> {
    let extent = archive.extent(&image_path(ARCH, id, "squashfs"))?;
    let config = image_path(ARCH, id, "json");
    let json = archive.read(&config, limits::SMALL_FILE_SIZE)?;
    let config: ImageConfig = serde_json::from_slice(&json).map_err(|e| ReadError::Text {
        path: config,
        why: e.to_string(),
    })?;
    let entrypoint = config.entrypoint.unwrap_or_default();
    let command = entrypoint.into_iter().chain(config.cmd.unwrap_or_default());
    Ok(PackageImage {
        offset: extent.position,
        size: extent.size,
        command: command.collect(),
        env: environment(&text(archive, &image_path(ARCH, id, "env"))?),
        user: config
            .user
            .filter(|user| !user.is_empty() && user != "root"),
        workdir: config.workdir.filter(|path| path.is_absolute()),
    })
}

/// `images/<arch>/<id>.json`, from the image's own configuration.
#[derive(Deserialize)]
struct ImageConfig {
    workdir: Option<PathBuf>,
    user: Option<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
}

/// `NAME=value` lines; others are ignored, as the format says.
fn environment(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let usable = pairs.filter(|(name, value)| !name.is_empty() && !value.contains('\0'));
    usable
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn text(archive: &Archive<File>, path: &str) -> Result<String, ReadError> {
    let bytes = archive.read(path, limits::SMALL_FILE_SIZE)?;
    String::from_utf8(bytes).map_err(|e| ReadError::Text {
        path: path.to_owned(),
        why: e.to_string(),
    })
}

/// Images of another architecture can't run here.
const ARCH: &str = std::env::consts::ARCH;

/// Leaves room for a prefix in a unit's name, and makes a host name's label.
const MAX_ID: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_lines_of_names_and_values() {
        let env = environment("A=1\nB=x=y\n\nnothing\n=no name\nC=");
        let pairs: Vec<_> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "x=y"), ("C", "")]);
    }
}
