//! Whether KVM really works here. A /dev/kvm that can be opened proves little (nested, masked, or
//! broken ones hang): so a few instructions are run on it, with a time-out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How guest instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// By translation: works everywhere, ten to fifty times slower.
    Tcg,
    /// The same by one thread, as QEMU needs it to count instructions.
    TcgCounted,
}

impl Accel {
    /// What works here.
    pub fn probe(program: &str, scratch: &Path) -> Self {
        match kvm_runs(program, scratch) {
            true => Self::Kvm,
            false => Self::Tcg,
        }
    }

    /// What QEMU calls it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
            Self::TcgCounted => "tcg,thread=single",
        }
    }
}

fn kvm_runs(program: &str, scratch: &Path) -> bool {
    if fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return false;
    }
    let sector = scratch.join("probe.bin");
    if fs::write(&sector, boot_sector()).is_err() {
        return false;
    }
    let started = Command::new(program)
        .args([
            "-accel",
            "kvm",
            "-nodefaults",
            "-display",
            "none",
            "-m",
            "16",
        ])
        .args(["-device", "isa-debug-exit", "-drive"])
        .arg(format!(
            "file={},format=raw,if=ide,readonly=on",
            sector.display()
        ))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut probe) = started else {
        return false;
    };
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = probe.try_wait() {
            return status.code() == Some(PROOF);
        }
        thread::sleep(Duration::from_millis(20));
    }
    probe.kill().ok();
    while matches!(probe.try_wait(), Ok(None)) && Instant::now() < deadline + PATIENCE {
        thread::sleep(Duration::from_millis(20));
    }
    false
}

/// `mov dx, 0x501; mov al, 0x10; out dx, al; hlt`: tells isa-debug-exit to end the machine.
fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..7].copy_from_slice(&[0xba, 0x01, 0x05, 0xb0, 0x10, 0xee, 0xf4]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// What QEMU ends with when the instructions ran: `(0x10 << 1) | 1`.
const PROOF: i32 = 33;
/// Firmware and boot sector take half a second on a slow machine with KVM.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::Accel;

    #[test]
    fn a_program_that_is_no_qemu_proves_nothing() {
        assert_eq!(Accel::probe("true", &std::env::temp_dir()), Accel::Tcg);
    }
}
