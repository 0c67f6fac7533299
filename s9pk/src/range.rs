//! Ranges of versions: which others a package can migrate from, to, or depends on.
//!
//! The grammar has no precedence: operators apply from left to right, and one that is left out
//! repeats the last one written. The format's own reader ignores whatever it can't parse at the
//! end, so that `>=1:0,<2:0` silently loses its upper bound; here that is an error with its place.

mod parse;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::version::{ExtendedVersion, Version, VersionError};

/// A range of versions; shown as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Any,
    Flavor(Option<String>),
    Compare(Comparison, ExtendedVersion),
    Not(Box<Self>),
    Both(Box<Self>, Box<Self>),
    Either(Box<Self>, Box<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Caret,
    Tilde,
}

impl VersionRange {
    /// The range of every version, `*`.
    pub fn any() -> Self {
        let text = "*".to_owned();
        Self {
            text,
            rule: Rule::Any,
        }
    }

    /// The range of no version, `!`.
    pub fn none() -> Self {
        let rule = Rule::Not(Box::new(Rule::Any));
        let text = "!".to_owned();
        Self { text, rule }
    }

    /// Whether `version` is in the range.
    pub fn contains(&self, version: &ExtendedVersion) -> bool {
        self.rule.contains(version)
    }
}

impl Rule {
    fn contains(&self, version: &ExtendedVersion) -> bool {
        match self {
            Self::Any => true,
            Self::Flavor(flavor) => version.flavor == *flavor,
            Self::Compare(comparison, other) => comparison.holds(version, other),
            Self::Not(rule) => !rule.contains(version),
            Self::Both(left, right) => left.contains(version) && right.contains(version),
            Self::Either(left, right) => left.contains(version) || right.contains(version),
        }
    }
}

impl Comparison {
    fn holds(self, version: &ExtendedVersion, other: &ExtendedVersion) -> bool {
        let Some(order) = version.partial_cmp(other) else {
            return self == Self::NotEqual;
        };
        let below = |bound: Version| order.is_ge() && *version < upper(other, bound);
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Caret => below(caret_end(&other.upstream)),
            Self::Tilde => below(tilde_end(&other.upstream)),
        }
    }
}

/// The version that ends `^` and `~`: it keeps the flavor.
fn upper(version: &ExtendedVersion, upstream: Version) -> ExtendedVersion {
    ExtendedVersion {
        flavor: version.flavor.clone(),
        upstream,
        downstream: Version::of(0),
    }
}

/// The first number that is not zero, plus one; `1` if all are zero. Keeps the pre-release.
fn caret_end(version: &Version) -> Version {
    let first = version.numbers.iter().position(|number| *number != 0);
    let mut end = version.clone();
    match first {
        Some(first) => {
            end.numbers.truncate(first + 1);
            end.numbers[first] = end.numbers[first].saturating_add(1);
        }
        None => end.numbers = vec![1],
    }
    end
}

/// The number after the first that is not zero, plus one. Keeps the pre-release.
fn tilde_end(version: &Version) -> Version {
    let first = version.numbers.iter().position(|number| *number != 0);
    let mut end = version.clone();
    let next = first.map_or(end.numbers.len().saturating_sub(1), |first| first + 1);
    end.numbers.resize(next + 1, 0);
    end.numbers[next] = end.numbers[next].saturating_add(1);
    end
}

impl FromStr for VersionRange {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let rule = parse::parse(text)?;
        let text = text.to_owned();
        Ok(Self { text, rule })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl TryFrom<String> for VersionRange {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: &str, version: &str) -> bool {
        let parsed: VersionRange = range.parse().unwrap_or_else(|error| panic!("{error}"));
        parsed.contains(&version.parse().unwrap())
    }

    #[test]
    fn comparisons_hold_as_the_facts_say() {
        for (range, inside, outside) in [
            ("=1:0", "1.0:0", "1:1"),
            (">=1:0 <2:0", "1.9:3", "2:0"),
            ("<2:0", "2.0.0-alpha:0", "2:0"),
            ("1.2:0", "1.9:0", "2:0"),
            ("^0", "0.9:0", "1:0"),
            ("^0.3", "0.3.7:0", "0.4:0"),
            ("~1.2.3", "1.2.9:0", "1.3:0"),
            ("~0.4.1", "0.4.1:5", "0.4.2:0"),
            ("~1", "1.0.5:0", "1.1:0"),
            ("^1.0.0-beta.2", "1.5:0", "2-beta.2:0"),
            ("!=1:0", "#knots:1:0", "1:0"),
            ("#knots", "#knots:7:0", "7:0"),
            ("#", "7:0", "#knots:7:0"),
            (">=#knots:1:0", "#knots:2:0", "2:0"),
            ("(>=25.0:0 <27.0:0) || (#knots)", "#knots:99:0", "27:0"),
            ("!(=1:0)", "2:0", "1:0"),
            ("=1:0 || =2:0 =3:0", "3:0", "4:0"),
            ("=1:0 || =2:0 && <2:0", "1:0", "2:0"),
        ] {
            assert!(contains(range, inside), "{inside} in {range}");
            assert!(!contains(range, outside), "{outside} not in {range}");
        }
        assert!(contains("*", "#x:1:0") && !contains("!", "1:0"));
        assert!(VersionRange::any().contains(&"1:0".parse().unwrap()));
        assert!(!VersionRange::none().contains(&"1:0".parse().unwrap()));
    }

    #[test]
    fn what_the_formats_own_reader_ignores_is_refused_with_its_place() {
        for (range, place) in [
            (">=1:0,<2:0", 6),
            (">=1:0 garbage", 7),
            (">=01:0", 3),
            (" *", 1),
            ("(=1:0", 6),
            ("", 1),
            ("=1:0 ||", 8),
            ("=1:0)", 5),
        ] {
            let error = range.parse::<VersionRange>().unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("(character {place})")),
                "{range:?}: {error}"
            );
        }
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        let deep = format!("{}*{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(deep.parse::<VersionRange>().is_err());
        assert!("!".repeat(100_000).parse::<VersionRange>().is_err());
        assert!("* ".repeat(100_000).parse::<VersionRange>().is_err());
    }
}
