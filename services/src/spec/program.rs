//! What runs, within which limits, and how one knows that it works.

use std::{path::Path, time::Duration};

use supervise::control::Limits;

use super::{
    DaemonSpec, HealthProbe, ProbeKind, SpecError, name,
    quantity::{bytes, duration},
    table::{DaemonTable, HealthKind, HealthTable, LimitsTable},
    wrong,
};
use crate::plan::is_inner_path;

pub(super) fn daemon(table: DaemonTable) -> Result<DaemonSpec, SpecError> {
    let key = |key: &str| format!("daemon.{key} of {:?}", table.name);
    name("daemon.name", &table.name)?;
    let image = table
        .image
        .clone()
        .unwrap_or_else(|| DEFAULT_IMAGE.to_owned());
    name(&key("image"), &image)?;
    if let Some(command) = &table.command
        && (command.first().is_none_or(String::is_empty) || command.iter().any(|arg| nul(arg)))
    {
        return Err(wrong(
            key("command"),
            format!("{command:?}"),
            "a list with the program first, without NUL characters",
        ));
    }
    for (variable, value) in &table.env {
        if variable.is_empty() || variable.contains('=') || nul(variable) || nul(value) {
            return Err(wrong(
                key("env"),
                variable.clone(),
                "NAME = \"value\", without '=' in the name and without NUL characters",
            ));
        }
    }
    if let Some(workdir) = table.workdir.as_ref().filter(|path| !is_folder(path)) {
        return Err(wrong(
            key("workdir"),
            workdir.display().to_string(),
            INNER_PATH,
        ));
    }
    Ok(DaemonSpec {
        image,
        name: table.name,
        command: table.command,
        env: table.env,
        user: table.user,
        workdir: table.workdir,
        restart: table.restart,
    })
}

pub(super) fn limits(table: LimitsTable) -> Result<Limits, SpecError> {
    let memory = match table.memory {
        Some(text) => bytes("limits.memory", &text)?,
        None => DEFAULT_MEMORY,
    };
    let pids = table.pids.unwrap_or(DEFAULT_PIDS);
    if pids < LEAST_PIDS {
        return Err(wrong("limits.pids".into(), pids.to_string(), "at least 16"));
    }
    if table
        .cpu
        .is_some_and(|percent| percent == 0 || percent > 100 * MOST_CORES)
    {
        let value = table.cpu.unwrap_or_default().to_string();
        let expected = "a share of one core in per cent, from 1 to 102400";
        return Err(wrong("limits.cpu".into(), value, expected));
    }
    Ok(Limits {
        memory_max: Some(memory),
        memory_low: None,
        pids_max: Some(pids),
        cpu_weight: None,
        cpu_percent: table.cpu,
    })
}

pub(super) fn health(table: HealthTable) -> Result<HealthProbe, SpecError> {
    let kind = match (table.kind, table.path) {
        (HealthKind::Http, path) => {
            let path = path.unwrap_or_else(|| "/".to_owned());
            if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) {
                let expected = "a path that begins with '/', of printable ASCII without spaces";
                return Err(wrong("health.path".into(), path, expected));
            }
            ProbeKind::Http(path)
        }
        (HealthKind::Tcp, None) => ProbeKind::Tcp,
        (HealthKind::Tcp, Some(path)) => {
            let expected = "left out with kind = \"tcp\" (or use kind = \"http\")";
            return Err(wrong("health.path".into(), path, expected));
        }
    };
    if table.port == 0 {
        return Err(wrong(
            "health.port".into(),
            "0".into(),
            "a port from 1 to 65535",
        ));
    }
    let interval = match table.interval {
        Some(text) => duration("health.interval", &text, LONGEST_INTERVAL)?,
        None => DEFAULT_INTERVAL,
    };
    if interval < SHORTEST_INTERVAL {
        let value = format!("{} ms", interval.as_millis());
        return Err(wrong("health.interval".into(), value, "at least \"500ms\""));
    }
    Ok(HealthProbe {
        kind,
        port: table.port,
        interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
    })
}

fn is_folder(path: &Path) -> bool {
    path == Path::new("/") || is_inner_path(path)
}

fn nul(text: &str) -> bool {
    text.contains('\0')
}

const DEFAULT_IMAGE: &str = "main";
const INNER_PATH: &str = "an absolute path in the container, without '.' and '..'";

/// Enough for most services of a home server, and a promise that none takes the whole box.
const DEFAULT_MEMORY: u64 = 512 << 20;
const DEFAULT_PIDS: u32 = 512;
const LEAST_PIDS: u32 = 16;
/// More than any kernel of today is built for.
const MOST_CORES: u32 = 1024;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);
