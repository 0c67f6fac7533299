//! Chance decides what is lost, doubled and slow.

use std::time::Duration;

use super::world::{Manner, World, client, code, ip, is_true, query};
use crate::{
    names::dns::{
        config::{DnsConfig, DnsSettings, Privacy},
        forward::Client,
        wire::{self, SERVER_FAILURE},
    },
    net::{clock::Now, random::Random},
};

/// Loss, doubling, reorder and servers of all manners: each question is answered once, within
/// clients' patience, with the truth or with a failure.
#[test]
fn ten_thousand_schedules_end_well() {
    const MANNERS: [Manner; 10] = [
        Manner::Good,
        Manner::Silent,
        Manner::Slow(700),
        Manner::Slow(3000),
        Manner::Fails,
        Manner::Lies,
        Manner::Cuts,
        Manner::Old,
        Manner::Lowers,
        Manner::Garbles,
    ];
    let mut random = Random::new(42);
    let (mut truths, mut failures) = (0, 0);
    for schedule in 0..10_000 {
        let count = 1 + random.below(3) as u8;
        let mut pick = || MANNERS[random.below(10) as usize];
        let servers: Vec<_> = (1..=count).map(|n| (n, pick())).collect();
        let mut world = World::new(&servers);
        world.random = Random::new(schedule);
        (world.loss, world.doubling) = (random.below(500), random.below(300));
        world.no_streams = random.below(4) == 0;
        let privacy = [Privacy::None, Privacy::Opportunistic];
        world.configure(DnsConfig {
            named: servers.iter().map(|(n, _)| ip(*n)).collect(),
            settings: DnsSettings {
                mix_case: random.below(2) == 0,
                encrypt: privacy[random.below(2) as usize] == Privacy::Opportunistic,
                ..DnsSettings::default()
            },
            ..DnsConfig::default()
        });
        let mut asked = Vec::new();
        for n in 0..1 + random.below(6) {
            let name = format!("n{}.example", random.below(3));
            let from = client(1 + random.below(3) as u8);
            asked.push((world.now, from, n as u16, name.clone()));
            world.ask(from, &query(n as u16, &name));
            world.pass(Duration::from_millis(random.below(2000)));
        }
        world.pass(Duration::from_secs(10));
        assert_eq!(world.answers.len(), asked.len(), "{schedule}: {servers:?}");
        for (began, from, id, name) in &asked {
            let is_its = |(_, client, answer): &&(Now, Client, Vec<u8>)| {
                client == from && wire::u16_at(answer, 0) == Some(*id)
            };
            let (at, _, answer) = world.answers.iter().find(is_its).unwrap();
            assert!(*at <= *began + Duration::from_millis(4501), "{schedule}");
            if is_true(answer, name) {
                truths += 1;
            } else {
                assert_eq!(code(answer), SERVER_FAILURE, "{schedule}: {servers:?}");
                failures += 1;
            }
        }
        assert_eq!(
            (world.resolver.under_way(), world.resolver.deadline()),
            (0, None)
        );
    }
    assert!(truths > 10_000 && failures > 1_000, "{truths}, {failures}");
}
