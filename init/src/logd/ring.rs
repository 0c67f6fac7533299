//! The last lines of everybody, in memory, in a bounded number of bytes.
//!
//! When it is full, the unit that holds the most gives its oldest line up: who floods the log
//! pushes out its own lines, and what a quiet unit said last stays.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use supervise::{
    log_query::{LogLine, Query},
    unit::UnitName,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    units: BTreeMap<UnitName, Lines>,
    bytes: usize,
    limit: usize,
}

impl Ring {
    /// Holds up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            units: BTreeMap::new(),
            bytes: 0,
            limit,
        }
    }

    /// Adds a line with a number higher than all before it.
    pub(crate) fn push(&mut self, line: Arc<LogLine>) {
        let lines = self.units.entry(line.unit.clone()).or_default();
        lines.bytes += cost(&line);
        self.bytes += cost(&line);
        lines.queue.push_back(line);
        self.shrink();
    }

    /// Adds lines from before all others, oldest first, as far as there is room without giving up
    /// newer ones.
    pub(crate) fn put_before(&mut self, lines: Vec<LogLine>) {
        for line in lines.into_iter().rev() {
            if self.bytes + cost(&line) > self.limit {
                return;
            }
            let lines = self.units.entry(line.unit.clone()).or_default();
            lines.bytes += cost(&line);
            self.bytes += cost(&line);
            lines.queue.push_front(Arc::new(line));
        }
    }

    /// What the query asks for, oldest first.
    pub(crate) fn select(&self, query: &Query) -> Vec<Arc<LogLine>> {
        let wanted = query.lines as usize;
        let units = self
            .units
            .iter()
            .filter(|(unit, _)| query.unit.as_ref().is_none_or(|u| u == *unit));
        let mut lines: Vec<_> = units
            .flat_map(|(_, lines)| {
                let newest_first = lines.queue.iter().rev();
                newest_first
                    .filter(|line| line.level <= query.level)
                    .take(wanted)
                    .cloned()
            })
            .collect();
        lines.sort_unstable_by_key(|line| line.number);
        lines.split_off(lines.len().saturating_sub(wanted))
    }

    /// All lines with this number or a higher one, oldest first.
    pub(crate) fn since(&self, number: u64) -> Vec<Arc<LogLine>> {
        let all = self.units.values().flat_map(|lines| &lines.queue);
        let mut lines: Vec<_> = all.filter(|line| line.number >= number).cloned().collect();
        lines.sort_unstable_by_key(|line| line.number);
        lines
    }

    fn shrink(&mut self) {
        while self.bytes > self.limit {
            let Some(largest) = self.units.values_mut().max_by_key(|lines| lines.bytes) else {
                return;
            };
            let Some(oldest) = largest.queue.pop_front() else {
                return;
            };
            largest.bytes -= cost(&oldest);
            self.bytes -= cost(&oldest);
        }
        self.units.retain(|_, lines| !lines.queue.is_empty());
    }
}

/// What a line takes in memory.
pub(crate) fn cost(line: &LogLine) -> usize {
    line.text.len() + line.unit.as_str().len() + OVERHEAD
}

#[derive(Debug, Default)]
struct Lines {
    queue: VecDeque<Arc<LogLine>>,
    bytes: usize,
}

/// The line's fields, its reference counts, two allocations and its place in a queue.
const OVERHEAD: usize = 160;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use supervise::log::Level;

    use super::*;

    fn line(number: u64, unit: &str, text: &str) -> LogLine {
        LogLine {
            number,
            at: Duration::from_millis(number),
            unix_ms: None,
            earlier_boot: false,
            unit: unit.parse().unwrap(),
            level: if text == "bad" {
                Level::Error
            } else {
                Level::Info
            },
            text: text.into(),
        }
    }

    fn query(unit: Option<&str>, lines: u32) -> Query {
        let unit = unit.map(|unit| unit.parse().unwrap());
        Query {
            unit,
            lines,
            follow: false,
            level: Level::Debug,
        }
    }

    fn numbers(lines: &[Arc<LogLine>]) -> Vec<u64> {
        lines.iter().map(|line| line.number).collect()
    }

    #[test]
    fn the_newest_of_all_units_come_in_their_order() {
        let mut ring = Ring::new(1 << 20);
        for number in 0..10 {
            let unit = ["front", "manager"][number as usize % 2];
            ring.push(Arc::new(line(
                number,
                unit,
                if number == 4 { "bad" } else { "ok" },
            )));
        }
        assert_eq!(numbers(&ring.select(&query(None, 3))), [7, 8, 9]);
        assert_eq!(numbers(&ring.select(&query(Some("front"), 2))), [6, 8]);
        let grave = Query {
            level: Level::Error,
            ..query(None, 100)
        };
        assert_eq!(numbers(&ring.select(&grave)), [4]);
        assert_eq!(numbers(&ring.since(8)), [8, 9]);
    }

    #[test]
    fn a_flood_pushes_out_its_own_lines_and_stays_in_bounds() {
        let mut ring = Ring::new(100_000);
        ring.push(Arc::new(line(0, "front", "the one thing front said")));
        (1..10_000).for_each(|n| ring.push(Arc::new(line(n, "service-noisy", "blah blah"))));
        assert_eq!(numbers(&ring.select(&query(Some("front"), 5))), [0]);
        assert!(ring.bytes <= 100_000);
        let counted: usize = ring.since(0).iter().map(|line| cost(line)).sum();
        assert_eq!(ring.bytes, counted);
    }

    #[test]
    fn older_lines_take_only_the_room_that_is_left() {
        let mut ring = Ring::new(10 * cost(&line(0, "front", "x")));
        (100..105).for_each(|n| ring.push(Arc::new(line(n, "front", "x"))));
        ring.put_before((0..20).map(|n| line(n, "front", "x")).collect());
        assert_eq!(
            numbers(&ring.since(0)),
            [15, 16, 17, 18, 19, 100, 101, 102, 103, 104]
        );
    }
}
