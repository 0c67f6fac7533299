//! What the door knows about the box besides its own work: enough for the emergency page.
//!
//! PID 1 sends it after every change, so that the page can be made with the manager and the data
//! disk both gone. Texts are sentences made by the sender; the door only escapes and places them.

use serde::{Deserialize, Serialize};

/// The box as PID 1 sees it, in the terms of the emergency page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergencyView {
    /// The box's host name.
    pub hostname: String,
    /// Pilotlight's version.
    pub version: String,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
    /// The control service (the manager).
    pub control: RoleLine,
    /// Counts the manager's starts.
    pub generation: u64,
    /// For how many milliseconds the manager has not answered, if it does not.
    pub silent_ms: Option<u64>,
    /// The other parts: PID 1 itself, the front, logd.
    pub roles: Vec<RoleLine>,
    /// The services.
    pub services: Vec<RoleLine>,
    /// The data disk, as a sentence: "The data disk has not answered for 12 s."
    pub data: String,
    /// What the owner should know, most pressing first.
    pub notices: Vec<String>,
}

/// One row of the parts table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleLine {
    /// What it is called; for a service its id.
    pub name: String,
    /// How it is.
    pub state: LineState,
    /// Why, when that is worth a sentence; may be empty.
    pub detail: String,
    /// Seconds since it came into this state.
    pub for_s: u64,
}

/// How a part is, in the dashboard's five words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineState {
    /// Works, but not as it should: for a role, it does not answer.
    Degraded,
    /// Ends again and again, or could not be started.
    Failing,
    /// Works.
    Running,
    /// On its way up.
    Starting,
    /// Not running, and not meant to.
    #[default]
    Stopped,
}

impl LineState {
    /// The state as a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Degraded => "Degraded",
            Self::Failing => "Failing",
            Self::Running => "Running",
            Self::Starting => "Starting",
            Self::Stopped => "Stopped",
        }
    }

    /// The state as a shape, so that colour is never alone.
    #[must_use]
    pub fn glyph(self) -> char {
        match self {
            Self::Degraded => '▲',
            Self::Failing => '⬢',
            Self::Running => '●',
            Self::Starting => '◔',
            Self::Stopped => '○',
        }
    }
}
