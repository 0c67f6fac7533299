//! `pilot status`, `services`, `logs`, `service …`, `poweroff`, `reboot`, `halt`: asking and
//! steering the box this runs on.
//!
//! All goes through the API that the dashboard uses, but for the log: `logd` is asked itself, as
//! its lines are wanted most when the manager does not answer.

mod show;

use std::{io, io::Write as _, path::Path, time::Duration};

use clap::Subcommand;
use serde_json::json;
use supervise::{
    log::Level,
    log_query::{self, Answer, Client, Query, QueryError},
    unit::{BadUnitName, UnitName},
};

use crate::api::{self, ApiError};

/// Commands about the box this runs on.
#[derive(Debug, Subcommand)]
pub(crate) enum BoxCommand {
    /// The box at a glance
    Status,
    /// The services and how they are
    Services,
    /// Which part of the box was silent, what its threads did, and what was done
    Guard,
    /// The last lines of the log
    Logs(LogsArgs),
    /// Start, stop or restart a service
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Stop everything and switch the box off
    Poweroff,
    /// Stop everything and start the box again
    Reboot,
    /// Stop everything and stay powered
    Halt,
}

/// Which lines.
#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// Go on with new lines as they come
    #[arg(short, long)]
    follow: bool,
    /// How many of the lines that are there
    #[arg(short = 'n', long, default_value_t = 100)]
    lines: u32,
    /// Of this service, role or `kernel` only
    unit: Option<String>,
}

/// What to do with a service.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Start it and keep it running
    Start {
        /// Its id
        id: String,
    },
    /// Stop it and keep it stopped
    Stop {
        /// Its id
        id: String,
    },
    /// Stop it and start it again
    Restart {
        /// Its id
        id: String,
    },
}

/// Does it, and writes what came of it to standard output.
pub(crate) fn run(command: &BoxCommand) -> Result<(), BoxError> {
    let api = |method: &str, params| api::call(Path::new(api::SOCKET), method, &params);
    let power = |how: &str| api("box.power", json!({ "how": how }));
    let text = match command {
        BoxCommand::Status => show::status(&api("box.status", json!({}))?),
        BoxCommand::Guard => show::guard(&api("guard.report", json!({}))?),
        BoxCommand::Services => show::services(&api("box.status", json!({}))?),
        BoxCommand::Logs(args) => return logs(args, Path::new(log_query::SOCKET)),
        BoxCommand::Service(command) => {
            let (method, id) = match command {
                ServiceCommand::Start { id } => ("service.start", id),
                ServiceCommand::Stop { id } => ("service.stop", id),
                ServiceCommand::Restart { id } => ("service.restart", id),
            };
            api(method, json!({ "id": id }))?;
            format!("It is being done; `pilot services` shows how {id} is.\n")
        }
        BoxCommand::Poweroff => power("poweroff").map(|_| "The box switches off.\n".to_owned())?,
        BoxCommand::Reboot => power("reboot").map(|_| "The box starts again.\n".to_owned())?,
        BoxCommand::Halt => power("halt").map(|_| "The box halts.\n".to_owned())?,
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(BoxError::Output)
}

/// Why a command about the box failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoxError {
    /// The API did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The log did not answer.
    #[error(transparent)]
    Log(#[from] QueryError),
    /// The name is none.
    #[error(transparent)]
    Name(#[from] BadUnitName),
    /// Nobody reads what is written.
    #[error("standard output can't be written: {0}")]
    Output(io::Error),
}

fn logs(args: &LogsArgs, socket: &Path) -> Result<(), BoxError> {
    let unit = args.unit.as_deref().map(unit_named).transpose()?;
    let query = Query {
        unit,
        lines: args.lines,
        follow: args.follow,
        level: Level::Debug,
    };
    let mut client = Client::ask(socket, &query)?;
    let mut out = io::stdout().lock();
    let mut waits_for_history = true;
    loop {
        match client.next(PATIENCE)? {
            Some(Answer::Line(line)) => writeln!(out, "{line}").map_err(BoxError::Output)?,
            Some(Answer::CaughtUp) if query.follow => waits_for_history = false,
            Some(Answer::CaughtUp) => return Ok(()),
            Some(Answer::Refused(why)) => return Err(QueryError::Refused(why).into()),
            None if waits_for_history => return Err(QueryError::Silent(PATIENCE).into()),
            None => {}
        }
    }
}

/// A role or the kernel by its name, else the service of that id.
fn unit_named(name: &str) -> Result<UnitName, BadUnitName> {
    let unit: UnitName = name.parse()?;
    let own = ["front", "helper", "init", "kernel", "logd", "manager"].contains(&name);
    if own || unit.service_id().is_some() {
        Ok(unit)
    } else {
        UnitName::service(name)
    }
}

/// A living `logd` answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_box_s_own_or_a_service_s() {
        for (name, unit) in [
            ("kernel", "kernel"),
            ("demo", "service-demo"),
            ("service-demo", "service-demo"),
        ] {
            assert_eq!(unit_named(name).unwrap().as_str(), unit);
        }
        assert!(unit_named("../etc").is_err());
    }

    #[test]
    fn the_log_is_asked_without_the_manager_and_says_when_it_is_not_there() {
        let args = LogsArgs {
            follow: false,
            lines: 5,
            unit: None,
        };
        let outcome = logs(&args, Path::new("/nonexistent/log.sock"));
        assert!(
            matches!(outcome, Err(BoxError::Log(QueryError::Connect(_)))),
            "{outcome:?}"
        );
    }
}
