//! Taking over: a successor reads what its predecessor published, and believes none of it. Each
//! descriptor is looked at; what does not check costs the unit that it belongs to. What runs and is
//! in nobody's book was started in the moment of the crash, and is ended.

use std::{borrow::Cow, fs, os::fd::OwnedFd, path::Path, time::Duration};

use drivers::watchdog::{Armed, Watchdog};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use supervise::{
    cgroup::Cgroup,
    control::StartService,
    spawn::Child,
    unit::{Exit, UnitName},
};

use super::{
    Pid1,
    estate::{self, Estate, EstateRecord, LogRecord},
    jobs::{Job, Purpose},
    netchange::NetChanges,
    roles::Role,
    start::{CGROUPS, make_cgroup},
    succession::{SettledRecord, WatchdogRecord},
    table::{Kind, LogPair, Outbox, Service, Unit},
    unit::Life,
};
use crate::{
    boot::{Action, Boot, BootRecord, STAGE0, STAGE1},
    crash,
    handover::{
        Handover,
        descriptors::{Handed, Inherited, Naming},
        records::{self, Tag},
    },
    pid1::Stage,
};

/// What a predecessor left.
pub(super) struct Legacy {
    state: Vec<u8>,
    inherited: Inherited,
}

/// A unit by name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnitRecord<'a> {
    pub(super) name: Cow<'a, UnitName>,
    pub(super) life: Cow<'a, Life>,
    pub(super) kind: KindRecord<'a>,
    pub(super) cgroup: Option<String>,
    pub(super) child: Option<ChildRecord>,
    pub(super) control: Option<Handed>,
    /// It was told nothing yet, or events waited for room in its control socket: it has to be told
    /// everything anew.
    pub(super) is_behind: bool,
    pub(super) log: LogRecord,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum KindRecord<'a> {
    Role,
    Service {
        spec: Cow<'a, StartService>,
        plan: Handed,
        agents: Handed,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChildRecord {
    pub(super) pid: u32,
    pub(super) pidfd: Handed,
    pub(super) start_error: Handed,
}

/// A helper by name.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JobRecord<'a> {
    pub(super) purpose: Cow<'a, Purpose>,
    pub(super) child: ChildRecord,
    pub(super) cgroup: String,
    pub(super) answer: Option<Handed>,
    pub(super) give_up_at: Option<Duration>,
}

/// What a binary would take over, as far as that can be said without doing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// The units of the process table.
    pub units: Vec<UnitName>,
}

impl Rehearsal {
    /// Reads all of a hand-over, and leaves no trace.
    ///
    /// # Errors
    /// With the part that makes no sense, as a sentence.
    pub fn of(handover: &Handover) -> Result<Self, String> {
        let state = handover.state().ok_or("it holds no state")?;
        let boot: BootRecord<'_> = read(&state, Tag::Boot)?;
        Boot::resume(STAGE1, boot).ok_or("its boot has none of the steps known here")?;
        let _: EstateRecord = read(&state, Tag::Sockets)?;
        let _: SettledRecord<'_> = read(&state, Tag::Settled)?;
        let _: Vec<JobRecord<'_>> = read(&state, Tag::Jobs)?;
        let units: Vec<UnitRecord<'_>> = read(&state, Tag::Units)?;
        let names = units.into_iter().map(|unit| unit.name.into_owned());
        Ok(Self {
            units: names.collect(),
        })
    }
}

fn read<T: DeserializeOwned>(state: &[u8], tag: Tag) -> Result<T, String> {
    records::read(state, tag, 1).ok_or_else(|| format!("its part {tag:?} makes no sense"))
}

impl Legacy {
    /// What this hand-over holds; none at boot, or when it is not whole.
    pub(super) fn of(handover: &mut Handover) -> Option<Self> {
        // Without a state everything left open is closed here; so is what whoever started the box
        // left open.
        let inherited = Inherited::collect();
        let state = handover.predecessor()?;
        Some(Self { state, inherited })
    }

