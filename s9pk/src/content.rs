//! What a package must hold to be one for an architecture, and which of its files that needs.

use std::{collections::BTreeSet, iter};

use crate::{
    error::Error,
    manifest::{Arch, ImageConfig, Manifest},
    profile::{Deviation, Profile},
    toc::{Entry, Kind},
    tree::Tree,
};

/// The manifest's path.
pub const MANIFEST: &str = "manifest.json";
/// Pilotlight's description of what runs: an extra file that other systems ignore.
pub const SERVICE: &str = "service.toml";

/// A package whose content is complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validated {
    /// The paths it needs; a directory stands for everything in it.
    pub needed: BTreeSet<String>,
    /// What is allowed and unwise, as sentences.
    pub warnings: Vec<String>,
}

/// Checks the content for `arch`, or for every architecture the manifest names.
pub(crate) fn validate(
    tree: &Tree,
    manifest: &Manifest,
    arch: Option<&str>,
) -> Result<Validated, Error> {
    let mut check = Check {
        tree,
        done: Validated::default(),
    };
    check.required(MANIFEST)?;
    check.icon("", true)?;
    check.required("LICENSE.md")?;
    check.advised("instructions.md");
    check.required("javascript.squashfs")?;
    check.assets();
    check.optional(SERVICE);
    for id in manifest.dependencies.keys() {
        check.optional(&format!("dependencies/{id}/metadata.json"));
        check.icon(&format!("dependencies/{id}"), false)?;
    }
    for (id, image) in &manifest.images {
        for arch in arches(manifest, image, arch)? {
            check.image(id.as_str(), image, arch)?;
        }
    }
    Ok(check.done)
}

/// The path of an image's part (`squashfs`, `json` or `env`).
pub fn image_path(arch: &str, id: &str, part: &str) -> String {
    format!("images/{arch}/{id}.{part}")
}

/// The image type that an icon's extension stands for.
pub fn image_type(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "apng" => "image/apng",
        "avif" => "image/avif",
        "flif" => "image/flif",
        "gif" => "image/gif",
        "jpg" | "jpeg" | "jfif" | "pjpeg" | "pjp" => "image/jpeg",
        "jxl" => "image/jxl",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "mng" | "x-mng" => "image/x-mng",
        _ => return None,
    })
}

/// Known paths must be of their kind, which the signature does not cover.
pub(crate) fn check_kinds(tree: &Tree, profile: &mut Profile) -> Result<(), Error> {
    for name in ["images", "dependencies"] {
        check_kind(tree, name, false, profile)?;
        for entry in tree.list(name) {
            check_kind(tree, &format!("{name}/{}", entry.name), false, profile)?;
        }
    }
    for name in FILES {
        check_kind(tree, name, true, profile)?;
    }
    Ok(())
}

fn check_kind(tree: &Tree, path: &str, file: bool, profile: &mut Profile) -> Result<(), Error> {
    let wanted = if file { "file" } else { "directory" };
    let path = path.to_owned();
    match tree.get(&path).map(|entry| entry.kind) {
        Some(Kind::Directory { .. }) if file => profile.deviates(Deviation::Kind { path, wanted }),
        Some(Kind::File { .. }) if !file => profile.deviates(Deviation::Kind { path, wanted }),
        _ => Ok(()),
    }
}

struct Check<'a> {
    tree: &'a Tree,
    done: Validated,
}

impl Check<'_> {
    fn required(&mut self, path: &str) -> Result<(), Error> {
        if self.optional(path) {
            return Ok(());
        }
        let left_out = matches!(self.tree.get(path), Some(entry) if entry.kind == Kind::Missing);
        let why = if left_out {
            "was left out of this file"
        } else {
            "is missing"
        };
        Err(Error::Content(format!("{path} {why}")))
    }

    fn advised(&mut self, path: &str) {
        if !self.optional(path) {
            self.done.warnings.push(format!("{path} is missing"));
        }
    }

    fn optional(&mut self, path: &str) -> bool {
        let present = self.tree.get(path).is_some_and(is_file);
        if present {
            self.done.needed.insert(path.to_owned());
        }
        present
    }

    fn assets(&mut self) {
        let legacy = self.tree.get("assets");
        if legacy.is_some_and(|entry| matches!(entry.kind, Kind::Directory { .. })) {
            self.done.needed.insert("assets".to_owned());
        } else {
            self.optional("assets.squashfs");
        }
    }

    fn icon(&mut self, directory: &str, required: bool) -> Result<(), Error> {
        let icons = self
            .tree
            .list(directory)
            .filter(|entry| is_file(entry) && is_icon(&entry.name));
        let icons: Vec<_> = icons.map(|entry| join(directory, &entry.name)).collect();
        match icons.as_slice() {
            [] if required => {
                let wanted = "an icon (icon.png, icon.svg, ...) is missing";
                Err(Error::Content(wanted.to_owned()))
            }
            [] => Ok(()),
            [icon] => {
                self.done.needed.insert(icon.clone());
                Ok(())
            }
            several => Err(Error::Content(format!(
                "there is more than one icon ({}), leave one",
                several.join(", ")
            ))),
        }
    }

    fn image(&mut self, id: &str, image: &ImageConfig, arch: &str) -> Result<(), Error> {
        let there = |arch: &str| {
            self.tree
                .get(&image_path(arch, id, "squashfs"))
                .is_some_and(is_file)
        };
        let named = image.emulate_missing_as.as_ref();
        // Later packers leave open which one stands in; one that is there must do.
        let any = image.arch.iter().filter(|_| image.emulate_missing);
        let emulated = named.into_iter().chain(any).map(Arch::as_str);
        let found = iter::once(arch).chain(emulated).find(|arch| there(arch));
        let arch = found.unwrap_or(arch);
        for part in ["squashfs", "json", "env"] {
            self.required(&image_path(arch, id, part))?;
        }
        Ok(())
    }
}

/// The architectures to check an image for.
fn arches<'a>(
    manifest: &'a Manifest,
    image: &'a ImageConfig,
    arch: Option<&'a str>,
) -> Result<Vec<&'a str>, Error> {
    if let Some(arch) = arch {
        return Ok(vec![arch]);
    }
    if let Some(required) = &manifest.hardware_requirements.arch {
        return Ok(required.iter().map(Arch::as_str).collect());
    }
    let named = image.emulate_missing_as.as_ref();
    let emulated = named.is_some_and(|arch| image.arch.contains(arch)) || image.emulate_missing;
    if !emulated {
        let problem = "the manifest neither says which architectures the package is for \
            (hardwareRequirements.arch) nor which of its own each image is emulated as";
        return Err(Error::Content(problem.to_owned()));
    }
    Ok(image.arch.iter().map(Arch::as_str).collect())
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::File { .. })
}

fn is_icon(name: &str) -> bool {
    matches!(name.rsplit_once('.'), Some(("icon", extension)) if image_type(extension).is_some())
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// Paths that are files wherever they occur.
const FILES: [&str; 6] = [
    MANIFEST,
    SERVICE,
    "LICENSE.md",
    "instructions.md",
    "javascript.squashfs",
    "assets.squashfs",
];
