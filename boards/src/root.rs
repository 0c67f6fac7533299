//! The box's read-only root: our programs, what they open from Debian, and nothing else.
//!
//! Not packages but files are chosen: the programs named here and, followed through their ELF
//! headers, the libraries that they need. So nothing is carried that nothing uses, and a library
//! that is missing is an error now, not on the box.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use s9pk::PublicKey;

use crate::binaries::Binaries;
use crate::cache;
use crate::debian::Packages;
use crate::elf;
use crate::modules::Modules;
use crate::progress;
use crate::tool;
use crate::tree::{Node, Tree};

/// Packs the root to `path`, with `releases` as the key whose releases its box takes, unless it is there already and made of the same.
///
/// # Errors
/// When a part is missing or `mksquashfs` fails.
pub fn build(
    path: &Path,
    packages: &Packages,
    modules: &Modules,
    binaries: &Binaries,
    preloaded: &[&Path],
    releases: &PublicKey,
) -> Result<()> {
    let mut tree = Tree::default();
    skeleton(&mut tree);
    // Whose binaries PID 1 goes over to (`release::TRUSTED`).
    tree.text("etc/pilotlight/release.pub", &format!("{releases}\n"));
    applets(&mut tree, packages)?;
    ours(&mut tree, binaries, preloaded)?;
    for program in PROGRAMS {
        tree.file(program, 0o755, packages.file(program)?);
    }
    library(&mut tree, packages, OPENED)?;
    libraries(&mut tree, packages)?;
    modules.put(&mut tree, None)?;
    cache::fresh(path, &tree.digest()?, |path| {
        progress::step("Packing the root", || squash(&tree, path))
    })?;
    Ok(())
}

/// Packs a tree as a squashfs, the same bytes for the same tree.
///
/// # Errors
/// When it can't be written out or `mksquashfs` fails.
pub fn squash(tree: &Tree, path: &Path) -> Result<()> {
    let staged = path.with_extension("tree");
    fs::remove_dir_all(&staged).ok();
    tree.write(&staged)?;
    pack(&staged, path, LEVEL)
}

/// Packs a folder and removes it.
fn pack(staged: &Path, path: &Path, level: &str) -> Result<()> {
    let mut command = Command::new("mksquashfs");
    command
        .arg(staged)
        .arg(path)
        .args([
            "-noappend",
            "-quiet",
            "-no-progress",
            "-all-root",
            "-no-xattrs",
        ])
        .args(["-mkfs-time", "0", "-all-time", "0", "-comp", "zstd"])
        .args(["-Xcompression-level", level])
        .args(["-action", PLAIN])
        .env_remove("SOURCE_DATE_EPOCH");
    tool::run(&mut command)?;
    fs::remove_dir_all(staged).with_context(|| staged.display().to_string())
}

/// The root at `root` with more files, or others, at `path`: each is put at its place below the
/// root, with the mode that it has.
///
/// # Errors
/// When a file can't be read, or the tools for squashfs fail.
pub fn with_files(root: &Path, files: &[(PathBuf, PathBuf)], path: &Path) -> Result<()> {
    let staged = path.with_extension("tree");
    fs::remove_dir_all(&staged).ok();
    let mut unpack = Command::new("unsquashfs");
    unpack.args(["-quiet", "-no-progress", "-no-xattrs", "-dest"]);
    tool::run(unpack.arg(&staged).arg(root))?;
    for (place, file) in files {
        fs::copy(file, staged.join(place)).with_context(|| file.display().to_string())?;
    }
    pack(&staged, path, QUICK)
}

/// The place in the root of a package that comes with it.
pub fn package(name: &OsStr) -> PathBuf {
    Path::new(PACKAGES).join(name)
}

/// Busybox and a link for each of its applets; `init` is ours.
///
/// # Errors
/// When busybox can't be asked for its applets.
pub fn applets(tree: &mut Tree, packages: &Packages) -> Result<()> {
    let busybox = packages.file("usr/bin/busybox")?;
    for link in ["bin", "sbin", "lib", "lib64"] {
        tree.link(link, format!("usr/{link}"));
    }
    tree.file("usr/bin/busybox", 0o755, &busybox);
    let list = tool::output(Command::new(&busybox).arg("--list-full"))?;
    for applet in list.lines().filter(|applet| !NOT_BUSYBOX.contains(applet)) {
        let place = applet.strip_prefix("usr/").unwrap_or(applet);
        if matches!(place.split_once('/'), Some(("bin" | "sbin", _))) {
            tree.link(format!("usr/{place}"), "/usr/bin/busybox");
        }
    }
    Ok(())
}

