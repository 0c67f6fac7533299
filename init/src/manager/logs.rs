//! Asking `logd`, from the pool.

use std::{path::Path, time::Duration};

use supervise::{
    log::Level,
    log_query::{self, Answer, Frames, LogLine, Query},
    unit::UnitName,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// The last `lines` lines, oldest first.
///
/// # Errors
/// As a sentence, when `logd` does not answer in time.
pub(super) async fn last(unit: Option<UnitName>, lines: usize) -> Result<Vec<LogLine>, String> {
    let lines = u32::try_from(lines).unwrap_or(u32::MAX);
    let query = Query {
        unit,
        lines,
        follow: false,
        level: Level::Debug,
    };
    match timeout(PATIENCE, ask(&query)).await {
        Ok(answer) => answer,
        Err(_) => Err("the log does not answer; it is being replaced".to_owned()),
    }
}

async fn ask(query: &Query) -> Result<Vec<LogLine>, String> {
    let trouble = |e: std::io::Error| format!("the log can't be asked: {e}");
    let mut socket = UnixStream::connect(Path::new(log_query::SOCKET))
        .await
        .map_err(trouble)?;
    let request = log_query::frame(query).map_err(|e| e.to_string())?;
    socket.write_all(&request).await.map_err(trouble)?;
    let mut frames = Frames::<Answer>::default();
    let mut lines = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        while let Some(answer) = frames.next().map_err(|e| e.to_string())? {
            match answer {
                Answer::Line(line) => lines.push(line),
                Answer::CaughtUp => return Ok(lines),
                Answer::Refused(why) => return Err(why),
            }
        }
        match socket.read(&mut piece).await.map_err(trouble)? {
            0 => return Err("the log ended the connection".to_owned()),
            n => frames.push(&piece[..n]),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(3);
