//! Archives of container images: OCI layouts (`oci-archive:` tar files, or folders), and what
//! `docker save` writes. Every part is checked against its digest.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use s9pk::manifest::Arch;
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::layer::{self, Member};

/// An archive of images.
#[derive(Debug)]
pub(super) enum Archive {
    /// A folder in OCI's layout.
    Folder(PathBuf),
    /// A plain tar archive of such a folder, or of docker's.
    Tar {
        host: PathBuf,
        members: BTreeMap<String, Member>,
    },
}

/// An image for one architecture.
#[derive(Debug)]
pub(super) struct Image {
    /// How it is run.
    pub(super) config: RunConfig,
    /// Its layers, the lowest first.
    pub(super) layers: Vec<Layer>,
}

/// A layer: a part of the archive, and the digest of its plain bytes.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) digest: [u8; 32],
}

/// How an image is run, as its author says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    pub(crate) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) env: Vec<String>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: String,
}

impl Archive {
    /// The archive in the plain tar file `host`, if it is one of images.
    pub(super) fn of_tar(host: &Path) -> Result<Option<Self>, String> {
        let members = layer::members(host)?;
        let host = host.to_owned();
        let has = |name| members.contains_key(name);
        let (oci, docker) = (has(LAYOUT) && has(INDEX), has(DOCKER));
        let archive = Self::Tar { host, members };
        // An archive of files may happen to have one of such a name.
        let is_one =
            oci || docker && parse::<Vec<DockerImage>>(DOCKER, &archive.read(DOCKER)?).is_ok();
        Ok(is_one.then_some(archive))
    }

    /// The archive in the folder `host`, if it is one.
    pub(super) fn of_folder(host: &Path) -> Option<Self> {
        let is_one = [LAYOUT, INDEX].iter().all(|name| host.join(name).is_file());
        is_one.then(|| Self::Folder(host.to_owned()))
    }

    /// Its images by architecture, and what was passed over, as sentences.
    pub(super) fn images(&self) -> Result<(BTreeMap<Arch, Image>, Vec<String>), String> {
        let mut images: BTreeMap<Arch, Image> = BTreeMap::new();
        let mut skipped = Vec::new();
        for Candidate { config, layers } in self.candidates()? {
            let bytes = self.read(&config.name)?;
            config.check(&bytes)?;
            let config: Config = parse(&config.name, &bytes)?;
            let Some(arch) = architecture(&config) else {
                let (os, arch) = (&config.os, &config.architecture);
                skipped.push(format!(
                    "its image for {os}/{arch} is left out: no box is such"
                ));
                continue;
            };
            let digests = config.rootfs.diff_ids;
            if digests.len() != layers.len() {
                let (layers, digests) = (layers.len(), digests.len());
                return Err(format!(
                    "an image has {layers} layers and {digests} digests of them"
                ));
            }
            let layers = layers.into_iter().zip(digests);
            let layers = layers.map(|(name, digest)| {
                let digest = sha256(&digest)?;
                Ok(Layer { name, digest })
            });
            let layers = layers.collect::<Result<_, String>>()?;
            let config = config.config.unwrap_or_default();
            let image = Image { config, layers };
            if images.insert(arch.clone(), image).is_some() {
                return Err(format!(
                    "it holds several images for {arch}: make an archive of one"
                ));
            }
        }
        match images.is_empty() {
            true => Err(format!(
                "it holds no image for a box's architecture ({})",
                if skipped.is_empty() {
                    "none at all".to_owned()
                } else {
                    skipped.join("; ")
                }
            )),
            false => Ok((images, skipped)),
        }
    }

    /// The bytes of a part.
    pub(super) fn open(&self, name: &str) -> Result<impl Read + use<>, String> {
        let failed = |error: std::io::Error| format!("its part {name} can't be read: {error}");
        match self {
            Self::Folder(host) => {
                let file = File::open(host.join(name)).map_err(failed)?;
                Ok(file.take(u64::MAX))
            }
            Self::Tar { host, members } => {
                let (begin, size) = find(members, name)?;
                let mut file = File::open(host).map_err(failed)?;
                file.seek(SeekFrom::Start(begin)).map_err(failed)?;
                Ok(file.take(size))
            }
        }
    }

