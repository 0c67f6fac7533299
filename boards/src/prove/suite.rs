//! Which suites there are: `unit`, one for each test target of the crate `tests`, and
//! `bench` for its benchmarks.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::binaries::workspace;
use crate::lack::{self, Tool};
use crate::tool;

/// Some tests that are run, and shown, together.
#[derive(Clone, Debug)]
pub(super) struct Suite {
    /// Its name on the command line.
    pub(super) name: String,
    /// What it proves, in a line.
    pub(super) about: String,
    /// What the machine must have for it.
    pub(super) tools: Vec<Tool>,
    /// Whether it boots the box, which must be built first.
    pub(super) boots: bool,
    /// Whether it is left out unless named or `--long` is given.
    pub(super) long: bool,
    /// What is run.
    pub(super) runs: Vec<Run>,
}

/// One run of cargo, one row of the table.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The row's name.
    pub(super) name: String,
    /// Cargo's arguments.
    pub(super) arguments: Vec<String>,
    /// How long it may take.
    pub(super) patience: Duration,
    /// Whether it prints tests' results; else it is one test itself.
    pub(super) counts: bool,
}

impl Run {
    /// The same with the tests that are otherwise left out, and the time these take.
    pub(super) fn with_ignored(mut self) -> Self {
        if self.counts {
            self.arguments.push("--include-ignored".into());
            self.patience = LONG;
        }
        self
    }
}

/// All suites, cheapest first.
pub(super) fn all() -> Result<Vec<Suite>> {
    let mut suites = vec![unit()];
    let (benches, mut targets): (Vec<_>, Vec<_>) = targets()?
        .into_iter()
        .partition(|target| target.is("bench"));
    targets.sort_by_key(|target| ORDER.iter().position(|name| *name == target.name));
    let (known, new): (Vec<_>, Vec<_>) = targets
        .into_iter()
        .partition(|target| ORDER.contains(&target.name.as_str()));
    // One that nobody has put in order yet comes after those that somebody has.
    suites.extend(known.into_iter().chain(new).map(Target::suite));
    suites.push(bench(&benches));
    Ok(suites)
}

/// All benchmarks, a row each.
fn bench(targets: &[Target]) -> Suite {
    let runs = targets.iter().map(|target| Run {
        name: format!("bench {}", target.name),
        arguments: ["bench", "-p", "tests", "--bench", &target.name]
            .map(str::to_owned)
            .into(),
        patience: MEDIUM,
        counts: false,
    });
    let mut tools = tools("bench");
    tools.extend(lack::TO_BOOT);
    Suite {
        name: "bench".into(),
        about: "Measured beside others: ratios, medians of interleaved runs".into(),
        tools,
        boots: true,
        long: true,
        runs: runs.collect(),
    }
}

/// What a suite takes beside the box.
fn tools(suite: &str) -> Vec<Tool> {
    let known = lack::TO_PROVE.iter().find(|(name, _)| *name == suite);
    known.map(|(_, tools)| tools.to_vec()).unwrap_or_default()
}

fn unit() -> Suite {
    let whole = ["--workspace", "--exclude", "tests"];
    let run = |name: &str, arguments: &[&str], counts| Run {
        name: name.into(),
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        patience: SHORT,
        counts,
    };
    let clippy = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    let mut test = vec!["test"];
    test.extend(whole);
    test.extend(["--no-fail-fast", "--", "--show-output"]);
    Suite {
        name: "unit".into(),
        about: "Every crate's own tests, its format and its lints".into(),
        tools: lack::TO_UNIT.into(),
        boots: false,
        long: false,
        runs: vec![
            run("fmt", &["fmt", "--all", "--check"], false),
            run("clippy", &clippy, false),
            run("unit", &test, true),
        ],
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: String,
}

impl Target {
    fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|known| known == kind)
    }

    fn suite(self) -> Suite {
        let words = ["test", "-p", "tests", "--test", &self.name];
        // Two machines at a time are what two cores emulate without one starving the other; a fuzzer
        // runs for a time, whatever it gets done in it, and the network's tests mostly wait.
        let threads = match self.name.as_str() {
            "fuzz" => "8",
            "net" => "4",
            _ => "2",
        };
        let options = ["--", "--show-output", "--test-threads", threads];
        let run = Run {
            name: self.name.clone(),
            arguments: words
                .iter()
                .chain(&options)
                .map(|word| (*word).to_owned())
                .collect(),
            patience: MEDIUM,
            counts: true,
        };
        let mut tools = tools(&self.name);
        let boots = !WITHOUT_BOX.contains(&self.name.as_str());
        if boots {
            tools.extend(lack::TO_BOOT);
        }
        Suite {
            about: about(&self.src_path),
            name: self.name,
            tools,
            boots,
            long: false,
            runs: vec![run],
        }
    }
}

/// The test and benchmark targets of the crate `tests`.
fn targets() -> Result<Vec<Target>> {
    let text = tool::output(
        Command::new("cargo")
            .args([
                "metadata",
                "--no-deps",
                "--format-version",
                "1",
                "--offline",
            ])
            .current_dir(workspace()),
    )?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo's metadata")?;
    let tests = metadata
        .packages
        .into_iter()
        .filter(|package| package.name == "tests");
    let targets = tests.flat_map(|package| package.targets);
    Ok(targets
        .filter(|target| target.is("test") || target.is("bench"))
        .collect())
}

/// The first sentence of a file's header.
fn about(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let header = text.lines().map_while(|line| line.strip_prefix("//!"));
    let words: Vec<_> = header
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let words = words.join(" ");
    words
        .split_once(". ")
        .map_or(words.clone(), |(first, _)| first.to_owned())
}

/// The order to run them in: what is cheap and broken should be known first.
const ORDER: &[&str] = &[
    "net", "firewall", "time", "names", "dns", "door", "box", "stall", "crash", "browser", "fuzz",
];
/// Suites that run natively, in namespaces, without the images.
const WITHOUT_BOX: &[&str] = &[
    "net", "firewall", "time", "names", "dns", "door", "stall", "crash", "fuzz",
];
/// A build of everything from nothing takes ten minutes on two cores; the tests then take seconds.
const SHORT: Duration = Duration::from_secs(30 * 60);
/// A suite of machines: the whole of `cargo prove` is to stay under 25 minutes.
const MEDIUM: Duration = Duration::from_secs(40 * 60);
/// Soaks and hundreds of power cuts.
const LONG: Duration = Duration::from_secs(12 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn unit_comes_first_and_no_suite_twice() {
        let suites = all().unwrap();
        assert_eq!(suites[0].name, "unit");
        let mut names: Vec<_> = suites.iter().map(|suite| &suite.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), suites.len());
    }
}
