//! The reconciler against a model of PID 1: whatever happened, it ends with what should run, asks
//! for nothing more, and never starts again what runs as it should.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use services::{
    catalog::Found,
    package::{Package, PackageImage, Place},
    plan::FileIdentity,
    ports::Route,
    reconcile::{Action, Inputs, Reconciler},
    registry::{Desired, Registry},
    spec::ServiceSpec,
    view::ServiceState,
};
use supervise::unit::{Exit, UnitInfo, UnitName, UnitState};

/// PID 1's table, the disk and the manager.
struct World {
    folder: PathBuf,
    registry: Registry,
    reconciler: Reconciler,
    found: BTreeMap<String, Found>,
    units: BTreeMap<UnitName, UnitInfo>,
    now: Instant,
    starts: usize,
    routes: Vec<Route>,
    names: Vec<(String, std::net::Ipv4Addr)>,
}

#[derive(Clone, Debug)]
enum Event {
    Install { id: u8, version: u8 },
    Break(u8),
    Remove(u8),
    Want(u8, bool),
    Crash(u8),
    ReplaceManager,
    Step { lose: bool },
    Wait(u8),
}

impl World {
    fn new() -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("reconcile-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            registry: Registry::load(&folder.join("services.json")).unwrap(),
            folder,
            reconciler: Reconciler::new(Place::default()),
            found: BTreeMap::new(),
            units: BTreeMap::new(),
            now: Instant::now(),
            starts: 0,
            routes: Vec::new(),
            names: Vec::new(),
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Install { id, version } => {
                let package = package(&name(*id), *version);
                self.found
                    .insert(name(*id), Found::Package(Arc::new(package)));
            }
            Event::Break(id) => {
                let (id, path) = (name(*id), PathBuf::from("/p.s9pk"));
                let why = "it is broken".to_owned();
                self.found
                    .insert(id.clone(), Found::Refused { id, path, why });
            }
            Event::Remove(id) => drop(self.found.remove(&name(*id))),
            Event::Want(id, run) => {
                let desired = if *run { Desired::Run } else { Desired::Stopped };
                // Nobody can wish for what the box has never seen.
                let _ = self.registry.set_desired(&name(*id), desired);
            }
            Event::Crash(id) => {
                let unit = UnitName::service(&name(*id)).unwrap();
                if let Some(unit) = self.units.get_mut(&unit) {
                    let retry_in = Duration::from_secs(1);
                    unit.state = UnitState::BackingOff {
                        retry_in,
                        last: Exit::Code(1),
                    };
                }
            }
            Event::ReplaceManager => {
                self.reconciler = Reconciler::new(Place::default());
                self.registry = Registry::load(&self.folder.join("services.json")).unwrap();
            }
            Event::Step { lose } => drop(self.step(*lose)),
            Event::Wait(seconds) => self.now += Duration::from_secs((*seconds).into()),
        }
    }

    fn step(&mut self, lose: bool) -> Vec<Action> {
        let found: Vec<Found> = self.found.values().cloned().collect();
        let units: Vec<UnitInfo> = self.units.values().cloned().collect();
        let inputs = Inputs {
            packages: Some(&found),
            units: &units,
            heard: &BTreeMap::new(),
            now: self.now,
        };
        let actions = self.reconciler.step(&mut self.registry, &inputs);
        if !lose {
            actions.iter().for_each(|action| self.obey(action));
        }
        actions
    }

    /// What PID 1 does.
    fn obey(&mut self, action: &Action) {
        match action {
            Action::Start { request, .. } => {
                let known = self.units.get(&request.unit);
                let same = known.is_some_and(|unit| unit.spec_hash == request.spec_hash);
                assert!(!same, "{} was started again though it runs", request.unit);
                self.starts += 1;
                let unit = unit(&request.unit, request.spec_hash);
                self.units.insert(request.unit.clone(), unit);
            }
            Action::Stop(unit) => drop(self.units.remove(unit)),
            Action::Routes(routes) => self.routes.clone_from(routes),
            Action::Names(names) => self.names.clone_from(names),
            Action::Forwards(_) => {}
        }
    }

    /// Whether a broken package can't be told from any service's.
    fn has_nameless(&self) -> bool {
        let nameless = |found: &Found| matches!(found, Found::Refused { id, .. } if self.registry.get(id).is_none());
        self.found.values().any(nameless)
    }

    /// The hash of what should run, by unit; `None` where nothing is to be changed.
    fn should_run(&mut self) -> BTreeMap<UnitName, Option<[u8; 32]>> {
        let mut should = BTreeMap::new();
        for (id, found) in self.found.clone() {
            let unit = UnitName::service(&id).unwrap();
            match found {
                Found::Refused { .. } if self.units.contains_key(&unit) => {
                    should.insert(unit, None);
                }
                Found::Refused { .. } => {}
                Found::Package(package) => {
                    let entry = self.registry.enter(&id).unwrap();
                    if entry.desired == Desired::Run {
                        let plan = package.plan(entry.index, &Place::default()).unwrap();
                        let bytes = plan.to_bytes().unwrap();
                        should.insert(unit, Some(services::plan::Plan::hash(&bytes)));
                    }
                }
            }
        }
        should
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happened_it_ends_with_what_should_run(
        events in proptest::collection::vec(event(), 0..40)
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.now += Duration::from_secs(60);
        world.step(false);
        let should = world.should_run();
        let running: BTreeSet<_> = world.units.keys().cloned().collect();
        let wanted: BTreeSet<_> = should.keys().cloned().collect();
        if world.has_nameless() {
            prop_assert!(running.is_superset(&wanted));
        } else {
            prop_assert_eq!(running, wanted);
        }
        for (unit, hash) in should {
            if let Some(hash) = hash {
                prop_assert_eq!(world.units[&unit].spec_hash, hash);
            }
        }
        let routed: BTreeSet<_> = world.routes.iter().map(|route| route.service.clone()).collect();
        let wanted = world.found.values().filter(|found| matches!(found, Found::Package(_)));
        let wanted: BTreeSet<_> = wanted
            .map(|found| found.id().to_owned())
            .filter(|id| world.registry.get(id).is_some_and(|e| e.desired == Desired::Run))
            .collect();
        prop_assert_eq!(&routed, &wanted);
        let named: BTreeSet<_> = world.names.iter().map(|(id, _)| id.clone()).collect();
        prop_assert_eq!(named, wanted);

        prop_assert_eq!(world.step(false), vec![], "it asks for nothing more");
        let starts = world.starts;
        world.happen(&Event::ReplaceManager);
        let routes_only = world.step(false).iter().all(|action| matches!(action, Action::Routes(_) | Action::Names(_) | Action::Forwards(_)));
        prop_assert!(routes_only, "a new manager adopts what runs");
        prop_assert_eq!(world.starts, starts);
    }
}

