//! Where things that can be made again are kept, outside the tree, and the question whether one of
//! them is still what its inputs would make.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The folder of everything that can be fetched or built again, and of the virtual machine's disk.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$PILOTLIGHT_CACHE`, or `pilotlight` in the user's cache folder. Made when it is not there.
    ///
    /// # Errors
    /// When no variable says where it is, or it can't be made.
    pub fn open() -> Result<Self> {
        let Some(root) = location() else {
            bail!("no cache folder: set PILOTLIGHT_CACHE, XDG_CACHE_HOME or HOME");
        };
        fs::create_dir_all(&root).with_context(|| format!("{} can't be made", root.display()))?;
        Ok(Self { root })
    }

    /// A folder in the cache, made when it is not there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("{} can't be made", path.display()))?;
        Ok(path)
    }

    /// Holds everybody else's builds back until the returned file is dropped.
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join("build.lock");
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        lock.lock().context("the build can't be locked")?;
        Ok(lock)
    }
}

/// Makes `path` with `make`, unless it is there already and was made from the same `inputs`.
///
/// The product appears under its name only when it is whole, so a build cut short leaves nothing
/// that a later one would trust. Says whether it had to be made.
///
/// # Errors
/// When `make` fails or the product can't be put in its place.
pub fn fresh(path: &Path, inputs: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
    let stamp = beside(path, "inputs");
    if path.exists() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == inputs) {
        return Ok(false);
    }
    let unfinished = beside(path, "unfinished");
    remove(&unfinished)?;
    make(&unfinished)?;
    remove(&stamp)?;
    remove(path)?;
    fs::rename(&unfinished, path).with_context(|| format!("{} can't be put", path.display()))?;
    fs::write(&stamp, inputs).with_context(|| stamp.display().to_string())?;
    Ok(true)
}

/// A short name for whatever the parts say: the same parts, the same name.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

fn location() -> Option<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("PILOTLIGHT_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("pilotlight")))
        .or_else(|| set("HOME").map(|path| path.join(".cache/pilotlight")))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn remove(path: &Path) -> Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    gone.with_context(|| format!("{} can't be removed", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{digest, fresh};
    use std::fs;

    #[test]
    fn a_product_is_made_again_only_when_its_inputs_change() {
        let folder = env_folder("fresh");
        let product = folder.join("product");
        let mut made = 0;
        for inputs in ["a", "a", "b"] {
            let again = fresh(&product, inputs, |path| {
                made += 1;
                Ok(fs::write(path, inputs)?)
            });
            again.unwrap();
            assert_eq!(fs::read_to_string(&product).unwrap(), inputs);
        }
        assert_eq!(made, 2);
    }

    #[test]
    fn a_failed_build_leaves_nothing_behind_to_trust() {
        let product = env_folder("failed").join("product");
        let failed = fresh(&product, "a", |path| {
            fs::write(path, "half")?;
            anyhow::bail!("cut short")
        });
        assert!(failed.is_err() && !product.exists());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(digest([&b"ab"[..], b"c"]), digest([&b"a"[..], b"bc"]));
    }

    fn env_folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("boards-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}
