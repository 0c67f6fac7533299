//! A whole package of a stranger: opened, validated, verified, every file read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk::{Archive, Profile};
use s9pk_fuzz::bounded;

fuzz_target!(|bytes: &[u8]| {
    for profile in [Profile::strict(), Profile::lenient()] {
        bounded(bytes.len(), || read_all(bytes, profile));
    }
});

fn read_all(bytes: &[u8], profile: Profile) {
    let Ok(archive) = Archive::open_with(bytes, profile) else {
        return;
    };
    let verified = archive.verify();
    let _ = archive.validate(None);
    for (path, _) in archive.tree().walk() {
        let read = archive.read(&path, 1 << 20);
        assert!(verified.is_err() || archive.extent(&path).is_err() || read.is_ok());
    }
}
