//! See `netstack::fuzzing::http2`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| netstack::fuzzing::http2(script));
