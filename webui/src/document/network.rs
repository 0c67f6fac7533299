//! The network as it is set, what is being changed, and why the box can or can't be reached.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use supervise::{
    network::{Change, Verdict},
    status::BoxStatus,
};

use super::Mark;
use crate::methods::net::setting;

/// The network.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRow {
    /// What has to work for the box to be reached, in the order in which to look.
    pub findings: Vec<FindingRow>,
    /// How links are set, by their name; those not named are automatic.
    pub settings: BTreeMap<String, Value>,
    /// The change that waits to be confirmed.
    pub change: Option<ChangeRow>,
    /// How the last change ended, as a sentence.
    pub last: Option<String>,
}

/// Something that has to work.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingRow {
    /// What was looked at.
    pub about: String,
    /// How it is.
    pub mark: Mark,
    /// The same in words.
    pub word: &'static str,
    /// What was seen, as a sentence.
    pub evidence: String,
}

/// A change that waits.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRow {
    /// Which link it is about.
    pub link: String,
    /// What is to be, in words.
    pub what: String,
    /// When it is undone by itself, in seconds of the box's uptime.
    pub until: u64,
}

/// The network of this moment.
pub(super) fn network(status: &BoxStatus) -> NetworkRow {
    let network = &status.network;
    let settings = network.settings.iter();
    NetworkRow {
        findings: network
            .findings
            .iter()
            .map(|finding| {
                let (mark, word) = shown(finding.verdict);
                FindingRow {
                    about: finding.about.clone(),
                    mark,
                    word,
                    evidence: finding.evidence.clone(),
                }
            })
            .collect(),
        settings: settings
            .map(|(link, set)| (link.clone(), setting(set)))
            .collect(),
        change: network.change.as_ref().map(change),
        last: network.last.clone(),
    }
}

fn change(change: &Change) -> ChangeRow {
    ChangeRow {
        link: change.link.clone(),
        what: change.wish.to_string(),
        until: change.until.as_secs(),
    }
}

fn shown(verdict: Verdict) -> (Mark, &'static str) {
    match verdict {
        Verdict::Broken => (Mark::Bad, "Does not work"),
        Verdict::Care => (Mark::Care, "Good to know"),
        Verdict::Unknown => (Mark::Off, "Not known"),
        Verdict::Works => (Mark::Ok, "Works"),
    }
}
