//! The name server as a fuzzer plays it: clients and servers that say anything, in any order.

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use super::{
    chance::Chance,
    config::{DnsConfig, DnsSettings},
    forward::{Action, Client, Origin, Place},
    resolver::Resolver,
    upstream::{ServerId, Via},
    wire,
};
use crate::{fuzzing::steps, net::clock::Now};

/// Clients, the resolver, and those whom it asks.
pub fn dns(script: &[u8]) {
    let mut scene = Scene::new();
    for (what, bytes) in steps(script) {
        scene.now += Duration::from_millis(1);
        match what {
            0 => scene.ask(Place::Datagram(0), bytes),
            1 => scene.ask(Place::Stream(1), bytes),
            // To the datagram or by the connection that was used last, as it is.
            2 => scene.say(bytes.to_vec()),
            // An answer to what was asked last, with flags, counts and records as they come.
            3..=5 => scene.answer(what, bytes),
            6 => scene.configure(bytes),
            7 => {
                if let Some(sent) = scene.sent.front() {
                    let id = sent.id;
                    scene.resolver.unreachable(scene.now, id);
                }
            }
            8 => {
                if let Some(sent) = scene.sent.front() {
                    let (server, via) = (sent.server, sent.via);
                    scene
                        .resolver
                        .broke(scene.now, server, via, bytes.is_empty());
                }
            }
            9 => {
                let [low, high] = *bytes.first_chunk().unwrap_or(&[0, 1]);
                scene.now += Duration::from_millis(u16::from_le_bytes([low, high]).into());
                scene.resolver.tick(scene.now);
            }
            _ => {
                let next = scene.resolver.deadline();
                scene.now = next.map_or(scene.now, |at| at.max(scene.now));
                scene.resolver.tick(scene.now);
            }
        }
        scene.carry();
    }
    scene.end();
}

struct Scene {
    resolver: Resolver,
    now: Now,
    /// The latest first.
    sent: VecDeque<Sent>,
    /// Questions that wait for their answers.
    waiting: usize,
}

struct Sent {
    id: u16,
    server: ServerId,
    via: Via,
    bytes: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            resolver: Resolver::new(Chance::new([1; 32])),
            now: Duration::from_secs(5),
            sent: VecDeque::new(),
            waiting: 0,
        };
        scene.configure(&[0]);
        scene
    }

    fn configure(&mut self, bytes: &[u8]) {
        let bits = bytes.first().copied().unwrap_or_default();
        let servers = 1..=1 + (bits & 3);
        let config = DnsConfig {
            settings: DnsSettings {
                encrypt: bits & 4 != 0,
                mix_case: bits & 8 != 0,
                ..DnsSettings::default()
            },
            bridge: Some((Ipv4Addr::new(10, 77, 0, 1), 16)),
            services: vec![("photos".to_owned(), Ipv4Addr::new(10, 77, 0, 2))],
            named: servers.map(|n| [192, 0, 2, n].into()).collect(),
            ..DnsConfig::default()
        };
        self.resolver.configure(self.now, config);
    }

    fn ask(&mut self, place: Place, bytes: &[u8]) {
        let last = bytes.first().copied().unwrap_or_default() & 3;
        let client = Client {
            place,
            address: (Ipv4Addr::new(10, 77, 0, last), 4000).into(),
        };
        let mut reply = Vec::new();
        if self.resolver.query(self.now, client, bytes, &mut reply) {
            check(place, &reply);
        } else {
            // A question that is repeated is answered once.
            self.waiting += 1;
        }
    }

    fn say(&mut self, bytes: Vec<u8>) {
        let Some(sent) = self.sent.front() else {
            return;
        };
        let origin = match sent.via {
            Via::Udp => Origin::Datagram(sent.id),
            via => Origin::Stream(sent.server, via),
        };
        self.resolver.receive(self.now, origin, &bytes);
    }

    fn answer(&mut self, which: u8, bytes: &[u8]) {
        if self.sent.is_empty() {
            return;
        }
        let at = usize::from(which - 3) % self.sent.len();
        self.sent.swap(0, at);
        let (Some(sent), Some((head, records))) =
            (self.sent.front(), bytes.split_first_chunk::<8>())
        else {
            return;
        };
        let Some((_, end)) = wire::question(&sent.bytes) else {
            panic!("our own message")
        };
        let mut message = sent.bytes[..end].to_vec();
        message[2..4].copy_from_slice(&head[..2]);
        message[2] |= 0x80;
        message[6..12].copy_from_slice(&head[2..]);
        message.extend_from_slice(records);
        self.say(message);
    }

    fn carry(&mut self) {
        for round in 0.. {
            assert!(round < MOST_ACTIONS, "it does more and more");
            match self.resolver.action() {
                Some(Action::Send {
                    id,
                    server,
                    via,
                    bytes,
                }) => {
                    assert!(wire::question(&bytes).is_some(), "our own message");
                    self.sent.push_front(Sent {
                        id,
                        server,
                        via,
                        bytes,
                    });
                    self.sent.truncate(MOST_SENT);
                }
                Some(Action::Forget(id)) => self.sent.retain(|sent| sent.id != id),
                None => break,
            }
        }
        while let Some((client, reply)) = self.resolver.reply() {
            check(client.place, &reply);
            assert!(self.waiting > 0, "an answer to nobody");
            self.waiting -= 1;
        }
        assert!(self.resolver.under_way() <= 512);
        let status = self.resolver.status(self.now);
        assert!(status.kept <= 16_384 && status.kept_bytes <= 8 << 20);
    }

    /// All is over in time.
    fn end(&mut self) {
        let limit = self.now + Duration::from_secs(10);
        for round in 0.. {
            assert!(round < MOST_ACTIONS, "it goes on and on");
            let Some(at) = self.resolver.deadline() else {
                break;
            };
            assert!(
                at <= limit,
                "a deadline in {:?}",
                at.saturating_sub(self.now)
            );
            self.now = self.now.max(at);
            self.resolver.tick(self.now);
            self.carry();
        }
        assert_eq!(self.resolver.under_way(), 0);
    }
}

/// An answer that a client can read, and that fits.
fn check(place: Place, reply: &[u8]) {
    let limit = match place {
        Place::Datagram(_) => 1232,
        Place::Stream(_) => 65_535,
    };
    assert!(
        (wire::HEADER..=limit).contains(&reply.len()),
        "{} bytes",
        reply.len()
    );
    assert!(reply[2] & 0x80 != 0, "no answer");
    if let Some((_, end)) = wire::question(reply) {
        let mut used = end;
        for record in wire::records(reply, end) {
            used = record.expect("whole records").data.end;
        }
        assert_eq!(used, reply.len());
    }
}

const MOST_SENT: usize = 16;
/// Of one step: all that is under way, some times over.
const MOST_ACTIONS: usize = 20_000;

#[cfg(test)]
mod tests {
    use crate::fuzzing::play_seeds;

    #[test]
    fn every_seed_is_survived() {
        play_seeds("dns", super::dns);
    }
}
