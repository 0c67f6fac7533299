//! The manager's main task: takes what PID 1 and the owner say, looks at the store now and then,
//! and asks PID 1 for what is missing. Level-triggered: a look that was missed costs a second.

use std::{
    fs::File,
    io::Write as _,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use netstack::door::Identity;
use rustix::fs::MemfdFlags;
use services::{ports::Route, reconcile::Action, registry::Desired, view::ServiceView};
use supervise::{
    control::{Event, MAX_NOTICES, Request},
    status::{BoxStatus, Notice, NoticeLevel},
    unit::{UnitInfo, UnitName},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, interval},
};
use webui::Snapshot;

use super::{
    agents::Agents,
    door,
    host::{Desk, Order},
    link::{Link, Received},
    store::{Look, Outcome, Store, Wish},
    view,
};

/// The manager's main task.
pub(super) struct Steward {
    link: Link,
    desk: Arc<Desk>,
    agents: Agents,
    store: Arc<Mutex<Option<Store>>>,
    data: Option<Result<(), String>>,
    /// Why the store can't be used, as a sentence.
    store_trouble: Option<String>,
    look: Option<JoinHandle<Result<Outcome, String>>>,
    look_began: Instant,
    wishes: Vec<Wish>,
    units: Vec<UnitInfo>,
    status: BoxStatus,
    services: Vec<ServiceView>,
    routes: Vec<Route>,
    identity: Option<(Identity, String)>,
    door_sent: Option<Vec<u8>>,
    notices_sent: Option<Vec<Notice>>,
}

impl Steward {
    /// A steward who knows nothing yet.
    pub(super) fn new(link: Link, desk: Arc<Desk>) -> Self {
        Self {
            link,
            desk,
            agents: Agents::default(),
            store: Arc::default(),
            data: None,
            store_trouble: None,
            look: None,
            look_began: Instant::now(),
            wishes: Vec::new(),
            units: Vec::new(),
            status: BoxStatus::default(),
            services: Vec::new(),
            routes: Vec::new(),
            identity: None,
            door_sent: None,
            notices_sent: None,
        }
    }

