//! What a successor makes of a hand-over that may be anything.

use std::{os::fd::OwnedFd, time::Duration};

use netstack::net::transaction;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use supervise::unit::{Exit, UnitName};

use super::{
    estate::{Estate, EstateRecord},
    inheritance::{self, JobRecord, UnitRecord},
    netchange::NetChanges,
    succession::SettledRecord,
    unit::{Due, Life},
};
use crate::{
    boot::{Action, Boot, BootRecord, STAGE0, STAGE1},
    crash::budget,
    fuzzing::steps,
    handover::{
        self, Handover,
        descriptors::Inherited,
        records::{self, Tag},
    },
};

/// A predecessor that publishes what it likes, and writes wherever it likes; then its successor.
pub fn handover(script: &[u8]) {
    let mut of_before = Handover::sample();
    let mut state = Vec::new();
    for (what, bytes) in steps(script) {
        match what {
            0 => {
                if let Some((at, bytes)) = bytes.split_first_chunk() {
                    of_before.scribble(u32::from_le_bytes(*at).into(), bytes);
                }
            }
            1 => {
                let _ = of_before.publish(bytes);
            }
            // One record of the state; its length is right, its content anything.
            2..=6 | 8 | 9 => {
                let (tag, version) = match what {
                    8 => (Tag::Network as u16, 1_u16),
                    9 => (Tag::Network as u16, 2),
                    _ => (u16::from(what) - 1, 1),
                };
                state.extend_from_slice(&tag.to_ne_bytes());
                state.extend_from_slice(&version.to_ne_bytes());
                state.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
                state.extend_from_slice(bytes);
            }
            _ => {
                let _ = of_before.publish(&state);
            }
        }
    }
    let mut successor = of_before.successor();
    let (_, epitaphs) = successor.epitaphs();
    epitaphs
        .iter()
        .for_each(|epitaph| drop(epitaph.to_string()));
    let _ = budget::course(&handover::failures(&epitaphs), NOW);
    if let Some(state) = successor.predecessor() {
        assert!(state.len() <= handover::layout::MAX_STATE);
        take_over(&state);
        successor.publish(b"mine").expect("a short state");
        successor.taken_over();
        let mut next = successor.successor();
        assert_eq!(next.predecessor().as_deref(), Some(&b"mine"[..]));
    }
}

/// All that is read, and what is done with it in the first minutes.
fn take_over(state: &[u8]) {
    let mut from = Inherited::of(open());
    if let Some(record) = records::read::<EstateRecord>(state, Tag::Sockets, 1) {
        let _ = Estate::inherit(&record, &mut from);
    }
    for steps in [STAGE0, STAGE1] {
        let record = records::read::<BootRecord<'_>>(state, Tag::Boot, 1);
        if let Some(boot) = record.and_then(|record| Boot::resume(steps, record)) {
            go_on(boot);
        }
    }
    if let Some(settled) = records::read::<SettledRecord<'_>>(state, Tag::Settled, 1) {
        let _ = settled.keep.to_bytes();
        settled.empty_groups.iter().for_each(|path| is_ours(path));
        let hopeless = |at: Duration| super::hunt::is_hopeless(Some(at), NOW);
        let _ = settled.drivers_done.map(hopeless);
    }
    if let Some(mut changes) = NetChanges::read(state, NOW) {
        // Whatever a predecessor says, no change waits for longer than the longest may.
        for _ in 0..2 {
            let next = changes.deadline().unwrap_or(NOW);
            assert!(next <= NOW + transaction::GRACE + transaction::MAX_WAIT);
            changes.tick(next);
        }
        assert!(changes.deadline().is_none());
    }
    for unit in records::read::<Vec<UnitRecord<'_>>>(state, Tag::Units, 1).unwrap_or_default() {
        live(&unit.name, unit.life.into_owned());
        unit.cgroup.iter().for_each(|path| is_ours(path));
    }
    for job in records::read::<Vec<JobRecord<'_>>>(state, Tag::Jobs, 1).unwrap_or_default() {
        is_ours(&job.cgroup);
    }
}

/// A path that is taken for a group's leads nowhere else.
fn is_ours(path: &str) {
    if inheritance::is_own_group(path) {
        use std::path::{Component, Path};
        let own = path.starts_with("pilot") || path.starts_with("services");
        let mut parts = Path::new(path).components();
        let stays = parts.all(|part| matches!(part, Component::Normal(_)));
        assert!(own && stays, "{path:?}");
    }
}

fn go_on(mut boot: Boot) {
    for now in [NOW, NOW + Duration::from_secs(300)] {
        let _ = (boot.next_deadline(), boot.reports());
        for _ in 0..100 {
            let Some(step) = boot.overdue(now) else {
                break;
            };
            boot.failed(step.action, now, "late".to_owned());
        }
        while let Some(step) = boot.begin_next(now) {
            boot.done(step.action, now);
        }
        boot.made_up(Action::Data, now);
    }
}

