//! A manifest: what is understood is written and understood alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::Manifest;
use s9pk_fuzz::bounded;

fuzz_target!(|bytes: &[u8]| {
    let parsed = bounded(bytes.len(), || serde_json::from_slice::<Manifest>(bytes));
    if let Ok(manifest) = parsed {
        let written = serde_json::to_vec(&manifest).expect("a manifest is all text and numbers");
        let again: Manifest = serde_json::from_slice(&written).expect("it was just written");
        assert_eq!(again, manifest);
    }
});
