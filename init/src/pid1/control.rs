//! What the roles ask of PID 1. A request counts by the socket it came on, never by what it says.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use netstack::door::{DoorConfig, Identity};
use rustix::io::Errno;
use supervise::{
    control::{
        self, Event, FrameError, MAX_NOTICE, MAX_NOTICES, MAX_TAIL, MAX_TAIL_LINE, PROTOCOL,
        Request, StartService,
    },
    status::Notice,
    unit::UnitName,
};

use super::{
    Pid1,
    roles::Role,
    sockets,
    table::{Kind, Service, Unit},
};

impl Pid1 {
    /// Takes what a role has sent, up to a turn's worth.
    pub(super) fn serve(&mut self, role: Role, now: Duration) {
        for _ in 0..REQUESTS_A_TURN {
            let Some(unit) = self.table.get_mut(&role.unit()) else {
                return;
            };
            let Some(outbox) = &mut unit.control else {
                return;
            };
            match control::receive::<Request>(outbox.socket().as_fd()) {
                Ok((request, fds)) => {
                    if let Err(why) = self.handle(role, request, fds, now) {
                        supervise::warning!("{} asked for something refused: {why}", role.name());
                        self.tell(role, Event::Refused { why }, vec![]);
                    }
                }
                Err(FrameError::Io(Errno::AGAIN)) => return,
                Err(FrameError::Malformed(e)) => {
                    supervise::warning!("{} sent a frame that does not parse: {e}", role.name());
                }
                Err(FrameError::Closed | FrameError::Io(_) | FrameError::TooLong) => {
                    // Its process is ending or has lost its mind; the reaper or the guard sees to it.
                    unit.control = None;
                    return;
                }
            }
        }
    }

    fn handle(
        &mut self,
        role: Role,
        request: Request,
        fds: Vec<OwnedFd>,
        now: Duration,
    ) -> Result<(), String> {
        match (role, request) {
            (_, Request::Hello { protocol }) => self.welcome(role, protocol),
            (Role::Manager, Request::List) => {
                let units = self.service_infos(now);
                self.tell(role, Event::Units(units), vec![]);
                Ok(())
            }
            (Role::Manager, Request::StartService(spec)) => {
                self.wishes.remove(&spec.unit);
                self.want_service(spec, fds, now)
            }
            (Role::Manager, Request::StopService { unit }) => {
                self.wishes.remove(&unit);
                self.stop_service(&unit, now)
            }
            (Role::Manager, Request::ConfigureDoor(bytes)) => self.configure_door(bytes),
            (Role::Manager, Request::KeepIdentity(bytes)) => self.keep_identity(bytes),
            (Role::Manager, Request::Forwards(forwards)) => self.take_forwards(forwards),
            (Role::Manager, Request::Names(names)) => self.take_names(names),
            (Role::Manager, Request::Power(power)) => {
                self.go_down(power, now);
                Ok(())
            }
            (Role::Manager, Request::RestartRole { unit }) => self.restart(&unit, now),
            (
                Role::Manager,
                Request::SetNetwork {
                    id,
                    link,
                    wish,
                    seconds,
                },
            ) => {
                self.set_network(id, link, wish, seconds, now);
                Ok(())
            }
            (Role::Manager, Request::SetGeneral { id, setting }) => {
                self.set_general(id, setting);
                Ok(())
            }
            (Role::Manager, Request::UndoNetwork { id }) => {
                self.undo_network(id);
                Ok(())
            }
            (Role::Front | Role::Manager, Request::ConfirmNetwork { id, from, token }) => {
                self.confirm_network(role, id, from, &token, now);
                Ok(())
            }
            (Role::Manager, Request::Upgrade) => self.ask_upgrade(fds, now),
            (Role::Manager, Request::Notices(notices)) => {
                self.take_notices(notices);
                Ok(())
            }
            (Role::Front, Request::Unlock { id, from, offered }) => {
                self.unlock(id, from, offered, now);
                Ok(())
            }
            (Role::Front, Request::Act { id, grant, act }) => {
                self.act(id, grant, act, now);
                Ok(())
            }
            (Role::Logd, Request::LogTail(mut lines)) => {
                lines.truncate(MAX_TAIL);
                for line in &mut lines {
                    line.truncate(line.floor_char_boundary(MAX_TAIL_LINE));
                }
                self.log_tail = lines;
                Ok(())
            }
            (Role::Front, Request::Hostname(name)) => self.go_by(name),
            (Role::Front, Request::Resolver(status)) => {
                self.take_resolver(*status);
                Ok(())
            }
            (_, request) => Err(format!("{} may not ask for {request:?}", role.name())),
        }
    }