    /// What is open for the box as a whole.
    pub(super) fn estate(&mut self) -> Option<Estate> {
        let record: EstateRecord = records::read(&self.state, Tag::Sockets, 1)?;
        Estate::inherit(&record, &mut self.inherited)
    }
}

impl Pid1 {
    /// Goes on where the predecessor was. What of it can't be had is begun anew.
    pub(super) fn inherit(&mut self, mut legacy: Legacy) {
        let now = super::now();
        let state = std::mem::take(&mut legacy.state);
        let from = &mut legacy.inherited;
        let steps = match self.stage {
            Stage::Initramfs => STAGE0,
            Stage::Root => STAGE1,
        };
        let boot = records::read::<BootRecord<'_>>(&state, Tag::Boot, 1)
            .and_then(|record| Boot::resume(steps, record));
        let settled: Option<SettledRecord<'_>> = records::read(&state, Tag::Settled, 1);
        let units: Option<Vec<UnitRecord<'_>>> = records::read(&state, Tag::Units, 1);
        let (Some(boot), Some(settled), Some(units)) = (boot, settled, units) else {
            // The binary before this one may understand it.
            crash::probation::give_up();
            supervise::error!("what was handed over makes no sense: everything is begun anew");
            end_all();
            self.settle(Some(legacy.inherited));
            return;
        };
        self.boot = boot;
        self.inherit_settled(settled, from);
        if let Some(record) = records::read(&state, Tag::Upgrade, 1) {
            self.inherit_upgrade(record, now);
        }
        if let Some(records) = records::read(&state, Tag::Retiring, 1) {
            self.inherit_retiring(records, now);
        }
        self.forwards = records::read(&state, Tag::Forwards, 1).unwrap_or_default();
        if let Some(record) = records::read(&state, Tag::Names, 1) {
            self.inherit_names(record, from);
        }
        if let Some(changes) = NetChanges::read(&state, now) {
            self.changes = changes;
        }
        let mut behind = Vec::new();
        for unit in units {
            behind.extend(self.inherit_unit(unit, from, now));
        }
        let jobs: Vec<JobRecord<'_>> = records::read(&state, Tag::Jobs, 1).unwrap_or_default();
        let mut lost = Vec::new();
        for job in jobs {
            lost.extend(self.inherit_job(job, from));
        }
        // This may start others, which publishes what is known so far.
        for purpose in lost {
            self.job_lost(purpose);
        }
        // With all units in the table, as they are told of each other.
        for role in behind {
            self.brief(role, now);
        }
        self.end_strays();
        self.begin_again(now);
        self.hand_on();
        self.settle(Some(legacy.inherited));
    }

