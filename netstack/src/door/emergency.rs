//! The emergency page: what is known about the box when nothing but the door may work.
//!
//! At most [`MAX_PAGE`] bytes, no script, no font, nothing to load: it must open on any browser over
//! any line, with the control service and the data disk both dead. What matters most comes first,
//! and what does not fit is counted rather than shown.

use std::time::Duration;

use super::{
    page::{STYLE, escape},
    view::{BootLine, EmergencyView, LineState, RoleLine},
};

/// The page for `view`, which was told `age` ago; without one it says that nothing is known.
pub(super) fn page(view: Option<&EmergencyView>, age: Duration) -> String {
    let hostname = view.map_or("your server", |view| view.hostname.as_str());
    let mut page = Page::begin(hostname, &sentence(view, age));
    if let Some(view) = view {
        page.paragraph(&view.data);
        page.list(
            "Needs you",
            view.notices.iter().map(|notice| escape(notice)),
        );
        page.parts(view, age);
        let failed = view.boot.iter().filter(|step| !step.failure.is_empty());
        page.list("This start of the server", failed.map(boot_line));
        page.list(
            "Parts that stopped working",
            view.guard.iter().map(|event| escape(event)),
        );
        page.facts(view, age);
        page.log(&view.log);
    }
    page.end()
}

/// The page's first sentence, which other pages quote; HTML.
pub(super) fn sentence(view: Option<&EmergencyView>, age: Duration) -> String {
    let Some(view) = view else {
        return "Nothing is known about the control service yet.".into();
    };
    let time = duration(view.control.for_s + age.as_secs());
    let start = match view.control.state {
        LineState::Running => format!("The control service is running, for {time}."),
        LineState::Starting => format!("The control service has been starting for {time}."),
        LineState::Degraded => format!("The control service has not answered for {time}."),
        LineState::Failing => format!("The control service has been failing for {time}."),
        LineState::Stopped => format!("The control service has been stopped for {time}."),
    };
    let detail = escape(&view.control.detail);
    let space = if detail.is_empty() { "" } else { " " };
    format!("{start}{space}{detail}")
}

/// The page as far as it is written, with room kept for its end.
struct Page {
    html: String,
}

impl Page {
    fn begin(hostname: &str, sentence: &str) -> Self {
        let hostname = escape(hostname);
        Self {
            html: format!(
                "<!doctype html><html lang=en><meta charset=utf-8>\
                 <meta name=viewport content=\"width=device-width\">\
                 <title>Status of {hostname}</title><style>{STYLE}{TABLE_STYLE}</style><main>\
                 <h1>Status of {hostname}</h1><p class=n>{sentence} This page is made by a separate \
                 part of the system that is still working. <a href=/emergency>Look again</a> · \
                 <a href=/>Dashboard</a>"
            ),
        }
    }

    fn end(mut self) -> String {
        self.html.push_str(END);
        self.html
    }

    /// Adds `html` if it fits, with `reserve` bytes kept for what must follow it.
    fn add(&mut self, html: &str, reserve: usize) -> bool {
        let fits = self.html.len() + html.len() + reserve + END.len() <= MAX_PAGE;
        if fits {
            self.html.push_str(html);
        }
        fits
    }

    fn paragraph(&mut self, text: &str) {
        if !text.is_empty() {
            self.add(&format!("<p>{}", escape(&shortened(text))), 0);
        }
    }

    fn parts(&mut self, view: &EmergencyView, age: Duration) {
        let head = "<table><tr><th>Part<th>State<th>For";
        if !self.add(head, TABLE_END.len() + MORE) {
            return;
        }
        let rows: Vec<&RoleLine> = std::iter::once(&view.control)
            .chain(&view.roles)
            .chain(
                view.services
                    .iter()
                    .filter(|line| line.state != LineState::Running),
            )
            .chain(
                view.services
                    .iter()
                    .filter(|line| line.state == LineState::Running),
            )
            .collect();
        for (index, line) in rows.iter().enumerate() {
            if !self.add(&row(line, age), TABLE_END.len() + MORE + LOG_SHARE) {
                let more = format!("<tr><td>and {} more<td><td>", rows.len() - index);
                self.add(&more, TABLE_END.len());
                break;
            }
        }
        self.add(TABLE_END, 0);
    }

    fn list(&mut self, title: &str, items: impl Iterator<Item = String>) {
        let mut items = items.peekable();
        if items.peek().is_none() || !self.add(&format!("<h2>{title}</h2><ul>"), LIST_END.len()) {
            return;
        }
        for item in items.take(MAX_ITEMS) {
            self.add(&format!("<li>{}", shortened(&item)), LIST_END.len());
        }
        self.add(LIST_END, 0);
    }

    fn facts(&mut self, view: &EmergencyView, age: Duration) {
        let facts = format!(
            "<p class=f>Pilotlight {}, up for {}. Told {} ago.",
            escape(&view.version),
            duration(view.uptime_s + age.as_secs()),
            duration(age.as_secs()),
        );
        self.add(&facts, 0);
    }

