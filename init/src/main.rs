//! The box's one static binary; see [`init::start`].

use std::process::ExitCode;

fn main() -> ExitCode {
    init::start()
}