    /// Names the process table.
    pub(super) fn name_units(&self, naming: &mut Naming) -> Vec<UnitRecord<'_>> {
        let mut records = Vec::with_capacity(self.table.len());
        for (name, unit) in &self.table {
            let kind = match &unit.kind {
                Kind::Role(_) => KindRecord::Role,
                Kind::Service(service) => KindRecord::Service {
                    spec: Cow::Borrowed(&service.spec),
                    plan: naming.name(&service.plan),
                    agents: naming.name(&service.agents),
                },
            };
            let control = unit.control.as_ref();
            records.push(UnitRecord {
                name: Cow::Borrowed(name),
                life: Cow::Borrowed(&unit.life),
                kind,
                cgroup: unit.cgroup.as_ref().map(relative),
                child: unit.child.as_ref().map(|child| name_child(child, naming)),
                control: control.map(|outbox| naming.name(outbox.socket())),
                is_behind: control.is_some_and(Outbox::owes_something),
                log: estate::name_log(&unit.log, naming),
            });
        }
        records
    }

    /// Names the helpers under way.
    pub(super) fn name_jobs(&self, naming: &mut Naming) -> Vec<JobRecord<'_>> {
        let lasting = self
            .jobs
            .iter()
            .filter(|job| job.purpose.outlives_a_crash());
        lasting
            .map(|job| JobRecord {
                purpose: Cow::Borrowed(&job.purpose),
                child: name_child(&job.child, naming),
                cgroup: relative(&job.cgroup),
                answer: job.answer.as_ref().map(|answer| naming.name(answer)),
                give_up_at: job.give_up_at,
            })
            .collect()
    }

    fn inherit_settled(&mut self, settled: SettledRecord<'_>, from: &mut Inherited) {
        self.helpers_started = settled.helpers_started;
        self.left_behind = settled.left_behind.into_owned();
        let empty = settled.empty_groups.iter();
        self.empty_groups = empty.filter_map(|group| own_group(group)).collect();
        self.reserve_is_given = settled.reserve_is_given;
        self.managers_notices = settled.managers_notices.into_owned();
        self.down = settled.down.map(Cow::into_owned);
        self.watchdog = settled.watchdog.and_then(|w| inherit_watchdog(&w, from));
        self.console_is_up = settled.console_is_up;
        self.keep = settled.keep.into_owned();
        self.keep_is_there = settled.keep_is_there;
        self.keep_write = settled.keep_write;
        self.door = settled.door.map(Cow::into_owned);
        self.wishes = settled.wishes.into_owned();
        self.found = settled.found.into_owned();
        self.drivers_done = settled.drivers_done;
        self.data = settled.data.into_owned();
        self.data_was_mounted = settled.data_was_mounted;
        self.data_asked = settled.data_asked;
        self.net = settled.net.into_owned();
        self.trouble = settled.trouble.into_owned();
        self.log_tail = settled.log_tail.into_owned();
        self.other_hostname = settled.other_hostname.map(Cow::into_owned);
    }

    /// Returns the role, if it goes on and has to be told everything anew.
    fn inherit_unit(
        &mut self,
        record: UnitRecord<'_>,
        from: &mut Inherited,
        now: Duration,
    ) -> Option<Role> {
        let name = record.name.into_owned();
        let kind = match record.kind {
            KindRecord::Role => Role::of(&name).map(Kind::Role),
            KindRecord::Service { spec, plan, agents } => {
                inherit_service(spec.into_owned(), plan, agents, from)
            }
        };
        let group = record.cgroup.as_deref().and_then(own_group);
        let log = estate::inherit_log(record.log, from).map_or_else(LogPair::new, Ok);
        let (Some(kind), Ok(log)) = (kind, log) else {
            // The manager wants it again if it is to run; a role is always wanted.
            supervise::error!("{name} was not handed over whole and is ended");
            group.inspect(|group| drop(group.kill()));
            return None;
        };
        let is_role = matches!(kind, Kind::Role(_));
        let mut life = record.life.into_owned();
        let child = record.child.and_then(|child| inherit_child(&child, from));
        let child = child.filter(|child| life.pid() == Some(child.pid));
        let control = record.control.and_then(|control| from.take(control));
        let mut control = control.filter(estate::is_seqpacket).map(Outbox::new);
        if let Some(outbox) = control.as_mut().filter(|_| !record.is_behind) {
            outbox.was_briefed();
        }
        if life.pid().is_some() {
            let is_gone = child.as_ref().is_none_or(is_buried);
            if is_gone || is_role && control.is_none() {
                supervise::error!("{name} ended, or was not handed over whole: it starts again");
                group.as_ref().inspect(|group| drop(group.kill()));
                life.ended(UNKNOWN, now, super::start::random());
            }
        }
        let lives = life.pid().is_some();
        let unit = Unit {
            life,
            kind,
            cgroup: group,
            child: child.filter(|_| lives),
            control: control.filter(|_| lives),
            log,
        };
        let role = unit.role().filter(|_| lives);
        if let (Some(role), Some(pid)) = (role, unit.life.pid()) {
            let (generation, age) = (unit.life.generation(), unit.life.age(now));
            self.vitals.role_inherited(role, pid, generation, now, age);
        }
        self.table.insert(name, unit);
        role.filter(|_| record.is_behind)
    }

    /// Returns what the helper was for, if its end can't be known any more.
    fn inherit_job(&mut self, record: JobRecord<'_>, from: &mut Inherited) -> Option<Purpose> {
        let purpose = record.purpose.into_owned();
        let (child, group) = (
            inherit_child(&record.child, from),
            own_group(&record.cgroup),
        );
        let answer = record.answer.and_then(|answer| from.take(answer));
        match (child, group) {
            (Some(child), Some(cgroup)) if !is_buried(&child) => {
                self.jobs.push(Job {
                    purpose,
                    child,
                    cgroup,
                    answer,
                    give_up_at: record.give_up_at,
                });
                None
            }
            (_, group) => {
                group.inspect(|group| drop(group.kill()));
                Some(purpose)
            }
        }
    }

    /// A helper ended and its answer went with the predecessor: what may be done twice is done again.
    fn job_lost(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::KeepRead => self.found.retain(|action| *action != Action::Keep),
            Purpose::MountData => self.found.retain(|action| *action != Action::Data),
            Purpose::ProbeData => self.data_asked = None,
            Purpose::Softdog => self.begin_watchdog(SOFTDOG_PATIENCE),
            _ => self.job_done(purpose, Err("it was lost when PID 1 crashed".to_owned())),
        }
    }

    /// Ends what was started and is in no book, and the shells, whose consoles are gone.
    fn end_strays(&mut self) {
        for shell in groups_in("pilot").filter(|path| path.starts_with("pilot/shell-")) {
            own_group(&shell).inspect(|group| drop(group.kill()));
        }
        // One that was reaped in the moment of the crash is gone; nobody told.
        let children: Vec<u32> = children().collect();
        self.left_behind.retain(|pid| children.contains(pid));
        let known: Vec<u32> = self
            .table
            .values()
            .filter_map(|unit| unit.life.pid())
            .chain(self.jobs.iter().map(|job| job.child.pid))
            .chain(self.left_behind.iter().copied())
            .chain(self.retiring_pids())
            .collect();
        let strays = children.into_iter();
        for pid in strays.filter(|pid| !known.contains(pid) && is_of_ours(*pid)) {
            supervise::warning!(
                "process {pid} was started in the moment of the crash, and is ended"
            );
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// What does not outlive `execve` is made anew.
    fn begin_again(&mut self, now: Duration) {
        self.hunt_at = now;
        if self.drivers_done.is_some() {
            let _ = self.buttons.look(Path::new("/sys"));
        }
        if self.boot.has_begun(Action::Network)
            && let Err(why) = self.start_network()
        {
            supervise::error!("the network's thread does not start: {why}");
        }
        if !self.keep.setup_code.is_empty() {
            let code = self.keep.setup_code.clone();
            self.board.setup_code.set(Some(code));
        }
        if !self.keep.ca_pem.is_empty() {
            self.board.ca_pem.set(Some(self.keep.ca_pem.clone()));
        }
    }
}

/// Ends every process of a predecessor that left no book: they hold the ports, and nobody could
/// tell them anything. Waits for a moment until they are gone, as nothing can begin before.
pub(super) fn end_all() {
    let paths = groups_in("pilot").chain(["services".to_owned()]);
    let groups: Vec<_> = paths.filter_map(|path| own_group(&path)).collect();
    for group in &groups {
        let _ = group.kill();
    }
    for _ in 0..GONE_TRIES {
        supervise::reaper::reap(usize::MAX, |_, _| {});
        if !groups.iter().any(Cgroup::is_populated) {
            break;
        }
        std::thread::sleep(GONE_PAUSE);
    }
    // What is started in a group that was killed is killed too.
    for group in &groups {
        let _ = group.remove();
    }
}

fn inherit_service(
    spec: StartService,
    plan: Handed,
    agents: Handed,
    from: &mut Inherited,
) -> Option<Kind> {
    spec.unit.service_id()?;
    let plan = from.take(plan)?;
    let agents = from.take(agents).filter(estate::is_listener)?;
    Some(Kind::Service(Box::new(Service {
        spec,
        plan,
        agents: agents.into(),
    })))
}

fn inherit_watchdog(record: &WatchdogRecord<'_>, from: &mut Inherited) -> Option<Armed> {
    let device = from.take(record.device)?;
    let node = Path::new(&*record.node).to_owned();
    Some(Armed {
        device: Watchdog::from_open(&node, device),
        identity: record.identity.clone().into_owned(),
        node,
        timeout: record.timeout,
        hardware: record.hardware,
        caused_last_boot: record.caused_last_boot,
    })
}

fn name_child(child: &Child, naming: &mut Naming) -> ChildRecord {
    ChildRecord {
        pid: child.pid,
        pidfd: naming.name(&child.pidfd),
        start_error: naming.name(&child.start_error),
    }
}

fn inherit_child(record: &ChildRecord, from: &mut Inherited) -> Option<Child> {
    let pidfd = from.take(record.pidfd)?;
    let start_error = from.take(record.start_error)?;
    (pid_of(&pidfd) == Some(record.pid)).then_some(Child {
        pid: record.pid,
        pidfd,
        start_error,
    })
}

/// Whose a pidfd is, in this PID namespace; none once it was reaped, or if it is none.
fn pid_of(pidfd: &OwnedFd) -> Option<u32> {
    use std::os::fd::AsRawFd as _;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    line.trim().parse().ok()
}

/// Whether it ended and the predecessor reaped it, so that nobody will tell of its end.
fn is_buried(child: &Child) -> bool {
    use std::os::fd::AsFd as _;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::PidFd(child.pidfd.as_fd()), look).is_err()
}

