//! `pilot s9pk pack`: a package from a folder that holds its `manifest.json` and everything else as
//! it is to be packed, or from a `service.toml` with a `[package]` table (format: [`super::recipe`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::Path,
};

use s9pk::{
    Archive, Content, Draft, Key, LeftOut, Validated,
    content::{self, image_path},
    manifest::Arch,
};
use serde_json::json;

use super::{
    error::{PackageError, at},
    image::{Made, Maker},
    recipe::{ImageTable, PackageTable, Recipe},
    workshop::Workshop,
};

/// Packs `source` into the file `to`. Returns what is allowed and unwise about it.
pub(crate) fn pack(source: &Path, key: &Key, to: &Path) -> Result<Vec<String>, PackageError> {
    let folder = match source.is_dir() {
        true => source,
        false => source.parent().unwrap_or(Path::new("")),
    };
    let workshop = Workshop::beside(to)?;
    let mut packer = Packer {
        folder,
        workshop: &workshop,
        maker: Maker {
            folder,
            workshop: &workshop,
            left_out: Vec::new(),
        },
    };
    let draft = packer.draft()?;
    let mut warnings = packer.maker.left_out;
    super::replace(to, |out| {
        s9pk::pack(&draft, key, out)?;
        warnings.extend(validate(&Archive::open(&*out)?)?.warnings);
        Ok(())
    })?;
    Ok(warnings)
}

struct Packer<'a> {
    folder: &'a Path,
    workshop: &'a Workshop,
    maker: Maker<'a>,
}

impl Packer<'_> {
    fn draft(&mut self) -> Result<Draft<'static>, PackageError> {
        let path = self.folder.join(content::SERVICE);
        let has_manifest = self.folder.join(content::MANIFEST).exists();
        let refuse = |problem: &str| PackageError::Recipe {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        let recipe = if path.exists() {
            Some(read(&path)?)
        } else {
            None
        };
        let mut draft = match recipe {
            Some(Recipe {
                package: Some(_), ..
            }) if has_manifest => {
                return Err(refuse(
                    "it has a [package] table, and there is a manifest.json beside it: leave one",
                ));
            }
            Some(recipe) => match &recipe.package {
                Some(package) => self.described(&recipe, package)?,
                None => self.whole()?,
            },
            None => self.whole()?,
        };
        if !draft.has(content::MANIFEST) {
            return Err(refuse(
                "there is neither a [package] table here nor a manifest.json beside it: add one",
            ));
        }
        if !draft.has(SCRIPT) {
            self.add_script(&mut draft)?;
        }
        Ok(draft)
    }

    /// The folder as it is.
    fn whole(&self) -> Result<Draft<'static>, PackageError> {
        let mut draft = Draft::from_dir(self.folder).map_err(at(self.folder))?;
        let beside = LeftOut::beside(self.folder);
        if beside.exists() {
            let json = fs::read(&beside).map_err(PackageError::io(&beside))?;
            let left_out = serde_json::from_slice(&json).map_err(|error| PackageError::Recipe {
                path: beside.clone(),
                problem: error.to_string(),
            })?;
            draft.leave_out(&left_out).map_err(at(&beside))?;
        }
        Ok(draft)
    }

    /// What a `service.toml` describes.
    fn described(
        &mut self,
        recipe: &Recipe,
        package: &PackageTable,
    ) -> Result<Draft<'static>, PackageError> {
        let mut images = BTreeMap::new();
        for (id, image) in &recipe.image {
            let made = self.maker.images(&image.source, image.owners)?;
            images.insert(id.clone(), made);
        }
        let arches = |made: &BTreeMap<Arch, Made>| made.keys().cloned().collect();
        let arches = images.iter().map(|(id, made)| (id.clone(), arches(made)));
        let manifest = recipe.manifest(package, &arches.collect());
        let manifest = serde_json::to_vec(&manifest)?;
        let mut draft = Draft::default();
        add(&mut draft, content::MANIFEST, Content::Bytes(manifest))?;
        for entry in fs::read_dir(self.folder).map_err(PackageError::io(self.folder))? {
            let entry = entry.map_err(PackageError::io(self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_icon = Path::new(&name)
                .file_stem()
                .is_some_and(|stem| stem == "icon");
            if is_icon || BESIDE.contains(&name.as_str()) {
                add(&mut draft, &name, Content::File(entry.path()))?;
            }
        }
        for (id, image) in &recipe.image {
            for (arch, made) in &images[id] {
                self.add_image(&mut draft, id.as_str(), image, arch.as_str(), made)?;
            }
        }
        Ok(draft)
    }

    fn add_image(
        &self,
        draft: &mut Draft<'static>,
        id: &str,
        image: &ImageTable,
        arch: &str,
        made: &Made,
    ) -> Result<(), PackageError> {
        let run = image.run(&made.config);
        let unfit = run.env.iter().find(|line| line.contains('\n'));
        if let Some(line) = unfit {
            let name = line.split('=').next().unwrap_or_default();
            return Err(PackageError::Recipe {
                path: self.folder.join(content::SERVICE),
                problem: format!("the format has no way to write {name:?} of image {id}'s env"),
            });
        }
        let config = json!({
            "workdir": run.working_dir,
            "user": run.user,
            "entrypoint": run.entrypoint,
            "cmd": run.cmd,
        });
        let squashfs = Content::File(made.squashfs.clone());
        add(draft, &image_path(arch, id, "squashfs"), squashfs)?;
        let config = Content::Bytes(serde_json::to_vec(&config)?);
        add(draft, &image_path(arch, id, "json"), config)?;
        let env = Content::Bytes(run.env.join("\n").into_bytes());
        add(draft, &image_path(arch, id, "env"), env)
    }

    /// The script that the format requires; what runs is in `service.toml`.
    fn add_script(&mut self, draft: &mut Draft<'static>) -> Result<(), PackageError> {
        let folder = self.workshop.next();
        fs::create_dir(&folder).map_err(PackageError::io(&folder))?;
        let script = folder.join("index.js");
        fs::write(&script, NEEDS_PILOTLIGHT).map_err(PackageError::io(&script))?;
        let made = self.maker.squash_folder(&folder)?;
        add(draft, SCRIPT, Content::File(made))
    }
}

/// A filtered package need only be whole for one of its architectures.
fn validate(archive: &Archive<&File>) -> Result<Validated, s9pk::Error> {
    let whole = archive.validate(None);
    if LeftOut::of(archive).is_none() {
        return whole;
    }
    let images = archive.manifest().images.values();
    let arches: BTreeSet<&Arch> = images.flat_map(|image| &image.arch).collect();
    let for_one = arches
        .iter()
        .map(|arch| archive.validate(Some(arch.as_str())));
    for_one.fold(whole, Result::or)
}

fn read(path: &Path) -> Result<Recipe, PackageError> {
    let text = fs::read_to_string(path).map_err(PackageError::io(path))?;
    toml::from_str(&text).map_err(|error| PackageError::Recipe {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

fn add(
    draft: &mut Draft<'static>,
    path: &str,
    content: Content<'static>,
) -> Result<(), PackageError> {
    draft.add(path, content).map_err(at(Path::new(path)))
}

const SCRIPT: &str = "javascript.squashfs";

/// Files that are packed from beside a `service.toml`, with the icon.
const BESIDE: [&str; 3] = [content::SERVICE, "LICENSE.md", "instructions.md"];

/// Run by systems that know nothing of `service.toml`.
const NEEDS_PILOTLIGHT: &str =
    "throw new Error('This package needs Pilotlight: see its service.toml.')\n";
