//! `pilot s9pk pack`: a package from a folder that holds its `manifest.json` and everything else as
//! it is to be packed, or from a `service.toml` with a `[package]` table (format: [`super::recipe`]).

use std::{
    fs,
    path::{Path, PathBuf},
};

use s9pk::{
    Archive, Content, Draft, Key,
    content::{self, image_path},
};
use serde_json::json;

use super::{
    error::{PackageError, at},
    image::squash,
    recipe::{ImageTable, Owners, PackageTable, Recipe},
};

/// Packs `source` into the file `to`. Returns what is allowed and unwise about it.
pub(crate) fn pack(source: &Path, key: &Key, to: &Path) -> Result<Vec<String>, PackageError> {
    let folder = match source.is_dir() {
        true => source,
        false => source.parent().unwrap_or(Path::new("")),
    };
    let workshop = Workshop::beside(to)?;
    let packer = Packer {
        folder,
        workshop: &workshop,
    };
    let draft = packer.draft()?;
    let mut warnings = Vec::new();
    super::replace(to, |out| {
        s9pk::pack(&draft, key, out)?;
        warnings = Archive::open(&*out)?.validate(None)?.warnings;
        Ok(())
    })?;
    Ok(warnings)
}

struct Packer<'a> {
    folder: &'a Path,
    workshop: &'a Workshop,
}

impl Packer<'_> {
    fn draft(&self) -> Result<Draft<'static>, PackageError> {
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
        Draft::from_dir(self.folder).map_err(at(self.folder))
    }

    /// What a `service.toml` describes.
    fn described(
        &self,
        recipe: &Recipe,
        package: &PackageTable,
    ) -> Result<Draft<'static>, PackageError> {
        let mut draft = Draft::default();
        let manifest = serde_json::to_vec(&recipe.manifest(package))?;
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
            self.add_image(&mut draft, id.as_str(), image)?;
        }
        Ok(draft)
    }

    fn add_image(
        &self,
        draft: &mut Draft<'static>,
        id: &str,
        image: &ImageTable,
    ) -> Result<(), PackageError> {
        let config = json!({
            "workdir": image.workdir,
            "user": image.user,
            "entrypoint": null,
            "cmd": image.command,
        });
        let unfit = image
            .env
            .iter()
            .find(|(name, value)| name.contains(['=', '\n']) || value.contains('\n'));
        if let Some((name, _)) = unfit {
            return Err(PackageError::Recipe {
                path: self.folder.join(content::SERVICE),
                problem: format!("the format has no way to write {name:?} of image {id}'s env"),
            });
        }
        let env: Vec<_> = image
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        for (arch, source) in image.sources() {
            let source = self.folder.join(source);
            let squashfs = if source.is_dir() {
                let made = self.workshop.path(&format!("{arch}-{id}"));
                squash(&source, image.owners, &made)?;
                made
            } else {
                source
            };
            add(
                draft,
                &image_path(&arch, id, "squashfs"),
                Content::File(squashfs),
            )?;
            let config = serde_json::to_vec(&config)?;
            add(
                draft,
                &image_path(&arch, id, "json"),
                Content::Bytes(config),
            )?;
            let env = env.join("\n").into_bytes();
            add(draft, &image_path(&arch, id, "env"), Content::Bytes(env))?;
        }
        Ok(())
    }

    /// The script that the format requires; what runs is in `service.toml`.
    fn add_script(&self, draft: &mut Draft<'static>) -> Result<(), PackageError> {
        let folder = self.workshop.path("script");
        fs::create_dir(&folder).map_err(PackageError::io(&folder))?;
        let script = folder.join("index.js");
        fs::write(&script, NEEDS_PILOTLIGHT).map_err(PackageError::io(&script))?;
        let made = self.workshop.path(SCRIPT);
        squash(&folder, Owners::Root, &made)?;
        add(draft, SCRIPT, Content::File(made))
    }
}

/// A folder for images on their way into the package, gone when this is.
struct Workshop(PathBuf);

impl Workshop {
    fn beside(to: &Path) -> Result<Self, PackageError> {
        let path = super::beside(to, &format!(".{}.work", std::process::id()));
        fs::create_dir(&path).map_err(PackageError::io(&path))?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // The package is written by now, or its error is told: what stays here harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
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
