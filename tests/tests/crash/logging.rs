//! A log, a console or a disk that takes nothing costs lines, and nothing else.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::{native::Native, netns::until};

use super::signs::{await_another, console_answers, end, is_up};

#[test]
fn a_log_that_is_killed_or_stuck_is_replaced_and_what_was_lost_is_said() -> Result<()> {
    let native = Native::start("logd")?;
    let killed = native.role("logd")?;
    end(&native, "logd")?;
    await_another(&native, "logd", killed)?;
    let stuck = native.role("logd")?;
    let pid = Pid::from_raw(stuck.cast_signed()).context("a pid")?;
    kill_process(pid, Signal::STOP)?;
    // All the room that there is, so that what PID 1 says next is lost.
    let output = native.descriptor(2)?;
    let mut said = 0;
    while rustix::io::write(&output, b"<6>a line that fills the log\n").is_ok() {
        said += 1;
    }
    ensure!(said > 0, "nothing fits into the log");
    native.type_line("restart front")?;
    await_another(&native, "logd", stuck)?;
    until(PATIENCE, || {
        // Each of these makes PID 1 say something.
        let told = native.type_line("restart front");
        told.is_ok() && log_of(&native, "init").contains("lines were dropped before this one")
    })
    .context("nobody says what was lost")?;
    ensure!(
        log_of(&native, "init").contains("a line that fills the log"),
        "what waited was lost too"
    );
    Ok(())
}

#[test]
fn a_console_that_takes_nothing_costs_nothing_else() -> Result<()> {
    let native = Native::start("deaf")?;
    let since = native.console().len();
    native.be_deaf(true);
    // Far more answers than a terminal holds for somebody who does not look.
    for _ in 0..200 {
        native.type_line("status")?;
    }
    for role in ["front", "logd", "manager"] {
        let before = native.role(role)?;
        end(&native, role)?;
        await_another(&native, role, before)?;
    }
    // It was read once more, by whoever looked there already.
    let taken = native.console().len() - since;
    ensure!(taken <= 4096, "somebody took {taken} bytes of what it said");
    native.be_deaf(false);
    until(PATIENCE, || console_answers(&native)).context("the console is not heard again")
}

/// A FIFO where the file should be: writing to it hangs until somebody reads, as any call does on
/// a disk that is gone.
#[test]
fn a_disk_that_hangs_costs_the_files_and_nothing_else() -> Result<()> {
    let native = Native::start("hanging")?;
    for unit in ["init", "front"] {
        let file = native.path(&format!("/data/logs/{unit}.log"))?;
        until(PATIENCE, || file.exists()).context("no line is written")?;
        fs::remove_file(&file)?;
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &file, kind, mode, 0)?;
        std::os::unix::fs::chown(&file, Some(LOGD_ID), Some(LOGD_ID))?;
    }
    let before = native.role("logd")?;
    end(&native, "logd")?;
    await_another(&native, "logd", before)?;
    let successor = native.role("logd")?;
    for role in ["front", "manager"] {
        let before = native.role(role)?;
        end(&native, role)?;
        await_another(&native, role, before)?;
    }
    // What the disk does not take is still there to be read.
    until(PATIENCE, || {
        let since = native.console().len();
        let asked = native.type_line("logs init");
        asked.is_ok() && native.expect(since, "manager started", ANSWER).is_ok()
    })
    .context("the last lines can't be read")?;
    ensure!(native.role("logd")? == successor, "the log was replaced");
    let report = native.guard(ANSWER)?;
    ensure!(report["counts"]["logd"]["replaced"] == 0, "{report:#}");
    ensure!(is_up(&native) && native.call("box.status", &json!({}), ANSWER).is_ok());
    Ok(())
}

fn log_of(native: &Native, unit: &str) -> String {
    let path = native.path(&format!("/data/logs/{unit}.log"));
    path.map_or_else(
        |_| String::new(),
        |path| fs::read_to_string(path).unwrap_or_default(),
    )
}

/// Whom the log's files belong to.
const LOGD_ID: u32 = 502;
const ANSWER: Duration = Duration::from_secs(10);
/// On a machine where everything else runs too.
const PATIENCE: Duration = Duration::from_secs(120);
