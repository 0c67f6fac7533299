//! A manifest: what is understood is written and understood alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let written = serde_json::to_vec(&manifest).expect("a manifest is all text and numbers");
        let again: Manifest = serde_json::from_slice(&written).expect("it was just written");
        assert_eq!(again, manifest);
    }
});
