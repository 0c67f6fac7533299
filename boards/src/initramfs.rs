//! What the kernel unpacks before it has a root: our init, a shell for who must repair it, and the
//! modules that find and mount the root.
//!
//! It is not compressed: an emulated processor unpacks no format faster than it copies (the note on
//! the walking skeleton has the figures), and a boot loader reads a few more MiB in no time.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};

use crate::binaries::Binaries;
use crate::board::Board;
use crate::cache;
use crate::cpio;
use crate::debian::Packages;
use crate::modules::Modules;
use crate::progress;
use crate::root::applets;
use crate::tree::Tree;

/// Writes it to `path`, unless it is there already.
///
/// # Errors
/// When a part of it is missing or can't be read.
pub fn build(
    path: &Path,
    board: &Board,
    packages: &Packages,
    modules: &Modules,
    binaries: &Binaries,
) -> Result<()> {
    let mut tree = Tree::default();
    tree.file("init", 0o755, &binaries.init);
    for folder in ["proc", "sys", "run", "root", "sysroot"] {
        tree.directory(folder, 0o755);
    }
    applets(&mut tree, packages)?;
    tree.link("usr/sbin/modprobe", "/init");
    modules.put(&mut tree, Some(&board.modules.initramfs))?;
    let inputs = tree.digest()?;
    cache::fresh(path, &inputs, |path| {
        progress::step("Packing the initramfs", || {
            let file = File::create(path).with_context(|| path.display().to_string())?;
            cpio::write(&tree, BufWriter::new(file))
        })
    })?;
    Ok(())
}
