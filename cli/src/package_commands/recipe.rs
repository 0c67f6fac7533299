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
//! source = "rootfs"              # see below; or one each architecture:
//!                                # source = { x86_64 = "rootfs-x86", aarch64 = "rootfs-arm" }
//! command = ["/bin/hello"]       # instead of the source's own, as all below
//! env = { LANG = "C.UTF-8" }     # added to the source's own
//! user = "nobody"
//! workdir = "/srv"
//! owners = "keep"                # of a folder's files; "root" unless said
//! ```
//!
//! A source is a folder, a tar archive of one (plain, gzip or zstd), an archive of container images
//! (OCI's as `skopeo copy … oci-archive:…` makes it, as tar or folder, or docker's as `docker save`
//! makes it; with images for several architectures, each is packed), or a ready squashfs.
//!
//! Of a folder's files, all belong to root, and what their owner may read or run, everybody may, so
//! that the same folder packs alike whoever checked it out; `owners = "keep"` keeps owners and
//! modes. Archives always keep them.
//!
//! Paths are relative to the `service.toml`. Beside it lie `icon.<extension>`, `LICENSE.md` and
//! `instructions.md`. The volumes are those of the service's own `[volumes]` table.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use s9pk::{
    ExtendedVersion, Id, Manifest, VersionRange,
    locale::LocaleString,
    manifest::{Arch, Description, HardwareRequirements, ImageConfig, ImageSource, Url, VolumeId},
};
use serde::Deserialize;

use super::image::RunConfig;

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
    upstream_repo: Url,
    #[serde(default)]
    release_notes: String,
    package_repo: Option<Url>,
    marketing_url: Option<Url>,
    donation_url: Option<Url>,
}

/// `[image.<id>]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageTable {
    pub(crate) source: SourceValue,
    command: Option<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<EnvName, String>,
    user: Option<String>,
    workdir: Option<PathBuf>,
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

/// Where an image comes from: one source for all architectures it has, or one each.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum SourceValue {
    Here(PathBuf),
    ByArch(BTreeMap<Arch, PathBuf>),
}

impl Recipe {
    /// The manifest of the package that `table` describes, its images for these architectures.
    pub(crate) fn manifest(
        &self,
        table: &PackageTable,
        arches: &BTreeMap<Id, BTreeSet<Arch>>,
    ) -> Manifest {
        let (short, long) = match &table.description {
            DescriptionValue::Short(text) => (text, text),
            DescriptionValue::Both { short, long } => (short, long),
        };
        let images: BTreeMap<Id, ImageConfig> = arches
            .iter()
            .map(|(id, arches)| (id.clone(), packed(arches)))
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
    /// How the image is run: as its source says, unless it is said here.
    pub(crate) fn run(&self, source: &RunConfig) -> RunConfig {
        let mut run = source.clone();
        if let Some(command) = &self.command {
            (run.entrypoint, run.cmd) = (None, Some(command.clone()));
        }
        run.env.retain(|line| {
            let name = line.split('=').next().unwrap_or_default();
            !self.env.contains_key(&EnvName(name.to_owned()))
        });
        let added = self.env.iter();
        run.env
            .extend(added.map(|(EnvName(name), value)| format!("{name}={value}")));
        if let Some(user) = &self.user {
            run.user.clone_from(user);
        }
        if run.user.is_empty() {
            "root".clone_into(&mut run.user);
        }
        if let Some(workdir) = &self.workdir {
            run.working_dir = workdir.to_string_lossy().into_owned();
        }
        if run.working_dir.is_empty() {
            "/".clone_into(&mut run.working_dir);
        }
        run
    }
}

/// The name of an environment variable: everything before the first `=` of its line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct EnvName(String);

impl TryFrom<String> for EnvName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.is_empty() || name.contains(['=', '\n', '\0']) {
            true => Err(format!("{name:?} can't be an environment variable's name")),
            false => Ok(Self(name)),
        }
    }
}

fn packed(arches: &BTreeSet<Arch>) -> ImageConfig {
    ImageConfig {
        source: ImageSource::Packed,
        arch: arches.clone(),
        emulate_missing_as: None,
        emulate_missing: false,
        nvidia_container: false,
    }
}
