//! `service.toml`: what a package's author says about how the service runs.
//!
//! Parsed, not validated: a [`ServiceSpec`] is right in itself, and what is wrong is a sentence
//! with the key and the remedy. The tables `package` and `image` are the packer's business
//! (where the package's files come from) and are not looked at here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use supervise::control::Limits;

use crate::plan::is_inner_path;
pub use crate::plan::{HealthProbe, ProbeKind, Restart};

/// How a service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its daemons in the order of their start; at least one.
    pub daemons: Vec<DaemonSpec>,
    /// What it offers to the network.
    pub interfaces: Vec<Interface>,
    /// Where each of its volumes is in the container, by the volume's name.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Limits of all its processes together.
    pub limits: Limits,
    /// How long it may take to end after it was told to.
    pub stop_timeout: Duration,
    /// How to tell that it works.
    pub health: Option<HealthProbe>,
}

/// One long-running program. What is `None` is as the image has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSpec {
    /// Its name in logs.
    pub name: String,
    /// The image it runs from.
    pub image: String,
    /// Program and arguments.
    pub command: Option<Vec<String>>,
    /// Its environment on top of the image's.
    pub env: BTreeMap<String, String>,
    /// Its user.
    pub user: Option<String>,
    /// Its working folder.
    pub workdir: Option<PathBuf>,
    /// Whether it is started again when it ended.
    pub restart: Restart,
}

/// An HTTP port of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name in addresses and the API.
    pub id: String,
    /// Its name on the dashboard.
    pub name: String,
    /// The port inside the container.
    pub port: u16,
    /// A port of the box's own on which the front door offers this interface alone, with TLS.
    pub tls_port: Option<u16>,
    /// Who it is for.
    pub kind: InterfaceKind,
}

/// Who an interface is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceKind {
    /// For people with a browser.
    #[default]
    Ui,
    /// For programs.
    Api,
}

/// What is wrong with a `service.toml`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// It is no TOML, or has a key that does not belong or has a value of the wrong type.
    #[error("service.toml does not parse: {0}")]
    Syntax(String),
    /// A value can't be used.
    #[error("service.toml: {key} is {value:?}, but must be {expected}")]
    Value {
        /// The key, with the names of its tables.
        key: String,
        /// Its value.
        value: String,
        /// What is possible instead.
        expected: &'static str,
    },
    /// Two of a kind have the same name.
    #[error("service.toml: two {what} are called {name:?}; give each a name of its own")]
    Twice {
        /// Of what there are two.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There is nothing to run.
    #[error("service.toml names no daemon; add a [[daemon]] with a name")]
    NoDaemon,
}

