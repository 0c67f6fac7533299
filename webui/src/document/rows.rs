//! The document's parts, as the page reads them.

use serde::Serialize;

use crate::host::Interface;

/// The box itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The host name.
    pub name: String,
    /// Pilotlight's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// What the box is on its way to, once it is going down.
    pub going_down: Option<String>,
    /// The data file system.
    pub data: DataRow,
    /// The default gateway.
    pub gateway: Option<String>,
    /// The name servers.
    pub dns: Vec<String>,
}

/// A thing's state as a colour and a shape; a word always stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Failing.
    Bad,
    /// Not as it should be.
    Care,
    /// Stopped, and meant to be.
    Off,
    /// As it should be.
    Ok,
    /// On its way.
    Wait,
}

/// The data file system.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataRow {
    /// How it is.
    pub mark: Mark,
    /// The same in words.
    pub word: String,
    /// Bytes in all, if it is mounted.
    pub total: Option<u64>,
    /// Bytes free, if it is mounted.
    pub free: Option<u64>,
}

/// One service.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// Its name for people.
    pub title: String,
    /// Its version, if it is known.
    pub version: Option<String>,
    /// How it is.
    pub mark: Mark,
    /// The same in words.
    pub word: &'static str,
    /// Why it is so.
    pub why: Option<String>,
    /// Since when, in seconds of the box's uptime, if that is known.
    pub since: Option<u64>,
    /// How often it was started again by itself.
    pub restarts: u32,
    /// Whether it is meant to run, so that stopping it makes sense.
    pub wanted: bool,
    /// What of it a browser can open.
    pub interfaces: Vec<Interface>,
}

/// One of PID 1's roles.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleRow {
    /// Its unit's name.
    pub name: String,
    /// How it is.
    pub mark: Mark,
    /// The same in words.
    pub word: &'static str,
    /// Why it is so.
    pub why: Option<String>,
    /// Since when, in seconds of the box's uptime.
    pub since: u64,
    /// How often it was started again.
    pub restarts: u32,
}

/// One step of the boot.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRow {
    /// Its name.
    pub name: String,
    /// How it went.
    pub mark: Mark,
    /// When it began, in milliseconds of the box's uptime.
    pub began_ms: u64,
    /// How long it took, in milliseconds, once it is over.
    pub took_ms: Option<u64>,
    /// Why it failed or was left out.
    pub why: Option<String>,
    /// What the box does instead.
    pub consequence: Option<String>,
}

/// One time that a part of the box was silent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SilenceRow {
    /// Whose silence.
    pub role: String,
    /// Which run's, from 1.
    pub generation: u64,
    /// What came of it.
    pub mark: Mark,
    /// The same in words.
    pub word: &'static str,
    /// When it was noticed, in milliseconds of the box's uptime.
    pub at_ms: u64,
    /// How long it lasted until then, in milliseconds.
    pub silence_ms: u64,
    /// What was silent and what the threads did, as a sentence.
    pub why: String,
    /// Each thread as it was: its state, where it waited, its CPU time, its stack.
    pub threads: Vec<String>,
}

/// One link.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkRow {
    /// The interface's name.
    pub name: String,
    /// The hardware address.
    pub mac: String,
    /// Whether a cable, or its like, is there.
    pub carrier: bool,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Where the addresses are from, as a sentence.
    pub origin: String,
}
