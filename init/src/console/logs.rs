//! The `logs` command: lines from `logd`, with deadlines, until the user has seen enough.

use std::{io, path::Path, time::Duration};

use supervise::log_query::{Answer, Client, Query, QueryError};

use super::terminal::Terminal;

/// Shows what the query asks for; when `logd` does not answer, says so and shows the `last` lines
/// that PID 1 itself remembers. Only the terminal's problems are errors.
pub(crate) fn show(
    terminal: &mut Terminal,
    socket: &Path,
    query: &Query,
    last: &[String],
) -> io::Result<()> {
    match answer(terminal, socket, query)? {
        Ok(()) => Ok(()),
        Err(error) => {
            terminal.print(&format!(
                "There are no lines to be had: {error}. `dmesg` works.\n"
            ))?;
            if !last.is_empty() {
                terminal.print("The last lines that PID 1 has:\n")?;
            }
            last.iter()
                .try_for_each(|line| terminal.print(&format!("{line}\n")))
        }
    }
}

fn answer(
    terminal: &mut Terminal,
    socket: &Path,
    query: &Query,
) -> io::Result<Result<(), QueryError>> {
    let mut client = match Client::ask(socket, query) {
        Ok(client) => client,
        Err(error) => return Ok(Err(error)),
    };
    let (mut shown, mut silent, mut waiting) = (0_u64, Duration::ZERO, true);
    while !waiting || silent < PATIENCE {
        if terminal.interrupted()? {
            terminal.print("^C\n")?;
            return Ok(Ok(()));
        }
        match client.next(GLANCE) {
            Ok(Some(Answer::Line(line))) => {
                terminal.print(&format!("{line}\n"))?;
                (shown, silent) = (shown + 1, Duration::ZERO);
            }
            Ok(Some(Answer::CaughtUp)) if query.follow => waiting = false,
            Ok(Some(Answer::CaughtUp)) => {
                if shown == 0 {
                    terminal.print("No lines yet.\n")?;
                }
                return Ok(Ok(()));
            }
            Ok(Some(Answer::Refused(why))) => return Ok(Err(QueryError::Refused(why))),
            Ok(None) => silent += GLANCE,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Err(QueryError::Silent(PATIENCE)))
}

/// How long a Ctrl-C may go unnoticed.
const GLANCE: Duration = Duration::from_millis(100);
/// A living `logd` answers within milliseconds; a loaded one within this.
const PATIENCE: Duration = Duration::from_secs(3);
