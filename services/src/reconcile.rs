//! What to ask of PID 1 so that what runs is what should run.
//!
//! Level-triggered: each step looks at the whole state and says what is missing, so that a lost
//! message or a new manager costs one step and no service. What runs as it should is adopted,
//! never restarted. Sans-I/O but for the registry, whose changes must be on the disk first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use supervise::{
    control::{Forward, StartService},
    unit::{UnitInfo, UnitName, UnitState},
};

use crate::{
    catalog::Found,
    package::{Package, Place, address},
    plan::Plan,
    ports::{Ports, Route},
    registry::{Desired, Registry},
    view::{Heard, ServiceView},
};

/// Brings about what should be, one step at a time.
#[derive(Debug)]
pub struct Reconciler {
    place: Place,
    asked: BTreeMap<UnitName, (Asked, Instant)>,
    routes: Option<(Ports, Instant)>,
    view: Vec<ServiceView>,
}

/// All that a step looks at.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The packages, or `None` while nobody has looked: then nothing is stopped.
    pub packages: Option<&'a [Found]>,
    /// PID 1's answer to `List`.
    pub units: &'a [UnitInfo],
    /// The agents' last reports, by service id.
    pub heard: &'a BTreeMap<String, Heard>,
    /// Now.
    pub now: Instant,
}

/// What is to be asked of PID 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this service, or replace it; the plan goes along as a memfd.
    Start {
        /// The request.
        request: StartService,
        /// The plan's bytes.
        plan: Vec<u8>,
    },
    /// Stop this unit and forget it.
    Stop(UnitName),
    /// The ports that the kernel forwards to services, all of them.
    Forwards(Vec<Forward>),
    /// The services' ids and addresses, all of them, by which they find each other.
    Names(Vec<(String, Ipv4Addr)>),
    /// The front door's routes to services, all of them.
    Routes(Vec<Route>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Start([u8; 32]),
    Stop,
}

/// A service with its number and plan.
struct Planned {
    package: Arc<Package>,
    desired: Desired,
    address: Ipv4Addr,
    plan: Result<Vec<u8>, String>,
}