    /// Works until PID 1 is gone.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<Received>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        self.link.ask(&Request::List);
        let mut tick = interval(LOOK_EVERY);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some((event, fds)) => self.take_event(event, fds),
                    None => return,
                },
                Some(order) = orders.recv() => self.take_order(order),
                () = self.agents.news() => {}
                _ = tick.tick() => self.link.ask(&Request::List),
                outcome = finished(&mut self.look) => self.take_outcome(outcome),
            }
            self.begin_look();
            self.show();
        }
    }

    fn take_event(&mut self, event: Event, fds: Vec<OwnedFd>) {
        match event {
            Event::AgentListener { unit } => {
                if let (Some(id), Some(listener)) = (unit.service_id(), fds.into_iter().next()) {
                    self.agents.listen(id.to_owned(), listener);
                }
            }
            Event::Data(data) => self.data = Some(data),
            Event::Exited { unit, .. } => {
                if let Some(id) = unit.service_id() {
                    self.agents.forget(id);
                }
                self.link.ask(&Request::List);
            }
            Event::Refused { why } => supervise::warning!("PID 1 refused: {why}"),
            Event::SetupCode(code) => self.desk.set_setup_code(code),
            Event::Status(status) => self.status = *status,
            Event::Units(units) => self.units = units,
            Event::Wanted { unit, run } => self.wish(&unit, run),
            Event::Acted { id, .. }
            | Event::NetworkConfirmed { id, .. }
            | Event::NetworkSet { id, .. } => self.desk.answered(id, event),
            Event::Door(_)
            | Event::Listener { .. }
            | Event::ListenerGone { .. }
            | Event::LogSource { .. }
            | Event::Names(_)
            | Event::NameSocket { .. }
            | Event::NameSocketGone { .. }
            | Event::Unlocked { .. }
            | Event::Welcome { .. } => {}
        }
    }

    fn take_order(&mut self, order: Order) {
        match order {
            Order::Restart(unit) => self.link.ask(&Request::RestartRole { unit }),
            Order::Wish(wish) => self.wishes.push(wish),
        }
    }

    fn wish(&mut self, unit: &UnitName, run: bool) {
        if let Some(id) = unit.service_id() {
            let desired = if run { Desired::Run } else { Desired::Stopped };
            self.wishes.push(Wish {
                id: id.to_owned(),
                desired,
            });
        }
    }

    /// Has the blocking pool look at the store. One look at a time: a disk that hangs keeps one
    /// thread, not all of them.
    fn begin_look(&mut self) {
        let ready = matches!(self.data, Some(Ok(())));
        let due = self.look_began.elapsed() >= LOOK_EVERY || !self.wishes.is_empty();
        if self.look.is_some() || !ready || !due || self.status.hostname.is_empty() {
            return;
        }
        self.look_began = Instant::now();
        #[cfg_attr(not(feature = "fault"), allow(unused_mut))]
        let mut names = door::own_names(&self.status);
        #[cfg(feature = "fault")]
        names.extend(super::fault::names());
        #[cfg_attr(not(feature = "fault"), allow(unused_mut))]
        let mut units = self.units.clone();
        #[cfg(feature = "fault")]
        units.retain(|unit| !super::fault::is_ours(unit));
        let look = Look {
            units,
            heard: self.agents.heard(),
            wishes: std::mem::take(&mut self.wishes),
            names,
            hostname: self.status.hostname.clone(),
        };
        let store = self.store.clone();
        self.look = Some(tokio::task::spawn_blocking(move || look_at(&store, &look)));
    }

    fn take_outcome(&mut self, outcome: Result<Outcome, String>) {
        self.look = None;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(why) => {
                if self.store_trouble.as_ref() != Some(&why) {
                    supervise::error!("the manager's store can't be used: {why}");
                }
                self.store_trouble = Some(why);
                return self.tell_notices();
            }
        };
        self.store_trouble = None;
        self.services = outcome.services;
        for action in outcome.actions {
            self.act(action);
        }
        match outcome.identity {
            Ok(identity) => self.identity = Some(identity),
            Err(why) => supervise::error!("the door gets no certificate: {why}"),
        }
        self.configure_door();
        self.tell_notices();
    }

    /// Has PID 1 say on the console what the owner should know.
    fn tell_notices(&mut self) {
        let mut notices: Vec<Notice> = self
            .store_trouble
            .iter()
            .cloned()
            .chain(self.services.iter().filter_map(view::refusal))
            .chain(self.services.iter().filter_map(view::port_refusal))
            .map(|text| Notice {
                level: NoticeLevel::Bad,
                text,
            })
            .collect();
        notices.truncate(MAX_NOTICES);
        if self.notices_sent.as_ref() != Some(&notices) {
            self.link.ask(&Request::Notices(notices.clone()));
            self.notices_sent = Some(notices);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { request, plan } => match memfd(&plan) {
                Ok(plan) => {
                    self.link
                        .ask_with(&Request::StartService(request), &[plan.as_fd()]);
                }
                Err(e) => supervise::error!("{} can't be started: {e}", request.unit),
            },
            Action::Forwards(forwards) => {
                #[cfg(feature = "fault")]
                let forwards = [forwards, super::fault::forwards()].concat();
                self.link.ask(&Request::Forwards(forwards));
            }
            Action::Names(names) => self.link.ask(&Request::Names(names)),
            Action::Stop(unit) => self.link.ask(&Request::StopService { unit }),
            // Said again now and then: what was sent may have been lost in a crash of PID 1.
            Action::Routes(routes) => {
                self.routes = routes;
                self.door_sent = None;
                self.notices_sent = None;
            }
        }
    }

    fn configure_door(&mut self) {
        #[cfg_attr(not(feature = "fault"), allow(unused_mut))]
        let mut config = door::config(&self.status.hostname, self.identity.clone(), &self.routes);
        #[cfg(feature = "fault")]
        config.routes.extend(super::fault::routes());
        let Ok(bytes) = postcard::to_stdvec(&config) else {
            return;
        };
        if self.door_sent.as_ref() == Some(&bytes) {
            return;
        }
        self.link.ask(&Request::ConfigureDoor(bytes.clone()));
        if let Some(identity) = config.identity.and_then(|i| postcard::to_stdvec(&i).ok()) {
            self.link.ask(&Request::KeepIdentity(identity));
        }
        self.door_sent = Some(bytes);
    }

    /// Lays out the state of the box for the dashboard.
    fn show(&self) {
        let mut status = self.status.clone();
        let hanging = self.look.is_some() && self.look_began.elapsed() >= LOOK_HANGS_AFTER;
        let trouble = if hanging {
            Some("The manager waits for the data disk; what is shown of services may be old.")
        } else {
            self.store_trouble.as_deref()
        };
        let trouble = trouble.map(|text| Notice {
            level: NoticeLevel::Bad,
            text: text.to_owned(),
        });
        // PID 1 may be saying it already.
        let news = trouble.filter(|notice| !status.notices.contains(notice));
        status.notices.extend(news);
        let services = self.services.iter().map(view::of).collect();
        self.desk.show(Snapshot { status, services });
    }
}

fn look_at(store: &Mutex<Option<Store>>, look: &Look) -> Result<Outcome, String> {
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    if store.is_none() {
        *store = Some(Store::open(Path::new(STORE), &look.hostname)?);
    }
    let store = store.as_mut().expect("opened above if it was not open");
    Ok(store.look(look))
}

/// The outcome of the look under way; never, while there is none.
async fn finished(
    look: &mut Option<JoinHandle<Result<Outcome, String>>>,
) -> Result<Outcome, String> {
    match look {
        Some(look) => look
            .await
            .unwrap_or_else(|e| Err(format!("a bug in the manager: {e}"))),
        None => std::future::pending().await,
    }
}

fn memfd(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// The manager's folder on data.
const STORE: &str = "/data/pilot";
/// Often enough that nobody waits for it, rarely enough that an idle box stays idle.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_HANGS_AFTER: Duration = Duration::from_secs(5);
