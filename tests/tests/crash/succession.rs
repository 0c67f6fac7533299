//! What PID 1 says about its generations, and how a test makes it crash.

use std::{fs, io::Write as _, time::Duration};

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;
use tests::{native::Native, netns::until};

/// One generation, as it tells of itself once it has taken over whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Succession {
    /// Counts the executions since the boot.
    pub(crate) generation: u64,
    /// Whether it does less, after too many crashes.
    pub(crate) is_safe: bool,
    /// The last crash, as a sentence.
    pub(crate) last: String,
}

impl Succession {
    /// The one that is there; waits for the first.
    pub(crate) fn of(native: &Native) -> Result<Self> {
        let mut found = None;
        until(PATIENCE, || {
            found = Self::read(native);
            found.is_some()
        })?;
        found.context("PID 1 does not say which generation it is")
    }

    /// Waits until the next generation has taken over whole.
    pub(crate) fn await_successor(&self, native: &Native) -> Result<Self> {
        let mut found = None;
        until(PATIENCE, || {
            found = Self::read(native).filter(|now| now.generation > self.generation);
            found.is_some()
        })
        .with_context(|| format!("no generation comes after {self:?}"))?;
        found.context("found above")
    }

    fn read(native: &Native) -> Option<Self> {
        let text = fs::read_to_string(native.path("/run/pilot/succession").ok()?).ok()?;
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
        // The last line is written last.
        let last = field("last ")?.to_owned();
        Some(Self {
            generation: field("generation ")?.parse().ok()?,
            is_safe: field("safe ")? == "true",
            last,
        })
    }
}

/// Makes a thread of PID 1 fail.
pub(crate) fn inject(native: &Native, kind: &str, thread: &str) -> Result<()> {
    let name = thread.split(' ').next().unwrap_or_default();
    if ["net", "guard", "console"].contains(&name) {
        // It has its name only once it runs.
        let has = || threads(native).is_some_and(|all| all.iter().any(|one| one == name));
        until(PATIENCE, has).with_context(|| format!("no thread {name}"))?;
    }
    let mut written = Err(anyhow::anyhow!("not tried"));
    until(PATIENCE, || {
        written = write(native, &format!("{kind} {thread}\n"));
        written.is_ok()
    })?;
    written
}

/// The crashes so far no longer count, as after an hour of health.
pub(crate) fn forgive(native: &Native) -> Result<()> {
    inject(native, "forgive", "all")
}

fn write(native: &Native, line: &str) -> Result<()> {
    let path = native.path("/run/pilot/fault")?;
    // Without a reader it fails instead of waiting.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    let fifo = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    Ok(fs::File::from(fifo).write_all(line.as_bytes())?)
}

fn threads(native: &Native) -> Option<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", native.pid1().ok()?)).ok()?;
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.flatten().filter_map(name);
    Some(names.map(|name| name.trim_end().to_owned()).collect())
}

const PATIENCE: Duration = Duration::from_secs(120);
