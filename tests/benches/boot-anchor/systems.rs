//! The systems that are compared, as disks, and what they boot from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use boards::{
    binaries::Binaries, board::Board, cache::Cache, cpio, debian::Packages, disk::Disk,
    modules::Modules, root, tool, tree::Tree,
};

/// What every system boots from.
pub(crate) struct Ground {
    pub(crate) board: Board,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    packages: Packages,
    modules: Modules,
    folder: PathBuf,
}

/// One of the systems.
#[derive(Clone, Debug)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) disk: PathBuf,
    /// The root's device.
    pub(crate) root: &'static str,
    /// How the root is mounted.
    pub(crate) mode: &'static str,
    /// What answers, if anything does.
    pub(crate) door: Option<Door>,
}

/// Where a system answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Http,
    Https,
}

impl Ground {
    /// Builds kernel and initramfs; images are made in `folder`.
    pub(crate) fn lay(folder: &Path) -> Result<Self> {
        let board = Board::x86_64()?;
        let cache = Cache::open()?;
        let _turn = cache.lock()?;
        let packages = Packages::fetch(&cache, &board, None, false)?;
        let release = packages.kernel_release()?;
        let source = packages.file(&format!("usr/lib/modules/{release}"))?;
        let named: Vec<String> = DRIVERS.iter().map(|name| (*name).to_owned()).collect();
        let all = [board.modules.initramfs.as_slice(), named.as_slice()].concat();
        let modules = Modules::choose(&cache, &source, &board.modules.keep, &all)?;
        let initramfs = folder.join("initramfs.cpio");
        let mut tree = Tree::default();
        busybox(&mut tree, &packages)?;
        for place in ["proc", "dev", "marks", "trace", "root"] {
            tree.directory(place, 0o755);
        }
        tree.link("sbin", "usr/sbin");
        tree.link("usr/sbin/modprobe", "/usr/bin/busybox");
        tree.link("lib", "usr/lib");
        script(&mut tree, folder, "init", include_str!("initramfs-init.sh"))?;
        tree.text("observer", include_str!("observer.sh"));
        tree.text("figures", include_str!("figures.sh"));
        modules.put(&mut tree, Some(&named))?;
        cpio::write(&tree, fs::File::create(&initramfs)?)?;
        Ok(Self {
            kernel: packages.file(&format!("boot/vmlinuz-{release}"))?,
            board,
            initramfs,
            packages,
            modules,
            folder: folder.to_owned(),
        })
    }

    /// The box, on a disk as it comes from the factory: without data, and without services.
    pub(crate) fn pilotlight(&self) -> Result<System> {
        let binaries = Binaries::build(&self.board)?;
        let image = self.folder.join("root.squashfs");
        // Nobody's: this box goes over to no other binary.
        let releases = s9pk::Key::from_seed(&[0; 32]).public();
        let (packages, modules) = (&self.packages, &self.modules);
        root::build(&image, packages, modules, &binaries, &[], &releases)?;
        let disk = Disk::create(&self.folder.join("pilotlight.raw"), &image, DISK)?;
        Ok(System {
            name: "pilotlight",
            disk: disk.path,
            root: "/dev/pmem0p3",
            mode: "ro",
            door: Some(Door::Https),
        })
    }

    /// busybox init, udhcpc and httpd.
    pub(crate) fn busybox(&self) -> Result<System> {
        let mut tree = self.skeleton()?;
        tree.link("usr/sbin/init", "/usr/bin/busybox");
        tree.text("etc/inittab", include_str!("busybox/inittab"));
        script(
            &mut tree,
            &self.folder,
            "etc/rcS",
            include_str!("busybox/rcS"),
        )?;
        script(
            &mut tree,
            &self.folder,
            "etc/lease",
            include_str!("busybox/lease"),
        )?;
        tree.text("srv/health", "ok\n");
        self.ext4("busybox", &tree, Some(Door::Http))
    }

    /// A PID 1 that does nothing: what the kernel itself uses.
    pub(crate) fn nothing(&self) -> Result<System> {
        let mut tree = self.skeleton()?;
        let sleep = "#!/usr/bin/busybox sh\nexec /usr/bin/busybox sleep 1000000\n";
        script(&mut tree, &self.folder, "usr/sbin/init", sleep)?;
        self.ext4("nothing", &tree, None)
    }

    fn skeleton(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        busybox(&mut tree, &self.packages)?;
        tree.link("sbin", "usr/sbin");
        for place in ["proc", "sys", "dev", "run", "tmp", "srv"] {
            tree.directory(place, 0o755);
        }
        Ok(tree)
    }

    fn ext4(&self, name: &'static str, tree: &Tree, door: Option<Door>) -> Result<System> {
        let staged = self.folder.join(format!("{name}.tree"));
        tree.write(&staged)?;
        let disk = self.folder.join(format!("{name}.ext4"));
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-t", "ext4", "-O", "^metadata_csum,^has_journal"]);
        mke2fs.args(["-E", "lazy_itable_init=0", "-d"]);
        tool::run(mke2fs.arg(&staged).arg(&disk).arg("64M"))?;
        fs::remove_dir_all(&staged)?;
        Ok(System {
            name,
            disk,
            root: "/dev/pmem0",
            mode: "rw",
            door,
        })
    }
}

fn busybox(tree: &mut Tree, packages: &Packages) -> Result<()> {
    tree.file("usr/bin/busybox", 0o755, packages.file("usr/bin/busybox")?);
    Ok(())
}

/// A tree takes programs from files.
fn script(tree: &mut Tree, folder: &Path, at: &str, text: &str) -> Result<()> {
    let file = folder.join(format!("script-{}", at.replace('/', "-")));
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    tree.file(at, 0o755, file);
    Ok(())
}

/// What the initramfs loads, with what these need.
const DRIVERS: &[&str] = &["nfit", "nd_pmem", "squashfs", "ext4", "virtio_net"];
/// Slots, keep, and 700 MiB for data: the kernel's bookkeeping grows with the disk.
const DISK: u64 = 2 << 30;
