//! Hostile clients, servers, packages, roles and predecessors: libFuzzer finds no panic, no hang and
//! no hunger.
//!
//! The targets are in each crate's `fuzz`, built here with the stable compiler and the same versions
//! of libraries as the box, into the build's own folder. Each runs so many times from a fixed seed,
//! which shows that it works and has not gone backwards; what is new is looked for with `--long`:
//! half an hour from a new seed, on top of what earlier long runs have learned. A finding is printed and stays in a file that the target replays. What
//! has a state is played by scripts, a sequence of what may happen to it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use boards::{binaries::workspace, tool};

/// A short run, and half an hour, of each target of a crate.
macro_rules! targets {
    ($($krate:ident: $($target:ident),*;)*) => {$(
        mod $krate {$(
            mod $target {
                #[test]
                fn a_short_run_finds_nothing() -> anyhow::Result<()> {
                    let target = (stringify!($krate), stringify!($target));
                    crate::Run::short(target).finds_nothing()
                }

                #[test]
                #[ignore = "half an hour"]
                fn half_an_hour_finds_nothing() -> anyhow::Result<()> {
                    let target = (stringify!($krate), stringify!($target));
                    crate::Run::half_an_hour(target).finds_nothing()
                }
            }
        )*}
    )*};
}

targets! {
    drivers: uevent;
    init: beats, control, handover;
    netstack: dhcp, dhcpv6, dns, filter, hpack, http1, http2, mdns, ntp, routing, rtnl;
    s9pk: http, manifest, open, sealed, spec, trust, version;
    supervise: frames;
}

/// The other targets' silence means nothing unless a fuzzer built as they are finds what is there.
#[test]
fn a_planted_mistake_is_found_and_its_input_shown() -> Result<()> {
    let planted = Run::new(("s9pk", "planted"), "short", &["-max_total_time=120"]);
    let told = match planted.finds_nothing() {
        Ok(()) => bail!("the planted mistake was not found"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(told.contains("bytes of memory"), "{told}");
    ensure!(told.contains("input: s9pk"), "{told}");
    Ok(())
}

/// A crate, and one of its targets.
type Target = (&'static str, &'static str);

/// One run of a target.
struct Run {
    target: Target,
    /// Folders of inputs to begin with; what is learned goes to the first.
    corpora: Vec<PathBuf>,
    arguments: Vec<String>,
}

impl Run {
    /// About the same inputs each time.
    fn short(target: Target) -> Self {
        Self::new(target, "short", &["-runs=100000", "-seed=1"])
    }

    /// Inputs that no run has tried before.
    fn half_an_hour(target: Target) -> Self {
        let mut run = Self::new(target, "long", &["-max_total_time=1800"]);
        run.corpora.insert(0, room_of(target).join("learned"));
        run
    }

    fn new(target: Target, length: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|word| (*word).to_owned());
        Self {
            target,
            corpora: vec![room_of(target).join(length)],
            arguments: arguments.collect(),
        }
    }

    fn finds_nothing(self) -> Result<()> {
        let (krate, target) = self.target;
        let program = built(krate)?.join(target);
        let seeds = self.corpora.last().context("every run has seeds")?;
        plant(self.target, seeds)?;
        let findings = room_of(self.target).join("findings");
        for folder in self.corpora.iter().chain([&findings]) {
            fs::create_dir_all(folder)?;
        }
        let output = Command::new(&program)
            .args(LIMITS)
            .args(&self.arguments)
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args(&self.corpora)
            .output()
            .with_context(|| program.display().to_string())?;
        self.judge(&program, &output)
    }

    fn judge(&self, program: &Path, output: &Output) -> Result<()> {
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let found = found(&told);
            let input = found
                .as_ref()
                .map(fs::read)
                .transpose()?
                .unwrap_or_default();
            bail!(
                "{} ended with {}\n{}\ninput: {}\nagain: {} {}",
                self.target.1,
                output.status,
                cause(&told),
                input[..input.len().min(SHOWN)].escape_ascii(),
                program.display(),
                found.unwrap_or_default().display(),
            );
        }
        let done = told.lines().rfind(|line| line.starts_with("Done "));
        let done = done.with_context(|| format!("it never ended:\n{}", cause(&told)))?;
        let seen = told.lines().rfind(|line| line.contains(" cov: "));
        println!("{}: {done}\n{}", self.target.1, seen.unwrap_or_default());
        Ok(())
    }
}

