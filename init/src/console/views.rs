//! The box's status as text for people at a terminal.

mod net;

use std::{fmt::Write as _, net::IpAddr, time::Duration};

use supervise::{
    status::{BoxStatus, DataState, LinkSummary, NoticeLevel, StepOutcome, StepReport},
    unit::{UnitInfo, UnitState},
};

pub(crate) use self::net::net;

/// The box at a glance.
pub(crate) fn status(status: &BoxStatus) -> String {
    let mut text = format!("{}, up {}\n", version(status), span(status.uptime));
    field(&mut text, "data", &data(&status.data));
    let links: Vec<_> = status.net.links.iter().map(link_in_short).collect();
    field(&mut text, "network", &or(links.join(", "), "no link"));
    field(
        &mut text,
        "dashboard",
        &or(urls(status).join("  "), "no address yet"),
    );
    field(
        &mut text,
        "processes",
        &or(units_in_short(&status.roles), "none yet"),
    );
    field(
        &mut text,
        "services",
        &or(units_in_short(&status.services), "none"),
    );
    if let Some(step) = status
        .boot
        .iter()
        .find(|step| step.outcome == StepOutcome::Running)
    {
        let so_far = status.uptime.saturating_sub(step.began);
        field(
            &mut text,
            "booting",
            &format!("{}, for {} now", step.name, span(so_far)),
        );
    }
    for notice in &status.notices {
        field(&mut text, notice_label(notice.level), &notice.text);
    }
    if let Some(way) = &status.going_down {
        field(&mut text, "going down", way);
    }
    text
}

/// Services and roles, one a line.
pub(crate) fn services(status: &BoxStatus) -> String {
    let mut text = String::new();
    for info in status.services.iter().chain(&status.roles) {
        let pid = info
            .pid
            .map_or_else(String::new, |pid| format!("pid {pid}"));
        let name = info.unit.service_id().unwrap_or(info.unit.as_str());
        let kind = if info.unit.service_id().is_some() {
            "service"
        } else {
            "role"
        };
        let _ = writeln!(
            text,
            "{name:<20} {kind:<8} {:<40} {pid:<10} for {}, restarts {}",
            state(&info.state),
            span(info.since),
            info.restarts
        );
    }
    or(
        text,
        "No process of the box's own and no service is known yet.\n",
    )
}

/// What the guard saw of each role, and did about it.
pub(crate) fn guard(status: &BoxStatus) -> String {
    let mut text = String::new();
    for counts in &status.guard.counts {
        let _ = writeln!(
            text,
            "{:<10} silent {} times, replaced {}, held back {}",
            counts.role, counts.nudged, counts.replaced, counts.held_back
        );
    }
    for event in &status.guard.events {
        let done = if event.replaced { ", replaced" } else { "" };
        let _ = writeln!(
            text,
            "{} ago  {} {}{done}: {}",
            span(status.uptime.saturating_sub(event.at)),
            event.role,
            event.generation,
            event.why
        );
        for thread in &event.threads {
            let _ = writeln!(text, "    {thread}");
        }
    }
    or(text, "The guard has seen nothing yet.\n")
}

/// The steps of this boot.
pub(crate) fn boot(status: &BoxStatus) -> String {
    let steps: String = status
        .boot
        .iter()
        .map(|step| self::step(step) + "\n")
        .collect();
    or(steps, "No step has begun.\n")
}

/// One step of the boot on one line.
pub(crate) fn step(step: &StepReport) -> String {
    let how = match &step.outcome {
        StepOutcome::Done(after) => format!("done in {} s", seconds(*after)),
        StepOutcome::Failed {
            after,
            why,
            consequence,
        } => {
            format!("FAILED after {} s: {why} {consequence}", seconds(*after))
        }
        StepOutcome::Running => "running".to_owned(),
        StepOutcome::Skipped(why) => format!("skipped: {why}"),
    };
    format!("[{:>12}] {:<20} {how}", seconds(step.began), step.name)
}

/// What runs here.
pub(crate) fn version(status: &BoxStatus) -> String {
    let version = or(status.version.clone(), env!("CARGO_PKG_VERSION"));
    let name = or(status.hostname.clone(), "a box without a name yet");
    format!(
        "Pilotlight {version} on {name}, Linux {}",
        or(status.kernel.clone(), "of unknown version")
    )
}