    /// The newest lines that fit, oldest first.
    fn log(&mut self, lines: &[String]) {
        let (start, end) = ("<h2>Last messages</h2><pre>", "</pre>");
        let used = self.html.len() + start.len() + end.len() + END.len();
        let mut room = MAX_PAGE.saturating_sub(used);
        let mut shown: Vec<String> = Vec::new();
        for line in lines.iter().rev() {
            let line = escape(&shortened(line)) + "\n";
            let Some(left) = room.checked_sub(line.len()) else {
                break;
            };
            room = left;
            shown.push(line);
        }
        if !shown.is_empty() {
            shown.reverse();
            self.add(&[start, &shown.concat(), end].concat(), 0);
        }
    }
}

fn row(line: &RoleLine, age: Duration) -> String {
    let class = match line.state {
        LineState::Running => "ok",
        LineState::Failing => "bad",
        LineState::Degraded | LineState::Starting => "care",
        LineState::Stopped => "",
    };
    let detail = escape(&shortened(&line.detail));
    let colon = if detail.is_empty() { "" } else { ": " };
    format!(
        "<tr><td>{}<td class={class:?}>{} {}{colon}{detail}<td>{}",
        escape(&shortened(&line.name)),
        line.state.glyph(),
        line.state.word(),
        duration(line.for_s + age.as_secs()),
    )
}

fn boot_line(step: &BootLine) -> String {
    format!("{}: {}", escape(&step.name), escape(&step.failure))
}

/// At most [`MAX_TEXT`] characters of `text`.
fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_TEXT {
        return text.to_owned();
    }
    text.chars().take(MAX_TEXT - 1).chain(['…']).collect()
}

/// A time as people say it: its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// The most bytes that the page may have, so that it opens over any line.
pub(super) const MAX_PAGE: usize = 4096;
/// The most characters of one text: a sentence.
const MAX_TEXT: usize = 120;
/// The most items of a list; what is wrong first is at the top.
const MAX_ITEMS: usize = 4;
/// Bytes that rows leave for the last log lines.
const LOG_SHARE: usize = 700;
/// Bytes for the row that counts what is not shown.
const MORE: usize = 48;
const TABLE_END: &str = "</table>";
const LIST_END: &str = "</ul>";
const END: &str = "</main></html>";
const TABLE_STYLE: &str = ".n{border-left:4px solid var(--care);background:var(--c);\
padding:12px}h2{font-size:19px}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
padding:4px 8px 4px 0;border-bottom:1px solid var(--l)}.ok{color:var(--ok)}.bad{color:var(--bad)}\
.care{color:var(--care)}.f{color:var(--j)}pre{font-size:13px;white-space:pre-wrap}";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, state: LineState) -> RoleLine {
        RoleLine {
            name: name.into(),
            state,
            for_s: 130,
            ..RoleLine::default()
        }
    }

    fn view() -> EmergencyView {
        EmergencyView {
            hostname: "otter".into(),
            version: "0.1.0".into(),
            uptime_s: 90_000,
            control: line("Control service", LineState::Degraded),
            roles: vec![line("Supervisor (PID 1)", LineState::Running)],
            services: vec![line("demo", LineState::Failing)],
            boot: vec![BootLine {
                name: "data".into(),
                failure: "There is no data disk. Nothing is kept.".into(),
            }],
            data: "The data disk has not answered for 12 s.".into(),
            notices: vec!["The clock is <wrong>.".into()],
            guard: vec!["The manager was replaced 4 s ago: its pool ran no task.".into()],
            log: (0..500).map(|n| format!("line {n} of the log")).collect(),
        }
    }

    #[test]
    fn says_what_is_wrong_and_since_when() {
        let page = page(Some(&view()), Duration::from_secs(4));
        for text in [
            "The control service has not answered for 2 min 14 s.",
            "The data disk has not answered for 12 s.",
            "The clock is &lt;wrong&gt;.",
            "The manager was replaced 4 s ago",
            "⬢ Failing",
            "data: There is no data disk.",
            "up for 1 d 1 h",
            "line 499 of the log",
        ] {
            assert!(page.contains(text), "{text:?} is missing in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("line 0 of"));
        assert!(page.len() <= MAX_PAGE, "{}", page.len());
    }

    #[test]
    fn keeps_its_size_whatever_it_is_told() {
        let long = "<'\"&>".repeat(500);
        let mut view = view();
        let wrong = RoleLine {
            name: long.clone(),
            detail: long.clone(),
            ..RoleLine::default()
        };
        view.roles = vec![wrong.clone(); 30];
        view.services = vec![line("calm", LineState::Running); 300];
        view.notices = vec![long.clone(); 30];
        view.data = long.clone();
        view.log = vec![long; 30];
        let page = page(Some(&view), Duration::ZERO);
        assert!(page.len() <= MAX_PAGE, "{}", page.len());
        assert!(page.ends_with(END));
        assert!(page.contains("more<td>"), "{page}");
    }

    #[test]
    fn is_there_before_anything_is_known() {
        assert!(page(None, Duration::ZERO).contains("Nothing is known"));
    }

    #[test]
    fn times_are_said_in_two_units() {
        let said: Vec<String> = [5, 134, 7300, 200_000].map(duration).into();
        assert_eq!(said, ["5 s", "2 min 14 s", "2 h 1 min", "2 d 7 h"]);
    }
}