    /// The bytes of a small part.
    fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.take(SMALL + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("its part {name} can't be read: {error}"))?;
        match bytes.len() as u64 > SMALL {
            true => Err(format!("its part {name} has more than {SMALL} bytes")),
            false => Ok(bytes),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(host) => host.join(name).is_file(),
            Self::Tar { members, .. } => members.contains_key(name),
        }
    }

    fn candidates(&self) -> Result<Vec<Candidate>, String> {
        if self.has(INDEX) {
            self.of_index()
        } else {
            let images: Vec<DockerImage> = parse(DOCKER, &self.read(DOCKER)?)?;
            Ok(images.into_iter().map(Candidate::of_docker).collect())
        }
    }

    /// The images of an OCI index, and of the indexes in it.
    fn of_index(&self) -> Result<Vec<Candidate>, String> {
        let index: Index = parse(INDEX, &self.read(INDEX)?)?;
        let mut pending = index.manifests;
        let mut seen: Vec<String> = Vec::new();
        let mut candidates = Vec::new();
        while let Some(descriptor) = pending.pop() {
            let digest = descriptor.digest.clone();
            if descriptor.is_attestation() || seen.contains(&digest) {
                continue;
            }
            seen.push(digest);
            if seen.len() > MANIFESTS {
                return Err(format!("it has more than {MANIFESTS} manifests"));
            }
            let part = Part::of_digest(&descriptor.digest)?;
            let bytes = self.read(&part.name)?;
            part.check(&bytes)?;
            let manifest: Manifest = parse(&part.name, &bytes)?;
            pending.extend(manifest.manifests);
            if let Some(config) = manifest.config {
                let layers = manifest.layers.iter();
                let layers = layers.map(|layer| Part::of_digest(&layer.digest).map(|p| p.name));
                candidates.push(Candidate {
                    config: Part::of_digest(&config.digest)?,
                    layers: layers.collect::<Result<_, _>>()?,
                });
            }
        }
        Ok(candidates)
    }
}

/// An image that an archive lists.
struct Candidate {
    config: Part,
    layers: Vec<String>,
}

impl Candidate {
    fn of_docker(image: DockerImage) -> Self {
        // Its name is its digest: `<digest>.json` at first, `blobs/sha256/<digest>` later.
        let stem = Path::new(&image.config).file_stem();
        let digest = stem.and_then(|stem| unhex(stem.to_str()?));
        Self {
            config: Part {
                name: image.config,
                digest,
            },
            layers: image.layers,
        }
    }
}

/// A part of an archive, and what its bytes' SHA-256 must be, if that is said.
struct Part {
    name: String,
    digest: Option<[u8; 32]>,
}

impl Part {
    fn of_digest(digest: &str) -> Result<Self, String> {
        let bytes = sha256(digest)?;
        let name = digest.replace(':', "/");
        Ok(Self {
            name: format!("blobs/{name}"),
            digest: Some(bytes),
        })
    }

    fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let got: [u8; 32] = Sha256::digest(bytes).into();
        match self.digest.is_none_or(|wanted| wanted == got) {
            true => Ok(()),
            false => Err(damaged(&self.name)),
        }
    }
}

/// What to say of a part whose digest is another.
pub(super) fn damaged(name: &str) -> String {
    format!("its part {name} does not match its digest: the archive is damaged, make it again")
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// An image's manifest, or an index of several; nothing says which but what is in it.
#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
}

impl Descriptor {
    /// Builders add statements about images under this platform.
    fn is_attestation(&self) -> bool {
        self.platform.as_ref().is_some_and(|it| it.os == "unknown")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<RunConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// The name that packages have for an image's architecture.
fn architecture(config: &Config) -> Option<Arch> {
    if !matches!(config.os.as_str(), "linux" | "") {
        return None;
    }
    let name = match config.architecture.as_str() {
        "amd64" | "x86_64" => "x86_64",
        "arm64" | "aarch64" => "aarch64",
        "riscv64" => "riscv64",
        _ => return None,
    };
    name.parse().ok()
}

/// The offset and size of a member, links between members followed.
fn find(members: &BTreeMap<String, Member>, name: &str) -> Result<(u64, u64), String> {
    let mut wanted = name.to_owned();
    for _ in 0..ALIASES {
        match members.get(&wanted) {
            Some(Member::Bytes(begin, size)) => return Ok((*begin, *size)),
            Some(Member::Alias(target)) => wanted = plain(target),
            None => {
                return Err(format!(
                    "its part {wanted} is missing: make the archive again"
                ));
            }
        }
    }
    Err(format!("its part {name} is a link to itself"))
}

/// A path without `.` and `..`, which lead no further up than to the archive's root.
fn plain(path: &Path) -> String {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy()),
            Component::ParentDir => drop(names.pop()),
            Component::CurDir | Component::Prefix(_) | Component::RootDir => {}
        }
    }
    names.join("/")
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes)
        .map_err(|error| format!("its part {name} does not parse: {error}"))
}

fn sha256(digest: &str) -> Result<[u8; 32], String> {
    let hex = digest.strip_prefix("sha256:");
    hex.and_then(unhex)
        .ok_or_else(|| format!("its digest {digest:?} is not one of SHA-256, the only ones read"))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let hash: Result<Vec<u8>, _> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2).unwrap_or_default(), 16))
        .collect();
    hash.ok()?.try_into().ok()
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const DOCKER: &str = "manifest.json";

/// Bytes of an index, manifest or configuration, at most: as registries allow.
const SMALL: u64 = 4 << 20;

/// Manifests in an archive, at most; one has a handful of architectures.
const MANIFESTS: usize = 256;

/// Links from member to member, at most.
const ALIASES: usize = 8;