impl ServiceSpec {
    /// Parses the text of a `service.toml`.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let file: File = toml::from_str(text)
            .map_err(|e| SpecError::Syntax(e.to_string().trim_end().to_owned()))?;
        if file.daemon.is_empty() {
            return Err(SpecError::NoDaemon);
        }
        unique(
            "daemons",
            file.daemon.iter().map(|daemon| daemon.name.as_str()),
        )?;
        unique(
            "interfaces",
            file.interface.iter().map(|interface| interface.id.as_str()),
        )?;
        Ok(Self {
            daemons: file
                .daemon
                .into_iter()
                .map(daemon)
                .collect::<Result<_, _>>()?,
            interfaces: file
                .interface
                .into_iter()
                .map(interface)
                .collect::<Result<_, _>>()?,
            volumes: volumes(file.volumes)?,
            limits: limits(file.limits)?,
            stop_timeout: match file.stop.timeout {
                Some(text) => duration("stop.timeout", &text, LONGEST_STOP)?,
                None => DEFAULT_STOP,
            },
            health: file.health.map(health).transpose()?,
        })
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    daemon: Vec<DaemonTable>,
    #[serde(default)]
    interface: Vec<InterfaceTable>,
    #[serde(default)]
    volumes: BTreeMap<String, PathBuf>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    stop: StopTable,
    health: Option<HealthTable>,
    #[serde(default, rename = "package")]
    _package: Option<toml::Value>,
    #[serde(default, rename = "image")]
    _image: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DaemonTable {
    name: String,
    image: Option<String>,
    command: Option<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    user: Option<String>,
    workdir: Option<PathBuf>,
    #[serde(default)]
    restart: Restart,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceTable {
    id: String,
    name: Option<String>,
    port: u16,
    tls_port: Option<u16>,
    #[serde(default)]
    kind: InterfaceKind,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    memory: Option<String>,
    pids: Option<u32>,
    cpu: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopTable {
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthTable {
    kind: HealthKind,
    port: u16,
    path: Option<String>,
    interval: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HealthKind {
    Http,
    Tcp,
}

fn daemon(table: DaemonTable) -> Result<DaemonSpec, SpecError> {
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

fn interface(table: InterfaceTable) -> Result<Interface, SpecError> {
    name("interface.id", &table.id)?;
    let key = |key: &str| format!("interface.{key} of {:?}", table.id);
    if table.port == 0 {
        return Err(wrong(key("port"), "0".to_owned(), "a port from 1 to 65535"));
    }
    if let Some(port) = table
        .tls_port
        .filter(|port| OWN_PORTS.contains(port) || *port == 0)
    {
        let expected = "a port from 1 to 65535 that the box does not use itself (22, 53, 80, 443)";
        return Err(wrong(key("tls_port"), port.to_string(), expected));
    }
    Ok(Interface {
        name: table.name.unwrap_or_else(|| table.id.clone()),
        id: table.id,
        port: table.port,
        tls_port: table.tls_port,
        kind: table.kind,
    })
}

fn volumes(table: BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, PathBuf>, SpecError> {
    for (volume, path) in &table {
        name("a name in [volumes]", volume)?;
        let own = OWN_FOLDERS.iter().any(|folder| path.starts_with(folder));
        if !is_inner_path(path) || own {
            let expected = "an absolute path in the container, without '.' and '..', \
                            and not in /proc, /sys, /dev or /.pilot";
            return Err(wrong(
                format!("volumes.{volume}"),
                path.display().to_string(),
                expected,
            ));
        }
    }
    Ok(table)
}

fn limits(table: LimitsTable) -> Result<Limits, SpecError> {
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

fn health(table: HealthTable) -> Result<HealthProbe, SpecError> {
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

/// Names become parts of file names, log prefixes and addresses.
fn name(key: &str, name: &str) -> Result<(), SpecError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !name.is_empty() && name.len() <= 40 && name.bytes().all(good) && !name.starts_with('-') {
        return Ok(());
    }
    let expected = "1 to 40 of a-z, 0-9 and '-', not '-' first";
    Err(wrong(key.to_owned(), name.to_owned(), expected))
}

fn unique<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), SpecError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let name = name.to_owned();
            return Err(SpecError::Twice { what, name });
        }
    }
    Ok(())
}

fn duration(key: &str, text: &str, longest: Duration) -> Result<Duration, SpecError> {
    let units = [("ms", 1), ("s", 1000), ("min", 60_000)];
    with_unit(text, &units)
        .map(Duration::from_millis)
        .filter(|duration| !duration.is_zero() && *duration <= longest)
        .ok_or_else(|| {
            let expected = "a whole number with ms, s or min (\"10s\"), not 0 and not longer than \
                            10min";
            wrong(key.to_owned(), text.to_owned(), expected)
        })
}

fn bytes(key: &str, text: &str) -> Result<u64, SpecError> {
    let units = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    with_unit(text, &units)
        .filter(|bytes| *bytes >= LEAST_MEMORY)
        .ok_or_else(|| {
            let expected = "a whole number with K, M or G (\"256M\"), at least 8M";
            wrong(key.to_owned(), text.to_owned(), expected)
        })
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn is_folder(path: &std::path::Path) -> bool {
    path == std::path::Path::new("/") || is_inner_path(path)
}

fn nul(text: &str) -> bool {
    text.contains('\0')
}

fn wrong(key: String, value: String, expected: &'static str) -> SpecError {
    SpecError::Value {
        key,
        value,
        expected,
    }
}

const DEFAULT_IMAGE: &str = "main";
const INNER_PATH: &str = "an absolute path in the container, without '.' and '..'";

/// Enough for most services of a home server, and a promise that none takes the whole box.
const DEFAULT_MEMORY: u64 = 512 << 20;
/// The agent and a shell need about this much.
const LEAST_MEMORY: u64 = 8 << 20;
const DEFAULT_PIDS: u32 = 512;
const LEAST_PIDS: u32 = 16;
/// More than any kernel of today is built for.
const MOST_CORES: u32 = 1024;

const DEFAULT_STOP: Duration = Duration::from_secs(10);
/// The box is not to wait longer for any service when it goes down.
const LONGEST_STOP: Duration = Duration::from_secs(600);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);
const LONGEST_INTERVAL: Duration = Duration::from_secs(600);

/// Ports of the box itself, now or when it has the service that they are known for.
const OWN_PORTS: [u16; 4] = [22, 53, 80, 443];
/// Made by the container's own start.
const OWN_FOLDERS: [&str; 4] = ["/proc", "/sys", "/dev", "/.pilot"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_spec_has_sensible_defaults() {
        let spec = ServiceSpec::parse("[[daemon]]\nname = 'web'").unwrap();
        assert_eq!(spec.daemons[0].image, "main");
        assert_eq!(spec.daemons[0].restart, Restart::Always);
        assert_eq!(spec.limits.memory_max, Some(512 << 20));
        assert_eq!(spec.stop_timeout, Duration::from_secs(10));
        assert_eq!(
            (spec.health, spec.interfaces.len(), spec.volumes.len()),
            (None, 0, 0)
        );
    }

    #[test]
    fn sizes_and_durations_have_units() {
        for (text, bytes) in [("8M", Some(8 << 20)), ("2 G", Some(2 << 30)), ("99", None)] {
            assert_eq!(super::bytes("k", text).ok(), bytes, "{text}");
        }
        for (text, ms) in [
            ("500ms", Some(500)),
            ("2min", Some(120_000)),
            ("0s", None),
            ("s", None),
        ] {
            let parsed = duration("k", text, LONGEST_STOP).ok();
            assert_eq!(parsed, ms.map(Duration::from_millis), "{text}");
        }
        assert!(bytes("k", "99999999999999999G").is_err(), "no overflow");
    }
}
