//! The JSON document that the page shows, made from the host's snapshot.
//!
//! It says when things began, never how long they have lasted, so that a box where nothing happens
//! sends nothing: the page counts time by itself from the uptime in each heartbeat.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::Value;
use supervise::{
    status::{BoxStatus, DataState, GuardEvent, LinkSummary, NoticeLevel, StepOutcome, StepReport},
    unit::{UnitInfo, UnitState},
};

use crate::{
    host::{ServiceState, ServiceView, Snapshot},
    metrics::Metrics,
};

mod needs;
mod network;
mod rows;

pub use needs::Need;
pub use network::{ChangeRow, FindingRow, NetworkRow};
pub use rows::{DataRow, LinkRow, Machine, Mark, RoleRow, ServiceRow, SilenceRow, StepRow};

/// Everything the page shows but the log.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The box itself.
    #[serde(rename = "box")]
    pub machine: Machine,
    /// What the owner should look at, most pressing first. Empty: all is well.
    pub needs: Vec<Need>,
    /// The services by id.
    pub services: BTreeMap<String, ServiceRow>,
    /// PID 1's own roles.
    pub roles: Vec<RoleRow>,
    /// The steps of this boot in the order they began.
    pub boot: Vec<StepRow>,
    /// The links with their addresses.
    pub links: Vec<LinkRow>,
    /// How the network is set, and why the box can or can't be reached.
    pub network: NetworkRow,
    /// When a part was silent, and what the guard saw and did; the last first.
    pub silences: Vec<SilenceRow>,
    /// What is worth knowing and needs nobody.
    pub notices: Vec<String>,
    /// Load and memory, if the kernel told.
    pub metrics: Option<Metrics>,
}

impl Document {
    /// Makes the document of one moment.
    pub fn new(snapshot: &Snapshot, metrics: Option<Metrics>) -> Self {
        let status = &snapshot.status;
        let services = services(snapshot);
        Self {
            machine: machine(status),
            needs: needs::find(status, &services),
            services,
            roles: status
                .roles
                .iter()
                .map(|unit| role(unit, status.uptime))
                .collect(),
            boot: status.boot.iter().map(step).collect(),
            links: status.net.links.iter().map(link).collect(),
            network: network::network(status),
            silences: status.guard.events.iter().rev().map(silence).collect(),
            notices: info(status),
            metrics,
        }
    }

