//! One thread of the box under strace: what it asks of the kernel, and a call that fails.
//!
//! Only that thread is followed, so that what fails is PID 1's, never a child's.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::netns::until;

/// A call that is to fail once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The system call's name.
    pub call: String,
    /// Which one of them since the tracer came, from 1.
    pub nth: usize,
    /// What it fails with, as `ENOMEM`.
    pub error: &'static str,
}

/// A tracer at work. Lets go of the thread when dropped.
#[derive(Debug)]
pub struct Tracer {
    strace: Child,
    log: PathBuf,
}

impl Tracer {
    /// Attaches to a thread and writes down all its calls.
    pub fn watch(thread: u32, log: &Path) -> Result<Self> {
        Self::attach(thread, log, &[])
    }

    /// Attaches to a thread and makes one call of it fail.
    pub fn inject(thread: u32, log: &Path, fault: &Fault) -> Result<Self> {
        let Fault { call, nth, error } = fault;
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:error={error}:when={nth}");
        Self::attach(thread, log, &["-e", &trace, "-e", &inject])
    }

    /// Whether the call has failed.
    pub fn has_injected(&self) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|text| text.contains("(INJECTED)"))
    }

    /// The calls so far, a line each.
    pub fn calls(&self) -> Result<Vec<String>> {
        let text = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter(|line| name_of(line).is_some());
        Ok(lines.map(str::to_owned).collect())
    }

    fn attach(thread: u32, log: &Path, options: &[&str]) -> Result<Self> {
        let said = log.with_extension("said");
        let strace = Command::new("strace")
            .args(options)
            .arg("-o")
            .arg(log)
            .args(["-p", &thread.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said)?)
            .spawn()
            .context("strace can't be started")?;
        let tracer = Self {
            strace,
            log: log.to_owned(),
        };
        until(PATIENCE, || {
            fs::read_to_string(&said).is_ok_and(|text| text.contains("attached"))
        })
        .with_context(|| {
            let text = fs::read_to_string(&said).unwrap_or_default();
            format!("strace does not attach to {thread}: {text}")
        })?;
        Ok(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It lets go; killed, it would too, but in the middle of a call.
        if let Some(pid) = Pid::from_raw(self.strace.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if until(PATIENCE, || !matches!(self.strace.try_wait(), Ok(None))).is_err() {
            let _ = self.strace.kill();
        }
        let said = self.log.with_extension("said");
        let _ = (fs::remove_file(&self.log), fs::remove_file(said));
    }
}

/// The name of the call that a line of strace's is about; none if it is about something else.
pub fn name_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (!name.is_empty() && name.bytes().all(plain)).then_some(name)
}

const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_call_has_a_name_and_other_lines_have_none() {
        assert_eq!(name_of("openat(AT_FDCWD, \"/\", 0) = 3"), Some("openat"));
        assert_eq!(name_of("--- SIGCHLD {si_signo=SIGCHLD} ---"), None);
        assert_eq!(name_of("+++ exited with 0 +++"), None);
        assert_eq!(name_of("<... poll resumed>) = 1"), None);
    }
}
