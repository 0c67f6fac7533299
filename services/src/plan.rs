//! What a monitor is to build, in one value: the manager writes it, PID 1 hands it on unread, the
//! monitor does exactly that and knows nothing else about the box.
//!
//! Its bytes are JSON, so that the owner of a broken service can read them; their hash tells PID 1
//! whether a service that runs is still the one that is wanted.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The descriptor on which a monitor finds its plan.
pub const PLAN_FD: i32 = 4;

/// The container to build and what runs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The service's id: a name for files, cgroup and container.
    pub id: String,
    /// The host name inside.
    pub hostname: String,
    /// Where the root file system is from.
    pub image: Image,
    /// The user and group ids of the host that are 0 to 65535 inside.
    pub ids: IdRange,
    /// Its link to the bridge.
    pub network: Network,
    /// The folder for what the container writes outside of its volumes; emptied at each start.
    pub scratch: PathBuf,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// The cgroup below the root of the hierarchy, with PID 1's limits on it; the monitor itself
    /// was started in `monitor` below it, the container goes to `payload`.
    pub cgroup: String,
    /// What the agent is to run.
    pub agent: AgentSpec,
}

/// A squashfs image inside a package file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The package.
    pub package: PathBuf,
    /// The very file that was verified; the monitor takes no other.
    pub identity: FileIdentity,
    /// Where the image begins in it, in bytes; a multiple of 512.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// What changes when a file's content may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last write, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of the inode, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// 65536 user ids (and the same group ids) of the host that belong to one service alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The host's id for the container's 0.
    pub base: u32,
    /// How many.
    pub count: u32,
}

/// The container's link to the services' bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The bridge on the host.
    pub bridge: String,
    /// The name of the host's end of the veth pair.
    pub host_link: String,
    /// The container's address.
    pub address: Ipv4Addr,
    /// Length of the bridge's network prefix, in bits.
    pub prefix: u8,
    /// The box's own address on the bridge.
    pub gateway: Ipv4Addr,
}

impl Network {
    /// The container's hardware address, which follows from its address: the bridge lets no other one
    /// of this container's in.
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c, d] = self.address.octets();
        [2, 0, a, b, c, d]
    }
}

/// A folder that outlives the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// On the host; made if it is not there.
    pub source: PathBuf,
    /// In the container, absolute.
    pub path: PathBuf,
}

/// What the agent runs: the part of the plan that is visible inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// The daemons in the order of their start.
    pub daemons: Vec<Daemon>,
    /// How to tell that the service works.
    pub health: Option<HealthProbe>,
    /// How long all daemons together may take to end after SIGTERM, in milliseconds.
    pub stop_timeout_ms: u32,
}

/// One long-running program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its name in logs.
    pub name: String,
    /// Program and arguments; a program without a slash is looked for in `PATH`.
    pub command: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// `name`, `uid` or `uid:gid`, resolved inside the container; `None` is its root.
    pub user: Option<String>,
    /// Its working folder.
    pub workdir: PathBuf,
    /// Whether it is started again when it ended.
    pub restart: Restart,
}

/// When a daemon is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// However it ended.
    #[default]
    Always,
    /// Unless it ended with exit code 0.
    OnFailure,
    /// Never.
    Never,
}

/// A question asked again and again of the service, from inside its container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProbe {
    /// What is asked.
    pub kind: ProbeKind,
    /// On this TCP port of the container's own loopback address.
    pub port: u16,
    /// Milliseconds between two questions; each may take as long.
    pub interval_ms: u32,
}

/// What a health probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// `GET` of this path must be answered with a status below 400.
    Http(String),
    /// The port must take a connection.
    Tcp,
}

/// A plan can't be written, or bytes are none.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The bytes are of another version, or cut.
    #[error("the monitor's plan does not parse: {0}")]
    Malformed(serde_json::Error),
    /// A path in it is not text.
    #[error("the monitor's plan can't be written: {0}; use plain names for packages and folders")]
    Unwritable(serde_json::Error),
}

impl Plan {
    /// The plan as bytes for the monitor.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanError> {
        serde_json::to_vec(self).map_err(PlanError::Unwritable)
    }

    /// The plan back from its bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PlanError> {
        serde_json::from_slice(bytes).map_err(PlanError::Malformed)
    }

    /// The hash, of [`Self::to_bytes`], by which PID 1 tells whether a running service is this one.
    pub fn hash(bytes: &[u8]) -> [u8; 32] {
        blake3::hash(bytes).into()
    }
}

impl AgentSpec {
    /// The spec as bytes for the agent.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanError> {
        serde_json::to_vec(self).map_err(PlanError::Unwritable)
    }

    /// The spec back from its bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PlanError> {
        serde_json::from_slice(bytes).map_err(PlanError::Malformed)
    }
}

impl FileIdentity {
    /// The identity of the open or named file with this metadata.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000) + rest;
        Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Our own folder in every container.
pub const AGENT_FOLDER: &str = "/.pilot";
/// Where a container finds its agent.
pub const AGENT_PROGRAM: &str = "/.pilot/agent";
/// Where the agent finds its spec.
pub const AGENT_SPEC: &str = "/.pilot/spec.json";
/// Where the agent finds the manager.
pub const AGENT_SOCKET: &str = "/.pilot/run/agent.sock";

/// Whether `path` can be a place inside a container: absolute, without `.` and `..`.
pub fn is_inner_path(path: &Path) -> bool {
    use std::path::Component;
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && components.all(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}
