//! The lines typed before, and where in them the user is.

use std::collections::VecDeque;

/// Remembers the last lines, and the unfinished one while older ones are looked at.
#[derive(Debug, Default)]
pub(crate) struct History {
    lines: VecDeque<String>,
    /// How many lines back the user is; 0 is the line being typed.
    back: usize,
    unfinished: String,
}

impl History {
    /// Remembers a finished line, unless it is blank or the same as the last one.
    pub(crate) fn add(&mut self, line: &str) {
        self.back = 0;
        if line.trim().is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// The line before the one shown, which is `current`.
    pub(crate) fn older(&mut self, current: &str) -> Option<String> {
        if self.back == self.lines.len() {
            return None;
        }
        if self.back == 0 {
            current.clone_into(&mut self.unfinished);
        }
        self.back += 1;
        self.shown()
    }

    /// The line after the one shown; at the end the unfinished one.
    pub(crate) fn newer(&mut self, _current: &str) -> Option<String> {
        self.back = self.back.checked_sub(1)?;
        self.shown()
    }

    fn shown(&self) -> Option<String> {
        match self.back {
            0 => Some(self.unfinished.clone()),
            back => self.lines.get(self.lines.len() - back).cloned(),
        }
    }
}

/// More than anybody looks back through.
const MAX_LINES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_back_and_forth_and_keeps_the_unfinished_line() {
        let mut history = History::default();
        history.add("one");
        history.add("two");
        history.add("two");
        history.add("  ");
        assert_eq!(history.older("thr").as_deref(), Some("two"));
        assert_eq!(history.older("two").as_deref(), Some("one"));
        assert_eq!(history.older("one"), None);
        assert_eq!(history.newer("one").as_deref(), Some("two"));
        assert_eq!(history.newer("two").as_deref(), Some("thr"));
        assert_eq!(history.newer("thr"), None);
    }

    #[test]
    fn is_bounded() {
        let mut history = History::default();
        (0..1000).for_each(|n| history.add(&n.to_string()));
        let oldest = std::iter::from_fn(|| history.older("")).last();
        assert_eq!(oldest.as_deref(), Some("900"));
    }
}