#[test]
fn nothing_is_stopped_before_anybody_has_looked_for_packages() {
    let mut world = World::new();
    let units = [unit(&UnitName::service("demo").unwrap(), [7; 32])];
    let mut inputs = Inputs {
        packages: None,
        units: &units,
        heard: &BTreeMap::new(),
        now: world.now,
    };
    assert_eq!(world.reconciler.step(&mut world.registry, &inputs), []);
    inputs.packages = Some(&[]);
    let actions = world.reconciler.step(&mut world.registry, &inputs);
    assert!(actions.contains(&Action::Stop(UnitName::service("demo").unwrap())));
}

#[test]
fn a_request_that_was_lost_is_repeated_but_not_at_once() {
    let mut world = World::new();
    world.happen(&Event::Install { id: 0, version: 1 });
    assert!(matches!(world.step(true)[0], Action::Start { .. }));
    assert_eq!(world.step(true), []);
    world.happen(&Event::Wait(5));
    assert!(matches!(world.step(false)[0], Action::Start { .. }));
}

#[test]
fn a_refused_package_is_shown_with_its_reason_beside_one_that_runs() {
    let mut world = World::new();
    world.happen(&Event::Install { id: 0, version: 1 });
    world.happen(&Event::Break(1));
    world.step(false);
    world.step(false);
    let view = world.reconciler.view();
    assert_eq!(view[0].state, ServiceState::Starting);
    assert_eq!(
        (view[1].state, view[1].why.as_str()),
        (ServiceState::Refused, "it is broken")
    );
}

#[test]
fn a_package_that_is_damaged_under_another_name_stops_nothing() {
    let mut world = World::new();
    world.happen(&Event::Install { id: 0, version: 1 });
    world.step(false);
    let (id, why) = ("service0-v1".to_owned(), "damaged".to_owned());
    let refused = Found::Refused {
        id: id.clone(),
        path: PathBuf::from("/p.s9pk"),
        why,
    };
    world.found = BTreeMap::from([(id, refused)]);
    assert!(
        !world
            .step(false)
            .iter()
            .any(|action| matches!(action, Action::Stop(_)))
    );
    world.found.clear();
    assert!(
        world
            .step(false)
            .iter()
            .any(|action| matches!(action, Action::Stop(_)))
    );
}

#[test]
fn a_door_port_belongs_to_the_first_who_asks() {
    let mut world = World::new();
    world.happen(&Event::Install { id: 0, version: 1 });
    world.happen(&Event::Install { id: 1, version: 1 });
    world.step(false);
    let ports: Vec<_> = world.routes.iter().map(|route| route.tls_port).collect();
    assert_eq!(ports, [Some(8443), None]);
}

fn event() -> impl Strategy<Value = Event> {
    let id = || 0..4_u8;
    prop_oneof![
        3 => (id(), 0..3_u8).prop_map(|(id, version)| Event::Install { id, version }),
        1 => id().prop_map(Event::Break),
        1 => id().prop_map(Event::Remove),
        2 => (id(), any::<bool>()).prop_map(|(id, run)| Event::Want(id, run)),
        1 => id().prop_map(Event::Crash),
        1 => Just(Event::ReplaceManager),
        3 => any::<bool>().prop_map(|lose| Event::Step { lose }),
        1 => (0..9_u8).prop_map(Event::Wait),
    ]
}

fn name(id: u8) -> String {
    format!("service{id}")
}

fn package(id: &str, version: u8) -> Package {
    let spec = "[[daemon]]\nname = 'web'\ncommand = ['x']\n\
                [[interface]]\nid = 'ui'\nport = 80\ntls_port = 8443";
    Package {
        id: id.to_owned(),
        title: id.to_owned(),
        version: version.to_string(),
        path: PathBuf::from(format!("/{id}-{version}.s9pk")),
        identity: FileIdentity {
            dev: 1,
            inode: 1,
            size: 1,
            mtime_ns: version.into(),
            ctime_ns: 1,
        },
        images: BTreeMap::from([("main".to_owned(), PackageImage::default())]),
        spec: ServiceSpec::parse(spec).unwrap(),
    }
}

fn unit(name: &UnitName, spec_hash: [u8; 32]) -> UnitInfo {
    UnitInfo {
        unit: name.clone(),
        state: UnitState::Running,
        pid: Some(100),
        generation: 1,
        spec_hash,
        restarts: 0,
        since: Duration::ZERO,
    }
}
