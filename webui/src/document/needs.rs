//! What the owner should look at: the sentence at the page's top is the number of these.

use std::collections::BTreeMap;

use serde::Serialize;
use supervise::{
    status::{BoxStatus, DataState, NoticeLevel, StepOutcome},
    unit::UnitState,
};

use super::{Mark, ServiceRow};

/// One thing that needs the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// `bad` or `care`.
    pub mark: Mark,
    /// What it is about, if that is not part of the text.
    pub subject: Option<String>,
    /// What and why, as a sentence.
    pub text: String,
}

/// Everything that needs the owner, most pressing first.
pub(super) fn find(status: &BoxStatus, services: &BTreeMap<String, ServiceRow>) -> Vec<Need> {
    let mut needs = notices(status);
    for need in data(status)
        .chain(steps(status))
        .chain(roles(status))
        .chain(failing(services))
    {
        // PID 1's own notice about the same trouble says it better.
        if !needs
            .iter()
            .any(|known| known.text.contains(need.text.trim_end_matches('.')))
        {
            needs.push(need);
        }
    }
    needs.sort_by_key(|need| need.mark != Mark::Bad);
    needs
}

fn notices(status: &BoxStatus) -> Vec<Need> {
    let marks = status.notices.iter().filter_map(|notice| {
        let mark = match notice.level {
            NoticeLevel::Bad => Mark::Bad,
            NoticeLevel::Care => Mark::Care,
            NoticeLevel::Info => return None,
        };
        Some(Need {
            mark,
            subject: None,
            text: notice.text.clone(),
        })
    });
    marks.collect()
}

fn data(status: &BoxStatus) -> impl Iterator<Item = Need> {
    let text = match &status.data {
        DataState::Absent(why) => Some(why.clone()),
        DataState::Hanging(_) => Some("It does not answer. What runs goes on.".to_owned()),
        DataState::Mounted { .. } | DataState::Pending => None,
    };
    text.map(|text| Need {
        mark: Mark::Bad,
        subject: Some("Data disk".to_owned()),
        text,
    })
    .into_iter()
}

fn steps(status: &BoxStatus) -> impl Iterator<Item = Need> {
    status.boot.iter().filter_map(|step| match &step.outcome {
        StepOutcome::Failed { why, .. } => Some(Need {
            mark: Mark::Care,
            subject: Some(format!("Startup, {}", step.name)),
            text: why.clone(),
        }),
        StepOutcome::Done(_) | StepOutcome::Running | StepOutcome::Skipped(_) => None,
    })
}

fn roles(status: &BoxStatus) -> impl Iterator<Item = Need> {
    status.roles.iter().filter_map(|role| match &role.state {
        UnitState::BackingOff { last, .. } => Some(Need {
            mark: Mark::Bad,
            subject: Some(role.unit.to_string()),
            text: format!("This part of the server ended ({last}) and is tried again."),
        }),
        UnitState::Ended(exit) => Some(Need {
            mark: Mark::Bad,
            subject: Some(role.unit.to_string()),
            text: format!("This part of the server ended ({exit})."),
        }),
        UnitState::Running | UnitState::Stopping | UnitState::Stopped => None,
    })
}

fn failing(services: &BTreeMap<String, ServiceRow>) -> impl Iterator<Item = Need> {
    services
        .values()
        .filter(|row| matches!(row.mark, Mark::Bad | Mark::Care))
        .map(|row| Need {
            mark: row.mark,
            subject: Some(row.title.clone()),
            text: row.why.clone().unwrap_or_else(|| format!("{}.", row.word)),
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use supervise::status::{Notice, StepReport};

    use super::*;

    fn failed_step(why: &str) -> StepReport {
        StepReport {
            name: "data".to_owned(),
            began: Duration::ZERO,
            outcome: StepOutcome::Failed {
                after: Duration::from_secs(1),
                why: why.to_owned(),
                consequence: "The box goes on without it.".to_owned(),
            },
        }
    }

    #[test]
    fn a_box_that_is_well_needs_nobody() {
        let notices = vec![Notice {
            level: NoticeLevel::Info,
            text: "Up to date.".to_owned(),
        }];
        let status = BoxStatus {
            notices,
            ..BoxStatus::default()
        };
        assert_eq!(find(&status, &BTreeMap::new()), []);
    }

    #[test]
    fn the_most_pressing_is_first_and_nothing_is_said_twice() {
        let status = BoxStatus {
            boot: vec![failed_step("There is no data partition.")],
            data: DataState::Absent("There is no data partition.".to_owned()),
            notices: vec![Notice {
                level: NoticeLevel::Care,
                text: "The clock is wrong.".to_owned(),
            }],
            ..BoxStatus::default()
        };
        let needs = find(&status, &BTreeMap::new());
        let said = needs
            .iter()
            .map(|need| (need.mark, need.text.as_str()))
            .collect::<Vec<_>>();
        let wanted = [
            (Mark::Bad, "There is no data partition."),
            (Mark::Care, "The clock is wrong."),
        ];
        assert_eq!(said, wanted);
    }
}
