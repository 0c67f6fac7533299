//! Runs cargo for one row: shows what matters while it runs, keeps the rest for when it fails, and
//! ends it when it takes too long.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, PipeReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::suite::Run;
use super::table::Row;
use super::tally::{Tally, test};
use crate::binaries::workspace;

/// Runs it and counts.
pub(super) fn run(run: &Run, environment: &[(&str, String)]) -> Row {
    let started = Instant::now();
    let mut log = Vec::new();
    let mut row = match watch(run, environment, &mut log) {
        Ok(status) => Row {
            name: run.name.clone(),
            tally: judge(run, status, &log),
            took: Duration::ZERO,
        },
        Err(error) => Row::failed(&run.name, &format!("{error:#}")),
    };
    if row.tally.failed > 0 {
        show(run, &log);
    }
    row.took = started.elapsed();
    row
}

/// What the lines and the end of the run amount to.
fn judge(run: &Run, status: ExitStatus, log: &[String]) -> Tally {
    let mut tally = Tally::default();
    if run.counts {
        log.iter().for_each(|line| tally.line(line));
        tally = tally.settled();
    } else if status.success() {
        tally.passed = 1;
    }
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
        tally
            .failures
            .push(format!("cargo ended with {status} (its words are above)"));
    }
    if tally.passed + tally.failed + tally.skipped == 0 {
        tally.failed = 1;
        tally.failures.push("no test ran".into());
    }
    tally
}

fn watch(run: &Run, environment: &[(&str, String)], log: &mut Vec<String>) -> Result<ExitStatus> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let (mut child, output) = start(run, environment)?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    let deadline = Instant::now() + run.patience;
    loop {
        match lines.recv_timeout(GLANCE) {
            Ok(line) => {
                if worth_showing(&line) {
                    eprintln!("   {line}");
                }
                log.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => return end(&mut child, ENDING),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if stop.load(Ordering::Relaxed) || Instant::now() > deadline {
            kill(&child);
            end(&mut child, ENDING)?;
            bail!(
                "ended before it was done: it may take {} s",
                run.patience.as_secs()
            );
        }
    }
}

/// In a process group of its own, so that its tests and their machines end with it.
fn start(run: &Run, environment: &[(&str, String)]) -> Result<(Child, PipeReader)> {
    let (output, input) = std::io::pipe()?;
    let child = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(&run.arguments)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0)
        .spawn()
        .context("cargo can't be started")?;
    Ok((child, output))
}

fn end(child: &mut Child, patience: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            kill(child);
            bail!("cargo does not end");
        }
        thread::sleep(GLANCE);
    }
}

fn kill(child: &Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        kill_process_group(group, Signal::KILL).ok();
    }
}

/// While it runs: slow tests one by one, and whatever is not as it should be.
fn worth_showing(line: &str) -> bool {
    let box_test =
        test(line).is_some_and(|(name, outcome)| outcome != "ok" || !name.contains("::"));
    box_test || line.starts_with("SKIPPED: ") || line.starts_with("error")
}

/// What went wrong: from the first complaint on, and all of it beside the build.
fn show(run: &Run, log: &[String]) {
    let first = log
        .iter()
        .position(|line| {
            line == "failures:" || line.starts_with("error") || line.starts_with("Diff")
        })
        .unwrap_or(0);
    let lines = &log[first..];
    for line in &lines[..lines.len().min(MOST_SHOWN)] {
        eprintln!("   {line}");
    }
    let folder = workspace().join("target/prove");
    let path = folder.join(format!("{}.log", run.name));
    if fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, log.join("\n")))
        .is_ok()
    {
        eprintln!("   All of it is in {}", path.display());
    }
}

const GLANCE: Duration = Duration::from_millis(100);
/// From cargo's last word to its end.
const ENDING: Duration = Duration::from_secs(10);
/// Lines of a failure: several panics with their boxes' consoles.
const MOST_SHOWN: usize = 600;

#[cfg(test)]
mod tests {
    use super::{Run, run};
    use std::time::Duration;

    fn cargo(arguments: &[&str], counts: bool) -> Run {
        Run {
            name: "row".into(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            patience: Duration::from_secs(60),
            counts,
        }
    }

    #[test]
    fn a_command_that_ends_well_is_one_test_passed() {
        let row = run(&cargo(&["--version"], false), &[]);
        assert_eq!((row.tally.passed, row.tally.failed), (1, 0));
    }

    #[test]
    fn a_run_without_a_test_has_failed() {
        let row = run(&cargo(&["--version"], true), &[]);
        assert_eq!((row.tally.passed, row.tally.failed), (0, 1));
    }

    #[test]
    fn a_command_that_ends_badly_has_failed() {
        let row = run(&cargo(&["no-such-command"], false), &[]);
        assert_eq!((row.tally.passed, row.tally.failed), (0, 1));
    }
}