    fn welcome(&mut self, role: Role, (oldest, newest): (u16, u16)) -> Result<(), String> {
        let protocol = newest.min(PROTOCOL.1);
        if protocol < oldest.max(PROTOCOL.0) {
            return Err(format!(
                "no protocol in common: {oldest} to {newest}, {PROTOCOL:?} here"
            ));
        }
        self.tell(role, Event::Welcome { protocol }, vec![]);
        Ok(())
    }

    /// The services of the table.
    pub(super) fn service_infos(&self, now: Duration) -> Vec<supervise::unit::UnitInfo> {
        let services = self
            .table
            .iter()
            .filter(|(_, unit)| unit.service().is_some());
        services.map(|(name, unit)| unit.info(name, now)).collect()
    }

    fn want_service(
        &mut self,
        spec: StartService,
        fds: Vec<OwnedFd>,
        now: Duration,
    ) -> Result<(), String> {
        let name = spec.unit.clone();
        let id = name
            .service_id()
            .ok_or("a service's unit is called service-<id>")?;
        let plan = fds
            .into_iter()
            .next()
            .ok_or("a service needs its plan beside the request")?;
        if self.going_down() {
            return Err("the box is going down".to_owned());
        }
        if let Some(unit) = self.table.get_mut(&name) {
            let Kind::Service(service) = &mut unit.kind else {
                return Err(format!("{name} is no service"));
            };
            let changed = service.spec.spec_hash != spec.spec_hash;
            let patience = stop_patience(&service.spec);
            (service.spec, service.plan) = (spec, plan);
            unit.life.want();
            if changed && unit.life.is_running() {
                unit.life.stop(true, patience, now);
                terminate(unit);
            }
            self.changed();
            return Ok(());
        }
        let agents = sockets::agent_listener(id).map_err(|e| format!("no agent socket: {e}"))?;
        let service = Service {
            spec,
            plan,
            agents: Arc::new(agents),
        };
        let unit = Unit::new(Kind::Service(Box::new(service))).map_err(|e| e.to_string())?;
        self.table.insert(name.clone(), unit);
        self.announce_agents(&name);
        self.changed();
        Ok(())
    }

    /// Stops a service; it stays in the table until it has ended.
    pub(super) fn stop_service(&mut self, name: &UnitName, now: Duration) -> Result<(), String> {
        let Some(unit) = self.table.get_mut(name) else {
            return Ok(());
        };
        let Kind::Service(service) = &unit.kind else {
            return Err(format!("{name} is no service"));
        };
        let patience = stop_patience(&service.spec);
        if unit.life.stop(false, patience, now) {
            terminate(unit);
        }
        self.changed();
        Ok(())
    }

    /// Ends a unit and starts it again.
    pub(super) fn restart(&mut self, name: &UnitName, now: Duration) -> Result<(), String> {
        let front = Role::of(name) == Some(Role::Front) && self.table.contains_key(name);
        if front && !self.going_down() {
            self.retire_front(now);
            self.changed();
            return Ok(());
        }
        let unit = self
            .table
            .get_mut(name)
            .ok_or_else(|| format!("there is no unit {name}"))?;
        let patience = unit
            .service()
            .map_or(ROLE_PATIENCE, |s| stop_patience(&s.spec));
        unit.life.want();
        if unit.life.stop(true, patience, now) {
            terminate(unit);
        }
        self.changed();
        Ok(())
    }

