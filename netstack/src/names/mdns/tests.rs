//! Responders on one link, and what they say to each other, without sockets or sleeps.

use simple_dns::{
    CLASS, Name, QCLASS, QTYPE, Question, ResourceRecord, TYPE,
    rdata::{A, RData},
};

use super::*;
use crate::names::zone::Published;

const LINK: u32 = 2;

fn site(hostname: &str) -> Site {
    Site {
        hostname: hostname.to_owned(),
        services: vec![Published {
            id: "photos".to_owned(),
            title: "Photos".to_owned(),
        }],
    }
}

fn at(last: u8) -> BTreeMap<u32, Addresses> {
    BTreeMap::from([(LINK, vec![(IpAddr::from([192, 0, 2, last]), 24)])])
}

fn from(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], port))
}

/// Lets time pass; what each says is heard by all others.
fn run(boxes: &mut [(u8, &mut Responder)], mut now: Now, until: Now) -> Vec<Transmit> {
    let mut said = Vec::new();
    loop {
        let mut wires = Vec::new();
        for (n, (last, responder)) in boxes.iter_mut().enumerate() {
            responder.tick(now);
            while let Some(sent) = responder.transmit() {
                wires.push((n, *last, sent));
            }
        }
        for (sender, last, sent) in wires {
            for (n, (_, responder)) in boxes.iter_mut().enumerate() {
                if n != sender {
                    responder.receive(now, LINK, from(last, PORT), &sent.bytes);
                }
            }
            said.push(sent);
        }
        let next = boxes
            .iter()
            .filter_map(|(_, responder)| responder.deadline())
            .min();
        match next {
            Some(at) if at.max(now) <= until => now = at.max(now),
            _ => return said,
        }
    }
}

fn settled(hostname: &str, last: u8) -> Responder {
    let mut responder = Responder::new(Random::new(u64::from(last)));
    responder.configure(Now::ZERO, site(hostname), &at(last));
    run(&mut [(last, &mut responder)], Now::ZERO, Now::from_secs(10));
    responder
}

fn query(name: &str, kind: TYPE, unicast: bool) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    let class = QCLASS::CLASS(CLASS::IN);
    let name = Name::new(name).unwrap();
    packet
        .questions
        .push(Question::new(name, QTYPE::TYPE(kind), class, unicast));
    packet.build_bytes_vec().unwrap()
}

fn ask(responder: &mut Responder, now: Now, port: u16, bytes: &[u8]) -> Vec<Transmit> {
    responder.receive(now, LINK, from(99, port), bytes);
    run(&mut [(1, responder)], now, now + Now::from_secs(1))
}

#[test]
fn a_name_is_asked_for_three_times_then_told_twice() {
    let mut responder = Responder::new(Random::new(1));
    responder.configure(Now::ZERO, site("otter"), &at(1));
    let said = run(&mut [(1, &mut responder)], Now::ZERO, Now::from_secs(10));
    let packets: Vec<_> = said
        .iter()
        .map(|t| Packet::parse(&t.bytes).unwrap())
        .collect();
    let (told, asked): (Vec<_>, Vec<_>) = packets
        .iter()
        .partition(|packet| packet.has_flags(PacketFlag::RESPONSE));
    assert_eq!(asked.len(), 6, "three for the box, three for its service");
    let host = Name::new("otter.local").unwrap();
    let times = told
        .iter()
        .filter(|p| p.answers.iter().any(|a| a.name == host))
        .count();
    assert_eq!(times, 2);
    assert!(
        asked
            .iter()
            .all(|p| p.questions.iter().all(|q| q.unicast_response))
    );
    assert_eq!(responder.deadline(), None);
}

#[test]
fn nothing_is_answered_before_the_name_is_ours() {
    let mut responder = Responder::new(Random::new(1));
    responder.configure(Now::ZERO, site("otter"), &at(1));
    responder.receive(
        Now::ZERO,
        LINK,
        from(9, 4000),
        &query("otter.local", TYPE::A, false),
    );
    assert_eq!(responder.transmit(), None);
}

#[test]
fn of_two_boxes_with_one_name_the_first_keeps_it() {
    let mut first = settled("otter", 1);
    let mut second = Responder::new(Random::new(2));
    let now = Now::from_secs(100);
    second.configure(now, site("otter"), &at(2));
    run(
        &mut [(1, &mut first), (2, &mut second)],
        now,
        now + Now::from_secs(20),
    );
    assert_eq!((first.hostname(), second.hostname()), ("otter", "otter-2"));
    let mut third = Responder::new(Random::new(3));
    third.configure(now, site("otter"), &at(3));
    let mut all = [(1, &mut first), (2, &mut second), (3, &mut third)];
    run(&mut all, now, now + Now::from_secs(40));
    assert_eq!(third.hostname(), "otter-3");
}

