//! Who is answered at all, and how much is done for one client.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::world::{Manner, World, client, code, ip, query};
use crate::names::dns::{
    config::DnsConfig,
    forward::Client,
    wire::{self, NO_ERROR},
};

#[test]
fn strangers_and_strange_questions_are_refused() {
    let mut world = World::new(&[(1, Manner::Good)]);
    let mut reply = |from: IpAddr, change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = query(5, "example.org");
        change(&mut message);
        let client = Client {
            address: (from, 4000).into(),
            ..client(1)
        };
        let mut reply = Vec::new();
        let answered = world
            .resolver
            .query(world.now, client, &message, &mut reply);
        answered.then(|| (code(&reply), reply.len() <= message.len() + 11))
    };
    let near = Ipv4Addr::new(10, 77, 3, 4).into();
    let kind =
        |kind: u8| move |m: &mut Vec<u8>| *m.last_chunk_mut::<4>().unwrap() = [0, kind, 0, 1];
    let refused = Some((wire::REFUSED, true));
    assert_eq!(reply(ip(200), &|_| {}), refused);
    assert_eq!(reply(near, &|_| {}), None, "asked");
    for zone in [251, 252] {
        assert_eq!(reply(near, &kind(zone)), refused);
    }
    let chaos = |m: &mut Vec<u8>| *m.last_mut().unwrap() = 3;
    assert_eq!(reply(near, &chaos), refused);
    assert_eq!(reply(near, &|m| m[2] &= !1), refused, "a snoop");
    let unknown = Some((wire::NOT_IMPLEMENTED, true));
    assert_eq!(reply(near, &kind(250)), unknown);
    assert_eq!(reply(near, &|m| m[2] |= 5 << 3), unknown);
    assert_eq!(
        reply(near, &|m| m.truncate(20)),
        Some((wire::FORMAT_ERROR, true))
    );
    assert_eq!(reply(near, &|m| m[2] |= 0x80), None, "an answer");
    assert_eq!(
        reply(near, &kind(255)).unwrap().0,
        NO_ERROR,
        "any, RFC 8482"
    );
    let newer = |m: &mut Vec<u8>| {
        wire::append_opt(m, 0, false, &[]);
        let version = m.len() - 5;
        m[version] = 1;
    };
    assert_eq!(reply(near, &newer), Some((wire::BAD_VERSION & 15, true)));
}

#[test]
fn the_lan_is_served_if_it_is_wanted_and_nobody_beyond_it_ever() {
    let mut world = World::new(&[(1, Manner::Good)]);
    let serves = |world: &World, text: &str| world.resolver.serves(text.parse().unwrap());
    let mut config = DnsConfig {
        named: vec![ip(1)],
        addresses: vec![
            ("192.168.1.5".parse().unwrap(), 24),
            ("2001:db8::5".parse().unwrap(), 64),
            ("198.51.100.1".parse().unwrap(), 0),
        ],
        ..DnsConfig::default()
    };
    let near = ["192.168.1.77", "::ffff:192.168.1.77", "2001:db8::77"];
    world.configure(config.clone());
    assert!(near.iter().all(|ip| !serves(&world, ip)));
    assert!(serves(&world, "192.168.1.5"), "the box itself");
    config.settings.lan = true;
    world.configure(config);
    assert!(near.iter().all(|ip| serves(&world, ip)));
    for far in ["192.168.2.77", "203.0.113.7", "2001:db8:1::1"] {
        assert!(!serves(&world, far), "{far}");
    }
}

#[test]
fn a_flood_is_bounded_and_one_clients_flood_keeps_no_other_from_asking() {
    let mut world = World::new(&[(1, Manner::Silent)]);
    for n in 0..1000 {
        world.ask(client(1), &query(n, &format!("n{n}.example")));
    }
    assert_eq!(world.resolver.under_way(), 128);
    assert!(
        world
            .answers
            .iter()
            .all(|(_, _, a)| code(a) == wire::REFUSED)
    );
    for last in 2..=20 {
        for n in 0..128 {
            world.ask(client(last), &query(n, &format!("n{n}.c{last}.example")));
        }
    }
    assert_eq!(world.resolver.under_way(), 512);
    let before = world.sent.len();
    world.pass(Duration::from_secs(5));
    assert!(world.sent.len() <= before + 2 * 512);
    assert_eq!(world.resolver.under_way(), 0);
    assert_eq!(world.answers.len(), 1000 + 19 * 128, "each has an answer");
}

#[test]
fn a_loop_ends() {
    let mut world = World::new(&[(1, Manner::Silent)]);
    world.ask(client(1), &query(1, "loop.example"));
    let mut seen = 0;
    let limit = world.now + Duration::from_secs(30);
    while world.step(limit) {
        // The router asks whom it was asked by.
        while let Some((_, _, bytes)) = world.sent.get(seen).cloned() {
            seen += 1;
            world.ask(client(250), &bytes);
        }
    }
    assert!(world.sent.len() < 10, "{}", world.sent.len());
    assert_eq!(world.resolver.under_way(), 0);
}
