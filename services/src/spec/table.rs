//! `service.toml` as it is written, key by key. A key that is not here does not belong.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{InterfaceKind, Protocol, Restart};

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) daemon: Vec<DaemonTable>,
    #[serde(default)]
    pub(super) interface: Vec<InterfaceTable>,
    #[serde(default)]
    pub(super) volumes: BTreeMap<String, PathBuf>,
    #[serde(default)]
    pub(super) limits: LimitsTable,
    #[serde(default)]
    pub(super) stop: StopTable,
    pub(super) health: Option<HealthTable>,
    #[serde(default, rename = "package")]
    pub(super) _package: Option<toml::Value>,
    #[serde(default, rename = "image")]
    pub(super) _image: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DaemonTable {
    pub(super) name: String,
    pub(super) image: Option<String>,
    pub(super) command: Option<Vec<String>>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    pub(super) user: Option<String>,
    pub(super) workdir: Option<PathBuf>,
    #[serde(default)]
    pub(super) restart: Restart,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InterfaceTable {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) port: u16,
    pub(super) tls_port: Option<u16>,
    pub(super) external_port: Option<u16>,
    #[serde(default)]
    pub(super) protocol: Protocol,
    #[serde(default)]
    pub(super) kind: InterfaceKind,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) memory: Option<String>,
    pub(super) pids: Option<u32>,
    pub(super) cpu: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StopTable {
    pub(super) timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthTable {
    pub(super) kind: HealthKind,
    pub(super) port: u16,
    pub(super) path: Option<String>,
    pub(super) interval: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum HealthKind {
    Http,
    Tcp,
}
