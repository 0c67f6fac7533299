//! What is shown in the end.

use std::fmt::Write;
use std::time::Duration;

use super::tally::Tally;

/// A line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What was run.
    pub(super) name: String,
    /// How it went.
    pub(super) tally: Tally,
    /// How long it took.
    pub(super) took: Duration,
}

impl Row {
    /// Something that failed before any test could.
    pub(super) fn failed(name: &str, why: &str) -> Self {
        let tally = Tally {
            failed: 1,
            failures: vec![why.lines().collect::<Vec<_>>().join(" ")],
            ..Tally::default()
        };
        Self {
            name: name.into(),
            tally,
            took: Duration::ZERO,
        }
    }

    /// Something that could not be run at all.
    pub(super) fn skipped(name: &str, why: &str) -> Self {
        let tally = Tally {
            skipped: 1,
            skips: vec![why.to_owned()],
            ..Tally::default()
        };
        Self {
            name: name.into(),
            tally,
            took: Duration::ZERO,
        }
    }
}

/// The table, the reasons, and a last line that programs read.
pub(super) fn render(rows: &[Row], took: Duration) -> String {
    let mut text = format!(
        "\n{:<12}{:>8}{:>8}{:>9}{:>10}\n",
        "suite", "passed", "failed", "skipped", "time"
    );
    let mut sum = (0, 0, 0);
    for Row { name, tally, took } in rows {
        let Tally {
            passed,
            failed,
            skipped,
            ..
        } = tally;
        sum = (sum.0 + passed, sum.1 + failed, sum.2 + skipped);
        line(
            &mut text,
            &format!(
                "{name:<12}{passed:>8}{failed:>8}{skipped:>9}{:>10}",
                time(*took)
            ),
        );
    }
    line(&mut text, &format!("{:<37}{:>10}\n", "", time(took)));
    for Row { name, tally, .. } in rows {
        for failure in &tally.failures {
            line(&mut text, &format!("failed   {name}: {failure}"));
        }
        for skip in &tally.skips {
            line(&mut text, &format!("skipped  {name}: {skip}"));
        }
    }
    line(
        &mut text,
        &format!("{} passed, {} failed, {} skipped", sum.0, sum.1, sum.2),
    );
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "{line}");
}

fn time(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1} s", took.as_secs_f64()),
        seconds => format!("{}:{:02} min", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, render};
    use std::time::Duration;

    #[test]
    fn the_last_line_is_the_sum() {
        let rows = [
            Row::failed("box", "no\nkernel"),
            Row::skipped("browser", "no chromium"),
        ];
        let text = render(&rows, Duration::from_secs(61));
        assert_eq!(text.lines().last(), Some("0 passed, 1 failed, 1 skipped"));
        assert!(text.contains("failed   box: no kernel"), "{text}");
        assert!(text.contains("1:01 min"), "{text}");
    }
}
