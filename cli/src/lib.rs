//! `pilot`, the command line: asks and steers the box it runs on, and makes packages.
#![forbid(unsafe_code)]

mod api;
mod box_commands;
#[cfg(feature = "fault")]
mod fault_commands;
mod init_commands;
mod net_commands;
mod package_commands;
mod told;

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
    /// Make the box fail, where its programs were built for that
    #[cfg(feature = "fault")]
    #[command(subcommand)]
    Fault(fault_commands::FaultCommand),
    /// PID 1 itself: which binary it is, and going over to another while the box runs
    #[command(subcommand)]
    Init(init_commands::InitCommand),
    /// The network: why the box can or can't be reached, and changing its settings
    Net(net_commands::NetArguments),
    /// Make packages and look into them
    #[command(subcommand)]
    S9pk(package_commands::PackageCommand),
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Box(command) => box_commands::run(&command).map_err(|e| e.to_string()),
        #[cfg(feature = "fault")]
        Command::Fault(command) => fault_commands::run(&command).map_err(|e| e.to_string()),
        Command::Init(command) => init_commands::run(&command).map_err(|e| e.to_string()),
        Command::Net(arguments) => net_commands::run(&arguments).map_err(|e| e.to_string()),
        Command::S9pk(command) => package_commands::run(&command).map_err(|e| e.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pilot: {error}");
            ExitCode::FAILURE
        }
    }
}
