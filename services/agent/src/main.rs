//! The agent: PID 1 in each container.
//!
//! It starts the service's daemons and starts them again when they end, buries every orphan,
//! forwards what the daemons say to the log, asks the service how it is, and tells the manager,
//! whenever there is one. It mounts nothing, and it never waits for anybody: not for the log, not
//! for the manager, not for a daemon. It ends only when it is told to, and then in time.
//!
//! | module | concept |
//! |---|---|
//! | [`daemon`] | one daemon's life |
//! | [`agent`] | the loop around all of them |
//! | [`launch`] | the step between fork and the daemon's program: user, folder, program |
//! | [`output`] | a daemon's output, cut into lines |
//! | [`probe`] | the health probe, on a thread of its own |
//! | [`link`] | the way to the manager |

#![forbid(unsafe_code)]

mod agent;
mod daemon;
mod launch;
mod link;
mod output;
mod probe;

use std::process::ExitCode;

use services::plan::{AGENT_SPEC, AgentSpec};

fn main() -> ExitCode {
    let mut args = std::env::args();
    let _own_name = args.next();
    match args.next().as_deref() {
        Some(launch::ROLE) => launch::run(args),
        Some(_) => {
            supervise::error!("agent: takes no arguments");
            ExitCode::FAILURE
        }
        None => match run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                supervise::error!("agent: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run() -> Result<(), agent::Error> {
    let unreadable = |source| agent::Error::NoSpec(AGENT_SPEC, source);
    let spec = AgentSpec::from_bytes(&std::fs::read(AGENT_SPEC).map_err(unreadable)?)?;
    agent::Agent::new(spec)?.run()
}
