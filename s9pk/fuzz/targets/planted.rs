//! A mistake that must be found: when it is not, the other targets' silence means nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s9pk_fuzz::bounded;

fuzz_target!(|bytes: &[u8]| {
    // Each letter is an edge of its own: only a fuzzer that sees edges gets beyond the second.
    let letters = b"s9pk";
    let known = bytes.iter().zip(letters).take_while(|(one, other)| one == other);
    match known.count() {
        0 => {}
        1 => visit(1),
        2 => visit(2),
        3 => visit(3),
        _ => bounded(bytes.len(), || visit(32 << 20)),
    }
});

fn visit(size: usize) {
    std::hint::black_box(vec![1_u8; size]);
}
