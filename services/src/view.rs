//! A service as its owner sees it: one word for its state and one sentence why.

use std::{net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};
use supervise::unit::{UnitInfo, UnitState};

use crate::{
    package::Package,
    registry::Desired,
    report::{AgentReport, DaemonState, Health},
    spec::Protocol,
};

/// One service on the dashboard and in the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its id, or the package's file name where it has none.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its version; empty if unknown.
    pub version: String,
    /// How it is.
    pub state: ServiceState,
    /// Why, as a sentence; empty when there is nothing to explain.
    pub why: String,
    /// How long it has been so.
    pub since: Option<Duration>,
    /// Its address on the services' network.
    pub address: Option<Ipv4Addr>,
    /// What it offers to the network.
    pub ports: Vec<PortView>,
    /// How often it, or a daemon in it, was started again.
    pub restarts: u32,
    /// The last answer of its health probe.
    pub health: Option<Health>,
    /// Whether it is to run.
    pub desired: Desired,
    /// What of the box it asks for and does not get, as a sentence.
    pub refused: Option<String>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    /// The interface's name.
    pub name: String,
    /// The port in the container.
    pub port: u16,
    /// The port on the box's own front door, if it has one.
    pub tls_port: Option<u16>,
    /// Whether a browser can open it.
    pub is_web: bool,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// It ended and is started again after a while.
    BackingOff,
    /// It can't run as it is.
    Refused,
    /// It runs, and answers if it can be asked.
    Running,
    /// It is on its way up.
    Starting,
    /// It was not to run, and does not.
    Stopped,
    /// It is on its way down.
    Stopping,
    /// It runs, but does not work as it should.
    Unhealthy,
}

/// The last report of a service's agent, and how old it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it said.
    pub report: AgentReport,
    /// How long ago.
    pub age: Duration,
}

impl ServiceState {
    /// The state as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::BackingOff => "backing-off",
            Self::Refused => "refused",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
            Self::Stopping => "stopping",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl ServiceView {
    /// A package that can't run, with the reason.
    pub fn refused(id: &str, title: &str, why: String) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            version: String::new(),
            state: ServiceState::Refused,
            why,
            since: None,
            address: None,
            ports: Vec::new(),
            restarts: 0,
            health: None,
            desired: Desired::Run,
            refused: None,
        }
    }

    /// A service with what PID 1 and its agent say of it.
    pub fn new(
        package: &Package,
        address: Ipv4Addr,
        desired: Desired,
        unit: Option<&UnitInfo>,
        heard: Option<&Heard>,
    ) -> Self {
        let (state, why) = judge(desired, unit, heard);
        let port = |interface: &crate::spec::Interface| PortView {
            name: interface.name.clone(),
            port: interface.port,
            tls_port: interface.tls_port,
            is_web: matches!(interface.protocol, Protocol::Http | Protocol::Tls),
        };
        let daemons = heard
            .map(|heard| heard.report.daemons.as_slice())
            .unwrap_or_default();
        Self {
            id: package.id.clone(),
            title: package.title.clone(),
            version: package.version.clone(),
            state,
            why,
            since: unit.map(|unit| unit.since),
            address: Some(address),
            ports: package.spec.interfaces.iter().map(port).collect(),
            restarts: unit.map_or(0, |unit| unit.restarts)
                + daemons.iter().map(|daemon| daemon.restarts).sum::<u32>(),
            health: heard.and_then(|heard| {
                let health = heard.report.health.clone()?;
                Some(Health {
                    age: health.age + heard.age,
                    ..health
                })
            }),
            desired,
            refused: None,
        }
    }
}

fn judge(
    desired: Desired,
    unit: Option<&UnitInfo>,
    heard: Option<&Heard>,
) -> (ServiceState, String) {
    let state = unit.map(|unit| &unit.state);
    match (desired, state) {
        (Desired::Run, None | Some(UnitState::Stopped)) => {
            (ServiceState::Starting, "waiting to be started".to_owned())
        }
        (Desired::Stopped, None | Some(UnitState::Stopped | UnitState::Ended(_))) => {
            (ServiceState::Stopped, "stopped by its owner".to_owned())
        }
        (Desired::Run, Some(UnitState::Ended(exit))) => {
            (ServiceState::Stopped, format!("it ended: {exit}"))
        }
        (_, Some(UnitState::Stopping)) => (ServiceState::Stopping, String::new()),
        (_, Some(UnitState::BackingOff { retry_in, last })) => {
            let seconds = retry_in.as_secs_f32();
            let why = format!("its last run: {last}; the next start is in {seconds:.0} s");
            (ServiceState::BackingOff, why)
        }
        (_, Some(UnitState::Running)) => judge_running(heard),
    }
}

fn judge_running(heard: Option<&Heard>) -> (ServiceState, String) {
    let Some(heard) = heard else {
        return (
            ServiceState::Starting,
            "its container has not reported yet".to_owned(),
        );
    };
    if heard.age > SILENCE {
        let seconds = heard.age.as_secs();
        let why = format!("its container has not reported for {seconds} s");
        return (ServiceState::Unhealthy, why);
    }
    let report = &heard.report;
    if report.stopping {
        return (ServiceState::Stopping, String::new());
    }
    if let Some(daemon) = report
        .daemons
        .iter()
        .find(|d| d.state != DaemonState::Running)
    {
        let last = daemon.last_exit.as_deref().unwrap_or("not started yet");
        let (state, what) = match daemon.state {
            DaemonState::BackingOff => (ServiceState::BackingOff, "is held back"),
            DaemonState::Ended | DaemonState::Running => (ServiceState::Unhealthy, "ended"),
        };
        return (state, format!("its daemon {} {what}: {last}", daemon.name));
    }
    match &report.health {
        Some(health) if health.age + heard.age > SILENCE_OF_PROBE => (
            ServiceState::Unhealthy,
            "its health probe gets no answer any more".to_owned(),
        ),
        Some(health) if !health.healthy => (ServiceState::Unhealthy, health.detail.clone()),
        Some(_) | None => (ServiceState::Running, String::new()),
    }
}

/// Agents report every five seconds; three missed are no accident.
const SILENCE: Duration = Duration::from_secs(16);
/// A probe may pause and then wait for ten minutes each, as `service.toml` allows.
const SILENCE_OF_PROBE: Duration = Duration::from_secs(1300);
