//! The responder as a fuzzer plays it: neighbours that say anything.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Addresses, PORT, Responder};
use crate::{
    fuzzing::steps,
    names::zone::{Published, Site},
    net::random::Random,
};

/// A responder on a link, and who else is there.
pub fn mdns(script: &[u8]) {
    let mut now = Duration::from_secs(5);
    let mut responder = Responder::new(Random::new(1));
    let addresses: Addresses = vec![
        (IpAddr::from([192, 0, 2, 1]), 24),
        (IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]), 64),
    ];
    let links = BTreeMap::from([(LINK, addresses)]);
    responder.configure(now, site("otter"), &links);
    for (what, bytes) in steps(script) {
        now += Duration::from_millis(1);
        let port = if what & 1 == 0 { PORT } else { 40_000 };
        match what {
            0 | 1 => responder.receive(now, LINK, ([192, 0, 2, 9], port).into(), bytes),
            2 => {
                let from = [0xfe80, 0, 0, 0, 0, 0, 0, 9];
                responder.receive(now, LINK, (from, port).into(), bytes);
            }
            // Its own words, and those of somebody far away.
            3 => responder.receive(now, LINK, ([192, 0, 2, 1], PORT).into(), bytes),
            4 => responder.receive(now, LINK, ([203, 0, 113, 1], PORT).into(), bytes),
            5 => {
                let name = bytes.first().map_or("otter", |_| "badger");
                responder.configure(now, site(name), &links);
            }
            6 => responder.configure(now, site("otter"), &BTreeMap::new()),
            7 => responder.go(),
            8 => {
                let [low, high] = *bytes.first_chunk().unwrap_or(&[0, 1]);
                now += Duration::from_millis(u16::from_le_bytes([low, high]).into());
                responder.tick(now);
            }
            _ => {
                now = responder.deadline().map_or(now, |at| at.max(now));
                responder.tick(now);
            }
        }
        take(&mut responder);
        for round in 0.. {
            if responder.deadline().is_none_or(|at| at > now) {
                break;
            }
            assert!(round < 100, "time that does not pass keeps it busy");
            responder.tick(now);
            take(&mut responder);
        }
    }
}

/// Takes what is to be sent.
fn take(responder: &mut Responder) {
    for round in 0.. {
        assert!(round < MOST_SENT, "it says more and more");
        let Some(sent) = responder.transmit() else {
            return;
        };
        assert!(sent.bytes.len() <= 9000, "{} bytes", sent.bytes.len());
        simple_dns::Packet::parse(&sent.bytes).expect("our own message");
    }
}

fn site(hostname: &str) -> Site {
    Site {
        hostname: hostname.to_owned(),
        services: vec![Published {
            id: "photos".to_owned(),
            title: "Photos".to_owned(),
        }],
    }
}

const LINK: u32 = 2;
/// Of one step.
const MOST_SENT: usize = 1000;

#[cfg(test)]
mod tests {
    use crate::fuzzing::play_seeds;

    #[test]
    fn every_seed_is_survived() {
        play_seeds("mdns", super::mdns);
    }
}
