//! The resolver among clients and servers of all kinds, without sockets or sleeps.

mod clients;
mod schedules;
mod world;

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use super::{
    config::{DnsConfig, DnsSettings, NameServer, Privacy},
    forward::Origin,
    upstream::{ServerId, Via},
    wire::{self, NO_SUCH_NAME, Query, SERVER_FAILURE},
};
use world::{Manner, World, addresses, client, code, good, ip, is_true, query, server};

#[test]
fn a_question_is_asked_once_and_then_answered_from_what_is_kept() {
    let mut world = World::new(&[(1, Manner::Good)]);
    for n in 1..=20 {
        world.ask(client(n), &query(n.into(), "example.org"));
    }
    world.pass(Duration::from_secs(1));
    assert_eq!((world.answers.len(), world.sent.len()), (20, 1), "joined");
    for (_, client, answer) in &world.answers {
        let SocketAddr::V4(from) = client.address else {
            panic!("{client:?}")
        };
        assert_eq!(wire::u16_at(answer, 0), Some(from.ip().octets()[3].into()));
        assert!(is_true(answer, "example.org"));
    }
    let (answer, took) = world.answer("EXAMPLE.org");
    assert!(is_true(&answer, "example.org") && took.is_zero());
    assert!(answer[12..].starts_with(b"\x07EXAMPLE"), "his own spelling");
    world.pass(Duration::from_secs(60));
    world.answer("example.org");
    assert_eq!(world.sent.len(), 2, "its time was over");
    let status = world.status();
    assert_eq!(
        (status.from_cache, status.forwarded, status.kept),
        (1, 21, 1)
    );
}

#[test]
fn a_silent_server_costs_a_second_then_nothing_and_is_used_again_when_it_is_back() {
    let mut world = World::new(&[(1, Manner::Silent), (2, Manner::Good)]);
    let (_, took) = world.answer("a.example");
    assert!((1000..1100).contains(&took.as_millis()), "{took:?}");
    world.answer("b.example");
    let (_, took) = world.answer("c.example");
    assert!(took.as_millis() < 100, "{took:?}");
    assert!(world.status().servers[0].silent_for.is_some());
    assert!(world.status().works());
    world.servers.insert(server(1), Manner::Good);
    world.pass(Duration::from_secs(6));
    world.answer("d.example");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.status().servers[0].silent_for, None, "it was probed");
    let before = world.asked(1);
    world.answer("e.example");
    assert_eq!(world.asked(1), before + 1);
}

