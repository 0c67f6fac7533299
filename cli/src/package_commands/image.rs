//! Images of services: where they come from, and the squashfs that is packed of each.
//!
//! | module | concept |
//! |---|---|
//! | [`tree`] | the files of an image, in memory |
//! | [`folder`], [`layer`] | a folder, or a tar archive, taken into a tree |
//! | [`archive`] | archives of container images: OCI's and docker's |
//! | [`unpack`] | compressed archives |
//! | [`squash`] | a tree, made a squashfs |

mod archive;
mod folder;
mod layer;
mod squash;
mod tree;
mod unpack;

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use s9pk::manifest::{Arch, TextError};

pub(crate) use self::archive::RunConfig;
use self::{archive::Archive, layer::Whiteouts, tree::Tree, unpack::Form};
use super::{
    error::PackageError,
    recipe::{Owners, SourceValue},
    workshop::Workshop,
};

/// An image, ready to be packed.
#[derive(Debug)]
pub(crate) struct Made {
    /// The squashfs.
    pub(crate) squashfs: PathBuf,
    /// How it is run, as far as its source says.
    pub(crate) config: RunConfig,
}

/// Makes images where `workshop` has room, from sources relative to `folder`.
pub(crate) struct Maker<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) workshop: &'a Workshop,
    /// What was left out, as sentences.
    pub(crate) left_out: Vec<String>,
}

