//! Loading kernel modules: a driver's probe may take as long as its device does.

use std::path::Path;

use drivers::{
    coldplug,
    module::{ModuleLoader, Outcome, running_kernel_dir},
};

use super::{HelperError, SYS, answer::Modules};

/// Loads the modules of all devices, and those in `also`.
pub(super) fn coldplug(also: &[&str]) -> Result<Modules, HelperError> {
    let mut loader = open()?;
    let mut answer = load_all(&mut loader, also);
    let summary = coldplug::settle(Path::new(SYS), &mut loader)?;
    answer.loaded.extend(summary.loaded);
    answer.failed.extend(summary.failed);
    answer.devices = summary.aliases;
    Ok(bounded(answer))
}

/// Loads the modules of devices with these aliases.
pub(super) fn for_aliases(aliases: &[&str]) -> Result<Modules, HelperError> {
    let mut loader = open()?;
    let mut answer = Modules {
        devices: aliases.len(),
        ..Modules::default()
    };
    for alias in aliases {
        add(&mut answer, loader.load_for_modalias(alias));
    }
    Ok(bounded(answer))
}

/// Loads these modules.
pub(super) fn load(names: &[&str]) -> Result<Modules, HelperError> {
    Ok(bounded(load_all(&mut open()?, names)))
}

/// As the kernel calls /sbin/modprobe: `-q -- NAME`.
pub(super) fn requested(args: &[&str]) -> Result<Modules, HelperError> {
    let mut loader = open()?;
    let mut answer = Modules::default();
    for name in args.iter().filter(|arg| !arg.starts_with('-')) {
        add(&mut answer, loader.load_requested(name));
    }
    match answer.failed.first() {
        // Most requests are for what this kernel was built without, which is no news.
        Some(why) if answer.loaded.is_empty() => Err(HelperError::Module { why: why.clone() }),
        _ => Ok(answer),
    }
}

/// Tries to make the kernel know a file system. If it can't, mounting says so.
pub(super) fn need_file_system(kind: &str) {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.split_whitespace().any(|name| name == kind) {
        return;
    }
    match load(&[kind]) {
        Ok(answer) => {
            for why in answer.failed {
                supervise::warning!("{why}");
            }
        }
        Err(error) => supervise::warning!("{error}"),
    }
}

fn open() -> Result<ModuleLoader, HelperError> {
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    Ok(ModuleLoader::open(&running_kernel_dir(), &command_line)?)
}

fn load_all(loader: &mut ModuleLoader, names: &[&str]) -> Modules {
    let mut answer = Modules::default();
    for name in names {
        add(&mut answer, loader.load_requested(name));
    }
    answer
}

fn add(answer: &mut Modules, outcome: Outcome) {
    answer.loaded.extend(outcome.loaded);
    answer
        .failed
        .extend(outcome.failed.iter().map(ToString::to_string));
}

fn bounded(mut answer: Modules) -> Modules {
    answer.loaded.truncate(MOST_NAMES);
    answer.failed.truncate(MOST_FAILURES);
    answer
}

/// A machine has some hundred; names are short, and the answer must fit in a pipe.
const MOST_NAMES: usize = 500;

/// As above, for sentences.
const MOST_FAILURES: usize = 50;
