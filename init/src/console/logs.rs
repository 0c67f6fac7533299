//! The `logs` command: lines from `logd`, with deadlines, until the user has seen enough.

use std::{io, path::Path, time::Duration};

use supervise::log_query::{Answer, Client, Query, QueryError};

use super::terminal::Terminal;

/// Shows what the query asks for. Problems with `logd` are shown too; only the terminal's are errors.
pub(crate) fn show(terminal: &mut Terminal, socket: &Path, query: &Query) -> io::Result<()> {
    let mut client = match Client::ask(socket, query) {
        Ok(client) => client,
        Err(error) => return complain(terminal, &error),
    };
    let (mut shown, mut silent, mut waiting) = (0_u64, Duration::ZERO, true);
    loop {
        if terminal.interrupted()? {
            return terminal.print("^C\n");
        }
        match client.next(GLANCE) {
            Ok(Some(Answer::Line(line))) => {
                terminal.print(&format!("{line}\n"))?;
                shown += 1;
                silent = Duration::ZERO;
            }
            Ok(Some(Answer::CaughtUp)) if query.follow => waiting = false,
            Ok(Some(Answer::CaughtUp)) if shown == 0 => return terminal.print("No lines yet.\n"),
            Ok(Some(Answer::CaughtUp)) => return Ok(()),
            Ok(Some(Answer::Refused(why))) => {
                return complain(terminal, &QueryError::Refused(why));
            }
            Ok(None) => silent += GLANCE,
            Err(error) => return complain(terminal, &error),
        }
        if waiting && silent >= PATIENCE {
            return complain(terminal, &QueryError::Silent(PATIENCE));
        }
    }
}

fn complain(terminal: &mut Terminal, error: &QueryError) -> io::Result<()> {
    terminal.print(&format!(
        "There are no lines to be had: {error}. `dmesg` works without it.\n"
    ))
}

/// How long a Ctrl-C may go unnoticed.
const GLANCE: Duration = Duration::from_millis(100);
/// A living `logd` answers within milliseconds; a loaded one within this.
const PATIENCE: Duration = Duration::from_secs(3);
