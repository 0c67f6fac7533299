//! Has cargo build the box's own programs: static ones that no shared library can break, and the
//! monitor, which must be dynamic because it opens one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::board::Board;
use crate::progress;

/// The programs, built for release.
#[derive(Debug)]
pub struct Binaries {
    /// PID 1 and the roles it starts.
    pub init: PathBuf,
    /// PID 1 in each container.
    pub agent: PathBuf,
    /// The command line.
    pub pilot: PathBuf,
    /// The one program that opens liblxc.
    pub monitor: PathBuf,
}

impl Binaries {
    /// Builds them; cargo decides what is left to do.
    ///
    /// # Errors
    /// When they don't compile.
    pub fn build(board: &Board) -> Result<Self> {
        let target = target_folder();
        let fixed = target.join(&board.target).join("release");
        progress::step("Building init, agent and pilot", || {
            let packages = ["-p", "init", "-p", "agent", "-p", "cli"];
            cargo(&target, &["--target", &board.target], &packages, STATIC)
        })?;
        progress::step("Building monitor", || {
            cargo(&target, &[], &["-p", "monitor"], "")
        })?;
        Ok(Self {
            init: fixed.join("init"),
            agent: fixed.join("agent"),
            pilot: fixed.join("pilot"),
            monitor: target.join("release/monitor"),
        })
    }
}

/// Builds `init` with fault injection, for tests: a program of another name, so that no image ever
/// gets it by mistake.
///
/// # Errors
/// When it does not compile.
pub fn init_with_faults(board: &Board) -> Result<PathBuf> {
    with_faults(board, "init", "init-fault")
}

/// Builds `pilot` with fault injection, for the same.
///
/// # Errors
/// When it does not compile.
pub fn pilot_with_faults(board: &Board) -> Result<PathBuf> {
    with_faults(board, "cli", "pilot-fault")
}

fn with_faults(board: &Board, package: &str, program: &str) -> Result<PathBuf> {
    let target = target_folder();
    progress::step(&format!("Building {program}"), || {
        let packages = ["-p", package, "--features", "fault", "--bin", program];
        cargo(&target, &["--target", &board.target], &packages, STATIC)
    })?;
    Ok(target.join(&board.target).join("release").join(program))
}

/// The workspace's folder, of which this crate is a part.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

fn target_folder() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    }
}

fn cargo(target: &Path, place: &[&str], packages: &[&str], flags: &str) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--quiet", "--release"])
        .args(place)
        .args(packages)
        .current_dir(workspace())
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null());
    // The cargo that runs us says who we are, and build scripts that listen (ring's does) would be
    // run anew, with all that depends on them, whenever somebody else asks.
    let ours = env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        OF_A_RUN.iter().any(|prefix| name.starts_with(prefix))
    });
    for name in ours {
        command.env_remove(name);
    }
    let status = command.status().context("cargo can't be started")?;
    if !status.success() {
        bail!("the box's own programs don't compile (cargo's words are above)");
    }
    Ok(())
}

/// How the variables begin that cargo sets for a program that it runs or compiles.
const OF_A_RUN: &[&str] = &[
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_CRATE_",
    "CARGO_BIN_",
];

/// Links the C library in. With `--target`, so that build scripts don't get the flag.
const STATIC: &str = "-C target-feature=+crt-static";
