//! `cargo boot`: see [`boards::boot`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match boards::boot::run(&boards::boot::Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
