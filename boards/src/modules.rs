//! The kernel modules worth carrying: chosen by path, completed by what they depend on, unpacked,
//! and indexed in the three text files that our loader reads (as `depmod` would write them).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::elf;
use crate::progress;
use crate::tool;
use crate::tree::Tree;

/// A set of modules of one kernel, unpacked.
#[derive(Debug)]
pub struct Modules {
    release: String,
    /// The distribution's folder, for its list of what is built in.
    source: PathBuf,
    /// By name, with underscores.
    modules: BTreeMap<String, Module>,
}

#[derive(Debug)]
struct Module {
    /// Under `kernel/`, without the compression's suffix.
    path: String,
    unpacked: PathBuf,
    depends: Vec<String>,
    aliases: Vec<String>,
    soft: Vec<String>,
}

impl Modules {
    /// Chooses the modules under `folder` (`usr/lib/modules/<release>`) whose path begins with one
    /// of `keep`, or whose name is in `named`, and all that those depend on.
    ///
    /// # Errors
    /// When a module can't be unpacked or read.
    pub fn choose(cache: &Cache, folder: &Path, keep: &[String], named: &[String]) -> Result<Self> {
        let release = folder
            .file_name()
            .context("no kernel release")?
            .to_string_lossy();
        let store = cache.folder(&format!("modules-{release}"))?;
        let paths = packed(folder)?;
        let mut wanted: BTreeSet<String> = paths
            .iter()
            .filter(|(_, path)| keep.iter().any(|prefix| path.starts_with(prefix)))
            .map(|(name, _)| name.clone())
            .collect();
        wanted.extend(named.iter().map(|name| canonical(name)));
        let modules = progress::step("Unpacking kernel modules", || {
            complete(wanted, &paths, folder, &store)
        })?;
        Ok(Self {
            release: release.into_owned(),
            source: folder.into(),
            modules,
        })
    }

    /// Puts them, or only those `named` and what these depend on, into a tree with their indexes.
    ///
    /// # Errors
    /// When the kernel's list of what is built in can't be read.
    pub fn put(&self, tree: &mut Tree, named: Option<&[String]>) -> Result<()> {
        let chosen: BTreeSet<&str> = match named {
            Some(names) => self.closure(names),
            None => self.modules.keys().map(String::as_str).collect(),
        };
        let folder = format!("usr/lib/modules/{}", self.release);
        let mut dep = String::new();
        let mut alias = String::new();
        let mut softdep = String::new();
        for (name, module) in self
            .modules
            .iter()
            .filter(|(name, _)| chosen.contains(name.as_str()))
        {
            tree.file(
                format!("{folder}/kernel/{}", module.path),
                0o644,
                &module.unpacked,
            );
            let needs: Vec<_> = self
                .with_dependencies(name)
                .skip(1)
                .map(|n| self.path(n))
                .collect();
            dep += &format!("{}:{}\n", self.path(name), joined(&needs));
            module
                .aliases
                .iter()
                .for_each(|a| alias += &format!("alias {a} {name}\n"));
            module
                .soft
                .iter()
                .for_each(|s| softdep += &format!("softdep {name} {s}\n"));
        }
        tree.text(format!("{folder}/modules.dep"), &dep);
        tree.text(format!("{folder}/modules.alias"), &alias);
        tree.text(format!("{folder}/modules.softdep"), &softdep);
        let builtin = fs::read_to_string(self.source.join("modules.builtin"))?;
        tree.text(format!("{folder}/modules.builtin"), &builtin);
        Ok(())
    }

    /// All that has to be there for these to work: what they depend on, and the algorithms that
    /// they ask the kernel for by an alias.
    fn closure(&self, names: &[String]) -> BTreeSet<&str> {
        let mut chosen = BTreeSet::new();
        let mut open: Vec<String> = names.iter().map(|name| canonical(name)).collect();
        while let Some(name) = open.pop() {
            for name in self.with_dependencies(&name) {
                if chosen.insert(name) {
                    let soft = self.modules[name].soft.iter();
                    open.extend(soft.flat_map(|soft| self.wished(soft)));
                }
            }
        }
        chosen
    }

    /// The modules that a `softdep` line wants loaded first, by name or by alias.
    fn wished<'a>(&'a self, soft: &'a str) -> impl Iterator<Item = String> + use<'a> {
        let before = soft.split("post:").next().unwrap_or_default();
        let wanted: Vec<_> = before.split_whitespace().skip(1).collect();
        let modules = self.modules.iter().filter(move |(name, module)| {
            wanted.iter().any(|wish| {
                **name == canonical(wish) || module.aliases.iter().any(|alias| alias == wish)
            })
        });
        modules.map(|(name, _)| name.clone())
    }

    /// The module and, nearest first, all that it depends on: the order of `modules.dep`.
    fn with_dependencies<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut found: Vec<&str> = Vec::new();
        self.visit(name, &mut found);
        found.reverse();
        found.into_iter()
    }

    /// Dependencies before their dependents.
    fn visit<'a>(&'a self, name: &str, found: &mut Vec<&'a str>) {
        let Some((name, module)) = self.modules.get_key_value(name) else {
            return;
        };
        if !found.contains(&name.as_str()) {
            module
                .depends
                .iter()
                .for_each(|needed| self.visit(needed, found));
            found.push(name);
        }
    }

    fn path(&self, name: &str) -> String {
        format!("kernel/{}", self.modules[name].path)
    }
}

