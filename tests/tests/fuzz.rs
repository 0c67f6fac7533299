//! Hostile packages, manifests, versions, servers and specs: libFuzzer finds no panic and no hunger.
//!
//! The targets are in `s9pk/fuzz`, built here with the stable compiler and the same versions of
//! libraries as the box, into the build's own folder. Each runs a minute from a fixed seed, so
//! that a finding comes back; with `--long` half an hour from a new one, on top of what earlier
//! long runs have learned. A finding is printed and stays in a file that the target replays.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail, ensure};
use boards::{binaries::workspace, tool};

/// One minute, and half an hour, of each target.
macro_rules! targets {
    ($($target:ident),*) => {$(
        mod $target {
            #[test]
            fn a_minute_finds_nothing() -> anyhow::Result<()> {
                super::Run::minute(stringify!($target)).finds_nothing()
            }

            #[test]
            #[ignore = "half an hour"]
            fn half_an_hour_finds_nothing() -> anyhow::Result<()> {
                super::Run::half_an_hour(stringify!($target)).finds_nothing()
            }
        }
    )*};
}

targets!(open, sealed, manifest, version, http, spec, trust);

/// The other targets' silence means nothing unless a fuzzer built as they are finds what is there.
#[test]
fn a_planted_mistake_is_found_and_its_input_shown() -> Result<()> {
    let told = match Run::minute("planted").finds_nothing() {
        Ok(()) => bail!("the planted mistake was not found"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(told.contains("bytes of memory"), "{told}");
    ensure!(told.contains("input: s9pk"), "{told}");
    Ok(())
}

/// One run of a target.
struct Run {
    target: &'static str,
    /// Folders of inputs to begin with; what is learned goes to the first.
    corpora: Vec<PathBuf>,
    arguments: Vec<String>,
}

impl Run {
    /// Always the same inputs in the same order, as many as a minute holds.
    fn minute(target: &'static str) -> Self {
        Self::new(target, "minute", &["-max_total_time=60", "-seed=1"])
    }

    /// Inputs that no run has tried before.
    fn half_an_hour(target: &'static str) -> Self {
        let mut run = Self::new(target, "long", &["-max_total_time=1800"]);
        run.corpora.insert(0, room().join(target).join("learned"));
        run
    }

    fn new(target: &'static str, length: &str, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|word| (*word).to_owned());
        Self {
            target,
            corpora: vec![room().join(target).join(length)],
            arguments: arguments.collect(),
        }
    }

    fn finds_nothing(self) -> Result<()> {
        let program = built()?.join(self.target);
        let seeds = self.corpora.last().context("every run has seeds")?;
        plant(self.target, seeds)?;
        let findings = room().join(self.target).join("findings");
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
                self.target,
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
        println!("{}: {done}\n{}", self.target, seen.unwrap_or_default());
        Ok(())
    }
}

/// Builds the targets, once. Gives the folder of the programs.
fn built() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))) {
        Ok(folder) => Ok(folder),
        Err(error) => bail!("{error}"),
    }
}

fn build() -> Result<PathBuf> {
    let sources = sources();
    // The libraries that are fuzzed are those that ship.
    fs::copy(workspace().join("Cargo.lock"), sources.join("Cargo.lock"))?;
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    tool::run(
        Command::new("cargo")
            // With a target named, the flags are not for build scripts, which nobody fuzzes.
            .args(["build", "--release", "--quiet", "--target", &triple])
            .arg("--target-dir")
            .arg(room().join("build"))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", FLAGS.join(" "))
            .current_dir(sources),
    )?;
    Ok(room().join("build").join(triple).join("release"))
}

/// Fills `folder` with what the target is to begin with: the samples of the format, and its seeds.
fn plant(target: &str, folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let seeds = sources().join("seeds").join(target);
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

fn sources() -> PathBuf {
    workspace().join("s9pk/fuzz")
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
    "-Ccodegen-units=1",
];
/// Inputs as large as the largest sample and more; one that takes two minutes, where others take
/// a millisecond, hangs, however busy the machine is.
const LIMITS: &[&str] = &["-max_len=32768", "-timeout=120", "-print_final_stats=1"];
/// Bytes of a finding that are shown.
const SHOWN: usize = 4096;
/// Lines of a complaint that are shown: message, backtrace, libFuzzer's summary.
const CAUSE_LINES: usize = 40;
