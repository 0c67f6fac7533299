//! Versions and ranges: what is parsed is shown and parsed alike, and is in order with itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::{ExtendedVersion, VersionRange};

fuzz_target!(|texts: (&str, &str)| {
    let (version, range) = texts;
    let version = version.parse::<ExtendedVersion>();
    if let Ok(version) = &version {
        let again: ExtendedVersion = version.to_string().parse().expect("it was just shown");
        assert_eq!(again, *version);
        let itself: VersionRange = format!("={version}").parse().expect("a version is a range");
        assert!(itself.contains(version));
    }
    if let (Ok(version), Ok(range)) = (&version, range.parse::<VersionRange>()) {
        let again: VersionRange = range.to_string().parse().expect("it was just shown");
        assert_eq!(again.contains(version), range.contains(version));
    }
});
