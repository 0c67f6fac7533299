//! The trial of a new binary: as a child of the box's PID 1, with a copy of the hand-over, it says
//! what it would take over. So one that can't even begin is found out at no risk.

use std::process::ExitCode;

use crate::{
    crash,
    handover::{Handover, records},
    helper::answer,
    pid1::Rehearsal,
};

/// Its argument.
pub const ROLE: &str = "trial";

/// Says on standard output what this binary would take over: one line of [`answer::Trial`].
pub fn run() -> ExitCode {
    #[cfg(feature = "fault")]
    crash::fault::in_the_trial();
    crash::arm();
    let rehearsed = Handover::open()
        .map_err(|e| format!("the hand-over can't be opened: {e}"))
        .and_then(|handover| Rehearsal::of(&handover))
        .and_then(|rehearsal| {
            let answer = answer::Trial {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                handover: records::VERSIONS,
                units: rehearsal.units,
            };
            serde_json::to_string(&answer).map_err(|e| e.to_string())
        });
    match rehearsed {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
