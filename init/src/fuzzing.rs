//! What a fuzzer does with this crate: each function plays one script against what a predecessor,
//! a role or PID 1 may have written, and panics when a promise is broken. Not in any box.
//!
//! A script is a sequence of steps, each a byte that says what happens, a length in two bytes and
//! so many bytes.

use netstack::door::{DoorConfig, Identity};
use supervise::control::{Event, Request};

pub use crate::{guard::fuzzing::beats, pid1::fuzzing::handover};

/// What roles ask of PID 1 and what it tells them, with all that is packed into it.
pub fn control(script: &[u8]) {
    for (what, bytes) in steps(script) {
        let packed = match what {
            0 => match postcard::from_bytes(bytes) {
                Ok(Request::ConfigureDoor(packed) | Request::KeepIdentity(packed)) => packed,
                Ok(_) | Err(_) => continue,
            },
            1 => match postcard::from_bytes(bytes) {
                Ok(Event::Door(packed)) => packed,
                Ok(Event::Status(status)) => {
                    let _ = crate::front::view::emergency(&status);
                    continue;
                }
                Ok(_) | Err(_) => continue,
            },
            _ => bytes.to_vec(),
        };
        let _ = postcard::from_bytes::<Identity>(&packed);
        if let Ok(config) = postcard::from_bytes::<DoorConfig>(&packed) {
            let written = postcard::to_stdvec(&config).expect("it was read");
            let again: DoorConfig = postcard::from_bytes(&written).expect("it was written");
            assert!(again == config, "{config:?} is read as {again:?}");
        }
    }
}

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

#[cfg(test)]
mod tests {
    fn play_seeds(target: &str, play: impl Fn(&[u8])) {
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

    #[test]
    fn every_seed_is_survived() {
        play_seeds("control", super::control);
        play_seeds("handover", super::handover);
        play_seeds("beats", super::beats);
    }
}
