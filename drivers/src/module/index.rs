//! `modules.dep`, `modules.builtin`, `modules.softdep`: what there is and what needs what.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::{
    Error,
    module::{alias::normalised, optional_file},
};

/// The modules of one kernel.
pub(crate) struct ModuleIndex {
    dir: PathBuf,
    modules: HashMap<String, Module>,
    builtin: HashSet<String>,
    soft: HashMap<String, Vec<String>>,
}

struct Module {
    file: String,
    needs: Vec<String>,
}

impl ModuleIndex {
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("modules.dep");
        let dependencies =
            std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
        let builtin = optional_file(&dir.join("modules.builtin"))?;
        let soft = optional_file(&dir.join("modules.softdep"))?;
        Ok(Self {
            dir: dir.to_owned(),
            modules: dependencies.lines().filter_map(dependency_line).collect(),
            builtin: builtin.lines().map(name_of).collect(),
            soft: soft.lines().filter_map(soft_line).collect(),
        })
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.modules.contains_key(name) || self.is_builtin(name)
    }

    pub(crate) fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(name)
    }

    /// What must be loaded before, in the order to load it.
    pub(crate) fn needs(&self, name: &str) -> Result<Vec<String>, Error> {
        // depmod lists what is needed from the module outwards.
        Ok(self.module(name)?.needs.iter().rev().cloned().collect())
    }

    /// What had better be loaded before, by name or alias.
    pub(crate) fn soft_before(&self, name: &str) -> Vec<String> {
        self.soft.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn file(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(self.dir.join(&self.module(name)?.file))
    }

    fn module(&self, name: &str) -> Result<&Module, Error> {
        self.modules.get(name).ok_or_else(|| Error::NoModule {
            name: name.to_owned(),
            dir: self.dir.clone(),
        })
    }
}

/// `kernel/fs/btrfs/btrfs.ko: kernel/crypto/xor.ko ...`
fn dependency_line(line: &str) -> Option<(String, Module)> {
    let (file, needs) = line.split_once(':')?;
    let needs = needs.split_whitespace().map(name_of).collect();
    Some((
        name_of(file),
        Module {
            file: file.to_owned(),
            needs,
        },
    ))
}

/// `softdep btrfs pre: crc32c xxhash64 post: later`
fn soft_line(line: &str) -> Option<(String, Vec<String>)> {
    let mut words = line.split_whitespace();
    (words.next()? == "softdep").then_some(())?;
    let name = normalised(words.next()?);
    let before = words
        .skip_while(|word| *word != "pre:")
        .skip(1)
        .take_while(|word| *word != "post:")
        .map(str::to_owned)
        .collect();
    Some((name, before))
}

/// A module's name from its file's: `kernel/lib/base-lib.ko.xz` is `base_lib`.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normalised(base.split('.').next().unwrap_or(base))
}
