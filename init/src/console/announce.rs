//! What is said on the console unasked: boot steps as they end, what broke, where the box answers.
//!
//! Works on snapshots of the status: however late or rarely it sees one, it says each thing once
//! and holds no more than the last snapshot.

use std::{sync::Arc, time::Duration};

use supervise::{
    status::{BoxStatus, DataState, NoticeLevel, StepOutcome, StepReport},
    unit::UnitInfo,
};

use super::views;

/// Remembers what has been said.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    seen: Arc<BoxStatus>,
    /// The running step that was already said to take long.
    slow: Vec<String>,
}

impl Announcer {
    /// Lines to say about `status`, given all that was said before.
    pub(crate) fn lines(&mut self, status: &Arc<BoxStatus>) -> Vec<String> {
        if Arc::ptr_eq(&self.seen, status) {
            return Vec::new();
        }
        let mut lines = self.steps(status);
        lines.extend(self.units(status));
        lines.extend(self.data(status));
        lines.extend(self.notices(status));
        lines.extend(self.addresses(status));
        if status.going_down != self.seen.going_down {
            lines.extend(
                status
                    .going_down
                    .iter()
                    .map(|way| format!("Going down: {way}")),
            );
        }
        self.seen = Arc::clone(status);
        lines
    }

    fn steps(&mut self, status: &BoxStatus) -> Vec<String> {
        let mut lines = Vec::new();
        for (at, step) in status.boot.iter().enumerate() {
            let before = self.seen.boot.get(at).map(|step| &step.outcome);
            if step.outcome == StepOutcome::Running {
                if self.takes_long(step, status.uptime) {
                    lines.push(format!("{} and taking long", views::step(step)));
                }
            } else if before != Some(&step.outcome) {
                lines.push(views::step(step));
            }
        }
        lines
    }

    fn takes_long(&mut self, step: &StepReport, now: Duration) -> bool {
        let said = self.slow.contains(&step.name);
        if said || now.saturating_sub(step.began) < SLOW_STEP {
            return false;
        }
        self.slow.push(step.name.clone());
        true
    }

    fn units(&self, status: &BoxStatus) -> Vec<String> {
        let known: Vec<&UnitInfo> = self.seen.roles.iter().chain(&self.seen.services).collect();
        let now = status.roles.iter().chain(&status.services);
        now.filter_map(|info| {
            let before = known.iter().find(|known| known.unit == info.unit)?;
            (info.restarts > before.restarts).then(|| {
                format!(
                    "{} was started again ({} times in all)",
                    info.unit, info.restarts
                )
            })
        })
        .collect()
    }

    fn data(&self, status: &BoxStatus) -> Option<String> {
        use DataState::{Absent, Hanging, Mounted, Pending};
        let worth_saying = match (&self.seen.data, &status.data) {
            (_, Pending) | (Hanging(_), Hanging(_)) | (Mounted { .. }, Mounted { .. }) => false,
            (Absent(before), Absent(now)) => before != now,
            (_, Absent(_) | Hanging(_) | Mounted { .. }) => true,
        };
        worth_saying.then(|| format!("Data: {}", views::data(&status.data)))
    }

    fn notices(&self, status: &BoxStatus) -> Vec<String> {
        let pressing = status
            .notices
            .iter()
            .filter(|notice| notice.level != NoticeLevel::Info);
        pressing
            .filter(|notice| !self.seen.notices.contains(notice))
            .map(|notice| format!("{}: {}", views::notice_label(notice.level), notice.text))
            .collect()
    }

    fn addresses(&self, status: &BoxStatus) -> Option<String> {
        let urls = views::urls(status);
        let news = urls != views::urls(&self.seen);
        match (news, urls.is_empty()) {
            (true, true) => Some("The network is gone: no link has an address.".to_owned()),
            (true, false) => Some(format!("The dashboard answers at {}", urls.join(" and "))),
            (false, _) => None,
        }
    }
}

/// A step that takes longer is worth a word while it runs.
const SLOW_STEP: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use supervise::status::{LinkSummary, NetSummary, Notice};

    use super::*;

    fn step(outcome: StepOutcome) -> StepReport {
        StepReport {
            name: "mount-data".into(),
            began: Duration::from_secs(1),
            outcome,
        }
    }

    fn said(announcer: &mut Announcer, status: BoxStatus) -> Vec<String> {
        announcer.lines(&Arc::new(status))
    }

    #[test]
    fn a_step_is_said_to_take_long_once_and_to_be_done_once() {
        let mut announcer = Announcer::default();
        let running = |uptime| BoxStatus {
            uptime: Duration::from_secs(uptime),
            boot: vec![step(StepOutcome::Running)],
            ..Default::default()
        };
        let done = BoxStatus {
            boot: vec![step(StepOutcome::Done(Duration::from_secs(9)))],
            ..Default::default()
        };
        assert_eq!(said(&mut announcer, running(2)), Vec::<String>::new());
        assert!(said(&mut announcer, running(5))[0].ends_with("taking long"));
        assert_eq!(said(&mut announcer, running(7)), Vec::<String>::new());
        assert!(said(&mut announcer, done.clone())[0].ends_with("done in 9.000 s"));
        assert_eq!(said(&mut announcer, done), Vec::<String>::new());
    }

    #[test]
    fn what_presses_is_said_once_and_what_does_not_is_left_for_who_asks() {
        let mut announcer = Announcer::default();
        let notice = |level| Notice {
            level,
            text: "The disk is full.".into(),
        };
        let noted = BoxStatus {
            notices: vec![notice(NoticeLevel::Info)],
            ..Default::default()
        };
        let broken = BoxStatus {
            notices: vec![notice(NoticeLevel::Bad)],
            ..Default::default()
        };
        assert_eq!(said(&mut announcer, noted), Vec::<String>::new());
        assert_eq!(
            said(&mut announcer, broken.clone()),
            ["broken: The disk is full."]
        );
        assert_eq!(said(&mut announcer, broken), Vec::<String>::new());
    }

    #[test]
    fn addresses_are_said_when_they_change() {
        let mut announcer = Announcer::default();
        let link = LinkSummary {
            name: "eth0".into(),
            mac: String::new(),
            carrier: true,
            addresses: vec![("10.0.2.15".parse().unwrap(), 24)],
            origin: String::new(),
        };
        let net = NetSummary {
            links: vec![link],
            ..Default::default()
        };
        let online = BoxStatus {
            hostname: "box".into(),
            net,
            ..Default::default()
        };
        let lines = said(&mut announcer, online);
        assert_eq!(
            lines,
            ["The dashboard answers at https://box.local/ and https://10.0.2.15/"]
        );
        assert!(said(&mut announcer, BoxStatus::default())[0].contains("The network is gone"));
    }

    #[test]
    fn a_hanging_disk_is_said_when_it_begins_and_when_it_ends() {
        let mut announcer = Announcer::default();
        let data = |data| BoxStatus {
            data,
            ..Default::default()
        };
        let mounted = DataState::Mounted {
            total: 2 << 30,
            free: 1 << 30,
        };
        assert_eq!(
            said(&mut announcer, data(mounted.clone())),
            ["Data: 1.0 GiB of 2.0 GiB free"]
        );
        let hanging = |s| DataState::Hanging(Duration::from_secs(s));
        assert_eq!(said(&mut announcer, data(hanging(5))).len(), 1);
        assert_eq!(said(&mut announcer, data(hanging(6))), Vec::<String>::new());
        assert_eq!(said(&mut announcer, data(mounted)).len(), 1);
    }
}