/// The addresses that a browser can open.
pub(crate) fn urls(status: &BoxStatus) -> Vec<String> {
    let addresses = status.net.links.iter().filter(|link| link.carrier);
    let reachable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        // Browsers take no link-local address with its zone.
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let mut urls: Vec<_> = addresses
        .flat_map(|link| &link.addresses)
        .filter(|(ip, _)| reachable(ip))
        .map(|(ip, _)| match ip {
            IpAddr::V4(ip) => format!("https://{ip}/"),
            IpAddr::V6(ip) => format!("https://[{ip}]/"),
        })
        .collect();
    if !urls.is_empty() && !status.hostname.is_empty() {
        urls.insert(0, format!("https://{}.local/", status.hostname));
    }
    urls
}

/// The data file system in a few words.
pub(crate) fn data(data: &DataState) -> String {
    match data {
        DataState::Absent(why) => format!("not there: {why}"),
        DataState::Hanging(since) => format!("the disk has not answered for {}", span(*since)),
        DataState::Mounted { total, free } => format!("{} of {} free", bytes(*free), bytes(*total)),
        DataState::Pending => "not looked for yet".to_owned(),
    }
}

/// A unit's state in a few words.
pub(crate) fn state(state: &UnitState) -> String {
    match state {
        UnitState::BackingOff { retry_in, last } => {
            format!("held back for {} ({last})", span(*retry_in))
        }
        UnitState::Ended(exit) => format!("ended ({exit})"),
        UnitState::Running => "running".to_owned(),
        UnitState::Stopping => "stopping".to_owned(),
        UnitState::Stopped => "stopped".to_owned(),
    }
}

/// Seconds with the milliseconds, as `12.345`.
pub(crate) fn seconds(span: Duration) -> String {
    format!("{}.{:03}", span.as_secs(), span.subsec_millis())
}

/// A time as people say it: `12 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn span(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A size as people read it: `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}

/// What a notice is announced as.
pub(crate) fn notice_label(level: NoticeLevel) -> &'static str {
    match level {
        NoticeLevel::Bad => "broken",
        NoticeLevel::Care => "to do",
        NoticeLevel::Info => "note",
    }
}

fn link_in_short(link: &LinkSummary) -> String {
    let addresses: Vec<_> = link
        .addresses
        .iter()
        .map(|(ip, _)| ip.to_string())
        .collect();
    let carrier = if link.carrier {
        "no address"
    } else {
        "no cable"
    };
    format!("{} {}", link.name, or(addresses.join(" "), carrier))
}

fn units_in_short(units: &[UnitInfo]) -> String {
    let units: Vec<_> = units
        .iter()
        .map(|info| {
            let name = info.unit.service_id().unwrap_or(info.unit.as_str());
            format!("{name} {}", state(&info.state))
        })
        .collect();
    units.join(", ")
}

fn field(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<11} {value}");
}

fn or(text: String, instead: &str) -> String {
    if text.is_empty() {
        instead.to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{super::commands::NetView, *};

    #[test]
    fn spans_and_sizes_read_as_people_say_them() {
        let spans = [
            (7, "7 s"),
            (192, "3 min 12 s"),
            (7_500, "2 h 5 min"),
            (273_600, "3 d 4 h"),
        ];
        for (s, said) in spans {
            assert_eq!(span(Duration::from_secs(s)), said);
        }
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1536 << 20), "1.5 GiB");
    }

    #[test]
    fn a_box_of_which_nothing_is_known_is_described_plainly() {
        let nothing = BoxStatus::default();
        let text =
            status(&nothing) + &services(&nothing) + &net(&nothing, NetView::All) + &boot(&nothing);
        for said in [
            "without a name",
            "not looked for yet",
            "no address yet",
            "No network card",
        ] {
            assert!(text.contains(said), "{said:?} is missing in {text}");
        }
    }

    #[test]
    fn a_failed_step_says_what_the_box_does_about_it() {
        let failed = StepReport {
            name: "mount-data".into(),
            began: Duration::from_millis(1500),
            outcome: StepOutcome::Failed {
                after: Duration::from_millis(20),
                why: "There is no partition `pilot-data`.".into(),
                consequence: "The box runs without services.".into(),
            },
        };
        let text = step(&failed);
        assert!(
            text.contains("FAILED after 0.020 s: There is no partition"),
            "{text}"
        );
        assert!(text.ends_with("The box runs without services."), "{text}");
    }
}
