//! Versions and ranges: what is parsed is shown and parsed alike, and is in order with itself.
//!
//! The input is a version, a line break, and a range.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::{ExtendedVersion, VersionRange};
use s9pk_fuzz::bounded;

fuzz_target!(|text: &str| {
    let (version, range) = text.split_once('\n').unwrap_or((text, ""));
    bounded(text.len(), || compare(version, range));
});

fn compare(version: &str, range: &str) {
    let version = version.parse::<ExtendedVersion>();
    if let Ok(version) = &version {
        let again: ExtendedVersion = version.to_string().parse().expect("it was just shown");
        assert_eq!(again, *version);
        let itself: VersionRange = format!("={version}").parse().expect("a version is a range");
        assert!(itself.contains(version));
    }
    let range = range.parse::<VersionRange>();
    if let Ok(range) = &range {
        let again: VersionRange = range.to_string().parse().expect("it was just shown");
        assert_eq!(again, *range);
    }
    if let (Ok(version), Ok(range)) = (&version, &range) {
        let _ = range.contains(version);
    }
}