/// Builds a crate's targets, once, and no two crates' at a time. Gives the folder of the programs.
fn built(krate: &'static str) -> Result<PathBuf> {
    static BUILT: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains(&krate) {
        build(krate)?;
        built.push(krate);
    }
    Ok(room().join("build").join(triple()).join("release"))
}

fn build(krate: &str) -> Result<()> {
    let sources = sources(krate);
    // The libraries that are fuzzed are those that ship.
    fs::copy(workspace().join("Cargo.lock"), sources.join("Cargo.lock"))?;
    tool::run(
        Command::new("cargo")
            // With a target named, the flags are not for build scripts, which nobody fuzzes.
            .args(["build", "--release", "--quiet", "--target", &triple()])
            .arg("--target-dir")
            .arg(room().join("build"))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", FLAGS.join(" "))
            .current_dir(sources),
    )
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}

/// Fills `folder` with what the target is to begin with: the samples of the format, and its seeds.
fn plant((krate, target): Target, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let seeds = sources(krate).join("seeds").join(target);
    if seeds.exists() {
        for seed in fs::read_dir(seeds)? {
            let seed = seed?;
            fs::copy(seed.path(), folder.join(seed.file_name()))?;
        }
    }
    for sample in fs::read_dir(workspace().join("s9pk/tests/fixtures"))? {
        let sample = sample?.path();
        let name = sample.file_name().context("a file has a name")?;
        if sample
            .extension()
            .is_none_or(|extension| extension != "s9pk")
        {
            continue;
        }
        let bytes = fs::read(&sample)?;
        match target {
            "open" => fs::write(folder.join(name), bytes)?,
            "sealed" => fs::write(folder.join(name), unsigned(&bytes).unwrap_or_default())?,
            _ => {}
        }
    }
    Ok(())
}

/// A package as the target `sealed` takes it: the size of its root table, and all but the header.
fn unsigned(package: &[u8]) -> Option<Vec<u8>> {
    let size = u64::from_be_bytes(package.get(147..155)?.try_into().ok()?);
    let mut input = u16::try_from(size).ok()?.to_be_bytes().to_vec();
    input.extend_from_slice(&package[155..]);
    Some(input)
}

/// Where libFuzzer says that it wrote the input.
fn found(told: &str) -> Option<PathBuf> {
    let (_, rest) = told.split_once("Test unit written to ")?;
    rest.lines().next().map(PathBuf::from)
}

/// The lines from the panic, or libFuzzer's complaint, on.
fn cause(told: &str) -> String {
    let lines: Vec<_> = told.lines().collect();
    let begins = |line: &&str| line.contains("panicked at") || line.contains("ERROR: libFuzzer");
    let begin = lines.iter().position(begins);
    let begin = begin.unwrap_or(lines.len().saturating_sub(CAUSE_LINES));
    lines[begin..]
        .iter()
        .take(CAUSE_LINES)
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

fn sources(krate: &str) -> PathBuf {
    workspace().join(krate).join("fuzz")
}

/// Where a target's inputs and findings go.
fn room_of((krate, target): Target) -> PathBuf {
    room().join(krate).join(target)
}

/// Where builds, inputs and findings go: nothing of it is part of the sources.
fn room() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz")
}

/// Coverage as libFuzzer wants it, as cargo-fuzz asks for it, of a stable compiler. No sanitizer:
/// that takes a nightly one, the code has no `unsafe`, and the targets count memory themselves.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
];
/// Inputs as large as the largest sample and more; one that takes two minutes, where others take
/// a millisecond, hangs, however busy the machine is.
const LIMITS: &[&str] = &["-max_len=32768", "-timeout=120", "-print_final_stats=1"];
/// Bytes of a finding that are shown.
const SHOWN: usize = 4096;
/// Lines of a complaint that are shown: message, backtrace, libFuzzer's summary.
const CAUSE_LINES: usize = 40;