    fn configure_door(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        let mut door: DoorConfig =
            postcard::from_bytes(&bytes).map_err(|e| format!("no door configuration: {e}"))?;
        // A manager that can't read its own has no better one than that of before.
        if door.identity.is_none() {
            door.identity = postcard::from_bytes(&self.keep.identity).ok();
        }
        let bytes = postcard::to_stdvec(&door).map_err(|e| e.to_string())?;
        let ports: Vec<u16> = door.routes.iter().filter_map(|route| route.port).collect();
        let open_before = self.sockets.open_to_all();
        for port in &ports {
            match self.sockets.open_port(*port) {
                Ok(Some(listener)) => {
                    self.tell(Role::Front, Event::Listener { port: *port }, vec![listener]);
                }
                Ok(None) => {}
                Err(why) => supervise::warning!("{why}"),
            }
        }
        for port in self.sockets.close_ports_but(&ports) {
            self.tell(Role::Front, Event::ListenerGone { port }, vec![]);
        }
        if self.sockets.open_to_all() != open_before {
            self.configure_net();
        }
        if let Some(pem) = door.ca_pem {
            self.board.ca_pem.set(Some(pem.clone()));
            self.keep.ca_pem = pem;
        }
        // The manager repeats it now and then; the front has it already.
        if self.door.as_ref() != Some(&bytes) {
            self.door = Some(bytes.clone());
            self.tell(Role::Front, Event::Door(bytes), vec![]);
        }
        Ok(())
    }

    /// Every status carries them, so their number and size are bounded whatever the manager says.
    fn take_notices(&mut self, mut notices: Vec<Notice>) {
        notices.truncate(MAX_NOTICES);
        for notice in &mut notices {
            let end = notice.text.floor_char_boundary(MAX_NOTICE);
            notice.text.truncate(end);
        }
        if self.managers_notices != notices {
            self.managers_notices = notices;
            self.changed();
        }
    }

    /// Takes the name that the box goes by on its links, if it comes of the wanted one.
    fn go_by(&mut self, name: String) -> Result<(), String> {
        let wanted = &self.keep.hostname;
        let base = name.rsplit_once('-').and_then(|(base, n)| {
            n.parse::<u32>().ok()?;
            Some(base)
        });
        let numbered = base.is_some_and(|base| !base.is_empty() && wanted.starts_with(base));
        if name != *wanted && !(numbered && crate::cmdline::is_host_name(&name)) {
            return Err(format!("{name:?} does not come of {wanted}"));
        }
        let other = (name != *wanted).then_some(name);
        if self.other_hostname != other {
            self.other_hostname = other;
            self.changed();
        }
        Ok(())
    }

    fn keep_identity(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        let _: Identity =
            postcard::from_bytes(&bytes).map_err(|e| format!("no identity for the door: {e}"))?;
        if self.keep.identity != bytes {
            self.keep.identity = bytes;
            self.write_keep();
        }
        Ok(())
    }
}

/// Asks a unit's process to end.
pub(super) fn terminate(unit: &Unit) {
    if let Some(child) = &unit.child {
        let _ = child.signal(rustix::process::Signal::TERM);
    }
}

/// How long a service may take to end: what it asked for, within reason, and the time that its
/// monitor needs to put the container away.
pub(super) fn stop_patience(spec: &StartService) -> Duration {
    Duration::from_millis(spec.stop_timeout_ms.into()).min(MAX_STOP_PATIENCE) + MONITOR_PATIENCE
}

/// A role has nothing to finish that would take longer.
pub(super) const ROLE_PATIENCE: Duration = Duration::from_secs(2);

/// A box that is told to go down goes down, whatever a service says.
const MAX_STOP_PATIENCE: Duration = Duration::from_secs(120);
const MONITOR_PATIENCE: Duration = Duration::from_secs(2);

/// So that no role keeps `main` from its other work.
const REQUESTS_A_TURN: usize = 16;
