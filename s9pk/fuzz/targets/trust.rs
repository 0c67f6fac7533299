//! Endorsements of keys, which come beside a package from the same stranger.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::trust;
use s9pk_fuzz::bounded;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(endorsements) = bounded(bytes.len(), || trust::parse(bytes)) {
        let written = trust::encode(&endorsements).expect("it is all text");
        let again = trust::parse(&written).expect("it was just written");
        assert_eq!(again.len(), endorsements.len());
        for (one, other) in again.iter().zip(&endorsements) {
            assert_eq!((one.old(), one.successor()), (other.old(), other.successor()));
        }
    }
});
