//! What PID 1 publishes about the box: the one value behind console, emergency page and dashboard.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{network::NetworkStatus, unit::UnitInfo};

/// The state of the whole box as PID 1 sees it. Published after every change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxStatus {
    /// The host name, without domain.
    pub hostname: String,
    /// Pilotlight's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// Since the kernel started (CLOCK_BOOTTIME).
    pub uptime: Duration,
    /// The steps of this boot in the order they began.
    pub boot: Vec<StepReport>,
    /// PID 1's own roles: front, manager, logd.
    pub roles: Vec<UnitInfo>,
    /// The services that PID 1 runs.
    pub services: Vec<UnitInfo>,
    /// The data file system.
    pub data: DataState,
    /// The network as `net` sees it.
    pub net: NetSummary,
    /// What the owner should know, most pressing first.
    pub notices: Vec<Notice>,
    /// The last log lines, oldest first, for when `logd` itself can't be asked.
    pub log: Vec<String>,
    /// What the guard saw and did.
    pub guard: GuardReport,
    /// What the box is on its way to, once it is going down.
    pub going_down: Option<String>,
    /// For how long the manager has not answered, if it does not.
    pub manager_silence: Option<Duration>,
    /// PID 1 itself.
    pub init: InitStatus,
    /// The name server, as the front sees it.
    pub resolver: ResolverStatus,
    /// The network as it is set, and why the box can or can't be reached.
    pub network: NetworkStatus,
}

/// PID 1 itself: which binary it is, and how often it was executed anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitStatus {
    /// The BLAKE3 hash of the file it runs, in hexadecimal; none for the one in the root.
    pub program: Option<String>,
    /// When it began to run this file, since the kernel started.
    pub since: Duration,
    /// How often PID 1 was executed anew since the box booted.
    pub successions: u64,
    /// How often of these because it crashed.
    pub crashes: u64,
    /// Why it was executed anew the last time, as a sentence.
    pub last: Option<String>,
    /// How many upgrades were asked for since the box booted.
    pub upgrades: u64,
    /// What became of the last of them.
    pub upgrade: UpgradeState,
}

/// How far an upgrade of PID 1 is, or what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpgradeState {
    /// There was none.
    #[default]
    None,
    /// The file is verified and tried.
    Checking,
    /// It was refused: why, as a sentence. Nothing was changed.
    Refused(String),
    /// It runs as PID 1, and has yet to prove itself.
    Unconfirmed {
        /// Its hash.
        program: String,
    },
    /// It did not prove itself: the binary before it runs again.
    FellBack {
        /// Its hash.
        program: String,
        /// What went wrong, as a sentence.
        why: String,
    },
    /// It is confirmed, and the roles that still run the old binary are being replaced.
    Replacing {
        /// Its hash.
        program: String,
        /// How many are left.
        left: u32,
    },
    /// It runs as PID 1 and as every role.
    Done {
        /// Its hash.
        program: String,
    },
}

impl UpgradeState {
    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Checking | Self::Unconfirmed { .. } | Self::Replacing { .. } => false,
            Self::None | Self::Refused(_) | Self::FellBack { .. } | Self::Done { .. } => true,
        }
    }
}

/// What PID 1's guard saw of the roles, and did about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardReport {
    /// How often each step was taken since PID 1 began, for each role.
    pub counts: Vec<GuardCounts>,
    /// The last times that a role was silent, oldest first.
    pub events: Vec<GuardEvent>,
}

/// How often each step of the ladder was taken for a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardCounts {
    /// The role.
    pub role: String,
    /// It was silent for a moment, and was nudged.
    pub nudged: u64,
    /// What its threads did was kept.
    pub evidence: u64,
    /// It was replaced.
    pub replaced: u64,
    /// It failed too often, and was held back.
    pub held_back: u64,
}

/// A silence, and what the role's threads did meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardEvent {
    /// When, since the kernel started.
    pub at: Duration,
    /// Whose.
    pub role: String,
    /// Which run's.
    pub generation: u64,
    /// Whether the run was replaced for it.
    pub replaced: bool,
    /// What was silent and what the threads did, as a sentence.
    pub why: String,
    /// How long it lasted until then.
    pub silence: Duration,
    /// Each thread: number, name, state, where in the kernel it waits, CPU time, stack.
    pub threads: Vec<String>,
}

/// One named step of the boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step's name, as on console and in the log.
    pub name: String,
    /// When it began, since the kernel started.
    pub began: Duration,
    /// How it went so far.
    pub outcome: StepOutcome,
}

/// How a boot step went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepOutcome {
    /// Done, after this long.
    Done(Duration),
    /// Failed: why, and what the box does about it.
    Failed {
        /// How long it took to fail.
        after: Duration,
        /// What went wrong, as a sentence.
        why: String,
        /// What the box does instead, as a sentence.
        consequence: String,
    },
    /// Still at it.
    Running,
    /// Not needed here: why.
    Skipped(String),
}

/// The data file system's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataState {
    /// There is none, or it can't be used: why.
    Absent(String),
    /// It has not answered a small write for this long.
    Hanging(Duration),
    /// Mounted and writable.
    Mounted {
        /// Bytes in all.
        total: u64,
        /// Bytes free.
        free: u64,
    },
    /// Not looked for yet.
    #[default]
    Pending,
}

/// The network in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetSummary {
    /// The links, the services' own left out.
    pub links: Vec<LinkSummary>,
    /// The default gateway, if any.
    pub gateway: Option<IpAddr>,
    /// Name servers in the order of their use.
    pub dns: Vec<IpAddr>,
}

/// One link in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSummary {
    /// The interface's name.
    pub name: String,
    /// The hardware address, as text.
    pub mac: String,
    /// Whether a cable (or its like) is there.
    pub carrier: bool,
    /// Addresses with prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where the address is from, as a sentence: "DHCP from 10.0.2.2, renewed in 12 h".
    pub origin: String,
}

/// The box's name server, since the front began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverStatus {
    /// Whom it asks, in the order of their use.
    pub servers: Vec<ResolverServer>,
    /// Questions of all kinds.
    pub questions: u64,
    /// Answered from what is kept.
    pub from_cache: u64,
    /// Answered with what is out of date, as nobody could be asked.
    pub stale: u64,
    /// Answered by itself: services' names.
    pub own: u64,
    /// Given to others, or joined with what was.
    pub forwarded: u64,
    /// Not answered, as nobody knew or could be asked.
    pub failed: u64,
    /// Refused: of clients or kinds that are not served.
    pub refused: u64,
    /// Answers that are kept.
    pub kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
}

/// Somebody whom the box's name server asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverServer {
    /// Where.
    pub address: SocketAddr,
    /// Whether by TLS.
    pub tls: bool,
    /// About which domain's names; `None` is all.
    pub domain: Option<String>,
    /// For how long it has not answered, if it does not.
    pub silent_for: Option<Duration>,
    /// How long its answers take.
    pub round_trip: Option<Duration>,
    /// How often it answered.
    pub answers: u64,
    /// How often it did not, in time.
    pub silences: u64,
    /// How often something came in place of its answer.
    pub forged: u64,
}

/// Something the owner should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// How pressing.
    pub level: NoticeLevel,
    /// What and why, as a sentence.
    pub text: String,
}

/// How pressing a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NoticeLevel {
    /// Something is broken.
    Bad,
    /// The owner should do something.
    Care,
    /// Worth knowing; never badges.
    Info,
}
