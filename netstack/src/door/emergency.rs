//! The emergency page: what is known about the box when nothing but the door may work.
//!
//! At most [`MAX_PAGE`] bytes, no script, no font, nothing to load: it must open on any browser over
//! any line, with the control service and the data disk both dead. What matters most comes first,
//! and what does not fit is counted rather than shown.
//!
//! Anyone may see it, so it says which parts work and no more: log lines and what the guard saw are
//! for the owner, who says the setup code to the place below [`OWNER_PATHS`].

use std::time::Duration;

use super::{
    page::{STYLE, escape},
    view::{EmergencyView, LineState, RoleLine},
};

/// The page for `view`, which was told `age` ago; without one it says that nothing is known. With
/// `has_owners_part` it asks owners for the setup code.
pub(super) fn page(view: Option<&EmergencyView>, age: Duration, has_owners_part: bool) -> String {
    let hostname = view.map_or("your server", |view| view.hostname.as_str());
    let mut page = Page::begin(hostname, &sentence(view, age));
    if let Some(view) = view {
        page.paragraph(&view.data);
        page.list(
            "Needs you",
            view.notices.iter().map(|notice| escape(notice)),
        );
        page.parts(view, age);
        page.facts(view, age);
    }
    if has_owners_part {
        page.add(OWNER_FORM, 0);
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
            if !self.add(
                &row(line, age),
                TABLE_END.len() + MORE + OWNER_FORM.len() + FACTS,
            ) {
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
/// Bytes that rows leave for version and times.
const FACTS: usize = 200;
/// Where the place is that owners talk to, to look and act and to keep a change of the network.
pub(super) const OWNER_PATHS: [&str; 2] = ["/emergency/", "/net/"];
const OWNER_FORM: &str = "<h2>If this is your server</h2><form method=post action=/emergency/in>\
<label>Setup code <input name=code type=password autocomplete=off required></label> \
<button>See more and restart parts</button></form><p class=f>The server’s own console shows the \
code: type setup-code there.";
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
            generation: 2,
            silent_ms: Some(130_000),
            roles: vec![line("Supervisor (PID 1)", LineState::Running)],
            services: vec![line("demo", LineState::Failing)],
            data: "The data disk has not answered for 12 s.".into(),
            notices: vec!["The clock is <wrong>.".into()],
        }
    }

    #[test]
    fn says_what_is_wrong_and_since_when() {
        let page = page(Some(&view()), Duration::from_secs(4), true);
        for text in [
            "The control service has not answered for 2 min 14 s.",
            "The data disk has not answered for 12 s.",
            "The clock is &lt;wrong&gt;.",
            "⬢ Failing",
            "up for 1 d 1 h",
            "action=/emergency/in",
        ] {
            assert!(page.contains(text), "{text:?} is missing in {page}");
        }
        assert!(!page.contains("<script"));
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
        view.data = long;
        let page = page(Some(&view), Duration::ZERO, true);
        assert!(page.len() <= MAX_PAGE, "{}", page.len());
        assert!(page.ends_with(END));
        assert!(page.contains("more<td>"), "{page}");
        assert!(page.contains("action=/emergency/in"), "{page}");
    }

    #[test]
    fn is_there_before_anything_is_known() {
        let page = page(None, Duration::ZERO, false);
        assert!(page.contains("Nothing is known") && !page.contains("<form"));
    }

    #[test]
    fn times_are_said_in_two_units() {
        let said: Vec<String> = [5, 134, 7300, 200_000].map(duration).into();
        assert_eq!(said, ["5 s", "2 min 14 s", "2 h 1 min", "2 d 7 h"]);
    }
}