impl Reconciler {
    /// A reconciler that has asked for nothing yet.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            asked: BTreeMap::new(),
            routes: None,
            view: Vec::new(),
        }
    }

    /// Looks at everything and says what is to be asked now. Asked again with the same inputs, it
    /// stays silent for a while and then repeats what still is not so.
    pub fn step(&mut self, registry: &mut Registry, inputs: &Inputs<'_>) -> Vec<Action> {
        self.asked
            .retain(|_, (_, at)| inputs.now.saturating_duration_since(*at) < PATIENCE);
        let Some(found) = inputs.packages else {
            return Vec::new();
        };
        let mut planned = Vec::new();
        let mut view = Vec::new();
        let mut listed = BTreeSet::new();
        for found in found {
            listed.insert(found.id().to_owned());
            match found {
                Found::Package(package) => match self.plan(registry, package) {
                    Ok(service) => planned.push(service),
                    Err(why) => view.push(ServiceView::refused(&package.id, &package.title, why)),
                },
                Found::Refused { id, why, .. } => {
                    view.push(ServiceView::refused(id, id, why.clone()));
                }
            }
        }
        let mut actions = Vec::new();
        let ports = ports(&planned);
        for service in &planned {
            let unit = unit_of(&service.package.id, inputs.units);
            actions.extend(self.act(service, unit, inputs.now));
            let mut shown = self.describe(service, unit, inputs);
            shown.refused = ports.refused.get(&service.package.id).cloned();
            view.push(shown);
        }
        // A package that does not even tell its id may be any service's.
        let nameless = found
            .iter()
            .any(|found| matches!(found, Found::Refused { id, .. } if registry.get(id).is_none()));
        if !nameless {
            actions.extend(self.stop_vanished(&listed, inputs));
        }
        actions.extend(self.lead(ports, inputs.now));
        view.sort_by(|a, b| a.id.cmp(&b.id));
        self.view = view;
        actions
    }

    /// The services as of the last step, by id.
    pub fn view(&self) -> &[ServiceView] {
        &self.view
    }

    /// Forgets what was asked and configured, as PID 1's answers may be lost: after a reconnect.
    pub fn reconnected(&mut self) {
        self.asked.clear();
        self.routes = None;
    }

    fn plan(&self, registry: &mut Registry, package: &Arc<Package>) -> Result<Planned, String> {
        let entry = registry.enter(&package.id).map_err(|e| e.to_string())?;
        let plan = package
            .plan(entry.index, &self.place)
            .map_err(|e| e.to_string());
        Ok(Planned {
            package: Arc::clone(package),
            desired: entry.desired,
            address: address(entry.index),
            plan: plan.and_then(|plan| plan.to_bytes().map_err(|e| e.to_string())),
        })
    }

    fn act(&mut self, service: &Planned, unit: Option<&UnitInfo>, now: Instant) -> Option<Action> {
        let name = UnitName::service(&service.package.id).ok()?;
        let alive = unit.filter(|unit| unit.state != UnitState::Stopped);
        match (service.desired, &service.plan) {
            (Desired::Stopped, _) => match alive.map(|unit| &unit.state) {
                None | Some(UnitState::Ended(_) | UnitState::Stopping) => None,
                Some(_) => self.ask(name, Asked::Stop, now).map(Action::Stop),
            },
            // What runs goes on running, whatever is wrong with the package now.
            (Desired::Run, Err(_)) => None,
            (Desired::Run, Ok(plan)) => {
                let hash = Plan::hash(plan);
                if alive.is_some_and(|unit| unit.spec_hash == hash) {
                    return None;
                }
                let unit = self.ask(name, Asked::Start(hash), now)?;
                Some(Action::Start {
                    request: request(unit, hash, service),
                    plan: plan.clone(),
                })
            }
        }
    }

    /// Services whose package is gone. One whose package is merely refused goes on running.
    fn stop_vanished(&mut self, listed: &BTreeSet<String>, inputs: &Inputs<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        for unit in inputs.units {
            let gone = unit
                .unit
                .service_id()
                .is_some_and(|id| !listed.contains(id));
            let alive = !matches!(unit.state, UnitState::Stopped | UnitState::Stopping);
            if gone && alive {
                let asked = self.ask(unit.unit.clone(), Asked::Stop, inputs.now);
                actions.extend(asked.map(Action::Stop));
            }
        }
        actions
    }

    /// Says how the box's ports lead to services, if that is new or was said long ago.
    fn lead(&mut self, ports: Ports, now: Instant) -> Vec<Action> {
        if let Some((before, at)) = &self.routes
            && *before == ports
            && now.saturating_duration_since(*at) < ROUTES_AGAIN
        {
            return Vec::new();
        }
        let actions = vec![
            Action::Forwards(ports.forwards.clone()),
            Action::Names(ports.names.clone()),
            Action::Routes(ports.routes.clone()),
        ];
        self.routes = Some((ports, now));
        actions
    }

    fn describe(
        &self,
        service: &Planned,
        unit: Option<&UnitInfo>,
        inputs: &Inputs<'_>,
    ) -> ServiceView {
        let package = &service.package;
        let heard = inputs.heard.get(&package.id);
        match (&service.plan, unit) {
            (Err(why), None) => ServiceView::refused(&package.id, &package.title, why.clone()),
            _ => ServiceView::new(package, service.address, service.desired, unit, heard),
        }
    }

    /// Notes what is asked; `None` if the same was asked a moment ago.
    fn ask(&mut self, unit: UnitName, what: Asked, now: Instant) -> Option<UnitName> {
        match self.asked.get(&unit) {
            Some((before, _)) if *before == what => None,
            _ => {
                self.asked.insert(unit.clone(), (what, now));
                Some(unit)
            }
        }
    }
}

/// Who gets which of the box's ports: in the order of the packages, those that run.
fn ports(planned: &[Planned]) -> Ports {
    let mut ports = Ports::default();
    let running = planned
        .iter()
        .filter(|service| service.desired == Desired::Run);
    for service in running {
        let package = &service.package;
        ports.give(&package.id, service.address, &package.spec);
    }
    ports
}

fn unit_of<'a>(id: &str, units: &'a [UnitInfo]) -> Option<&'a UnitInfo> {
    units.iter().find(|unit| unit.unit.service_id() == Some(id))
}

fn request(unit: UnitName, spec_hash: [u8; 32], service: &Planned) -> StartService {
    let timeout = service.package.spec.stop_timeout + KILL_MARGIN;
    StartService {
        unit,
        spec_hash,
        stop_timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        stop_order: 0,
        limits: service.package.spec.limits,
    }
}

/// How long PID 1 may take to do what it was asked, before it is asked again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Nobody tells which routes the door has, so they are said again now and then.
const ROUTES_AGAIN: Duration = Duration::from_secs(30);

/// The agent kills its daemons at the service's own deadline; PID 1 kills what is left, agent and
/// all, this much later.
const KILL_MARGIN: Duration = Duration::from_secs(2);