/// A few minutes of a unit: whatever it was, it can be started, stopped and started again.
fn live(name: &UnitName, mut life: Life) {
    let mut now = NOW;
    for turn in 0..20 {
        let info = life.info(name, [0; 32], now);
        assert_eq!(info.pid, life.pid());
        let _ = (life.retry_in(now), life.age(now), life.is_over());
        match life.due(now) {
            Some(Due::Start) => life.started(7, now),
            Some(Due::Kill | Due::Stuck) => life.ended(Exit::Code(1), now, turn),
            None if turn == 5 => drop(life.stop(true, Duration::from_secs(2), now)),
            None if turn == 8 => drop(life.condemn(now)),
            None if turn == 11 => life.want(),
            None => {}
        }
        let next = life.next_deadline().unwrap_or(now);
        now = next.clamp(now, now + Duration::from_secs(60));
    }
}

/// One open file of each kind that is inherited.
fn open() -> Vec<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (a, b) = pair.expect("a pair of sockets");
    vec![a, b]
}

/// Since the kernel started.
const NOW: Duration = Duration::from_secs(1000);

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use supervise::{backoff::Policy, control::StartService};

    use super::{
        super::{
            inheritance::{ChildRecord, KindRecord},
            jobs::Purpose,
        },
        *,
    };
    use crate::handover::descriptors::Handed;

    /// Else the fuzzer begins with what is refused at once.
    #[test]
    fn the_seed_is_what_this_version_hands_over() {
        let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/handover/whole");
        let written = sample();
        if std::env::var_os("WRITE_SEEDS").is_some() {
            std::fs::write(seed, &written).unwrap();
        }
        let seed = std::fs::read(seed).unwrap();
        assert!(seed == written, "WRITE_SEEDS=1 writes it anew");
    }

    fn sample() -> Vec<u8> {
        // Descriptor 3, the same in every run.
        let handed: Handed = postcard::from_bytes(&[6, 1, 1]).unwrap();
        let child = || ChildRecord {
            pid: 7,
            pidfd: handed,
            start_error: handed,
        };
        let mut life = Life::new(Policy::ROLE);
        life.started(7, Duration::from_secs(3));
        let service: UnitName = "service-demo".parse().unwrap();
        let spec = StartService {
            unit: service.clone(),
            spec_hash: [7; 32],
            stop_timeout_ms: 1000,
            stop_order: 1,
            limits: Default::default(),
        };
        let mut ending = life.clone();
        ending.stop(false, Duration::from_secs(2), Duration::from_secs(9));
        let units = vec![
            unit(
                "front",
                life.clone(),
                KindRecord::Role,
                Some(child()),
                handed,
            ),
            unit(
                service.as_str(),
                ending,
                KindRecord::Service {
                    spec: Cow::Owned(spec),
                    plan: handed,
                    agents: handed,
                },
                None,
                handed,
            ),
        ];
        let jobs = vec![JobRecord {
            purpose: Cow::Owned(Purpose::MountData),
            child: child(),
            cgroup: "pilot/helpers/1".to_owned(),
            answer: Some(handed),
            give_up_at: Some(Duration::from_secs(60)),
        }];
        let mut boot = Boot::new(STAGE1, Vec::new());
        let began = boot.begin_next(Duration::from_secs(1)).unwrap();
        boot.failed(began.action, Duration::from_secs(2), "why".to_owned());
        boot.begin_next(Duration::from_secs(2)).unwrap();
        let mut script = Vec::new();
        let mut push = |what: u8, bytes: Vec<u8>| {
            script.push(what);
            script.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            script.extend(bytes);
        };
        push(2, postcard::to_stdvec(&boot.record()).unwrap());
        push(4, postcard::to_stdvec(&units).unwrap());
        push(5, postcard::to_stdvec(&jobs).unwrap());
        push(6, postcard::to_stdvec(&settled()).unwrap());
        push(
            9,
            postcard::to_stdvec(&NetChanges::sample().record()).unwrap(),
        );
        push(7, Vec::new());
        script
    }

    fn unit<'a>(
        name: &str,
        life: Life,
        kind: KindRecord<'a>,
        child: Option<ChildRecord>,
        handed: Handed,
    ) -> UnitRecord<'a> {
        UnitRecord {
            name: Cow::Owned(name.parse().unwrap()),
            life: Cow::Owned(life),
            kind,
            cgroup: Some(format!("pilot/{name}-1")),
            child,
            control: Some(handed),
            is_behind: true,
            log: (handed, handed),
        }
    }

    fn settled() -> SettledRecord<'static> {
        SettledRecord {
            helpers_started: 3,
            left_behind: Cow::Owned(vec![9]),
            empty_groups: vec!["pilot/front-1".to_owned()],
            reserve_is_given: false,
            managers_notices: Cow::Owned(Vec::new()),
            down: None,
            watchdog: None,
            console_is_up: true,
            keep: Cow::Owned(Default::default()),
            keep_is_there: true,
            keep_write: None,
            door: Some(Cow::Owned(vec![1, 2, 3])),
            wishes: Cow::Owned(Default::default()),
            found: Cow::Owned(vec![Action::Keep]),
            drivers_done: Some(Duration::from_secs(2)),
            data: Cow::Owned(supervise::status::DataState::Pending),
            data_was_mounted: false,
            data_asked: None,
            net: Cow::Owned(Default::default()),
            trouble: Cow::Owned(Vec::new()),
            other_hostname: Some(Cow::Borrowed("otter-2")),
            log_tail: Cow::Owned(vec!["a line".to_owned()]),
        }
    }
}
