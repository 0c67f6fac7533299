//! Descriptors, memory and threads run out in PID 1: console and door answer all the same, and what
//! has to be started is, from what was held in reserve.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tests::{native::Native, netns::until};

use super::{
    signs::{await_another, console_answers, end, is_up},
    succession::{self, Succession},
};

#[test]
fn without_descriptors_the_console_answers_and_the_door_comes_back() -> Result<()> {
    let native = Native::start("nofd")?;
    succession::inject(&native, "descriptors", "all")?;
    until(PATIENCE, || {
        free_descriptors(&native).is_ok_and(|free| free == 0)
    })
    .context("there are descriptors left")?;
    for _ in 0..3 {
        answers(&native)?;
    }
    // A successor has those again that nobody needed.
    let now = Succession::of(&native)?;
    let pid = Pid::from_raw(native.pid1()?.cast_signed()).context("a pid")?;
    kill_process(pid, Signal::SEGV)?;
    now.await_successor(&native)?;
    ensure!(
        free_descriptors(&native)? > 0,
        "the successor has none either"
    );
    answers(&native)
}

#[test]
fn without_memory_the_console_answers_and_the_door_comes_back() -> Result<()> {
    let native = Native::start("nomem")?;
    let pid = native.pid1()?;
    succession::inject(&native, "memory", "all")?;
    for _ in 0..3 {
        answers(&native)?;
    }
    ensure!(native.pid1()? == pid, "PID 1 is another one");
    let pid = Pid::from_raw(pid.cast_signed()).context("a pid")?;
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(Some(pid), Resource::As, unlimited)?;
    answers(&native)
}

#[test]
fn without_threads_the_box_answers_and_what_ends_comes_back_when_there_are_some() -> Result<()> {
    let native = Native::start("nothread")?;
    native.limit_threads(true)?;
    let logd = native.role("logd")?;
    end(&native, "logd")?;
    until(PATIENCE, || native.role("logd").is_err()).context("the old log never ends")?;
    for _ in 0..3 {
        until(PATIENCE, || is_up(&native) && console_answers(&native))
            .context("the box does not answer")?;
    }
    native.limit_threads(false)?;
    await_another(&native, "logd", logd)
}

/// Console and door answer, and another front takes the place of one that ends.
fn answers(native: &Native) -> Result<()> {
    until(PATIENCE, || console_answers(native)).context("the console does not answer")?;
    let front = native.role("front")?;
    let pid = Pid::from_raw(front.cast_signed()).context("a pid")?;
    kill_process(pid, Signal::KILL)?;
    await_another(native, "front", front)?;
    succession::forgive(native)
}

/// How many descriptors PID 1 may open beside those that it has.
fn free_descriptors(native: &Native) -> Result<usize> {
    let pid = native.pid1()?;
    let most = limit_of(pid)?;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?
        .flatten()
        .filter_map(|fd| fd.file_name().to_str()?.parse::<usize>().ok())
        .filter(|number| *number < most)
        .count();
    Ok(most - open)
}

/// The least number that PID 1's descriptors may not have.
fn limit_of(pid: u32) -> Result<usize> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    Ok(soft.context("no limit is told")?.parse()?)
}

/// On a machine where everything else runs too.
const PATIENCE: Duration = Duration::from_secs(120);
