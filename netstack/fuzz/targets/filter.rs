//! See `netstack::fuzzing::filter`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| netstack::fuzzing::filter(script));