#[test]
fn a_slow_server_is_heard_although_others_were_asked_beside_it() {
    let mut world = World::new(&[(1, Manner::Slow(2500)), (2, Manner::Silent)]);
    let (answer, took) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
    assert!((2500..2600).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn nobody_answers_within_clients_patience_and_that_is_kept_for_a_moment_only() {
    let mut world = World::new(&[(1, Manner::Silent), (2, Manner::Silent)]);
    let (answer, took) = world.answer("a.example");
    assert_eq!(code(&answer), SERVER_FAILURE);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let before = world.sent.len();
    let (answer, took) = world.answer("a.example");
    assert!(code(&answer) == SERVER_FAILURE && took.is_zero());
    assert_eq!(world.sent.len(), before);
    world.servers.insert(server(1), Manner::Good);
    world.pass(Duration::from_secs(3));
    let (answer, _) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
}

#[test]
fn a_server_that_fails_is_asked_once_and_another_may_know() {
    let mut world = World::new(&[(1, Manner::Fails), (2, Manner::Garbles), (3, Manner::Good)]);
    let (answer, took) = world.answer("a.example");
    assert!(is_true(&answer, "a.example") && took.as_millis() < 200);
    assert_eq!((world.asked(1), world.asked(2), world.asked(3)), (1, 1, 1));
    let mut world = World::new(&[(1, Manner::Fails)]);
    let (answer, _) = world.answer("a.example");
    assert_eq!((code(&answer), world.sent.len()), (SERVER_FAILURE, 1));
    assert!(world.status().servers[0].silent_for.is_none(), "it answers");
}

#[test]
fn what_is_stale_is_better_than_nothing() {
    let mut world = World::new(&[(1, Manner::Good)]);
    world.answer("a.example");
    world.pass(Duration::from_secs(100));
    world.servers.insert(server(1), Manner::Silent);
    let (answer, took) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
    assert!((1800..1900).contains(&took.as_millis()), "{took:?}");
    let (_, took) = world.answer("a.example");
    assert!(took.is_zero(), "who is late already is known");
    world.pass(Duration::from_secs(5));
    let before = world.sent.len();
    let (_, took) = world.answer("a.example");
    assert!(took.is_zero() && world.sent.len() == before, "held");
    assert_eq!(world.status().stale, 3);
    world.pass(Duration::from_secs(40));
    world.servers.insert(server(1), Manner::Fails);
    let (answer, _) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"), "nor is a failure better");
    world.pass(Duration::from_secs(40));
    world.servers.insert(server(1), Manner::Good);
    world.answer("a.example");
    world.pass(Duration::from_secs(1));
    let fresh = world.status().from_cache;
    world.answer("a.example");
    assert_eq!(world.status().from_cache, fresh + 1);
}

#[test]
fn what_is_not_there_is_kept_too() {
    let mut world = World::new(&[(1, Manner::NoSuchName)]);
    for _ in 0..5 {
        assert_eq!(code(&world.answer("a.example").0), NO_SUCH_NAME);
    }
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn lies_are_not_believed_and_a_flood_of_them_is_evaded() {
    let mut world = World::new(&[(1, Manner::Lies), (2, Manner::Good)]);
    let (answer, _) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
    assert_eq!(world.status().servers[0].forged, 3);
    // A stranger guesses ids while the server itself is slow.
    let mut world = World::new(&[(1, Manner::Slow(500))]);
    world.ask(client(9), &query(1, "bank.example"));
    let sent = world.sent[0].2.clone();
    let origin = Origin::Datagram(wire::u16_at(&sent, 0).unwrap());
    let mut forged = good(&Query::parse(&sent).unwrap());
    for guess in 1..100 {
        forged[1] = sent[1] ^ guess;
        world.resolver.receive(world.now, origin, &forged);
        world.carry();
    }
    assert_eq!(world.sent.last().unwrap().1, Via::Tcp);
    assert_eq!(world.sent.len(), 2);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.answers.len(), 1);
}

#[test]
fn ids_and_spelling_are_hard_to_guess() {
    let mut world = World::new(&[(1, Manner::Good)]);
    world.configure(DnsConfig {
        named: vec![ip(1)],
        settings: DnsSettings {
            mix_case: true,
            ..DnsSettings::default()
        },
        ..DnsConfig::default()
    });
    for n in 0..50 {
        world.answer(&format!("some-longer-name-{n}.example"));
    }
    let ids: HashSet<_> = world.sent.iter().map(|(_, _, b)| b[..2].to_vec()).collect();
    assert!(ids.len() > 45);
    let tails: HashSet<_> = world
        .sent
        .iter()
        .map(|(_, _, b)| b[12..28].to_vec())
        .collect();
    assert!(tails.len() > 45);
    // A server that does not give the spelling back is asked again without.
    world.servers.insert(server(1), Manner::Lowers);
    let (answer, _) = world.answer("lower.example");
    assert!(is_true(&answer, "lower.example"));
}

#[test]
fn what_is_too_long_comes_by_a_connection() {
    let mut world = World::new(&[(1, Manner::Cuts)]);
    assert!(is_true(&world.answer("a.example").0, "a.example"));
    let ways: Vec<_> = world.sent.iter().map(|(_, via, _)| *via).collect();
    assert_eq!(ways, [Via::Udp, Via::Tcp]);
    let mut world = World::new(&[(1, Manner::Cuts), (2, Manner::Good)]);
    world.no_streams = true;
    assert!(is_true(&world.answer("a.example").0, "a.example"));
}

#[test]
fn a_server_without_edns_is_asked_without() {
    let mut world = World::new(&[(1, Manner::Old)]);
    assert!(is_true(&world.answer("a.example").0, "a.example"));
    assert!(is_true(&world.answer("b.example").0, "b.example"));
    let edns = world.sent.iter().map(|(_, _, bytes)| bytes[11]);
    assert_eq!(edns.collect::<Vec<_>>(), [1, 0, 0]);
}

fn private(privacy: Privacy) -> DnsConfig {
    let server = NameServer {
        privacy,
        ..NameServer::plain(ip(1))
    };
    DnsConfig {
        settings: DnsSettings {
            servers: vec![server],
            ..DnsSettings::default()
        },
        ..DnsConfig::default()
    }
}

#[test]
fn tls_is_used_where_it_can_be_and_never_left_where_it_must_be() {
    let strict = Privacy::Strict {
        name: "dns.example".to_owned(),
        authority: None,
    };
    for (privacy, falls_back) in [(Privacy::Opportunistic, true), (strict, false)] {
        let mut world = World::new(&[(1, Manner::Good)]);
        world.configure(private(privacy));
        assert!(is_true(&world.answer("a.example").0, "a.example"));
        let (to, via, bytes) = world.sent[0].clone();
        assert_eq!((to.port(), via, bytes.len() % 128), (853, Via::Tls, 0));
        world.no_streams = true;
        let (answer, _) = world.answer("b.example");
        assert_eq!(is_true(&answer, "b.example"), falls_back);
        let open = world.sent.iter().any(|(_, via, _)| *via != Via::Tls);
        assert_eq!(open, falls_back);
    }
}

#[test]
fn a_port_that_swallows_everything_costs_two_seconds_once() {
    let mut world = World::new(&[(1, Manner::Good)]);
    world.configure(private(Privacy::Opportunistic));
    world.swallows_tls = true;
    let (answer, took) = world.answer("a.example");
    assert!(is_true(&answer, "a.example"));
    assert!((2000..2200).contains(&took.as_millis()), "{took:?}");
    let (_, took) = world.answer("b.example");
    assert!(took.as_millis() < 100, "{took:?}");
}

#[test]
fn a_connection_that_was_closed_while_it_rested_costs_nothing() {
    let mut world = World::new(&[(1, Manner::Silent)]);
    world.configure(private(Privacy::Opportunistic));
    world.ask(client(1), &query(1, "a.example"));
    let server = ServerId(2);
    assert!(world.resolver.upstream(server).is_some());
    world.resolver.broke(world.now, server, Via::Tls, false);
    world.servers.insert(self::server(1), Manner::Good);
    world.carry();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.answers.len(), 1);
    assert!(world.sent.iter().all(|(_, via, _)| *via == Via::Tls));
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn the_longest_domain_decides_who_is_asked() {
    let mut world = World::new(&[(1, Manner::Good), (2, Manner::Good), (3, Manner::Good)]);
    let domain = |name: &str, last| (name.to_owned(), vec![NameServer::plain(ip(last))]);
    world.configure(DnsConfig {
        named: vec![ip(1)],
        settings: DnsSettings {
            domains: [domain("corp.example", 2), domain("Lab.Corp.Example", 3)].into(),
            ..DnsSettings::default()
        },
        ..DnsConfig::default()
    });
    for (name, last) in [
        ("www.example", 1),
        ("notcorp.example", 1),
        ("corp.example", 2),
        ("a.CORP.example", 2),
        ("a.b.lab.corp.example", 3),
    ] {
        world.answer(name);
        assert_eq!(world.sent.last().unwrap().0.ip(), ip(last), "{name}");
    }
}

#[test]
fn own_names_are_answered_with_no_server_at_all_and_others_are_not() {
    let mut world = World::new(&[]);
    let (answer, _) = world.answer("photos.pilot.internal");
    assert_eq!(addresses(&answer), [[10, 77, 0, 2]]);
    assert_eq!(code(&world.answer("example.org").0), SERVER_FAILURE);
    assert!(!world.status().works());
}

#[test]
fn another_network_has_other_servers_and_other_names() {
    let mut world = World::new(&[(1, Manner::Silent)]);
    world.servers.insert(server(2), Manner::Good);
    world.ask(client(1), &query(1, "a.example"));
    world.configure(DnsConfig {
        named: vec![ip(2)],
        ..DnsConfig::default()
    });
    world.carry();
    world.pass(Duration::from_millis(100));
    assert_eq!(world.answers.len(), 1, "what was under way goes on");
    assert_eq!(world.status().kept, 1);
    world.configure(DnsConfig::default());
    assert_eq!(world.status().kept, 0);
}
