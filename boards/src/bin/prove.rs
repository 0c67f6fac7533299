//! `cargo prove`: see [`boards::prove`].

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match boards::prove::run(&boards::prove::Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
