//! What differs from board to board, as data: `boards/<name>/board.toml`.

use anyhow::{Context, Result};
use serde::Deserialize;

/// One kind of machine the box runs on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The folder's name.
    pub name: String,
    /// The Rust target of the binaries.
    pub target: String,
    /// Where its packages come from.
    pub debian: Debian,
    /// The virtual machine that stands in for it.
    pub qemu: Qemu,
    /// The kernel modules it needs.
    pub modules: Modules,
}

/// The board's side of the Debian archive.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Debian's name of the architecture.
    pub arch: String,
    /// The kernel's meta package.
    pub kernel: String,
}

/// The virtual machine that stands in for the board.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// The emulator's file name.
    pub program: String,
    /// QEMU's machine type.
    pub machine: String,
    /// The kernel's name of the serial console.
    pub console: String,
    /// Virtual processors.
    pub cpus: u32,
}

/// Which modules of the distribution's kernel are worth their space.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Names of those that the initramfs needs to find and mount the root.
    pub initramfs: Vec<String>,
    /// Path prefixes under `kernel/` of those that the root has.
    pub keep: Vec<String>,
}

impl Board {
    /// A PC, real or virtual.
    pub fn x86_64() -> Result<Self> {
        toml::from_str(X86_64).context("boards/x86_64/board.toml can't be read")
    }
}

const X86_64: &str = include_str!("../x86_64/board.toml");

#[cfg(test)]
mod tests {
    use super::Board;

    #[test]
    fn the_pc_boots_from_what_qemu_and_real_machines_have() {
        let board = Board::x86_64().unwrap();
        for module in ["virtio_blk", "squashfs", "nvme", "ahci"] {
            assert!(board.modules.initramfs.iter().any(|name| name == module));
        }
    }
}
