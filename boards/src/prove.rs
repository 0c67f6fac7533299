//! `cargo prove`: runs the tests, and says of all of them what passed, failed or was skipped, and
//! why.
//!
//! A test that can't run on this machine must say so in a line `SKIPPED: name: why`; it is counted
//! as skipped, not as passed. A suite in which nothing ran has failed.

mod suite;
mod table;
mod tally;
mod watch;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::artifacts::{Artifacts, Options as Build};
use crate::board::Board;
use crate::lack;
use crate::progress::{self, say};
use suite::Suite;
use table::Row;

/// What may be asked of `cargo prove`.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "cargo prove",
    about = "Runs the tests: all suites, or those named"
)]
pub struct Options {
    /// The suites to run
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
    /// Say which suites there are
    #[arg(long)]
    list: bool,
    /// Also run what takes longer: the tests marked as ignored, and the benchmarks
    #[arg(long)]
    long: bool,
    /// Only say what the machine lacks; what needs it is skipped
    #[arg(long)]
    no_install: bool,
}

/// Runs what is asked for, and prints a table of how it went.
///
/// # Errors
/// When a suite of that name does not exist.
pub fn run(options: &Options) -> Result<ExitCode> {
    let all = suite::all()?;
    if options.list {
        for suite in &all {
            println!("{:<10} {}", suite.name, suite.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&all, options)?;
    let started = Instant::now();
    let mut rows = Vec::new();
    for suite in chosen {
        rows.extend(prove(suite, options));
    }
    print!("{}", table::render(&rows, started.elapsed()));
    let failed = rows.iter().any(|row| row.tally.failed > 0);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn choose<'a>(all: &'a [Suite], options: &Options) -> Result<Vec<&'a Suite>> {
    if options.suites.is_empty() {
        return Ok(all
            .iter()
            .filter(|suite| options.long || !suite.long)
            .collect());
    }
    let mut chosen = Vec::new();
    for name in &options.suites {
        let Some(suite) = all.iter().find(|suite| suite.name == *name) else {
            let known: Vec<_> = all.iter().map(|suite| suite.name.as_str()).collect();
            bail!("there is no suite {name}: there are {}", known.join(", "));
        };
        chosen.push(suite);
    }
    Ok(chosen)
}

fn prove(suite: &Suite, options: &Options) -> Vec<Row> {
    if let Err(error) = lack::ensure(&suite.tools, !options.no_install) {
        let row = match options.no_install {
            true => Row::skipped(&suite.name, &error.to_string()),
            false => Row::failed(&suite.name, &format!("{error:#}")),
        };
        return vec![row];
    }
    let mut environment = Vec::new();
    if options.long {
        environment.push(("PILOTLIGHT_LONG", "1".to_owned()));
    }
    if suite.boots {
        match share() {
            Ok(list) => environment.push((crate::artifacts::SHARED, list)),
            Err(error) => return vec![Row::failed(&suite.name, &format!("{error:#}"))],
        }
    }
    let runs = suite.runs.iter().map(|run| {
        say(&format!("{}: cargo {}", run.name, run.arguments.join(" ")));
        let run = if options.long {
            run.clone().with_ignored()
        } else {
            run.clone()
        };
        watch::run(&run, &environment)
    });
    runs.collect()
}

/// Builds what machines boot from, once for all tests, and says where its list is.
fn share() -> Result<String> {
    let artifacts = progress::step("Building the box", || {
        Artifacts::make(&Board::x86_64()?, &Build::default())
    })?;
    Ok(artifacts.share()?.display().to_string())
}