    /// The same as JSON.
    pub(crate) fn into_value(self) -> Value {
        // Only a map with keys that are no strings could fail, and there is none.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }
}

fn machine(status: &BoxStatus) -> Machine {
    Machine {
        name: status.hostname.clone(),
        version: status.version.clone(),
        kernel: status.kernel.clone(),
        going_down: status.going_down.clone(),
        data: data(&status.data),
        gateway: status.net.gateway.map(|address| address.to_string()),
        dns: status.net.dns.iter().map(ToString::to_string).collect(),
    }
}

fn data(state: &DataState) -> DataRow {
    let (mark, word) = match state {
        DataState::Absent(why) => (Mark::Bad, why.clone()),
        // Not for how long: that would change with every snapshot.
        DataState::Hanging(_) => (Mark::Bad, "The data disk does not answer.".to_owned()),
        DataState::Mounted { .. } => (Mark::Ok, "Mounted".to_owned()),
        DataState::Pending => (Mark::Wait, "Not looked for yet".to_owned()),
    };
    let (total, free) = match state {
        DataState::Mounted { total, free } => (Some(*total), Some(free / MIB * MIB)),
        DataState::Absent(_) | DataState::Hanging(_) | DataState::Pending => (None, None),
    };
    DataRow {
        mark,
        word,
        total,
        free,
    }
}

/// What the manager knows, and what only PID 1's table has: with its store gone the manager knows
/// nothing, and the services run all the same.
fn services(snapshot: &Snapshot) -> BTreeMap<String, ServiceRow> {
    let uptime = snapshot.status.uptime;
    let units = snapshot.status.services.iter();
    let mut rows = units
        .filter_map(|unit| {
            Some((
                unit.unit.service_id()?.to_owned(),
                running_unit(unit, uptime),
            ))
        })
        .collect::<BTreeMap<_, _>>();
    rows.extend(
        snapshot
            .services
            .iter()
            .map(|view| (view.id.clone(), service(view, uptime))),
    );
    rows
}

fn service(view: &ServiceView, uptime: Duration) -> ServiceRow {
    let (mark, word) = match view.state {
        ServiceState::Degraded => (Mark::Care, "Running, with trouble"),
        ServiceState::Failing => (Mark::Bad, "Failing"),
        ServiceState::Running => (Mark::Ok, "Running"),
        ServiceState::Starting => (Mark::Wait, "Starting"),
        ServiceState::Stopped => (Mark::Off, "Stopped"),
        ServiceState::Stopping => (Mark::Wait, "Stopping"),
    };
    ServiceRow {
        title: view.title.clone(),
        version: Some(view.version.clone()),
        mark,
        word,
        why: view.why.clone(),
        since: view.since.map(|since| began(uptime, since)),
        restarts: view.restarts,
        wanted: !matches!(view.state, ServiceState::Stopped | ServiceState::Stopping),
        interfaces: view.interfaces.clone(),
    }
}

fn running_unit(unit: &UnitInfo, uptime: Duration) -> ServiceRow {
    let (mark, word, why) = unit_state(&unit.state);
    ServiceRow {
        title: unit
            .unit
            .service_id()
            .unwrap_or(unit.unit.as_str())
            .to_owned(),
        version: None,
        mark,
        word,
        why,
        since: Some(began(uptime, unit.since)),
        restarts: unit.restarts,
        wanted: !matches!(unit.state, UnitState::Stopped | UnitState::Stopping),
        interfaces: Vec::new(),
    }
}

fn role(unit: &UnitInfo, uptime: Duration) -> RoleRow {
    let (mark, word, why) = unit_state(&unit.state);
    RoleRow {
        name: unit.unit.to_string(),
        mark,
        word,
        why,
        since: began(uptime, unit.since),
        restarts: unit.restarts,
    }
}

fn unit_state(state: &UnitState) -> (Mark, &'static str, Option<String>) {
    match state {
        UnitState::BackingOff { last, .. } => (
            Mark::Bad,
            "Failing",
            Some(format!("It ended ({last}) and is tried again.")),
        ),
        UnitState::Ended(exit) if exit.success() => (Mark::Off, "Ended", None),
        UnitState::Ended(exit) => (
            Mark::Bad,
            "Ended",
            Some(format!("It ended ({exit}) and is not tried again.")),
        ),
        UnitState::Running => (Mark::Ok, "Running", None),
        UnitState::Stopping => (Mark::Wait, "Stopping", None),
        UnitState::Stopped => (Mark::Off, "Stopped", None),
    }
}

fn step(report: &StepReport) -> StepRow {
    let (mark, took, why, consequence) = match &report.outcome {
        StepOutcome::Done(took) => (Mark::Ok, Some(took), None, None),
        StepOutcome::Failed {
            after,
            why,
            consequence,
        } => (
            Mark::Bad,
            Some(after),
            Some(why.clone()),
            Some(consequence.clone()),
        ),
        StepOutcome::Running => (Mark::Wait, None, None, None),
        StepOutcome::Skipped(why) => (Mark::Off, None, Some(why.clone()), None),
    };
    StepRow {
        name: report.name.clone(),
        mark,
        began_ms: millis(report.began),
        took_ms: took.copied().map(millis),
        why,
        consequence,
    }
}

fn link(link: &LinkSummary) -> LinkRow {
    let address = |(address, prefix): &(std::net::IpAddr, u8)| format!("{address}/{prefix}");
    LinkRow {
        name: link.name.clone(),
        mac: link.mac.clone(),
        carrier: link.carrier,
        addresses: link.addresses.iter().map(address).collect(),
        origin: link.origin.clone(),
    }
}

fn silence(event: &GuardEvent) -> SilenceRow {
    let (mark, word) = if event.replaced {
        (Mark::Care, "Replaced")
    } else {
        (Mark::Ok, "Went on by itself")
    };
    SilenceRow {
        role: event.role.clone(),
        generation: event.generation,
        mark,
        word,
        at_ms: millis(event.at),
        silence_ms: millis(event.silence),
        why: event.why.clone(),
        threads: event.threads.clone(),
    }
}

fn info(status: &BoxStatus) -> Vec<String> {
    let notices = status
        .notices
        .iter()
        .filter(|notice| notice.level == NoticeLevel::Info);
    notices.map(|notice| notice.text.clone()).collect()
}

/// The second of uptime at which something that has lasted for `since` began.
///
/// Rounded, not cut: two snapshots taken a few milliseconds apart shall agree.
fn began(uptime: Duration, since: Duration) -> u64 {
    uptime
        .saturating_sub(since)
        .saturating_add(Duration::from_millis(500))
        .as_secs()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Finer than that, free space would change with every line of the log.
const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use supervise::unit::{Exit, UnitName};

    use super::*;

    fn unit(name: UnitName, state: UnitState) -> UnitInfo {
        let since = Duration::from_secs(5);
        UnitInfo {
            unit: name,
            state,
            pid: Some(9),
            generation: 1,
            spec_hash: [0; 32],
            restarts: 0,
            since,
        }
    }

    #[test]
    fn a_service_that_only_pid_1_knows_is_shown() {
        let known = UnitName::service("demo").unwrap();
        let state = UnitState::BackingOff {
            retry_in: Duration::from_secs(3),
            last: Exit::Signal(9),
        };
        let status = BoxStatus {
            services: vec![unit(known, state)],
            ..BoxStatus::default()
        };
        let document = Document::new(
            &Snapshot {
                status,
                services: Vec::new(),
            },
            None,
        );
        let row = &document.services["demo"];
        assert_eq!((row.mark, row.wanted), (Mark::Bad, true));
        assert!(row.why.as_deref().unwrap().contains("killed by signal 9"));
    }

    #[test]
    fn the_last_silence_comes_first_and_says_what_came_of_it() {
        let event = |seconds, replaced| GuardEvent {
            at: Duration::from_secs(seconds),
            role: "manager".to_owned(),
            generation: 1,
            replaced,
            why: "its pool ran no task".to_owned(),
            silence: Duration::from_millis(612),
            threads: Vec::new(),
        };
        let mut status = BoxStatus::default();
        status.guard.events = vec![event(60, false), event(70, true)];
        let services = Vec::new();
        let rows = Document::new(&Snapshot { status, services }, None).silences;
        let told: Vec<_> = rows.iter().map(|row| (row.at_ms, row.word)).collect();
        assert_eq!(told, [(70_000, "Replaced"), (60_000, "Went on by itself")]);
    }

    #[test]
    fn time_passing_alone_changes_nothing() {
        let at = |seconds: u64| {
            let mut role = unit("front".parse().unwrap(), UnitState::Running);
            role.since = Duration::from_secs(seconds - 10);
            let status = BoxStatus {
                uptime: Duration::from_secs(seconds),
                roles: vec![role],
                data: DataState::Hanging(Duration::from_secs(seconds)),
                ..BoxStatus::default()
            };
            let document = Document::new(
                &Snapshot {
                    status,
                    services: Vec::new(),
                },
                None,
            );
            serde_json::to_value(document).unwrap()
        };
        assert_eq!(at(60), at(61));
    }
}