impl Maker<'_> {
    /// The images of a source, by architecture.
    pub(crate) fn images(
        &mut self,
        source: &SourceValue,
        owners: Owners,
    ) -> Result<BTreeMap<Arch, Made>, PackageError> {
        match source {
            SourceValue::Here(path) => self.all(path, owners),
            SourceValue::ByArch(sources) => {
                let mut made = BTreeMap::new();
                for (arch, path) in sources {
                    let image = self.one(arch, path, owners)?;
                    made.insert(arch.clone(), image);
                }
                Ok(made)
            }
        }
    }

    /// A squashfs of one folder of this machine, all of root's.
    pub(crate) fn squash_folder(&mut self, host: &Path) -> Result<PathBuf, PackageError> {
        let at = failed(host);
        let mut tree = Tree::default();
        folder::apply(host, Owners::Root, &mut tree).map_err(&at)?;
        self.squash(&tree).map_err(&at)
    }

    /// Every image that a source holds; what is none says nothing of machines and is for this one.
    fn all(&mut self, source: &Path, owners: Owners) -> Result<BTreeMap<Arch, Made>, PackageError> {
        let host = self.host(source);
        let at = failed(&host);
        match self.open(&host).map_err(&at)? {
            Opened::Archive(archive) => {
                let (images, skipped) = archive.images().map_err(&at)?;
                self.note(&host, skipped);
                let made = images.iter().map(|(arch, image)| {
                    let made = self.of_layers(&host, &archive, image).map_err(&at)?;
                    Ok((arch.clone(), made))
                });
                made.collect()
            }
            plain => {
                let made = self.of_plain(&host, plain, owners).map_err(&at)?;
                let here = env::consts::ARCH.parse();
                let here = here.map_err(|error: TextError| at(error.to_string()))?;
                Ok([(here, made)].into())
            }
        }
    }

    /// The image that a source holds for `arch`.
    fn one(&mut self, arch: &Arch, source: &Path, owners: Owners) -> Result<Made, PackageError> {
        let host = self.host(source);
        let at = failed(&host);
        match self.open(&host).map_err(&at)? {
            Opened::Archive(archive) => {
                let (images, skipped) = archive.images().map_err(&at)?;
                self.note(&host, skipped);
                let Some(image) = images.get(arch) else {
                    let others: Vec<_> = images.keys().map(Arch::as_str).collect();
                    let others = others.join(", ");
                    return Err(at(format!("it is for {others}, not for {arch}")));
                };
                self.of_layers(&host, &archive, image).map_err(&at)
            }
            plain => self.of_plain(&host, plain, owners).map_err(&at),
        }
    }

    fn host(&self, source: &Path) -> PathBuf {
        let text = source.to_string_lossy();
        let plain = TRANSPORTS.iter().find_map(|name| text.strip_prefix(name));
        self.folder.join(plain.map_or(source, Path::new))
    }

    fn open(&self, host: &Path) -> Result<Opened, String> {
        let said = |error: std::io::Error| error.to_string();
        if fs::metadata(host).map_err(said)?.is_dir() {
            let archive = Archive::of_folder(host);
            return Ok(archive.map_or(Opened::Folder, Opened::Archive));
        }
        let plain = match Form::of_file(host).map_err(said)? {
            Form::Squashfs => return Ok(Opened::Squashfs),
            Form::Other(what) => return Err(format!("it is {what}")),
            Form::Tar => host.to_owned(),
            Form::Gzip | Form::Zstd => {
                let file = File::open(host).map_err(said)?;
                self.unpack(file)?.0
            }
        };
        if Form::of_file(&plain).map_err(said)? != Form::Tar {
            return Err("what is compressed in it is no tar archive".to_owned());
        }
        let archive = Archive::of_tar(&plain)?;
        Ok(archive.map_or(Opened::Tar(plain), Opened::Archive))
    }

    fn of_plain(&mut self, host: &Path, opened: Opened, owners: Owners) -> Result<Made, String> {
        let mut tree = Tree::default();
        let squashfs = match opened {
            Opened::Squashfs => {
                check_squashfs(host)?;
                host.to_owned()
            }
            Opened::Tar(plain) => {
                let left_out = layer::apply(&plain, Whiteouts::Literal, &mut tree)?;
                self.note(host, left_out);
                self.squash(&tree)?
            }
            Opened::Archive(_) | Opened::Folder => {
                let left_out = folder::apply(host, owners, &mut tree)?;
                self.note(host, left_out);
                self.squash(&tree)?
            }
        };
        Ok(Made {
            squashfs,
            config: RunConfig::default(),
        })
    }

    fn of_layers(
        &mut self,
        host: &Path,
        archive: &Archive,
        image: &archive::Image,
    ) -> Result<Made, String> {
        let mut tree = Tree::default();
        for layer in &image.layers {
            let (plain, digest) = self.unpack(archive.open(&layer.name)?)?;
            if digest != layer.digest {
                return Err(archive::damaged(&layer.name));
            }
            let left_out = layer::apply(&plain, Whiteouts::Applied, &mut tree);
            let left_out = left_out.map_err(|why| format!("its layer {}: {why}", layer.name))?;
            self.note(host, left_out);
        }
        Ok(Made {
            squashfs: self.squash(&tree)?,
            config: image.config.clone(),
        })
    }

    fn unpack(&self, from: impl std::io::Read) -> Result<(PathBuf, [u8; 32]), String> {
        let to = self.workshop.next();
        let said = |error: std::io::Error| format!("it can't be unpacked: {error}");
        let mut file = File::create_new(&to).map_err(said)?;
        let digest = unpack::unpack(from, &mut file).map_err(said)?;
        Ok((to, digest))
    }

    fn squash(&self, tree: &Tree) -> Result<PathBuf, String> {
        let to = self.workshop.next();
        squash::squash(tree, &to)?;
        Ok(to)
    }

    fn note(&mut self, host: &Path, sentences: Vec<String>) {
        let host = host.display();
        let named = sentences.into_iter().map(|text| format!("{host}: {text}"));
        self.left_out.extend(named);
    }
}

/// A source, its kind known.
enum Opened {
    Archive(Archive),
    Folder,
    Squashfs,
    /// A plain tar archive of files, and where it is.
    Tar(PathBuf),
}

/// Refuses what a kernel would not mount: other versions, and images that are cut short.
fn check_squashfs(host: &Path) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    let mut file = File::open(host).map_err(said)?;
    let mut superblock = [0; 96];
    let short = "it is a squashfs image cut short: make it again";
    file.read_exact(&mut superblock)
        .map_err(|_| short.to_owned())?;
    let (major, minor) = (superblock[28], superblock[30]);
    if (major, minor) != (4, 0) {
        return Err(format!(
            "it is a squashfs image of version {major}.{minor}, and only 4.0 is mounted"
        ));
    }
    let mut used = [0; 8];
    used.copy_from_slice(&superblock[40..48]);
    match u64::from_le_bytes(used) <= file.metadata().map_err(said)?.len() {
        true => Ok(()),
        false => Err(short.to_owned()),
    }
}

fn failed(host: &Path) -> impl Fn(String) -> PackageError {
    let path = host.to_owned();
    move |why| PackageError::Image {
        path: path.clone(),
        why,
    }
}

/// What other tools write before such paths.
const TRANSPORTS: [&str; 3] = ["oci-archive:", "docker-archive:", "oci:"];
