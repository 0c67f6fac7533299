//! PID 1 itself, as JSON.

use std::time::Duration;

use serde_json::{Value, json};
use supervise::status::{BoxStatus, UpgradeState};

/// Which binary it is, and what came of the last upgrade.
pub(super) fn status(status: &BoxStatus) -> Value {
    let init = &status.init;
    json!({
        "version": status.version,
        "program": init.program,
        "sinceMs": millis(init.since),
        "uptimeMs": millis(status.uptime),
        "successions": init.successions,
        "crashes": init.crashes,
        "last": init.last,
        "upgrades": init.upgrades,
        "upgrade": upgrade(&init.upgrade),
    })
}

fn upgrade(state: &UpgradeState) -> Value {
    let over = state.is_over();
    match state {
        UpgradeState::None => json!({ "state": "none", "over": over }),
        UpgradeState::Checking => json!({ "state": "checking", "over": over }),
        UpgradeState::Refused(why) => json!({ "state": "refused", "over": over, "why": why }),
        UpgradeState::Unconfirmed { program } => {
            json!({ "state": "unconfirmed", "over": over, "program": program })
        }
        UpgradeState::FellBack { program, why } => {
            json!({ "state": "fell back", "over": over, "program": program, "why": why })
        }
        UpgradeState::Replacing { program, left } => {
            json!({ "state": "replacing", "over": over, "program": program, "left": left })
        }
        UpgradeState::Done { program } => {
            json!({ "state": "done", "over": over, "program": program })
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use supervise::status::InitStatus;

    use super::*;

    #[test]
    fn an_upgrade_that_was_taken_back_says_why() {
        let state = UpgradeState::FellBack {
            program: "abc".to_owned(),
            why: "it hung".to_owned(),
        };
        let told = status(&BoxStatus {
            init: InitStatus {
                upgrades: 3,
                upgrade: state,
                ..InitStatus::default()
            },
            ..BoxStatus::default()
        });
        assert_eq!(told["upgrades"], 3);
        assert_eq!(told["upgrade"]["why"], "it hung");
        assert_eq!(told["upgrade"]["over"], true);
    }
}
