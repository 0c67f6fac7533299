//! The same with `pilot fault`, for tests alone: a program of its own, so that building one never
//! puts the other in its place.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
