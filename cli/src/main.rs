//! `pilot`, the command line: asks and steers the box it runs on.
#![forbid(unsafe_code)]

mod api;
mod box_commands;

use std::process::ExitCode;

use clap::Parser;

/// Pilotlight's command line
#[derive(Debug, Parser)]
#[command(name = "pilot", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Box(box_commands::BoxCommand),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Box(command) => box_commands::run(&command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pilot: {error}");
            ExitCode::FAILURE
        }
    }
}
