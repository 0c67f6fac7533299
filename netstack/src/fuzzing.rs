//! What a fuzzer does with this crate: each function plays one script against a state machine that
//! strangers or the kernel can speak to, and panics when a promise is broken. Not in any box.
//!
//! A script is a sequence of steps, each a byte that says what happens, a length in two bytes and
//! so many bytes; so a fuzzer can cut, repeat and reorder them.

pub use crate::{
    door::fuzzing::{hpack, http1, http2, routing},
    names::fuzzing::{dns, mdns},
    net::fuzzing::{dhcp, dhcpv6, filter, ntp, rtnl},
};

/// The steps of a script: what happens, and with which bytes.
pub(crate) fn steps(mut script: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [what, low, high, rest @ ..] = script else {
            return None;
        };
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let (bytes, after) = rest.split_at(length.min(rest.len()));
        script = after;
        Some((*what, bytes))
    })
}

/// Plays every seed of a target, so that none of them rots and each finding stays mended.
#[cfg(test)]
pub(crate) fn play_seeds(target: &str, play: impl Fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut played = 0;
    for seed in std::fs::read_dir(&folder).expect("a target has seeds") {
        play(&std::fs::read(seed.expect("readable").path()).expect("readable"));
        played += 1;
    }
    assert!(played > 0, "{target} has no seeds");
}
