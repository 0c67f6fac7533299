//! The parts of the root that others build: Debian 13 packages, fetched through an apt of our own
//! that shares nothing with the machine's but its mirror and its keyring.
//!
//! Signatures are apt's business and stay on. Nothing is installed and nothing runs: packages are
//! only unpacked, without root, each into a folder of its own in the cache.

mod apt;
mod mirror;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::board::Board;
use crate::cache::{self, Cache};
use crate::progress;
use crate::tool;

/// Unpacked packages, looked through as if they were one tree.
#[derive(Debug)]
pub struct Packages {
    folders: Vec<PathBuf>,
}

impl Packages {
    /// Fetches what the board's root is made of, or takes it from the cache. `mirror` is used in
    /// place of the machine's own; `refresh` asks the archive for newer versions.
    ///
    /// # Errors
    /// When no mirror is known, apt refuses, or a package can't be unpacked.
    pub fn fetch(
        cache: &Cache,
        board: &Board,
        mirror: Option<&str>,
        refresh: bool,
    ) -> Result<Self> {
        let folder = cache.folder(&format!("apt-{}", board.debian.arch))?;
        let list = folder.join("resolved");
        let wanted = format!("{} {WANTED:?} {ALONE:?}", board.debian.kernel);
        if refresh {
            fs::remove_file(&list).ok();
        }
        cache::fresh(&list, &wanted, |list| {
            let sources = mirror::sources(mirror)?;
            let apt = apt::Apt::new(&folder, &board.debian.arch, &sources)?;
            progress::step("Asking Debian's archive for its lists", || apt.update())?;
            let files = progress::step("Fetching Debian packages", || {
                apt.download(&board.debian.kernel, WANTED, ALONE)
            })?;
            Ok(fs::write(list, files.join("\n"))?)
        })?;
        let debs = fs::read_to_string(&list)?;
        let unpacked = cache.folder("unpacked")?;
        let folders = progress::step("Unpacking Debian packages", || {
            debs.lines()
                .map(|deb| unpack(Path::new(deb), &unpacked))
                .collect::<Result<_>>()
        })?;
        Ok(Self { folders })
    }

    /// The file at this path in whichever package has it.
    ///
    /// # Errors
    /// When none has.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let found = self
            .folders
            .iter()
            .map(|folder| folder.join(path))
            .find(|path| path.exists());
        let Some(found) = found else {
            bail!("no Debian package that the root is made of has a file {path}");
        };
        Ok(found)
    }

    /// A shared library by the name that programs ask for it with.
    ///
    /// # Errors
    /// When no package has it: one is missing from `WANTED`.
    pub fn library(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        for folder in &self.folders {
            for place in ["usr/lib64", "usr/lib"] {
                if let Some(found) = find(&folder.join(place), name)? {
                    let within = found
                        .strip_prefix(folder)
                        .context("found outside")?
                        .to_owned();
                    return Ok((within, found));
                }
            }
        }
        bail!("no Debian package that the root is made of has the library {name}")
    }

    /// The kernel's release, as `uname -r` says it.
    ///
    /// # Errors
    /// When there is not exactly one kernel among the packages.
    pub fn kernel_release(&self) -> Result<String> {
        let mut releases = Vec::new();
        for folder in &self.folders {
            if let Ok(entries) = fs::read_dir(folder.join("usr/lib/modules")) {
                for entry in entries {
                    releases.push(entry?.file_name().to_string_lossy().into_owned());
                }
            }
        }
        match &releases[..] {
            [one] => Ok(one.clone()),
            _ => bail!("expected one kernel among the packages, found {releases:?}"),
        }
    }
}

fn unpack(deb: &Path, under: &Path) -> Result<PathBuf> {
    let name = deb.file_stem().context("a package without a name")?;
    let folder = under.join(name);
    cache::fresh(&folder, &name.to_string_lossy(), |folder| {
        tool::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(deb)
                .arg(folder),
        )
    })?;
    Ok(folder)
}

/// The first file of this name in `folder` or one level below, where Debian keeps libraries.
fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(None);
    };
    if folder.join(name).exists() {
        return Ok(Some(folder.join(name)));
    }
    for entry in entries {
        let inside = entry?.path().join(name);
        if inside.exists() {
            return Ok(Some(inside));
        }
    }
    Ok(None)
}

/// What the root and the demo are made of, beside the kernel; what these depend on comes along.
const WANTED: &[&str] = &[
    // The recovery shell, and the demo's web server.
    "busybox-static",
    // Makes and checks the data partition.
    "btrfs-progs",
    // Puts the data partition behind a mapping that tests can suspend.
    "dmsetup",
    // Opened by the monitor; also linked by it.
    "libgcc-s1",
    // What runs containers, opened by the monitor at run time.
    "liblxc1t64",
];

/// Without what they depend on, as only a script of each is used, and by tests alone.
const ALONE: &[&str] = &[
    // Judges a kernel's options: `lxc-checkconfig`.
    "lxc",
];
