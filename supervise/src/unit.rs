//! A unit: one process that PID 1 (or a container's agent) keeps alive or runs once.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// The name of a unit: `front`, `manager`, `logd`, `helper-mount-data`, `service-<id>`.
///
/// 1 to 64 bytes of `[a-z0-9.-]`, beginning with a letter or digit, so that it can be a cgroup's
/// and a log file's name as it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitName(String);

impl UnitName {
    /// The unit of the service called `id`: `service-<id>`.
    pub fn service(id: &str) -> Result<Self, BadUnitName> {
        format!("{SERVICE_PREFIX}{id}").parse()
    }

    /// The service's id if this unit is a service.
    pub fn service_id(&self) -> Option<&str> {
        self.0.strip_prefix(SERVICE_PREFIX)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnitName {
    type Err = BadUnitName;

    fn from_str(name: &str) -> Result<Self, BadUnitName> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let first = name.bytes().next();
        if name.len() > MAX_NAME
            || !first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            || !name.bytes().all(allowed)
        {
            return Err(BadUnitName(name.chars().take(MAX_NAME).collect()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for UnitName {
    type Error = BadUnitName;

    fn try_from(name: String) -> Result<Self, BadUnitName> {
        name.parse()
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that can't be a unit's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no unit name: use 1 to 64 of a-z, 0-9, '-' and '.', a letter or digit first")]
pub struct BadUnitName(String);

/// Where a unit is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnitState {
    /// It ended and is held back until the back-off has run out.
    BackingOff {
        /// How long until the next start.
        retry_in: Duration,
        /// How the last run ended.
        last: Exit,
    },
    /// It ended and is not to be started again.
    Ended(Exit),
    /// Its process lives.
    Running,
    /// It was told to end and has not yet.
    Stopping,
    /// It was never started, or was stopped on request.
    Stopped,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It called `exit` with this code.
    Code(i32),
    /// It could not be started: the `errno` of the step that failed.
    NotStarted(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether it ended by itself and said that all was well.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::NotStarted(errno) => {
                write!(
                    f,
                    "not started: {}",
                    std::io::Error::from_raw_os_error(*errno)
                )
            }
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// One unit as PID 1's process table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitInfo {
    /// The unit's name.
    pub unit: UnitName,
    /// Where it is in its life.
    pub state: UnitState,
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Counts starts; a message about an earlier run is recognised by it.
    pub generation: u64,
    /// Hash of the spec it was started with; zeroes for PID 1's own roles.
    pub spec_hash: [u8; 32],
    /// How often it was started again since the box booted.
    pub restarts: u32,
    /// How long it has been in `state`.
    pub since: Duration,
}

const SERVICE_PREFIX: &str = "service-";
/// Leaves room for a prefix in a 255-byte file name.
const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_file_names() {
        for good in ["front", "service-demo", "a.b-c", "0"] {
            assert_eq!(good.parse::<UnitName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "a/b",
            "A",
            "a b",
            "a\0",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_service_unit_gives_its_id_back() {
        assert_eq!(
            UnitName::service("demo").unwrap().service_id(),
            Some("demo")
        );
        assert_eq!("front".parse::<UnitName>().unwrap().service_id(), None);
    }

    #[test]
    fn exits_read_as_sentences() {
        assert_eq!(Exit::Code(3).to_string(), "exit code 3");
        assert_eq!(Exit::Signal(9).to_string(), "killed by signal 9");
        assert!(Exit::NotStarted(2).to_string().contains("No such file"));
    }
}
