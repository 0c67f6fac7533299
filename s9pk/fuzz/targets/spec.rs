//! `service.toml`, which a stranger's package brings too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk_fuzz::bounded;
use services::spec::ServiceSpec;

fuzz_target!(|text: &str| {
    let _ = bounded(text.len(), || ServiceSpec::parse(text));
});
