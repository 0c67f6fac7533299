//! The packer's part of `service.toml`: the tables `[package]` and `[image.<id>]`.
//!
//! ```toml
//! [package]
//! id = "hello"
//! version = "1.0.0:0"            # the upstream's version, then the packager's own
//! title = "Hello"
//! license = "MIT"
//! description = "Says hello"     # or { short = "…", long = "…" }
//! upstream_repo = "https://example.com/hello"
//! release_notes = "The first."   # may be left out, as all below
//! marketing_url = "https://example.com/"
//! donation_url = "https://example.com/give"
//!
//! [image.main]
//! source = "rootfs"              # a folder or a ready squashfs; or one each architecture:
//!                                # source = { x86_64 = "rootfs-x86", aarch64 = "rootfs-arm" }
//! command = ["/bin/hello"]
//! env = { LANG = "C.UTF-8" }
//! user = "nobody"
//! workdir = "/srv"
//! owners = "keep"                # of a folder's files; "root" unless said
//! ```
//!
//! Paths are relative to the `service.toml`. Beside it lie `icon.<extension>`, `LICENSE.md` and
//! `instructions.md`. The volumes are those of the service's own `[volumes]` table.

use std::{collections::BTreeMap, env, path::PathBuf};

use s9pk::{
    ExtendedVersion, Id, Manifest, VersionRange,
    locale::LocaleString,
    manifest::{Description, HardwareRequirements, ImageConfig, ImageSource, VolumeId},
};
use serde::Deserialize;

/// What the packer reads of a `service.toml`; the rest is the service's.
#[derive(Debug, Deserialize)]
pub(crate) struct Recipe {
    /// What the manifest is made of; without it, the folder holds a `manifest.json`.
    pub(crate) package: Option<PackageTable>,
    /// Where the images come from.
    #[serde(default)]
    pub(crate) image: BTreeMap<Id, ImageTable>,
    #[serde(default)]
    volumes: BTreeMap<VolumeId, toml::Value>,
}

/// `[package]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackageTable {
    id: Id,
    version: ExtendedVersion,
    title: String,
    license: String,
    description: DescriptionValue,
    upstream_repo: String,
    #[serde(default)]
    release_notes: String,
    package_repo: Option<String>,
    marketing_url: Option<String>,
    donation_url: Option<String>,
}

/// `[image.<id>]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageTable {
    source: SourceValue,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default = "root")]
    pub(crate) user: String,
    #[serde(default = "top")]
    pub(crate) workdir: PathBuf,
    #[serde(default)]
    pub(crate) owners: Owners,
}

/// Whom the files of an image made from a folder belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Owners {
    /// All to root.
    #[default]
    Root,
    /// Whomever they belong to in the folder.
    Keep,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum DescriptionValue {
    Short(String),
    Both { short: String, long: String },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SourceValue {
    Here(PathBuf),
    ByArch(BTreeMap<String, PathBuf>),
}

impl Recipe {
    /// The manifest of the package that `table` describes.
    pub(crate) fn manifest(&self, table: &PackageTable) -> Manifest {
        let (short, long) = match &table.description {
            DescriptionValue::Short(text) => (text, text),
            DescriptionValue::Both { short, long } => (short, long),
        };
        let images = self.image.iter();
        let images: BTreeMap<Id, ImageConfig> = images
            .map(|(id, image)| (id.clone(), image.config()))
            .collect();
        let arch = images
            .values()
            .flat_map(|image| image.arch.clone())
            .collect();
        Manifest {
            id: table.id.clone(),
            version: table.version.clone(),
            can_migrate_to: VersionRange::none(),
            can_migrate_from: VersionRange::any(),
            title: table.title.clone(),
            description: Description {
                short: LocaleString::from(short.as_str()),
                long: LocaleString::from(long.as_str()),
            },
            release_notes: LocaleString::from(table.release_notes.as_str()),
            git_hash: None,
            license: table.license.clone(),
            package_repo: table
                .package_repo
                .as_ref()
                .unwrap_or(&table.upstream_repo)
                .clone(),
            upstream_repo: table.upstream_repo.clone(),
            marketing_url: table.marketing_url.clone(),
            donation_url: table.donation_url.clone(),
            os_version: None,
            sdk_version: None,
            hardware_acceleration: false,
            userspace_filesystems: false,
            virtual_networking: false,
            plugins: Default::default(),
            satisfies: Vec::new(),
            hardware_requirements: HardwareRequirements {
                arch: (!images.is_empty()).then_some(arch),
                ..HardwareRequirements::default()
            },
            images,
            volumes: self.volumes.keys().cloned().collect(),
            dependencies: BTreeMap::new(),
        }
    }
}

impl ImageTable {
    /// Architecture and source of each of its images.
    pub(crate) fn sources(&self) -> BTreeMap<String, PathBuf> {
        match &self.source {
            SourceValue::Here(path) => [(env::consts::ARCH.to_owned(), path.clone())].into(),
            SourceValue::ByArch(sources) => sources.clone(),
        }
    }

    fn config(&self) -> ImageConfig {
        ImageConfig {
            source: ImageSource::Packed,
            arch: self.sources().into_keys().collect(),
            emulate_missing_as: None,
            emulate_missing: false,
            nvidia_container: false,
        }
    }
}

fn root() -> String {
    "root".to_owned()
}

fn top() -> PathBuf {
    PathBuf::from("/")
}
