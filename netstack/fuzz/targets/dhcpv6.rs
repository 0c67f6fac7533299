//! See `netstack::fuzzing::dhcpv6`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| netstack::fuzzing::dhcpv6(script));