fn skeleton(tree: &mut Tree) {
    for folder in EMPTY {
        tree.directory(folder, 0o755);
    }
    tree.directory("tmp", 0o1777);
    tree.directory("root", 0o700);
    for (path, text) in TEXTS {
        tree.text(path, text);
    }
    for (path, target) in LINKS {
        tree.link(path, *target);
    }
    let version = env!("CARGO_PKG_VERSION");
    tree.text(
        "etc/os-release",
        &format!("ID=pilotlight\nNAME=Pilotlight\nVERSION_ID={version}\nPRETTY_NAME=\"Pilotlight {version}\"\n"),
    );
}

fn ours(tree: &mut Tree, binaries: &Binaries, preloaded: &[&Path]) -> Result<()> {
    tree.file(INIT, 0o755, &binaries.init);
    tree.file("usr/lib/pilotlight/agent", 0o755, &binaries.agent);
    tree.file("usr/lib/pilotlight/monitor", 0o755, &binaries.monitor);
    tree.file(PILOT, 0o755, &binaries.pilot);
    for name in ["init", "modprobe"] {
        tree.link(format!("usr/sbin/{name}"), "/usr/lib/pilotlight/init");
    }
    tree.directory(PACKAGES, 0o755);
    for package in preloaded {
        let name = package.file_name().context("a package without a name")?;
        let name = name.to_string_lossy();
        tree.file(format!("{PACKAGES}/{name}"), 0o644, *package);
    }
    Ok(())
}

/// Adds what the programs and libraries in the tree ask for, until nothing is missing.
fn libraries(tree: &mut Tree, packages: &Packages) -> Result<()> {
    let mut known = BTreeSet::new();
    loop {
        let mut missing = BTreeSet::new();
        for (path, node) in tree.nodes() {
            if let Node::File { content, .. } = node
                && (path.starts_with("usr/bin")
                    || path.starts_with("usr/sbin")
                    || path.starts_with("usr/lib"))
                && path.extension().is_none_or(|extension| extension != "ko")
            {
                let needed = elf::needed(&content.read()?);
                missing.extend(needed.with_context(|| path.display().to_string())?);
            }
        }
        missing.retain(|name| known.insert(name.clone()));
        if missing.is_empty() {
            return Ok(());
        }
        for name in missing {
            library(tree, packages, &name)?;
        }
    }
}

fn library(tree: &mut Tree, packages: &Packages, name: &str) -> Result<()> {
    let (place, file) = packages.library(name)?;
    tree.file(place, 0o755, file);
    Ok(())
}

/// What is taken from Debian beside busybox, and why.
const PROGRAMS: &[&str] = &[
    // Checks, grows and shows the data file system.
    "usr/bin/btrfs",
    // Makes it on first boot.
    "usr/sbin/mkfs.btrfs",
    // Puts data behind a mapping, when the kernel's command line asks for it.
    "usr/sbin/dmsetup",
];

/// Opened by the monitor at run time, so no ELF header names it.
const OPENED: &str = "liblxc.so.1";

/// Applets that would stand where something else does: busybox itself, and our init, which is also
/// what loads modules.
const NOT_BUSYBOX: &[&str] = &["bin/busybox", "sbin/init", "sbin/modprobe"];

/// Mount points, and folders that programs of others expect.
const EMPTY: &[&str] = &[
    "data",
    "dev",
    "mnt",
    "proc",
    "run",
    "sys",
    // Where liblxc assembles a container's root unless told otherwise.
    "usr/lib/x86_64-linux-gnu/lxc/rootfs",
    "var/lib/lxc",
];

const TEXTS: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         front:x:500:500:front door:/:/bin/false\n\
         manager:x:501:501:manager:/:/bin/false\n\
         logd:x:502:502:log store:/:/bin/false\n",
    ),
    (
        "etc/group",
        "root:x:0:\nfront:x:500:\nmanager:x:501:\nlogd:x:502:\n",
    ),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];

/// What changes while the box runs is in /run.
const LINKS: &[(&str, &str)] = &[
    ("etc/hostname", "/run/hostname"),
    ("etc/machine-id", "/run/machine-id"),
    ("etc/mtab", "/proc/self/mounts"),
    ("etc/resolv.conf", "/run/resolv.conf"),
    ("var/run", "/run"),
    ("var/tmp", "/tmp"),
];

/// Where PID 1 and the roles are.
pub const INIT: &str = "usr/lib/pilotlight/init";
/// The place in the root of `pilot`.
pub const PILOT: &str = "usr/bin/pilot";

/// Where packages are that come with the root.
const PACKAGES: &str = "usr/share/pilotlight/packages";

/// PID 1 and its roles are not compressed: the first of them runs when nothing is in memory yet, and
/// unpacking what each page fault asks for took longer than all the rest of the way to an open door.
const PLAIN: &str = "uncompressed @ pathname(usr/lib/pilotlight/init)";

/// zstd's level where time counts and size does not.
const QUICK: &str = "1";

/// zstd's level: higher ones cost minutes on two cores and win a few percent.
const LEVEL: &str = "9";