#[test]
fn who_claims_the_name_just_after_another_was_told_of_it_hears_whose_it_is() {
    let mut first = settled("otter", 1);
    let now = Now::from_secs(100);
    let mut probe = Packet::new_query(0);
    let asked = query("otter.local", TYPE::A, false);
    probe.questions = Packet::parse(&asked).unwrap().questions;
    let data = RData::A(A::from(std::net::Ipv4Addr::new(192, 0, 2, 2)));
    let name = Name::new("otter.local").unwrap();
    let proposed = ResourceRecord::new(name, CLASS::IN, 120, data);
    probe.name_servers.push(proposed);
    let probe = probe.build_bytes_vec().unwrap();
    let question = query("otter.local", TYPE::A, false);
    assert_eq!(ask(&mut first, now, PORT, &question).len(), 1);
    let answered = |probe: &[u8], first: &mut Responder, after: u64| {
        !ask(first, now + Now::from_millis(after), PORT, probe).is_empty()
    };
    assert!(!answered(&probe, &mut first, 100), "told just now");
    assert!(answered(&probe, &mut first, 350), "the second probe");
    assert!(!answered(&question, &mut first, 900), "no probe");
}

#[test]
fn boxes_that_start_at_once_end_with_different_names_whatever_the_chance() {
    for seed in 0..200 {
        let mut boxes: Vec<_> = (1..=4)
            .map(|n| (n, Responder::new(Random::new(seed * 10 + u64::from(n)))))
            .collect();
        for (n, responder) in &mut boxes {
            responder.configure(Now::ZERO, site("otter"), &at(*n));
        }
        let mut all: Vec<_> = boxes
            .iter_mut()
            .map(|(n, responder)| (*n, responder))
            .collect();
        run(&mut all, Now::ZERO, Now::from_secs(120));
        let mut names: Vec<_> = boxes.iter().map(|(_, r)| r.hostname().to_owned()).collect();
        names.sort();
        assert_eq!(
            names,
            ["otter", "otter-2", "otter-3", "otter-4"],
            "seed {seed}"
        );
    }
}

#[test]
fn a_stranger_who_takes_the_name_later_is_told_and_a_stubborn_one_gets_it() {
    let mut ours = settled("otter", 1);
    let mut claim = Packet::new_reply(0);
    let data = RData::A(A::from(std::net::Ipv4Addr::new(192, 0, 2, 50)));
    let name = Name::new("otter.local").unwrap();
    claim
        .answers
        .push(ResourceRecord::new(name, CLASS::IN, 120, data));
    let claim = claim.build_bytes_vec().unwrap();
    let now = Now::from_secs(100);
    ours.receive(now, LINK, from(50, PORT), &claim);
    assert_eq!(ours.hostname(), "otter", "asks again first");
    ours.receive(now, LINK, from(50, PORT), &claim);
    assert_eq!(ours.hostname(), "otter-2");
}

#[test]
fn addresses_are_answered_with_their_other_family_and_unasked_kinds_are_denied() {
    let mut responder = settled("otter", 1);
    let now = Now::from_secs(100);
    let said = ask(
        &mut responder,
        now,
        PORT,
        &query("OTTER.local", TYPE::A, false),
    );
    let [answer] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!(answer.to, None);
    let packet = Packet::parse(&answer.bytes).unwrap();
    assert_eq!((packet.id(), packet.answers.len()), (0, 1));
    assert!(packet.answers[0].cache_flush && packet.questions.is_empty());
    let said = ask(
        &mut responder,
        now,
        PORT,
        &query("otter.local", TYPE::AAAA, false),
    );
    let packet = Packet::parse(&said[0].bytes).unwrap();
    assert!(matches!(packet.answers[0].rdata, RData::NSEC(_)));
}

#[test]
fn a_client_without_multicast_gets_an_answer_of_its_own() {
    let mut responder = settled("otter", 1);
    let question = query("photos.otter.local", TYPE::A, false);
    let said = ask(&mut responder, Now::from_secs(100), 40_000, &question);
    assert_eq!(said[0].to, Some(from(99, 40_000)));
    let packet = Packet::parse(&said[0].bytes).unwrap();
    assert_eq!((packet.id(), packet.questions.len()), (7, 1));
    assert!(packet.answers[0].ttl <= 10 && !packet.answers[0].cache_flush);
}

