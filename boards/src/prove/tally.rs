//! Reads how tests went out of what cargo prints, line by line.

/// How many passed, failed and were skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Tests that ran and held.
    pub(super) passed: usize,
    /// Tests that did not, or could not be built.
    pub(super) failed: usize,
    /// Tests that did not run.
    pub(super) skipped: usize,
    /// Names of those that failed.
    pub(super) failures: Vec<String>,
    /// Names of those that were skipped, and why.
    pub(super) skips: Vec<String>,
}

impl Tally {
    /// Takes one line of cargo's into account.
    pub(super) fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.passed += count(rest, "passed");
            self.failed += count(rest, "failed");
            self.skipped += count(rest, "ignored");
        } else if let Some(why) = line.trim_start().strip_prefix("SKIPPED: ") {
            self.skips.push(why.to_owned());
        } else if let Some((name, outcome)) = test(line) {
            match outcome {
                "FAILED" => self.failures.push(name.to_owned()),
                outcome if outcome.starts_with("ignored") => {
                    let why = outcome
                        .split_once(", ")
                        .map_or("--long runs it", |(_, why)| why);
                    self.skips.push(format!("{name}: {why}"));
                }
                _ => {}
            }
        }
    }

    /// When all is read: tests that said they could not run count as passed to cargo, not to us.
    pub(super) fn settled(mut self) -> Self {
        let said = self
            .skips
            .len()
            .saturating_sub(self.skipped)
            .min(self.passed);
        self.passed -= said;
        self.skipped += said;
        self
    }
}

/// Name and outcome in `test name ... outcome`.
pub(super) fn test(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.rsplit_once(" ... ")
}

fn count(line: &str, what: &str) -> usize {
    let before = line.split(what).next().unwrap_or_default();
    let number = before
        .trim_end()
        .rsplit([' ', ';', '.'])
        .next()
        .unwrap_or_default();
    number.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.line(line));
        tally.settled()
    }

    #[test]
    fn several_programs_results_add_up() {
        let tally = tally(
            "test a ... ok\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
             test b::c ... FAILED\n\
             test result: FAILED. 20 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.skipped), (21, 1, 0));
        assert_eq!(tally.failures, ["b::c"]);
    }

    #[test]
    fn a_test_that_says_it_was_skipped_did_not_pass() {
        let tally = tally(
            "test a ... ok\n\
             test b ... ignored, takes an hour\n\
             SKIPPED: a: needs root\n\
             test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.skipped), (0, 0, 2));
        assert_eq!(tally.skips, ["b: takes an hour", "a: needs root"]);
    }
}
