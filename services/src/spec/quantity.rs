//! Sizes and durations: whole numbers with their unit, so that nobody has to guess.

use std::time::Duration;

use super::{SpecError, wrong};

pub(super) fn duration(key: &str, text: &str, longest: Duration) -> Result<Duration, SpecError> {
    let units = [("ms", 1), ("s", 1000), ("min", 60_000)];
    with_unit(text, &units)
        .map(Duration::from_millis)
        .filter(|duration| !duration.is_zero() && *duration <= longest)
        .ok_or_else(|| {
            let expected = "a whole number with ms, s or min (\"10s\"), not 0 and not longer than \
                            10min";
            wrong(key.to_owned(), text.to_owned(), expected)
        })
}

pub(super) fn bytes(key: &str, text: &str) -> Result<u64, SpecError> {
    let units = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    with_unit(text, &units)
        .filter(|bytes| *bytes >= LEAST_MEMORY)
        .ok_or_else(|| {
            let expected = "a whole number with K, M or G (\"256M\"), at least 8M";
            wrong(key.to_owned(), text.to_owned(), expected)
        })
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The agent and a shell need about this much.
const LEAST_MEMORY: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        for (text, size) in [("8M", Some(8 << 20)), ("2 G", Some(2 << 30)), ("99", None)] {
            assert_eq!(bytes("k", text).ok(), size, "{text}");
        }
        let longest = Duration::from_secs(600);
        for (text, ms) in [
            ("500ms", Some(500)),
            ("2min", Some(120_000)),
            ("0s", None),
            ("s", None),
        ] {
            let parsed = duration("k", text, longest).ok();
            assert_eq!(parsed, ms.map(Duration::from_millis), "{text}");
        }
        assert!(bytes("k", "99999999999999999G").is_err(), "no overflow");
    }
}
