//! Programs from PyPI, in an environment of their own below the user's cache, made once.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow};
use boards::tool;

/// The path of `program` of the environment, which is made if it is not there yet.
///
/// # Errors
/// When Python or PyPI can't be had.
pub fn program(program: &str) -> Result<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    let folder = made.as_ref().map_err(|why| anyhow!("{why}"))?;
    Ok(folder.join("bin").join(program))
}

fn make() -> Result<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home);
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME says where the cache is")?;
    let cache = cache.join("pilotlight");
    fs::create_dir_all(&cache)?;
    let turn = File::create(cache.join("venv.lock"))?;
    turn.lock()?;
    // Other versions are another environment, so that none is ever half new.
    let folder = cache.join(PACKAGES.join("+"));
    let whole = folder.join("whole");
    if whole.exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    tool::run(Command::new("virtualenv").arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    tool::run(
        pip.args(["install", "--quiet", "--retries", "10"])
            .args(PACKAGES),
    )?;
    fs::write(whole, "")?;
    Ok(folder)
}

/// A scanner of TLS, the Autobahn cases in a program of today (Autobahn's own needs Python 2), a
/// WebSocket server for them, and a peer for multicast DNS.
const PACKAGES: [&str; 4] = [
    "kosoku==0.1.0",
    "sslyze==6.3.1",
    "websockets==17.4",
    "zeroconf==0.154.0",
];
