//! Signs of life.

use std::time::Duration;

use anyhow::{Context as _, Result};
use boards::web;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::{native::Native, netns::until};

/// Door, manager and PID 1 answer.
pub(crate) fn is_up(native: &Native) -> bool {
    let health = native
        .machine()
        .within(|| web::http(PROBE, "localhost", "/health", ANSWER));
    health.is_ok_and(|response| response.status == 200)
        && native.call("box.status", &json!({}), ANSWER).is_ok()
}

/// Somebody at the console is answered.
pub(crate) fn console_answers(native: &Native) -> bool {
    let since = native.console().len();
    native.type_line("status").is_ok() && native.expect(since, "front", ANSWER).is_ok()
}

/// Ends a role's process, which PID 1 then replaces.
pub(crate) fn end(native: &Native, role: &str) -> Result<()> {
    let mut pid = None;
    until(PATIENCE, || {
        pid = native.role(role).ok();
        pid.is_some()
    })?;
    let pid = Pid::from_raw(pid.context("found above")?.cast_signed()).context("a pid")?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// Waits until another process than `pid` runs as `role`, and the box answers.
pub(crate) fn await_another(native: &Native, role: &str, pid: u32) -> Result<()> {
    until(PATIENCE, || {
        native.role(role).is_ok_and(|now| now != pid) && is_up(native)
    })
    .with_context(|| format!("no other {role} comes: {}", native.console()))
}

/// The door's plain port, for the guard.
const PROBE: u16 = 7780;
const ANSWER: Duration = Duration::from_secs(5);
/// On a machine where everything else runs too.
const PATIENCE: Duration = Duration::from_secs(120);
