//! What the dashboard needs of the manager, and the values that pass between the two.

use std::{fmt, future::Future, os::fd::OwnedFd, pin::Pin, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use supervise::{
    control::{Power, Secret},
    network::{ChangeTaken, GeneralSetting, Wish},
    status::BoxStatus,
    unit::UnitName,
};
use tokio::sync::watch;

/// The manager as the dashboard sees it. Refusals are sentences for the owner.
///
/// No method may wait: what takes long is begun, and shows in a later snapshot. Those that ask
/// another process are futures and get a deadline from their caller.
pub trait Host: Send + Sync + 'static {
    /// The state of the box, now and after every change.
    fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>>;

    /// The last `lines` log lines, oldest first, of `unit` or of everything.
    fn logs(&self, unit: Option<UnitName>, lines: usize) -> Asked<'_, Vec<LogLine>>;

    /// Changes a setting of `link`, which may be a service. In a moment; for `seconds` at most,
    /// unless it is confirmed.
    fn set_network(&self, link: String, wish: Wish, seconds: u64) -> Asked<'_, ChangeTaken>;

    /// Sets something of the time or of names, at once.
    fn set_general(&self, setting: GeneralSetting) -> Asked<'_, ()>;

    /// Keeps the change whose token this is; whether that outlives a reboot.
    fn confirm_network(&self, token: Secret) -> Asked<'_, bool>;

    /// Undoes the change that waits to be confirmed.
    fn undo_network(&self) -> Asked<'_, ()>;

    /// Begins to start, stop or restart the service called `id`.
    fn service(&self, id: &str, command: ServiceCommand) -> Result<(), String>;

    /// Begins to turn the box off or to start it again.
    fn power(&self, how: Power) -> Result<(), String>;

    /// Begins to replace one of PID 1's own roles.
    fn restart_role(&self, role: &UnitName) -> Result<(), String>;

    /// Begins to upgrade PID 1 to this program, a memfd. It is verified before anything changes.
    fn upgrade(&self, program: OwnedFd) -> Result<(), String>;

    /// Makes the manager fail in the way called `kind`.
    #[cfg(feature = "fault")]
    fn fault(&self, kind: &str) -> Result<(), String> {
        Err(format!("it can't be made to fail by {kind:?}"))
    }

    /// The code on the box's own console; without one nobody may change anything over the network.
    fn setup_code(&self) -> Option<String>;
}

/// What another process is asked for.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// The state of the box at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What PID 1 publishes. Its uptime is the moment that every `since` is counted back from, the
    /// services' too.
    pub status: BoxStatus,
    /// The services that are installed, as the manager knows them.
    pub services: Vec<ServiceView>,
}

/// One installed service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its id: the unit `service-<id>`, the host name `<id>.<box>.local`.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// Its version.
    pub version: String,
    /// How it is.
    pub state: ServiceState,
    /// Why it is so, as a sentence; must be there when it is degraded or failing.
    pub why: Option<String>,
    /// How long it has been so, if that is known.
    pub since: Option<Duration>,
    /// How often it was started again by itself since the box booted.
    pub restarts: u32,
    /// What of it a browser can open.
    pub interfaces: Vec<Interface>,
}

/// Something of a service that a browser can open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name for people.
    pub name: String,
    /// The door's port for it alone, besides the service's host name.
    pub port: Option<u16>,
    /// Where on the site it begins, with the leading slash.
    pub path: String,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceState {
    /// It runs, but a health check fails.
    Degraded,
    /// It ended by itself or can't be started; it is tried again.
    Failing,
    /// It runs and its checks pass.
    Running,
    /// It is on its way up.
    Starting,
    /// It is not meant to run.
    Stopped,
    /// It is on its way down.
    Stopping,
}

/// What can be asked of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceCommand {
    /// Stop it if it runs, then start it.
    Restart,
    /// Start it, and keep it running.
    Start,
    /// Stop it, and keep it stopped.
    Stop,
}

impl fmt::Display for ServiceCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
        })
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, in milliseconds since 1970 (UTC), if the box knew the time.
    pub at: Option<u64>,
    /// Who said it.
    pub unit: String,
    /// How grave: syslog's 0 to 7, 3 and below are errors (RFC 5424, 6.2.1).
    pub priority: u8,
    /// What was said.
    pub text: String,
}
