//! Starting units: which program, with which descriptors, in which control group.

use std::{
    io::Seek as _,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::io::Errno;
use supervise::{
    cgroup::Cgroup,
    control::{CONTROL_FD, Event},
    spawn::{Child, Command, Schedule},
    unit::{Exit, UnitName},
};

use super::{
    Pid1,
    roles::Role,
    table::{Kind, LogPair, Outbox, Unit, seqpacket_pair},
};

impl Pid1 {
    /// Starts a unit that is due; a failure counts as an end and is tried again later.
    pub(super) fn start_unit(&mut self, name: &UnitName, now: Duration) {
        let Some(unit) = self.table.get(name) else {
            return;
        };
        let started = match &unit.kind {
            Kind::Role(role) => {
                let (role, run) = (*role, unit.life.generation().wrapping_add(1));
                let log = unit.log.clone();
                // The door must come back, also when PID 1 has no descriptor left.
                self.spares.give();
                let started = self.start_role(role, run, &log);
                if !self.spares.take() {
                    supervise::error!("PID 1 is short of descriptors");
                }
                started
            }
            Kind::Service(_) => self.start_service(name),
        };
        let Some(unit) = self.table.get_mut(name) else {
            return;
        };
        match started {
            Ok(Started {
                child,
                cgroup,
                control,
            }) => {
                unit.life.started(child.pid, now);
                unit.child = Some(child);
                unit.cgroup = Some(cgroup);
                unit.control = control.map(Outbox::new);
                // Known to a successor before it is of any use.
                self.hand_on();
                self.unit_started(name, now);
            }
            Err(why) => {
                supervise::error!("{name} can't be started: {why}");
                unit.life
                    .ended(Exit::NotStarted(Errno::AGAIN.raw_os_error()), now, random());
            }
        }
        self.changed();
    }

    fn start_role(&self, role: Role, run: u64, log: &LogPair) -> Result<Started, String> {
        // The last run's may still hold a process that was left behind.
        let cgroup = new_cgroup(&format!("pilot/{}-{run}", role.name()))?;
        cgroup.limit(&role.limits()).map_err(|e| e.to_string())?;
        let (control, theirs) = seqpacket_pair().map_err(|e| e.to_string())?;
        // Each of them waits on its own thread for what PID 1 says.
        rustix::io::ioctl_fionbio(&theirs, false).map_err(|e| e.to_string())?;
        let mut fds = vec![(theirs.as_fd(), CONTROL_FD)];
        let owners = (role == Role::Front).then(super::sockets::owner_listener);
        let owners = owners.and_then(|made| {
            made.inspect_err(|e| supervise::warning!("owners can't be let in: {e}"))
                .ok()
        });
        match role {
            Role::Front => fds.extend(owners.iter().map(|socket| (socket.as_fd(), OWNERS_FD))),
            Role::Logd => {
                fds.push((self.sockets.log.as_fd(), 4));
                if let Some(kmsg) = &self.kmsg {
                    fds.push((kmsg.as_fd(), 5));
                }
            }
            Role::Manager => {
                fds.push((self.sockets.dashboard.as_fd(), 4));
                fds.push((self.sockets.api.as_fd(), 5));
                fds.push((self.heartbeat.as_fd(), HEARTBEAT_FD));
            }
        }
        let child = self.spawn(&Program {
            path: &self.program,
            args: &[&format!("pilot-{}", role.name()), role.name()],
            user: Some(role.user()),
            oom_score_adj: role.oom_score_adj(),
            schedule: role.schedule(),
            log: log.write.as_fd(),
            fds,
            cgroup: &cgroup,
        })?;
        Ok(Started {
            child,
            cgroup,
            control: Some(control),
        })
    }

    fn start_service(&mut self, name: &UnitName) -> Result<Started, String> {
        let id = name.service_id().ok_or("its name is no service's")?;
        let group = self.fresh_group(&format!("services/{id}"))?;
        let unit = self.table.get(name).ok_or("it is gone")?;
        let service = unit.service().ok_or("it is no service")?;
        group
            .limit(&service.spec.limits)
            .map_err(|e| e.to_string())?;
        let cgroup = make_cgroup(&format!("services/{id}/monitor"))?;
        // The monitor reads its plan from where the last one stopped reading.
        let plan = service.plan.try_clone().map_err(|e| e.to_string())?;
        std::fs::File::from(plan)
            .rewind()
            .map_err(|e| e.to_string())?;
        let child = self.spawn(&Program {
            path: MONITOR,
            args: &["pilot-monitor", SERVICE_DATA, AGENT_SOCKETS, AGENT],
            user: None,
            oom_score_adj: 0,
            schedule: Schedule::default(),
            log: unit.log.write.as_fd(),
            fds: vec![(service.plan.as_fd(), services::plan::PLAN_FD)],
            cgroup: &cgroup,
        })?;
        Ok(Started {
            child,
            cgroup: group,
            control: None,
        })
    }

    /// A service's group without what its last run left there, made anew: see [`Cgroup::kill`].
    fn fresh_group(&mut self, path: &str) -> Result<Cgroup, String> {
        let old = make_cgroup(path)?;
        self.empty_groups.retain(|group| *group != old);
        if old.is_populated() {
            let _ = old.kill();
            return Err("processes of its last run are still ending".to_owned());
        }
        old.remove().map_err(|e| e.to_string())?;
        make_cgroup(path)
    }

    /// Spawns one of our own programs with the usual surroundings.
    pub(super) fn spawn(&self, program: &Program<'_>) -> Result<Child, String> {
        let folder = program.cgroup.open().map_err(|e| e.to_string())?;
        let mut fds = vec![(self.null.as_fd(), 0), (program.log, 1), (program.log, 2)];
        fds.extend(program.fds.iter().copied());
        let command = Command {
            program: program.path,
            args: program.args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: ENVIRONMENT.map(str::to_owned).to_vec(),
            fds,
            user: program.user,
            cgroup: Some(folder.as_fd()),
            controlling_tty: false,
            oom_score_adj: program.oom_score_adj,
            schedule: program.schedule,
            no_new_privs: program.user.is_some(),
        };
        command.spawn().map_err(|e| e.to_string())
    }

    /// Tells a new process what its predecessor knew.
    fn unit_started(&mut self, name: &UnitName, now: Duration) {
        let Some(unit) = self.table.get(name) else {
            return;
        };
        let pid = unit.life.pid().unwrap_or(0);
        supervise::info!("{name} started, pid {pid}");
        if let Some(role) = unit.role() {
            self.vitals
                .role_started(role, pid, unit.life.generation(), now);
            self.brief(role, now);
            if role == Role::Logd {
                // Nobody waits for it to answer: lines that it has not taken yet are kept.
                self.step_done(crate::boot::Action::Logd);
            }
        }
        self.announce_log(name);
    }

    /// All that a role's new process must know.
    pub(super) fn brief(&mut self, role: Role, now: Duration) {
        match role {
            Role::Front => {
                // First what it is to be: else early clients would see a throw-away certificate.
                if let Some(door) = self.door.clone() {
                    self.tell(role, Event::Door(door), vec![]);
                }
                for (port, listener) in self.sockets.door.clone() {
                    self.tell(role, Event::Listener { port }, vec![listener]);
                }
                self.brief_names(now);
            }
            Role::Logd => {
                for (unit, log) in self.logs() {
                    self.tell(role, Event::LogSource { unit }, vec![log.read]);
                }
            }
            Role::Manager => {
                let units: Vec<_> = self
                    .table
                    .iter()
                    .filter(|(_, unit)| unit.service().is_some())
                    .collect();
                let infos = units
                    .iter()
                    .map(|(name, unit)| unit.info(name, now))
                    .collect();
                let agents: Vec<_> = units
                    .iter()
                    .filter_map(|(name, unit)| {
                        Some(((*name).clone(), unit.service()?.agents.clone()))
                    })
                    .collect();
                self.tell(role, Event::SetupCode(self.keep.setup_code.clone()), vec![]);
                for (unit, run) in self.wishes.clone() {
                    self.tell(role, Event::Wanted { unit, run }, vec![]);
                }
                self.tell(role, Event::Units(infos), vec![]);
                for (unit, listener) in agents {
                    self.tell(role, Event::AgentListener { unit }, vec![listener]);
                }
            }
        }
        if let Some(data) = self.data_event() {
            self.tell(role, data, vec![]);
        }
        let status = self.status(now);
        self.tell(role, Event::Status(Box::new(status)), vec![]);
        let unit = self.table.get_mut(&role.unit());
        if let Some(outbox) = unit.and_then(|unit| unit.control.as_mut()) {
            outbox.was_briefed();
        }
    }

    /// Gives the manager the listening socket of a new service's agent.
    pub(super) fn announce_agents(&mut self, name: &UnitName) {
        let Some(agents) = self
            .table
            .get(name)
            .and_then(Unit::service)
            .map(|s| s.agents.clone())
        else {
            return;
        };
        self.tell(
            Role::Manager,
            Event::AgentListener { unit: name.clone() },
            vec![agents],
        );
    }

    /// Gives `logd` the reading end of a unit's output; it knows the ones that it has by name.
    fn announce_log(&mut self, name: &UnitName) {
        let Some(log) = self.table.get(name).map(|unit| unit.log.read.clone()) else {
            return;
        };
        self.tell(
            Role::Logd,
            Event::LogSource { unit: name.clone() },
            vec![log],
        );
    }

    fn logs(&self) -> Vec<(UnitName, LogPair)> {
        let own = [("init", &self.own_log), ("helper", &self.helper_log)]
            .map(|(name, log)| (name.parse().expect("a unit name"), log.clone()));
        let units = self
            .table
            .iter()
            .map(|(name, unit)| (name.clone(), unit.log.clone()));
        own.into_iter().chain(units).collect()
    }

    /// Sends an event to a role, if it runs.
    pub(super) fn tell(&mut self, role: Role, event: Event, fds: Vec<std::sync::Arc<OwnedFd>>) {
        if let Some(unit) = self.table.get_mut(&role.unit()) {
            unit.tell(event, fds);
        }
    }
}

/// One of our own programs and what it gets.
pub(super) struct Program<'a> {
    pub(super) path: &'a str,
    pub(super) args: &'a [&'a str],
    pub(super) user: Option<supervise::spawn::User>,
    pub(super) oom_score_adj: i16,
    pub(super) schedule: Schedule,
    pub(super) log: BorrowedFd<'a>,
    pub(super) fds: Vec<(BorrowedFd<'a>, i32)>,
    pub(super) cgroup: &'a Cgroup,
}

