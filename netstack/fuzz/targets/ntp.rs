//! See `netstack::fuzzing::ntp`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| netstack::fuzzing::ntp(script));
