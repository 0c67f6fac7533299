//! Samples, their medians, and how ours compare with others'.

use std::{fmt, time::Duration};

use super::{contender::Kind, requests::Got};

/// What was measured once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// The figure; more is better unless it is a time or a size.
    value: f64,
    unit: &'static str,
    is_cost: bool,
    /// Processor time of the contender for each unit, or what else is told beside the figure.
    beside: f64,
    beside_unit: &'static str,
}

impl Sample {
    /// `units` in the time that it took, and processor time for each in parts of a second.
    pub(crate) fn rate(
        units: f64,
        unit: &'static str,
        part: &'static str,
        parts: f64,
        got: &Got,
    ) -> Self {
        Self {
            value: units / got.took.as_secs_f64(),
            unit,
            is_cost: false,
            beside: got.used.as_secs_f64() * parts / units,
            beside_unit: part,
        }
    }

    /// A latency under so many handshakes.
    pub(crate) fn latency(p99: Duration, got: &Got) -> Self {
        Self {
            value: p99.as_secs_f64() * 1e3,
            unit: "ms p99",
            is_cost: true,
            beside: got.units as f64 / got.took.as_secs_f64(),
            beside_unit: "handshakes/s",
        }
    }

    /// Memory before and after so many connections, in bytes.
    pub(crate) fn memory(before: u64, after: u64, many: usize) -> Self {
        Self {
            value: (after.saturating_sub(before)) as f64 / many as f64 / 1024.0,
            unit: "KiB/connection",
            is_cost: true,
            beside: after as f64 / f64::from(1 << 20),
            beside_unit: "MiB in all",
        }
    }
}

/// All samples of one measure.
pub(crate) struct Table {
    name: &'static str,
    rows: Vec<(Kind, Vec<Sample>)>,
}

impl Table {
    pub(crate) fn new(name: &'static str, kinds: &[Kind]) -> Self {
        Self {
            name,
            rows: kinds.iter().map(|kind| (*kind, Vec::new())).collect(),
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, sample: Sample) {
        let row = self.rows.iter_mut().find(|(known, _)| *known == kind);
        if let Some((_, samples)) = row {
            samples.push(sample);
        }
    }

    /// The median of our figure's ratios to theirs, round by round; above 1 ours is better.
    fn ratio(&self, theirs: &[Sample], figure: fn(&Sample) -> f64, is_cost: bool) -> Option<f64> {
        let ours = self.rows.iter().find(|(kind, _)| *kind == Kind::Door)?;
        let ratios = ours.1.iter().zip(theirs).map(|(ours, theirs)| {
            let ratio = figure(ours) / figure(theirs);
            if is_cost { 1.0 / ratio } else { ratio }
        });
        median(ratios)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        for (kind, samples) in &self.rows {
            let Some(first) = samples.first() else {
                continue;
            };
            let value = median(samples.iter().map(|sample| sample.value)).unwrap_or(f64::NAN);
            let beside = median(samples.iter().map(|sample| sample.beside)).unwrap_or(f64::NAN);
            write!(
                f,
                "  {:8} {value:>10.2} {:14} {beside:>9.1} {:12}",
                kind.name(),
                first.unit,
                first.beside_unit
            )?;
            // A rate's cost is compared too; what stands beside a latency or a size is not.
            let value = self.ratio(samples, |sample| sample.value, first.is_cost);
            let beside = (!first.is_cost)
                .then(|| self.ratio(samples, |sample| sample.beside, true))
                .flatten();
            match (kind, value, beside) {
                (Kind::Door, ..) | (_, None, _) => writeln!(f)?,
                (_, Some(value), None) => writeln!(f, " ours is {value:.2} x")?,
                (_, Some(value), Some(cost)) => {
                    writeln!(f, " ours is {value:.2} x; by cost {cost:.2} x")?;
                }
            }
        }
        Ok(())
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