struct Started {
    child: Child,
    cgroup: Cgroup,
    control: Option<OwnedFd>,
}

/// A control group below the hierarchy's root.
pub(super) fn make_cgroup(path: &str) -> Result<Cgroup, String> {
    Cgroup::create(Path::new(CGROUPS), path).map_err(|e| e.to_string())
}

/// The same, new for a run of its own.
pub(super) fn new_cgroup(path: &str) -> Result<Cgroup, String> {
    Cgroup::create_anew(Path::new(CGROUPS), path).map_err(|e| e.to_string())
}

/// For jitter alone.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::INSECURE) {
        Ok(_) => u32::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}

/// Where the control groups are.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";

/// On which the front listens for the door's requests of owners.
pub const OWNERS_FD: i32 = 4;

/// On which the manager is asked whether its pool still turns.
pub const HEARTBEAT_FD: i32 = 6;

const MONITOR: &str = "/usr/lib/pilotlight/monitor";
/// What a monitor is told by us, as the manager, who writes its plan, must not choose it.
const SERVICE_DATA: &str = "/data/services";
const AGENT_SOCKETS: &str = "/run/pilot/agents";
const AGENT: &str = "/usr/lib/pilotlight/agent";

const ENVIRONMENT: [&str; 2] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "RUST_BACKTRACE=1"];
