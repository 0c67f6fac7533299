//! What a box is made of before it boots: its disk, which may be altered between boots, and what
//! is plugged in.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use boards::{
    accel::Accel,
    artifacts::Artifacts,
    binaries,
    board::Board,
    disk::{self, Disk},
    qemu::{Drive, Machine},
    root,
};

use crate::native;

/// A box that can be booted, again and again from the same disk.
pub struct Kit {
    /// Its disk.
    pub disk: Disk,
    board: Board,
    artifacts: Artifacts,
    folder: Arc<Folder>,
    append: String,
    network: bool,
    watchdog: bool,
    clock: Option<String>,
}

impl Kit {
    /// A new, empty disk, a network card, and a hardware watchdog.
    ///
    /// # Errors
    /// When the box can't be built.
    pub fn new(name: &str) -> Result<Self> {
        Self::with_packages(name, |_, _| Ok(Vec::new()))
    }

    /// The same with more packages in the root, which `make` makes in the folder it is given.
    ///
    /// # Errors
    /// As [`Kit::new`], and when `make` fails.
    pub fn with_packages(
        name: &str,
        make: impl FnOnce(&Artifacts, &Path) -> Result<Vec<PathBuf>>,
    ) -> Result<Self> {
        Self::with_files(name, |artifacts, folder| {
            let packages = make(artifacts, folder)?;
            let place = |package: PathBuf| {
                let name = package.file_name().context("a package without a name")?;
                Ok((root::package(name), package))
            };
            packages.into_iter().map(place).collect()
        })
    }

    /// The same with an `init` that obeys fault injection, a `pilot` that asks for it, and more files in the root, each with
    /// its place; `make` may make them in the folder it is given.
    ///
    /// # Errors
    /// As [`Kit::new`], and when `make` fails.
    pub fn with_faults(
        name: &str,
        make: impl FnOnce(&Path) -> Result<Vec<(PathBuf, PathBuf)>>,
    ) -> Result<Self> {
        Self::with_files(name, |_, folder| {
            let init = (PathBuf::from(root::INIT), native::init_with_faults()?);
            let pilot = binaries::pilot_with_faults(&Board::x86_64()?)?;
            let pilot = (PathBuf::from(root::PILOT), pilot);
            Ok(make(folder)?.into_iter().chain([init, pilot]).collect())
        })
    }

    fn with_files(
        name: &str,
        make: impl FnOnce(&Artifacts, &Path) -> Result<Vec<(PathBuf, PathBuf)>>,
    ) -> Result<Self> {
        let artifacts = Artifacts::shared()?;
        let folder = Folder::new(name)?;
        let files = make(&artifacts, &folder.0)?;
        let own_root = folder.0.join("root.squashfs");
        let root = match files.as_slice() {
            [] => &artifacts.root,
            files => {
                root::with_files(&artifacts.root, files, &own_root)?;
                &own_root
            }
        };
        let disk = Disk::create(&folder.0.join("disk.raw"), root, disk::SIZE)?;
        Ok(Self {
            disk,
            board: Board::x86_64()?,
            artifacts,
            folder: Arc::new(folder),
            append: String::new(),
            network: true,
            watchdog: true,
            clock: None,
        })
    }

    /// More words for the kernel's command line.
    pub fn append(mut self, words: &str) -> Self {
        self.append = words.to_owned();
        self
    }

    /// Plugs the network card in or out.
    pub fn network(&mut self, plugged: bool) {
        self.network = plugged;
    }

    /// Plugs the hardware watchdog in or out.
    pub fn watchdog(&mut self, plugged: bool) {
        self.watchdog = plugged;
    }

    /// What the hardware clock says when the box is switched on, as QEMU's `-rtc base=` takes it.
    pub fn clock(mut self, base: &str) -> Self {
        self.clock = Some(base.to_owned());
        self
    }

    /// What it boots from.
    pub(crate) fn initramfs(&self) -> &Path {
        &self.artifacts.initramfs
    }

    /// The machine, as far as it is not each boot's own.
    pub(crate) fn machine(&self, qmp: &Path) -> Machine {
        let Artifacts {
            kernel, initramfs, ..
        } = &self.artifacts;
        let accel = Accel::probe(&self.board.qemu.program, &self.folder.0);
        let machine = Machine::new(&self.board, accel, kernel, initramfs, qmp)
            .append(&self.append)
            .drive(Drive {
                path: self.disk.path.clone(),
                snapshot: false,
                careless: true,
            })
            // Two boxes at a time share two processors. And QEMU 7.2's emulation, on a starved
            // host, sometimes lets one virtual processor run into code that the kernel is patching
            // on the other ("Oops: int3").
            .cpus(1)
            .dies_with_us();
        let machine = match &self.clock {
            Some(base) => machine.arguments(["-rtc".to_owned(), format!("base={base}")]),
            None => machine,
        };
        match self.watchdog {
            true => machine,
            false => machine.without_watchdog(),
        }
    }

    pub(crate) fn has_network(&self) -> bool {
        self.network
    }

    pub(crate) fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }
}

/// A folder that goes with the last who uses it.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pilot-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