/// Unpacks what is wanted, and then what that depends on, until nothing is missing.
fn complete(
    mut wanted: BTreeSet<String>,
    paths: &BTreeMap<String, String>,
    folder: &Path,
    store: &Path,
) -> Result<BTreeMap<String, Module>> {
    let mut modules = BTreeMap::new();
    while !wanted.is_empty() {
        // A name without a file is built into this kernel.
        let round: Vec<_> = wanted
            .iter()
            .filter_map(|name| paths.get_key_value(name))
            .collect();
        unpack(round.iter().map(|(_, path)| path.as_str()), folder, store)?;
        for (name, path) in round {
            modules.insert(name.clone(), read(path, store)?);
        }
        wanted = modules
            .values()
            .flat_map(|module: &Module| module.depends.iter())
            .filter(|name| !modules.contains_key(*name) && paths.contains_key(*name))
            .cloned()
            .collect();
    }
    Ok(modules)
}

fn unpack<'a>(paths: impl Iterator<Item = &'a str>, folder: &Path, store: &Path) -> Result<()> {
    let mut fetched = Vec::new();
    for path in paths.filter(|path| !store.join(plain(path)).exists()) {
        let to = store.join(path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(folder.join("kernel").join(path), &to)?;
        fetched.push(to);
    }
    for batch in fetched.chunks(BATCH) {
        let packed = batch
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "xz"));
        let packed: Vec<_> = packed.collect();
        if !packed.is_empty() {
            tool::run(
                Command::new("xz")
                    .args(["--decompress", "--force"])
                    .args(packed),
            )?;
        }
    }
    Ok(())
}

fn read(path: &str, store: &Path) -> Result<Module> {
    let unpacked = store.join(plain(path));
    let bytes = fs::read(&unpacked).with_context(|| unpacked.display().to_string())?;
    let info = elf::modinfo(&bytes).with_context(|| unpacked.display().to_string())?;
    let all = |key: &str| {
        let values = info.iter().filter(move |(k, _)| k == key);
        values.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let depends = all("depends");
    let depends = depends
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|name| !name.is_empty());
    Ok(Module {
        path: plain(path).into(),
        depends: depends.map(canonical).collect(),
        aliases: all("alias"),
        soft: all("softdep"),
        unpacked,
    })
}

/// Every module of the kernel: its name, and its path under `kernel/`.
fn packed(folder: &Path) -> Result<BTreeMap<String, String>> {
    let root = folder.join("kernel");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let file = entry.file_name().to_string_lossy().into_owned();
            if let Some((name, _)) = file.split_once(".ko") {
                let path = entry
                    .path()
                    .strip_prefix(&root)?
                    .to_string_lossy()
                    .into_owned();
                found.insert(canonical(name), path);
            }
        }
    }
    Ok(found)
}

/// Module names are written with either; the kernel says underscores.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn plain(path: &str) -> &str {
    path.strip_suffix(".xz").unwrap_or(path)
}

fn joined(paths: &[String]) -> String {
    paths.iter().map(|path| format!(" {path}")).collect()
}

/// Files given to one run of the decompressor: well under the kernel's limit on arguments.
const BATCH: usize = 200;

#[cfg(test)]
mod tests {
    use super::{Module, Modules};
    use crate::tree::Tree;
    use std::fs;
    use std::path::PathBuf;

    fn module(path: &str, depends: &[&str]) -> Module {
        Module {
            path: path.into(),
            unpacked: PathBuf::from("/nonexistent"),
            depends: depends.iter().map(|name| (*name).to_owned()).collect(),
            aliases: vec![format!("of:{path}")],
            soft: Vec::new(),
        }
    }

    fn btrfs_and_friends() -> Modules {
        let source = std::env::temp_dir().join(format!("boards-modules-{}", std::process::id()));
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("modules.builtin"), "kernel/fs/a.ko\n").unwrap();
        let modules = [
            ("btrfs", module("fs/btrfs.ko", &["xor", "raid6_pq"])),
            ("raid6_pq", module("lib/raid6_pq.ko", &[])),
            ("xor", module("crypto/xor.ko", &["base"])),
            ("base", module("lib/base.ko", &[])),
            ("veth", module("net/veth.ko", &[])),
        ];
        let modules = modules
            .into_iter()
            .map(|(name, module)| (name.into(), module))
            .collect();
        Modules {
            release: "6.12".into(),
            source,
            modules,
        }
    }

    #[test]
    fn what_is_needed_first_comes_last_as_depmod_writes_it() {
        let all = btrfs_and_friends();
        let order: Vec<_> = all.with_dependencies("btrfs").collect();
        assert_eq!(order, ["btrfs", "raid6_pq", "xor", "base"]);
    }

    #[test]
    fn a_choice_brings_its_dependencies_and_nothing_else() {
        let mut tree = Tree::default();
        btrfs_and_friends()
            .put(&mut tree, Some(&["btrfs".into()]))
            .unwrap();
        assert!(tree.has("usr/lib/modules/6.12/kernel/lib/base.ko"));
        assert!(!tree.has("usr/lib/modules/6.12/kernel/net/veth.ko"));
    }

    #[test]
    fn an_algorithm_asked_for_by_alias_comes_along() {
        let mut all = btrfs_and_friends();
        let mut generic = module("crypto/crc32c_generic.ko", &[]);
        generic.aliases.push("crypto-crc32c".into());
        all.modules.insert("crc32c_generic".into(), generic);
        all.modules
            .get_mut("base")
            .unwrap()
            .soft
            .push("pre: crypto-crc32c".into());
        let mut tree = Tree::default();
        all.put(&mut tree, Some(&["btrfs".into()])).unwrap();
        assert!(tree.has("usr/lib/modules/6.12/kernel/crypto/crc32c_generic.ko"));
    }
}
