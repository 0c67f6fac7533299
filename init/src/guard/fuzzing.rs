//! The guard's heartbeats, answered by a manager that says anything.

use std::time::Duration;

use super::heartbeat::{Beat, Heartbeat};
use crate::{fuzzing::steps, pid1::table::seqpacket_pair};

/// Whatever is answered, what the guard holds to be silent is not younger than it was asked.
pub fn beats(script: &[u8]) {
    let (guard, manager) = seqpacket_pair().expect("a pair of sockets");
    let mut heartbeat = Heartbeat::new(guard);
    let mut now = Duration::from_secs(100);
    let mut asked = Vec::new();
    for (what, bytes) in steps(script) {
        match what {
            0 => {
                let _ = rustix::io::write(&manager, bytes);
            }
            // What was asked last comes back, changed in places.
            1 => {
                let mut answer = asked.clone();
                for change in bytes.chunks_exact(2) {
                    if let Some(byte) = answer.get_mut(usize::from(change[0])) {
                        *byte = change[1];
                    }
                }
                let _ = rustix::io::write(&manager, &answer);
            }
            2 => heartbeat.begin_anew(now),
            _ => {
                let tenths = bytes.first().copied().unwrap_or(1);
                now += Duration::from_millis(100) * u32::from(tenths);
            }
        }
        heartbeat.turn(now);
        for silence in heartbeat.silences() {
            assert!(silence.since <= now);
        }
        let mut beat = [0; Beat::LEN];
        while let Ok(n @ 1..) = rustix::io::read(&manager, &mut beat) {
            asked = beat[..n].to_vec();
            let read = Beat::from_bytes(&asked).expect("a beat of the guard's");
            assert_eq!(read.to_bytes()[..], asked[..]);
        }
    }
}
