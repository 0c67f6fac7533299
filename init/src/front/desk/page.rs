//! What owners see: the guard's evidence, what this start of the box said, and the last log lines.

use std::time::Duration;

use netstack::door::{STYLE, escape};
use supervise::{
    control::Act,
    network::Finding,
    status::{BoxStatus, GuardEvent, StepOutcome, StepReport},
};

use super::message::Answer;

/// The page that says what is wrong with a request: a plain sentence.
pub(super) fn trouble(status: u16, sentence: &str) -> Answer {
    let sentence = escape(sentence);
    let main = format!("<h1>{sentence}</h1><p><a href=/emergency>Back</a>");
    Answer::html(status, document("Not done", &main))
}

/// What is shown once an owner's wish is being done.
pub(super) fn done(act: Act) -> String {
    let (title, more) = match act {
        Act::Leave => ("You are out.", ""),
        Act::Reboot => (
            "The server is being restarted.",
            "It stops your services first, so this may take a minute or two.",
        ),
        Act::RestartManager => (
            "The control service is being restarted.",
            "Your services go on meanwhile.",
        ),
    };
    let main = format!("<h1>{title}</h1><p>{more} <a href=/emergency/owner>Look again</a>");
    document(title, &main)
}

/// All that PID 1 said `age` ago. `token` makes the page's forms good for one use.
pub(super) fn owners(status: &BoxStatus, age: Duration, token: &str) -> String {
    let hostname = escape(&status.hostname);
    let mut main = format!(
        "<h1>{hostname}, for its owner</h1><p>Told {} s ago. <a href=/emergency/owner>Look \
         again</a> · <a href=/emergency>Status</a>",
        age.as_secs()
    );
    for (path, label) in [
        ("restart-manager", "Restart the control service"),
        ("reboot", "Restart the server"),
        ("out", "Leave"),
    ] {
        main.push_str(&format!(
            "<form method=post action=/emergency/{path}><input type=hidden name=token \
             value={token}><button>{label}</button></form>"
        ));
    }
    list(
        &mut main,
        "Needs you",
        status.notices.iter().map(|notice| escape(&notice.text)),
    );
    let network = &status.network;
    let found = network.findings.iter().map(finding);
    let last = network.last.iter().map(|last| escape(last));
    list(&mut main, "The network", found.chain(last));
    list(
        &mut main,
        "This start of the server",
        status.boot.iter().filter_map(failure),
    );
    let counts = status.guard.counts.iter().map(|counts| {
        format!(
            "{}: silent for a moment {} times, evidence kept {} times, replaced {} times, held \
             back {} times",
            escape(&counts.role),
            counts.nudged,
            counts.evidence,
            counts.replaced,
            counts.held_back
        )
    });
    list(&mut main, "What the guard did", counts);
    for event in status.guard.events.iter().rev() {
        main.push_str(&evidence(event, status.uptime));
    }
    lines(&mut main, "Last messages", &status.log);
    document(&format!("{hostname}, for its owner"), &main)
}

/// What was looked at, how it is, and what was seen.
fn finding(finding: &Finding) -> String {
    let how = finding.verdict.word();
    let (about, evidence) = (escape(&finding.about), escape(&finding.evidence));
    format!("{about} ({how}): {evidence}")
}

fn evidence(event: &GuardEvent, uptime: Duration) -> String {
    let ago = uptime.saturating_sub(event.at).as_secs();
    let done = if event.replaced {
        "was replaced"
    } else {
        "was silent"
    };
    let mut html = format!(
        "<h2>The {} {done} {ago} s ago</h2><p>Run {}, silent for {} ms: {}.",
        escape(&event.role),
        event.generation,
        event.silence.as_millis(),
        escape(&event.why)
    );
    if !event.threads.is_empty() {
        html.push_str("<pre>");
        for thread in &event.threads {
            html.push_str(&escape(thread));
            html.push('\n');
        }
        html.push_str("</pre>");
    }
    html
}

fn failure(step: &StepReport) -> Option<String> {
    match &step.outcome {
        StepOutcome::Failed {
            why, consequence, ..
        } => Some(escape(&format!("{}: {why}. {consequence}", step.name))),
        StepOutcome::Done(_) | StepOutcome::Running | StepOutcome::Skipped(_) => None,
    }
}

fn list(to: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let items: String = items.map(|item| format!("<li>{item}")).collect();
    if !items.is_empty() {
        to.push_str(&format!("<h2>{title}</h2><ul>{items}</ul>"));
    }
}

fn lines(to: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    to.push_str(&format!("<h2>{title}</h2><pre>"));
    for line in lines {
        to.push_str(&escape(line));
        to.push('\n');
    }
    to.push_str("</pre>");
}

/// A whole page of this HTML.
pub(super) fn document(title: &str, main: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}h2{{font-size:19px}}form{{display:inline-block;margin-right:8px}}\
         pre{{font-size:13px;white-space:pre-wrap}}</style><main>{main}</main></html>"
    )
}

#[cfg(test)]
mod tests {
    use supervise::{network::Verdict, status::GuardReport};

    use super::*;

    #[test]
    fn the_network_is_shown_as_it_was_found_and_as_text() {
        let finding = |about: &str, verdict, evidence: &str| Finding {
            about: about.into(),
            verdict,
            evidence: evidence.into(),
        };
        let mut status = BoxStatus::default();
        assert!(!owners(&status, Duration::ZERO, "00").contains("The network"));
        status.network.findings = vec![
            finding("cable", Verdict::Works, "eth0: a cable is there."),
            finding("gateway", Verdict::Broken, "<192.168.1.1> does not answer."),
        ];
        status.network.last = Some("The change of eth0 was undone.".into());
        let page = owners(&status, Duration::ZERO, "00");
        for told in [
            "<li>cable (works): eth0: a cable is there.",
            "<li>gateway (broken): &lt;192.168.1.1&gt; does not answer.",
            "<li>The change of eth0 was undone.",
        ] {
            assert!(page.contains(told), "{told:?} is missing in {page}");
        }
    }

    #[test]
    fn evidence_is_shown_newest_first_and_as_text() {
        let event = |at: u64, why: &str| GuardEvent {
            at: Duration::from_secs(at),
            role: "manager".into(),
            generation: 2,
            replaced: true,
            why: why.into(),
            silence: Duration::from_millis(700),
            threads: vec!["12 pool-<0> S futex_wait".into()],
        };
        let status = BoxStatus {
            uptime: Duration::from_secs(100),
            guard: GuardReport {
                counts: Vec::new(),
                events: vec![event(10, "its <pool> ran no task"), event(90, "the second")],
            },
            ..BoxStatus::default()
        };
        let page = owners(&status, Duration::ZERO, "00");
        let first = page.find("its &lt;pool&gt; ran no task").unwrap();
        assert!(page.find("the second").unwrap() < first, "{page}");
        assert!(page.contains("was replaced 10 s ago") && page.contains("pool-&lt;0&gt; S futex"));
    }
}
