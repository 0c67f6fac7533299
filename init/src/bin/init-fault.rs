//! The same with fault injection, for tests alone: a program of its own, so that building one never
//! puts the other in its place.

use std::process::ExitCode;

fn main() -> ExitCode {
    init::start()
}
