//! Everything a machine boots from, made or taken from the cache: one call for `cargo boot`, for
//! `cargo prove`, and for the tests.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::binaries::{self, Binaries};
use crate::board::Board;
use crate::cache::{self, Cache};
use crate::debian::Packages;
use crate::demo;
use crate::initramfs;
use crate::modules::Modules;
use crate::root;

/// What may be asked of the builder.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Another kernel than Debian's.
    pub kernel: Option<PathBuf>,
    /// Another mirror than the machine's own apt uses.
    pub mirror: Option<String>,
    /// Ask Debian's archive for newer packages.
    pub refresh: bool,
}

/// Paths of what a machine boots from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Artifacts {
    /// The kernel.
    pub kernel: PathBuf,
    /// The options that this kernel was built with.
    pub kernel_config: PathBuf,
    /// LXC's own script that judges them.
    pub checkconfig: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The read-only root, a squashfs.
    pub root: PathBuf,
    /// The demo package, which the root has preloaded.
    pub demo: PathBuf,
    /// The static `init`, for tests that run it in namespaces.
    pub init: PathBuf,
    /// The command line.
    pub pilot: PathBuf,
    /// The developer key (PKCS#8, PEM) that the demo is signed with.
    pub key: PathBuf,
    /// The developer key (PKCS#8, PEM) whose binaries the box's PID 1 goes over to.
    pub release_key: PathBuf,
    /// A folder to keep disks in.
    pub state: PathBuf,
}

impl Artifacts {
    /// Makes what is not there or not up to date. Builders that run at the same time take turns.
    ///
    /// # Errors
    /// When anything can't be fetched, built or packed.
    pub fn make(board: &Board, options: &Options) -> Result<Self> {
        let cache = Cache::open()?;
        // Before the lock: cargo takes turns by itself, and only with those of the same checkout.
        let binaries = Binaries::build(board)?;
        let _turn = cache.lock()?;
        let packages = Packages::fetch(&cache, board, options.mirror.as_deref(), options.refresh)?;
        let release = packages.kernel_release()?;
        let folder = packages.file(&format!("usr/lib/modules/{release}"))?;
        let modules = Modules::choose(
            &cache,
            &folder,
            &board.modules.keep,
            &board.modules.initramfs,
        )?;

        let images = cache.folder(&format!("images-{}", checkout()))?;
        let demo = demo::build(&images, &packages)?;
        let initramfs = images.join("initramfs.cpio");
        initramfs::build(&initramfs, board, &packages, &modules, &binaries)?;
        let root = images.join("root.squashfs");
        let release_key = images.join("release.key.pem");
        let releases = demo::key_at(&release_key)?.public();
        let preloaded = [demo.package.as_path()];
        root::build(&root, &packages, &modules, &binaries, &preloaded, &releases)?;
        Ok(Self {
            kernel: match &options.kernel {
                Some(kernel) => kernel.clone(),
                None => packages.file(&format!("boot/vmlinuz-{release}"))?,
            },
            kernel_config: packages.file(&format!("boot/config-{release}"))?,
            checkconfig: packages.file("usr/bin/lxc-checkconfig")?,
            initramfs,
            root,
            demo: demo.package,
            init: binaries.init,
            pilot: binaries.pilot,
            key: demo.key,
            release_key,
            state: cache.folder(&format!("state-{}", checkout()))?,
        })
    }

    /// Those that `cargo prove` made for the tests it runs; made here when a test is run alone.
    ///
    /// # Errors
    /// When the list that the environment names can't be read, or as [`Artifacts::make`].
    pub fn shared() -> Result<Self> {
        let Some(list) = env::var_os(SHARED) else {
            return Self::make(&Board::x86_64()?, &Options::default());
        };
        let list = fs::read(&list).with_context(|| Path::new(&list).display().to_string())?;
        serde_json::from_slice(&list).context("the list of artifacts can't be read")
    }

    /// Writes the list that [`Artifacts::shared`] reads, and says where.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn share(&self) -> Result<PathBuf> {
        let list = self.state.join("artifacts.json");
        fs::write(&list, serde_json::to_vec_pretty(self)?)?;
        Ok(list)
    }
}

/// A short name for this checkout: two of them don't share images, disks or keys.
fn checkout() -> String {
    let path = binaries::workspace().to_string_lossy();
    cache::digest([path.as_bytes()])[..8].to_owned()
}

/// The environment variable that names the list of artifacts made for a run of the tests.
pub const SHARED: &str = "PILOTLIGHT_ARTIFACTS";
