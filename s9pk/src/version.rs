//! Versions as packages have them: the upstream's version and the packager's own, `#flavor:1.2:3`.

use std::{
    cmp::Ordering,
    fmt,
    iter::{once, repeat},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

pub use crate::range::VersionRange;

/// Why a text is no version or range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}: {problem}")]
pub struct VersionError {
    pub(crate) text: String,
    pub(crate) kind: &'static str,
    pub(crate) problem: String,
}

/// Numbers and an optional pre-release: `1.2.3-rc.1`.
#[derive(Clone, Debug, Default)]
pub struct Version {
    pub(crate) numbers: Vec<u64>,
    pub(crate) prerelease: Vec<Segment>,
}

/// A part of a pre-release; numbers come before texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    Number(u64),
    Text(String),
}

/// A package's version. Versions of different flavors can't be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExtendedVersion {
    /// The variant of the upstream it packs, if there are several.
    pub flavor: Option<String>,
    /// The version of what is packed.
    pub upstream: Version,
    /// The version of its packing.
    pub downstream: Version,
}

impl Version {
    /// The version `number`, without more.
    pub fn of(number: u64) -> Self {
        Self {
            numbers: vec![number],
            prerelease: Vec::new(),
        }
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = |problem: &str| VersionError {
            text: text.to_owned(),
            kind: "version",
            problem: problem.to_owned(),
        };
        let (numbers, prerelease) = match text.split_once('-') {
            Some((numbers, prerelease)) => (numbers, Some(prerelease)),
            None => (text, None),
        };
        let numbers = numbers.split('.').map(number);
        let numbers: Option<Vec<u64>> = numbers.collect();
        let numbers = numbers.ok_or_else(|| {
            error("its numbers must be decimal, without leading zeros, and joined by dots")
        })?;
        let segments = prerelease
            .iter()
            .flat_map(|text| text.split('.'))
            .map(segment);
        let prerelease: Option<Vec<Segment>> = segments.collect();
        let prerelease = prerelease.ok_or_else(|| {
            error("its pre-release must be letters, digits and hyphens, joined by dots")
        })?;
        Ok(Self {
            numbers,
            prerelease,
        })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let longest = self.numbers.len().max(other.numbers.len());
        let padded = |version: &Self| -> Vec<u64> {
            version
                .numbers
                .iter()
                .copied()
                .chain(repeat(0))
                .take(longest)
                .collect()
        };
        padded(self)
            .cmp(&padded(other))
            .then(self.prerelease.is_empty().cmp(&other.prerelease.is_empty()))
            .then_with(|| self.prerelease.cmp(&other.prerelease))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(out, &self.numbers)?;
        if !self.prerelease.is_empty() {
            out.write_str("-")?;
            join(out, &self.prerelease)?;
        }
        Ok(())
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(out),
            Self::Text(text) => text.fmt(out),
        }
    }
}

impl FromStr for ExtendedVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let error = |problem: &str| VersionError {
            text: text.to_owned(),
            kind: "package version",
            problem: problem.to_owned(),
        };
        let (flavor, rest) = match text.strip_prefix('#') {
            Some(flavored) => {
                let parts = flavored.split_once(':');
                let (flavor, rest) =
                    parts.ok_or_else(|| error("the flavor must end with a colon"))?;
                if flavor.is_empty() || !flavor.bytes().all(|byte| byte.is_ascii_lowercase()) {
                    return Err(error("the flavor must be lower-case letters"));
                }
                (Some(flavor.to_owned()), rest)
            }
            None => (None, text),
        };
        let parts = rest.split_once(':');
        let (upstream, downstream) =
            parts.ok_or_else(|| error("add the packager's own version, such as `:0`"))?;
        Ok(Self {
            flavor,
            upstream: upstream.parse()?,
            downstream: downstream.parse()?,
        })
    }
}

impl PartialOrd for ExtendedVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.flavor == other.flavor).then(|| {
            let upstream = self.upstream.cmp(&other.upstream);
            upstream.then_with(|| self.downstream.cmp(&other.downstream))
        })
    }
}

impl fmt::Display for ExtendedVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(flavor) = &self.flavor {
            write!(out, "#{flavor}:")?;
        }
        write!(out, "{}:{}", self.upstream, self.downstream)
    }
}

impl TryFrom<String> for ExtendedVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<ExtendedVersion> for String {
    fn from(version: ExtendedVersion) -> Self {
        version.to_string()
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn join<T: fmt::Display>(out: &mut fmt::Formatter<'_>, parts: &[T]) -> fmt::Result {
    for (separator, part) in once("").chain(repeat(".")).zip(parts) {
        write!(out, "{separator}{part}")?;
    }
    Ok(())
}

/// A decimal number that can be written in one way only.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits && (text.len() == 1 || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

fn segment(text: &str) -> Option<Segment> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text).map(Segment::Number);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (!text.is_empty() && text.bytes().all(allowed)).then(|| Segment::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ExtendedVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_ordered_upstream_first() {
        let ascending = [
            "0.9:0",
            "1.0-alpha:0",
            "1.0-alpha.1:0",
            "1.0-alpha.beta:0",
            "1.0-rc-1.2:0",
            "1:0-beta",
            "1.0:0",
            "1.0.0:1",
            "1.2:0",
            "1.10:0",
        ];
        for pair in ascending.windows(2) {
            assert!(
                version(pair[0]) < version(pair[1]),
                "{} < {}",
                pair[0],
                pair[1]
            );
        }
        assert_eq!(version("1:0"), version("1.0.0:0.0"));
    }

    #[test]
    fn flavors_are_not_comparable() {
        assert_eq!(
            version("#knots:26.1:2").partial_cmp(&version("26.1:2")),
            None
        );
        assert!(version("#knots:26.1:2") < version("#knots:26.2:0"));
        assert_eq!(version("#knots:26.1.0:2").to_string(), "#knots:26.1.0:2");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            "1.0.0",
            "1",
            "1:",
            ":1",
            "01:0",
            "+1:0",
            "1..2:0",
            "1.0-:0",
            "1.0-01:0",
            "#:1:0",
            "#Knots:1:0",
            "#knots",
            "1:0:0",
            "18446744073709551616:0",
            "1 :0",
        ] {
            assert!(text.parse::<ExtendedVersion>().is_err(), "{text:?}");
        }
    }
}