/// A group's path below the hierarchy's root.
pub(super) fn relative(group: &Cgroup) -> String {
    let path = group.path().strip_prefix(CGROUPS);
    path.unwrap_or(Path::new("")).to_string_lossy().into_owned()
}

/// A group by a path that may be anything: only one of ours.
pub(super) fn own_group(path: &str) -> Option<Cgroup> {
    is_own_group(path).then(|| make_cgroup(path).ok())?
}

/// Whether a path that may be anything is that of a group of ours.
pub(super) fn is_own_group(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let plain = |part: &str| !["", ".", ".."].contains(&part) && !part.contains('\0');
    ["pilot", "services"].contains(&first) && path.split('/').all(plain) && path.len() < MAX_GROUP
}

/// The paths of the groups right below one of ours.
fn groups_in(path: &'static str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(Path::new(CGROUPS).join(path))
        .into_iter()
        .flatten();
    let folders = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(move |entry| Some(format!("{path}/{}", entry.file_name().to_str()?)))
}

/// All children of PID 1.
fn children() -> impl Iterator<Item = u32> {
    let list = fs::read_to_string("/proc/1/task/1/children");
    let threads = fs::read_dir("/proc/1/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let text = lists.chain(list.ok()).collect::<Vec<_>>().join(" ");
    let mut pids: Vec<u32> = text
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter()
}

/// Whether a process is in one of the groups that only PID 1 starts something in.
fn is_of_ours(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let group = text.trim().strip_prefix("0::").unwrap_or_default();
    // Each run of a role has a group of its own: its name and a number.
    let run = group
        .rsplit_once("/pilot/")
        .and_then(|(_, run)| run.rsplit_once('-'));
    Role::ALL
        .iter()
        .any(|role| run.is_some_and(|(name, _)| name == role.name()))
        || group.contains("/pilot/helpers/")
        || group.contains("/services/") && group.ends_with("/monitor")
}

/// An end that nobody can tell of any more.
const UNKNOWN: Exit = Exit::Code(-1);
const SOFTDOG_PATIENCE: Duration = Duration::from_secs(10);
const GONE_TRIES: u32 = 100;
const GONE_PAUSE: Duration = Duration::from_millis(20);
const MAX_GROUP: usize = 256;
