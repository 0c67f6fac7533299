//! `manifest.json`: what a package says about itself, in the order its own packer writes it.

mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::text::{Arch, Id, Pattern, TextError, Url, VolumeId};
use crate::{
    locale::LocaleString,
    version::{ExtendedVersion, Version, VersionRange},
};

/// A package's manifest. Keys it does not know are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The package's name for ever.
    pub id: Id,
    /// Its version.
    pub version: ExtendedVersion,
    /// Versions that its data can be taken back to.
    pub can_migrate_to: VersionRange,
    /// Versions whose data it takes over.
    pub can_migrate_from: VersionRange,
    /// Its name for people.
    pub title: String,
    /// What it does.
    pub description: Description,
    /// What is new.
    pub release_notes: LocaleString,
    /// The commit it was packed from.
    #[serde(default)]
    pub git_hash: Option<String>,
    /// An SPDX expression, by convention.
    pub license: String,
    /// Where its packing is developed.
    #[serde(default = "unknown_repo")]
    pub package_repo: Url,
    /// Where what it packs is developed.
    pub upstream_repo: Url,
    /// Its web site.
    #[serde(default)]
    pub marketing_url: Option<Url>,
    /// Where to give money for it.
    #[serde(default)]
    pub donation_url: Option<Url>,
    /// The oldest StartOS it was made for.
    #[serde(default)]
    pub os_version: Option<Version>,
    /// The StartOS SDK it was made with.
    #[serde(default)]
    pub sdk_version: Option<Version>,
    /// Whether it wants the graphics processor.
    #[serde(default)]
    pub hardware_acceleration: bool,
    /// Whether it wants `/dev/fuse`.
    #[serde(default)]
    pub userspace_filesystems: bool,
    /// Whether it wants `/dev/net/tun`.
    #[serde(default)]
    pub virtual_networking: bool,
    /// Extensions of the system that it provides.
    #[serde(default)]
    pub plugins: BTreeSet<Plugin>,
    /// Other versions that it counts as.
    #[serde(default)]
    pub satisfies: Vec<ExtendedVersion>,
    /// Its images.
    pub images: BTreeMap<Id, ImageConfig>,
    /// Its volumes.
    pub volumes: BTreeSet<VolumeId>,
    /// What it depends on.
    #[serde(default)]
    pub dependencies: BTreeMap<Id, Dependency>,
    /// The hardware it needs.
    #[serde(default)]
    pub hardware_requirements: HardwareRequirements,
}

/// A short and a long text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// One sentence.
    pub short: LocaleString,
    /// Everything.
    pub long: LocaleString,
}

/// An image, as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageConfig {
    /// Where it comes from.
    pub source: ImageSource,
    /// The architectures there is one for.
    pub arch: BTreeSet<Arch>,
    /// The architecture whose image stands in for others.
    #[serde(default)]
    pub emulate_missing_as: Option<Arch>,
    /// Whether another architecture's image stands in for a missing one (later packers).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emulate_missing: bool,
    /// Whether it needs NVIDIA's container tools.
    #[serde(default)]
    pub nvidia_container: bool,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageSource {
    /// The package itself.
    Packed,
    /// A registry; only before packing.
    DockerTag(String),
    /// A recipe; only before packing.
    DockerBuild(serde_json::Value),
}

/// A package that another one depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Why.
    #[serde(default)]
    pub description: Option<LocaleString>,
    /// Whether it works without.
    pub optional: bool,
}

/// Hardware that a package needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HardwareRequirements {
    /// Devices that must all be there.
    pub device: Vec<DeviceFilter>,
    /// Memory in bytes.
    pub ram: Option<u64>,
    /// Architectures; any of them will do.
    pub arch: Option<BTreeSet<Arch>>,
}

/// A device that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFilter {
    /// What it is, for people.
    pub description: String,
    /// `processor` or `display`.
    pub class: String,
    /// What its name is like.
    #[serde(default)]
    pub product: Option<Pattern>,
    /// What its maker's name is like.
    #[serde(default)]
    pub vendor: Option<Pattern>,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<BTreeSet<String>>,
    /// The driver it runs by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// Extensions that a package can provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Plugin {
    /// Addresses for services.
    #[serde(rename = "url-v0")]
    UrlV0,
}

/// What the format's own reader assumes when there is no `packageRepo`.
fn unknown_repo() -> Url {
    Url::of_example()
}
