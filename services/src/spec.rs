//! `service.toml`: what a package's author says about how the service runs.
//!
//! Parsed, not validated: a [`ServiceSpec`] is right in itself, and what is wrong is a sentence
//! with the key and the remedy. The tables `package` and `image` are the packer's business
//! (where the package's files come from) and are not looked at here.

mod program;
mod quantity;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use supervise::control::Limits;

use self::{quantity::duration, table::File};
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

/// A port of the container that others may use.
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
    /// A port of the box's own that leads here as it is; [`Protocol::Tcp`] and [`Protocol::Udp`]
    /// have one, and no other has.
    pub external_port: Option<u16>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Who it is for.
    pub kind: InterfaceKind,
}

/// What is spoken on an interface's port, and so how the box leads others there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP; the front door speaks TLS for it.
    #[default]
    Http,
    /// Anything over TCP; the kernel forwards a port of the box.
    Tcp,
    /// TLS with a certificate of the service's own; the front door passes it through by the name
    /// that clients ask for.
    Tls,
    /// Anything over UDP; forwarded like TCP.
    Udp,
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
    /// Two interfaces would be had by the service's name.
    #[error(
        "service.toml: the interfaces {one:?} and {other:?} would both be had by the service's name, \
         and one of them with protocol \"tls\"; give one a tls_port"
    )]
    Name {
        /// The one with protocol `tls`.
        one: String,
        /// Another.
        other: String,
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
        let interfaces: Vec<Interface> = file
            .interface
            .into_iter()
            .map(interface)
            .collect::<Result<_, _>>()?;
        disjoint(&interfaces)?;
        Ok(Self {
            daemons: file
                .daemon
                .into_iter()
                .map(program::daemon)
                .collect::<Result<_, _>>()?,
            interfaces,
            volumes: volumes(file.volumes)?,
            limits: program::limits(file.limits)?,
            stop_timeout: match file.stop.timeout {
                Some(text) => duration("stop.timeout", &text, LONGEST_STOP)?,
                None => DEFAULT_STOP,
            },
            health: file.health.map(program::health).transpose()?,
        })
    }
}

fn interface(table: table::InterfaceTable) -> Result<Interface, SpecError> {
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
    external_port(&table)?;
    Ok(Interface {
        external_port: table.external_port,
        protocol: table.protocol,
        name: table.name.unwrap_or_else(|| table.id.clone()),
        id: table.id,
        port: table.port,
        tls_port: table.tls_port,
        kind: table.kind,
    })
}

/// Whether an interface has the ports of the box that its protocol needs, and no others.
fn external_port(table: &table::InterfaceTable) -> Result<(), SpecError> {
    let key = |key: &str| format!("interface.{key} of {:?}", table.id);
    let forwarded = matches!(table.protocol, Protocol::Tcp | Protocol::Udp);
    match (forwarded, table.external_port, table.tls_port) {
        (true, None, _) => {
            let expected = "the box's port from which protocol \"tcp\" or \"udp\" is forwarded";
            Err(wrong(key("external_port"), String::new(), expected))
        }
        (true, Some(port), _) if port == 0 || OWN_FORWARDS.contains(&port) => {
            let expected = "a port from 1 to 65535 that the box does not use itself \
                            (22, 53, 67, 68, 80, 123, 443, 5353, 7780)";
            Err(wrong(key("external_port"), port.to_string(), expected))
        }
        (true, Some(_), Some(port)) => {
            let expected = "left out, as protocol \"tcp\" and \"udp\" do not go by the front door";
            Err(wrong(key("tls_port"), port.to_string(), expected))
        }
        (false, Some(port), _) => {
            let expected = "left out, or the protocol \"tcp\" or \"udp\"";
            Err(wrong(key("external_port"), port.to_string(), expected))
        }
        (true, Some(_), None) | (false, None, _) => Ok(()),
    }
}

/// Whether no two interfaces want the same port of the box, or a name that can't be shared.
fn disjoint(interfaces: &[Interface]) -> Result<(), SpecError> {
    let mut ports = BTreeSet::new();
    for interface in interfaces {
        let udp = interface.protocol == Protocol::Udp;
        let port = interface.external_port.or(interface.tls_port);
        if let Some(port) = port
            && !ports.insert((udp, port))
        {
            let name = format!("{port} of the box");
            let what = "interfaces with a port";
            return Err(SpecError::Twice { what, name });
        }
    }
    let named = |interface: &&Interface| {
        let by_door = matches!(interface.protocol, Protocol::Http | Protocol::Tls);
        by_door && interface.tls_port.is_none()
    };
    let tls = |interface: &&Interface| interface.protocol == Protocol::Tls;
    let Some(one) = interfaces.iter().filter(named).find(tls) else {
        return Ok(());
    };
    match interfaces
        .iter()
        .filter(named)
        .find(|other| other.id != one.id)
    {
        None => Ok(()),
        Some(other) => Err(SpecError::Name {
            one: one.id.clone(),
            other: other.id.clone(),
        }),
    }
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

fn wrong(key: String, value: String, expected: &'static str) -> SpecError {
    SpecError::Value {
        key,
        value,
        expected,
    }
}

const DEFAULT_STOP: Duration = Duration::from_secs(10);
/// The box is not to wait longer for any service when it goes down.
const LONGEST_STOP: Duration = Duration::from_secs(600);

/// Ports of the box itself, now or when it has the service that they are known for.
const OWN_PORTS: [u16; 4] = [22, 53, 80, 443];
/// The same for what is forwarded, whether over TCP or UDP; and the guard's own.
const OWN_FORWARDS: [u16; 9] = [22, 53, 67, 68, 80, 123, 443, 5353, 7780];
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
}
