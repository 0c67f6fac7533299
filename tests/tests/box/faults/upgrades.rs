//! PID 1 of the booted box goes over to another binary and back, under load, and back by itself
//! from one that is no good: nobody who talks to the box sees it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use boards::web::Trust;
use tests::{native, vm::Vm};

use super::{
    client::Client,
    crashes::{self, Gaps},
};

/// The binaries, sealed, and the key that the box trusts, each with its place in the root.
pub(super) fn files(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let key = native::release_key();
    let trusted = folder.join("release.pub");
    fs::write(&trusted, format!("{}\n", key.public()))?;
    let mut files = vec![(
        Path::new(release::TRUSTED).strip_prefix("/")?.into(),
        trusted,
    )];
    for (name, words) in BINARIES {
        let mut program = fs::read(native::init_with_faults()?)?;
        program.extend_from_slice(words.as_bytes());
        let file = folder.join(name);
        fs::write(&file, release::seal(&program, &key)?)?;
        files.push((Path::new(PLACE).join(name), file));
    }
    Ok(files)
}

/// So many times over to a second binary and back.
pub(super) fn there_and_back(
    vm: &mut Vm,
    trust: &Trust,
    times: usize,
    gaps: &mut Gaps,
) -> Result<()> {
    let both = ["second:done", "first:done"].repeat(times);
    upgrade(vm, trust, &both, gaps)
}

/// A binary that exits, crashes or hangs as PID 1 is taken back.
pub(super) fn bad_ones_are_taken_back(vm: &mut Vm, trust: &Trust, gaps: &mut Gaps) -> Result<()> {
    upgrade(vm, trust, &["exit:back", "segv:back", "hang:back"], gaps)
}

fn upgrade(vm: &mut Vm, trust: &Trust, binaries: &[&str], gaps: &mut Gaps) -> Result<()> {
    let before = crashes::service(vm)?;
    let client = Client::begin(vm, trust, false);
    let all: Vec<_> = binaries
        .iter()
        .map(|binary| format!("upgrade:{binary}"))
        .collect();
    let outcome = crashes::run(vm, 0, &all);
    let seen = client.end()?;
    gaps.take(&outcome?)?;
    seen.all_but(0, &format!("{} upgrades", binaries.len()))?;
    let after = crashes::service(vm).context("after the upgrades")?;
    ensure!(
        before == after,
        "the service was started again: {before}, {after}"
    );
    crashes::still_whole(vm)
}

/// What each does as PID 1, in words that it reads of itself.
const BINARIES: [(&str, &str); 5] = [
    ("first", "pilot-fault never first;"),
    ("second", "pilot-fault never second;"),
    ("exit", "pilot-fault as-pid-1 exit;"),
    ("segv", "pilot-fault as-pid-1 segv;"),
    ("hang", "pilot-fault as-pid-1 hang;"),
];
const PLACE: &str = "usr/lib/pilotlight";
