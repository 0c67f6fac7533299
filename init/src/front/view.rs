//! The state of the box in the terms of the emergency page.

use std::time::Duration;

use netstack::door::{EmergencyView, LineState, RoleLine};
use supervise::{
    status::{BoxStatus, DataState},
    unit::{UnitInfo, UnitState},
};

/// What the emergency page shows of `status`.
pub(crate) fn emergency(status: &BoxStatus) -> EmergencyView {
    let is_manager = |info: &&UnitInfo| info.unit.as_str() == "manager";
    let mut roles = vec![RoleLine {
        name: "Supervisor (PID 1)".to_owned(),
        state: LineState::Running,
        detail: String::new(),
        for_s: status.uptime.as_secs(),
    }];
    roles.extend(
        status
            .roles
            .iter()
            .filter(|info| !is_manager(info))
            .map(line),
    );
    let notices = status.going_down.iter().cloned();
    EmergencyView {
        hostname: status.hostname.clone(),
        version: status.version.clone(),
        uptime_s: status.uptime.as_secs(),
        control: control(status.roles.iter().find(is_manager), status.manager_silence),
        generation: status
            .roles
            .iter()
            .find(is_manager)
            .map_or(0, |info| info.generation),
        silent_ms: status
            .manager_silence
            .map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)),
        roles,
        services: status.services.iter().map(line).collect(),
        data: data_sentence(&status.data),
        notices: notices
            .chain(status.notices.iter().map(|n| n.text.clone()))
            .collect(),
    }
}

/// One that runs and does not answer is no better than one that does not run.
fn control(manager: Option<&UnitInfo>, silence: Option<Duration>) -> RoleLine {
    let line = manager.map(line).unwrap_or_default();
    match silence {
        Some(silence) if line.state == LineState::Running && silence >= WORTH_A_WORD => RoleLine {
            state: LineState::Degraded,
            for_s: silence.as_secs(),
            ..line
        },
        Some(_) | None => line,
    }
}

fn line(info: &UnitInfo) -> RoleLine {
    let (state, detail) = match &info.state {
        UnitState::BackingOff { retry_in, last } => (
            LineState::Failing,
            format!("{last}; tried again in {} s", retry_in.as_secs()),
        ),
        UnitState::Ended(exit) => (LineState::Failing, exit.to_string()),
        UnitState::Running => (LineState::Running, restarts(info.restarts)),
        UnitState::Stopped => (LineState::Stopped, String::new()),
        UnitState::Stopping => (LineState::Stopped, "ending".to_owned()),
    };
    let name = info
        .unit
        .service_id()
        .unwrap_or(info.unit.as_str())
        .to_owned();
    RoleLine {
        name,
        state,
        detail,
        for_s: info.since.as_secs(),
    }
}

fn restarts(times: u32) -> String {
    match times {
        0 => String::new(),
        1 => "started again once".to_owned(),
        n => format!("started again {n} times"),
    }
}

fn data_sentence(data: &DataState) -> String {
    match data {
        DataState::Absent(why) => format!("The data disk can't be used: {why}"),
        DataState::Hanging(since) => {
            format!("The data disk has not answered for {} s.", since.as_secs())
        }
        DataState::Mounted { total, free } => {
            let (free, total) = (free >> 20, total >> 20);
            format!("The data disk works; {free} of {total} MiB are free.")
        }
        DataState::Pending => "The data disk is being looked for.".to_owned(),
    }
}

/// Shorter silences are those of any program that works hard.
const WORTH_A_WORD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use supervise::unit::Exit;

    use super::*;

    #[test]
    fn a_hanging_disk_and_a_crashed_manager_are_said_plainly() {
        let manager = UnitInfo {
            unit: "manager".parse().unwrap(),
            state: UnitState::BackingOff {
                retry_in: Duration::from_secs(4),
                last: Exit::Signal(9),
            },
            pid: None,
            generation: 3,
            spec_hash: [0; 32],
            restarts: 2,
            since: Duration::from_secs(1),
        };
        let status = BoxStatus {
            data: DataState::Hanging(Duration::from_secs(12)),
            roles: vec![manager],
            ..BoxStatus::default()
        };
        let view = emergency(&status);
        assert_eq!(view.data, "The data disk has not answered for 12 s.");
        assert_eq!(view.control.state, LineState::Failing);
        assert_eq!(
            view.control.detail,
            "killed by signal 9; tried again in 4 s"
        );
        assert_eq!(view.roles.len(), 1);
    }

    #[test]
    fn a_manager_that_runs_and_does_not_answer_is_degraded() {
        let manager = UnitInfo {
            unit: "manager".parse().unwrap(),
            state: UnitState::Running,
            pid: Some(9),
            generation: 3,
            spec_hash: [0; 32],
            restarts: 2,
            since: Duration::from_secs(100),
        };
        let silent = |silence| BoxStatus {
            roles: vec![manager.clone()],
            manager_silence: silence,
            ..BoxStatus::default()
        };
        let view = emergency(&silent(Some(Duration::from_millis(7300))));
        assert_eq!((view.generation, view.silent_ms), (3, Some(7300)));
        assert_eq!(
            (view.control.state, view.control.for_s),
            (LineState::Degraded, 7)
        );
        for fine in [None, Some(Duration::from_millis(300))] {
            assert_eq!(emergency(&silent(fine)).control.state, LineState::Running);
        }
    }
}