#[test]
fn browsing_finds_box_and_service_with_all_that_it_takes_to_open_them() {
    let mut responder = settled("otter", 1);
    let question = query("_https._tcp.local", TYPE::PTR, false);
    let said = ask(&mut responder, Now::from_secs(100), PORT, &question);
    let packet = Packet::parse(&said[0].bytes).unwrap();
    assert_eq!(packet.answers.len(), 2);
    let kinds: Vec<_> = packet
        .additional_records
        .iter()
        .map(|r| r.rdata.type_code())
        .collect();
    for kind in [TYPE::SRV, TYPE::TXT, TYPE::A] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

#[test]
fn what_the_client_knows_or_was_just_told_is_not_said_again() {
    let mut responder = settled("otter", 1);
    let now = Now::from_secs(100);
    let question = query("otter.local", TYPE::A, false);
    assert_eq!(ask(&mut responder, now, PORT, &question).len(), 1);
    assert!(
        ask(&mut responder, now, PORT, &question).is_empty(),
        "told just now"
    );
    let mut packet = Packet::new_query(0);
    packet.questions = Packet::parse(&question).unwrap().questions;
    let data = RData::A(A::from(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    let name = Name::new("otter.local").unwrap();
    packet
        .answers
        .push(ResourceRecord::new(name, CLASS::IN, 100, data));
    let knows = packet.build_bytes_vec().unwrap();
    let later = now + Now::from_secs(10);
    assert!(ask(&mut responder, later, PORT, &knows).is_empty(), "known");
    let alone = query("otter.local", TYPE::A, true);
    let said = ask(&mut responder, later, PORT, &alone);
    assert_eq!(
        said[0].to,
        Some(from(99, PORT)),
        "told lately, so to the one who asks"
    );
}

#[test]
fn a_new_address_is_told_and_the_old_one_taken_back_under_the_same_name() {
    let mut responder = settled("otter", 1);
    let now = Now::from_secs(100);
    responder.configure(now, site("otter"), &at(7));
    let said = run(&mut [(7, &mut responder)], now, now + Now::from_secs(5));
    let packets: Vec<_> = said
        .iter()
        .map(|t| Packet::parse(&t.bytes).unwrap())
        .collect();
    assert!(packets[0].answers.iter().all(|record| record.ttl == 0));
    assert!(
        packets.iter().all(|packet| packet.questions.is_empty()),
        "no claim anew"
    );
    responder.go();
    let last = responder.transmit().unwrap();
    let packet = Packet::parse(&last.bytes).unwrap();
    assert!(packet.answers.len() > 5 && packet.answers.iter().all(|record| record.ttl == 0));
    assert_eq!(responder.deadline(), None);
}

#[test]
fn questions_from_elsewhere_and_nonsense_are_met_with_silence() {
    let mut responder = settled("otter", 1);
    let now = Now::from_secs(100);
    let question = query("otter.local", TYPE::A, true);
    responder.receive(
        now,
        LINK,
        SocketAddr::from(([203, 0, 113, 5], 4000)),
        &question,
    );
    responder.receive(now, LINK + 1, from(9, 4000), &question);
    // A name that points to itself.
    let mut evil = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1];
    responder.receive(now, LINK, from(9, PORT), &evil);
    evil[4..12].fill(0xff);
    responder.receive(now, LINK, from(9, PORT), &evil);
    for cut in 0..question.len() {
        responder.receive(now, LINK, from(9, PORT), &question[..cut]);
    }
    responder.tick(now);
    assert_eq!(responder.transmit(), None);
}

#[test]
fn many_services_are_told_in_messages_that_fit() {
    let mut responder = Responder::new(Random::new(1));
    let mut site = site("otter");
    site.services = (0..60)
        .map(|n| Published {
            id: format!("service-{n}"),
            title: format!("A service with a long name and the number {n}"),
        })
        .collect();
    responder.configure(Now::ZERO, site, &at(1));
    let said = run(&mut [(1, &mut responder)], Now::ZERO, Now::from_secs(20));
    assert!(said.iter().all(|sent| sent.bytes.len() <= 1440));
    assert!(said.len() > 60);
}

#[test]
fn the_next_name_counts_on() {
    for (name, next) in [
        ("otter", "otter-2"),
        ("otter-2", "otter-3"),
        ("a-1", "a-1-2"),
    ] {
        assert_eq!(next_name(name), next);
    }
    assert_eq!(next_name(&"x".repeat(63)).len(), 63);
}
