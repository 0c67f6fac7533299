//! What an agent says to the manager: one JSON value a line, the whole state each time, so that a
//! manager that was replaced needs no history.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The state of one container as its agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// Counts reports of this agent, so that a lost one shows.
    pub sequence: u64,
    /// The daemons in the order of their start.
    pub daemons: Vec<DaemonReport>,
    /// The last answer of the health probe; `None` without a probe or before its first answer.
    pub health: Option<Health>,
    /// Log lines that were dropped because nobody took them.
    pub dropped_lines: u64,
    /// Whether the agent was told to end.
    pub stopping: bool,
}

/// The state of one daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonReport {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: DaemonState,
    /// How often it was started again.
    pub restarts: u32,
    /// How its last run ended, as a phrase.
    pub last_exit: Option<String>,
}

/// Where a daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonState {
    /// It lives.
    Running,
    /// It ended and is started again after a while.
    BackingOff,
    /// It ended and stays so.
    Ended,
}

/// What a health probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether the service answered as it should.
    pub healthy: bool,
    /// What it answered, as a phrase.
    pub detail: String,
    /// How long ago it was asked: an old answer is no answer.
    pub age: Duration,
}

/// A report's longest line in bytes; a longer one ends the connection.
pub const MAX_REPORT: usize = 64 * 1024;
