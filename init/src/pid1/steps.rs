//! What each boot step does. Whatever may hang is done by a helper; here nothing waits.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use netstack::net::{self, Bridge, Clock, NetConfig};
use rustix::{io::Errno, rand::GetRandomFlags, system::RebootCommand};
use supervise::{
    control::{Event, Limits},
    status::DataState,
};

use super::{
    Pid1, Stage,
    hunt::has_entropy,
    jobs::Purpose,
    roles::Role,
    table::{Kind, Unit},
};
use crate::{
    boot::{Action, Step},
    cmdline::Data,
    helper::answer,
    keep::Keep,
    kmsg, mounts, root,
    shared::Message,
};

/// What came of a step at once.
pub(super) enum Begun {
    /// Done.
    Done,
    /// It ends later.
    Pending,
    /// This box has no need of it.
    Skipped(String),
}

impl Pid1 {
    /// Begins the steps whose turn has come, and ends those that are overdue.
    pub(super) fn advance_boot(&mut self, now: Duration) {
        while let Some(step) = self.boot.begin_next(now) {
            // It may be one that waits for what a look would find.
            self.hunt_at = Duration::ZERO;
            self.begin(step);
        }
        while let Some(step) = self.boot.overdue(now) {
            let limit = step.deadline.as_secs();
            let why = match super::netview::trouble(&self.net) {
                Some(why) if step.action == Action::Network => why.trim_end_matches('.').to_owned(),
                _ => format!("it did not end within {limit} s"),
            };
            self.step_failed(step.action, why);
        }
        if now >= self.hunt_at {
            self.hunt_at = now + HUNT_EVERY;
            self.hunt(now);
        }
    }

    fn begin(&mut self, step: Step) {
        let begun = match step.action {
            Action::ClockFloor => self.raise_clock(),
            Action::Coldplug => {
                self.start_coldplug(step.deadline);
                Ok(Begun::Pending)
            }
            Action::Entropy => self.check_entropy(),
            Action::Front => self.add_role(Role::Front),
            Action::Identity => self.settle_identity(),
            Action::Kernel => kernel_settings(),
            Action::Logd => self.add_role(Role::Logd),
            Action::Manager => {
                if is_hierarchys_root() {
                    enter_own_group();
                }
                self.add_role(Role::Manager)
            }
            Action::Mounts => mount(self.stage),
            Action::Network => self.start_network(),
            Action::SwitchRoot => self.switch_root(),
            Action::RootMount if !self.boot.succeeded(Action::RootDevice) => {
                Ok(Begun::Skipped("there is no root partition".to_owned()))
            }
            Action::RootMount => {
                let label = self.cmdline.slot.partition_label();
                let args = ["mount-root", label, root::NEW_ROOT];
                self.start_job(Purpose::MountRoot, &args, step.deadline);
                Ok(Begun::Pending)
            }
            Action::Watchdog => self.find_watchdog(step.deadline),
            Action::Keep if self.cmdline.keeps_nothing => {
                Ok(Begun::Skipped("this machine has none".to_owned()))
            }
            Action::Data if self.cmdline.data == Data::Mounted => {
                self.data_mounted(r#"{"device":"","total":0,"free":0,"made":false,"notes":[]}"#);
                return;
            }
            // Found by `hunt`.
            Action::Data | Action::Keep | Action::RootDevice => Ok(Begun::Pending),
        };
        self.begun(step.action, begun);
    }

    pub(super) fn begun(&mut self, action: Action, begun: Result<Begun, String>) {
        match begun {
            Ok(Begun::Done) => self.step_done(action),
            Ok(Begun::Pending) => {}
            Ok(Begun::Skipped(why)) => {
                self.boot.skipped(action, why);
                self.changed();
            }
            Err(why) => self.step_failed(action, why),
        }
    }

    /// A step ended well.
    pub(super) fn step_done(&mut self, action: Action) {
        if let Some(name) = self.boot.done(action, super::now()) {
            self.tell_step(kmsg::INFO, &format!("{name}: done"));
        }
    }

    /// A step failed: said where people see it, and the boot goes on.
    pub(super) fn step_failed(&mut self, action: Action, why: String) {
        let text = why.clone();
        if let Some(name) = self.boot.failed(action, super::now(), why) {
            self.tell_step(kmsg::ERROR, &format!("{name}: FAILED: {text}"));
            match action {
                Action::Data => self.data_is(DataState::Absent(text)),
                Action::RootDevice | Action::RootMount | Action::SwitchRoot => self.rescue(),
                _ => {}
            }
        }
    }

    fn tell_step(&mut self, level: u8, text: &str) {
        match (self.stage, level) {
            // Without `logd` the kernel's log is the only one.
            (Stage::Initramfs, _) => kmsg::write(level, text),
            (Stage::Root, kmsg::ERROR) => supervise::error!("boot: {text}"),
            (Stage::Root, _) => supervise::info!("boot: {text}"),
        }
        self.changed();
    }

    /// Has the drivers of all devices loaded, and those that the kernel would ask for by itself.
    pub(super) fn start_coldplug(&mut self, patience: Duration) {
        let also = match self.stage {
            Stage::Initramfs => &[][..],
            Stage::Root => &[net::MODULES, services::MODULES].concat(),
        };
        self.start_job(Purpose::Coldplug, &[&["coldplug"], also].concat(), patience);
    }

    fn switch_root(&mut self) -> Result<Begun, String> {
        if !self.boot.succeeded(Action::RootMount) {
            return Ok(Begun::Skipped("there is no root file system".to_owned()));
        }
        let mut reports = self.boot.reports();
        // Its own end can't be told from the other side.
        reports.retain(|report| report.name != "switch root");
        root::save_reports(&reports);
        Err(root::switch())
    }

    fn raise_clock(&mut self) -> Result<Begun, String> {
        let floor = std::time::UNIX_EPOCH + Duration::from_secs(self.keep.clock_floor);
        match drivers::clock::raise_to(floor) {
            Ok(Some(by)) => {
                supervise::info!(
                    "the clock was {} s behind the last time known",
                    by.as_secs()
                );
                Ok(Begun::Done)
            }
            Ok(None) => Ok(Begun::Done),
            Err(e) => Err(e.to_string()),
        }
    }

    fn check_entropy(&mut self) -> Result<Begun, String> {
        // Mixed in, not counted: it may be known to whoever had the disk.
        let _ = fs::write("/dev/urandom", &self.keep.seed);
        Ok(if has_entropy() {
            Begun::Done
        } else {
            Begun::Pending
        })
    }

    fn settle_identity(&mut self) -> Result<Begun, String> {
        let mut random = [0; 32];
        rustix::rand::getrandom(&mut random, GetRandomFlags::INSECURE)
            .map_err(|e| format!("no random numbers: {e}"))?;
        let default_name = self
            .cmdline
            .name
            .clone()
            .unwrap_or_else(|| DEFAULT_NAME.to_owned());
        if self.keep.complete(&default_name, &random) {
            self.write_keep();
        }
        rustix::system::sethostname(self.keep.hostname.as_bytes())
            .map_err(|e| format!("the host name can't be set: {e}"))?;
        let _ = fs::write("/run/hostname", format!("{}\n", self.keep.hostname));
        let _ = fs::write("/run/machine-id", format!("{}\n", self.keep.machine_id));
        self.board
            .setup_code
            .set(Some(self.keep.setup_code.clone()));
        if !self.keep.ca_pem.is_empty() {
            self.board.ca_pem.set(Some(self.keep.ca_pem.clone()));
        }
        self.door = postcard::to_stdvec(&self.first_door()).ok();
        Ok(Begun::Done)
    }

    pub(super) fn start_network(&mut self) -> Result<Begun, String> {
        let (to_main, vitals) = (self.to_main.clone(), self.vitals.clone());
        let prepare = move || {
            crate::crash::protect_thread();
            vitals.net().is_me();
        };
        let handle = net::spawn_prepared(self.net_config(), prepare, move |status| {
            // A full queue: `main` is behind; the next change tells it all again.
            let _ = to_main.send(Message::Net(Box::new(status)));
        })
        .map_err(|e| e.to_string())?;
        self.net_thread = Some(handle);
        Ok(Begun::Pending)
    }

    /// Bridge and packet filter only once their drivers are there: asked for earlier, the kernel
    /// would load them itself and keep `net` waiting meanwhile. Until then nothing listens but what
    /// the filter lets in anyway.
    pub(super) fn net_config(&self) -> NetConfig {
        #[cfg_attr(not(feature = "fault"), allow(unused_mut))]
        let mut config = NetConfig {
            hostname: Some(self.keep.hostname.clone()),
            bridge: self.drivers_done.map(|_| Bridge::default()),
            forwards: self.net_forwards(),
            open_ports: self.drivers_done.map(|_| self.sockets.open_to_all()),
            links: self.changes.in_force().clone(),
            dns: self.changes.general.dns(),
            time: self
                .changes
                .general
                .time_config(&self.cmdline.time_servers, Clock::Kernel),
            address_secret: self.keep.address_secret(),
            ..NetConfig::default()
        };
        #[cfg(feature = "fault")]
        for link in crate::crash::fault::links() {
            config.links.entry(link).or_default();
        }
        config
    }

    fn add_role(&mut self, role: Role) -> Result<Begun, String> {
        let unit = Unit::new(Kind::Role(role)).map_err(|e| e.to_string())?;
        self.table.insert(role.unit(), unit);
        Ok(Begun::Pending)
    }

    /// A helper has answered.
    pub(super) fn job_done(&mut self, purpose: Purpose, result: Result<String, String>) {
        let now = super::now();
        match (purpose, result) {
            (Purpose::Coldplug, Ok(summary)) => {
                supervise::info!("drivers: {summary}");
                self.drivers_settled(now);
                self.step_done(Action::Coldplug);
            }
            (Purpose::Coldplug, Err(why)) => {
                self.drivers_settled(now);
                self.step_failed(Action::Coldplug, why);
            }
            (Purpose::KeepRead, result) => self.keep_was_read(result),
            (Purpose::KeepWrite, Ok(_)) => self.keep_was_written(true),
            (Purpose::KeepWrite, Err(why)) => {
                supervise::warning!("the keep partition can't be written: {why}");
                self.keep_was_written(false);
            }
            (Purpose::Modalias, Ok(_)) => {}
            (Purpose::Modalias, Err(why)) => supervise::warning!("a driver was not loaded: {why}"),
            (Purpose::MountRoot, Ok(_)) => self.step_done(Action::RootMount),
            (Purpose::MountRoot, Err(why)) => self.step_failed(Action::RootMount, why),
            (Purpose::MountData, Ok(answer)) => self.data_mounted(&answer),
            (Purpose::MountData, Err(why)) => self.step_failed(Action::Data, why),
            (Purpose::ProbeData, result) => self.data_was_probed(result, now),
            (Purpose::Softdog, result) => self.softdog_loaded(result),
            (Purpose::Shell(reply), result) => {
                let _ = reply.try_send(result.map(|_| ()));
            }
            (Purpose::UnmountData, result) => self.unmounted(result, now),
            (Purpose::Upgrade, result) => self.upgrade_checked(result),
            (Purpose::Verify { id, from }, result) => self.verified(id, from, result, now),
        }
        self.changed();
    }

    /// Has `net` make what should be.
    pub(super) fn configure_net(&mut self) {
        let told = match &self.net_thread {
            Some(net) => net.configure(self.net_config()),
            // It is told when it starts.
            None => Ok(()),
        };
        if let Err(e) = &told
            && !self.changes.untold
        {
            supervise::warning!("the network is not as it should be: {e}; it is told again");
        }
        self.changes.untold = told.is_err();
    }

    fn drivers_settled(&mut self, now: Duration) {
        self.drivers_done = Some(now);
        self.configure_net();
        self.open_names();
        if let Err(e) = self.buttons.look(Path::new("/sys")) {
            supervise::warning!("power button: {e}");
        }
    }

    fn keep_was_read(&mut self, result: Result<String, String>) {
        let read = result.and_then(|answer| {
            serde_json::from_str::<answer::Keep>(&answer).map_err(|e| e.to_string())
        });
        if let Ok(answer::Keep {
            note: Some(note), ..
        }) = &read
        {
            supervise::warning!("keep: {note}");
        }
        match read.map(|keep| keep.payload) {
            Ok(None) => {
                self.keep_is_there = true;
                supervise::info!("the keep partition is new");
                self.step_done(Action::Keep);
            }
            Ok(Some(bytes)) => match Keep::from_bytes(&bytes) {
                Ok(keep) => {
                    self.keep = keep;
                    self.keep_is_there = true;
                    self.begin_network_settings();
                    self.step_done(Action::Keep);
                }
                Err(e) => {
                    self.step_failed(Action::Keep, format!("what is on it does not parse: {e}"))
                }
            },
            Err(why) => self.step_failed(Action::Keep, why),
        }
    }

    /// The data file system's state is known or has changed.
    pub(super) fn data_is(&mut self, state: DataState) {
        self.data = state;
        if let Some(event) = self.data_event() {
            for role in [Role::Manager, Role::Logd] {
                self.tell(role, event.clone(), vec![]);
            }
        }
        self.changed();
    }

    /// The network changed.
    pub(super) fn net_is(&mut self, status: net::NetStatus) {
        if status.reachable() {
            self.step_done(Action::Network);
            self.boot.made_up(Action::Network, super::now());
        }
        self.net = super::netview::summary(&status);
        write_resolv_conf(&self.net.dns, self.names.serves_the_box());
        self.time_is(&status.time);
        self.net_seen = status;
        self.open_names();
        self.changed();
    }

    /// The root can't be had: the console, and nothing else.
    fn rescue(&mut self) {
        if self.stage == Stage::Initramfs && !self.console_is_up {
            self.start_console();
        }
    }

    /// A service's wish from the console is the manager's to keep.
    pub(super) fn tell_wish(&mut self, unit: supervise::unit::UnitName, run: bool) {
        self.wishes.insert(unit.clone(), run);
        self.tell(Role::Manager, Event::Wanted { unit, run }, vec![]);
    }
}

fn mount(stage: Stage) -> Result<Begun, String> {
    let mut trouble = mounts::mount_all(mounts::KERNEL);
    if stage == Stage::Root {
        trouble.extend(mounts::mount_all(mounts::SYSTEM));
        trouble.extend(
            mounts::make_private()
                .err()
                .map(|e| format!("mounts stay shared: {e}")),
        );
    }
    if trouble.is_empty() {
        Ok(Begun::Done)
    } else {
        Err(trouble.join("; "))
    }
}

fn kernel_settings() -> Result<Begun, String> {
    let mut trouble = Vec::new();
    for (path, value) in SETTINGS {
        if let Err(e) = fs::write(path, value) {
            trouble.push(format!("{path}: {e}"));
        }
    }
    // Ctrl-Alt-Del asks PID 1 (SIGINT) instead of resetting the machine.
    if let Err(errno) = rustix::system::reboot(RebootCommand::CadOff)
        && errno != Errno::PERM
    {
        trouble.push(format!("Ctrl-Alt-Del: {errno}"));
    }
    trouble.extend(super::start::make_cgroup("pilot/helpers").err());
    let protected = Limits {
        memory_low: Some(OWN_MEMORY),
        ..Limits::default()
    };
    let group = super::start::make_cgroup(OWN_GROUP);
    let limited = group.and_then(|group| group.limit(&protected).map_err(|e| e.to_string()));
    trouble.extend(limited.err());
    trouble.extend(limit_services().err());
    if !is_hierarchys_root() {
        enter_own_group();
    }
    if trouble.is_empty() {
        Ok(Begun::Done)
    } else {
        Err(trouble.join("; "))
    }
}

/// All services together leave processes and threads for the box's own: for its console and door.
fn limit_services() -> Result<(), String> {
    let all = fs::read_to_string("/proc/sys/kernel/threads-max").unwrap_or_default();
    let all: u32 = all.trim().parse().unwrap_or(PID_MAX);
    let limits = Limits {
        pids_max: Some(all.min(PID_MAX) / 4 * 3),
        ..Limits::default()
    };
    let services = super::start::make_cgroup("services")?;
    services.limit(&limits).map_err(|e| e.to_string())
}

/// Whether our control groups are below the hierarchy's own root, which alone hands controllers down
/// while processes are in it (and alone is of no type).
fn is_hierarchys_root() -> bool {
    !Path::new(super::start::CGROUPS)
        .join("cgroup.type")
        .exists()
}

/// Comes before the manager, whose services need it, and not earlier where that is possible: the
/// kernel takes ten milliseconds for it (an RCU grace period).
fn enter_own_group() {
    let own = format!("{}/{OWN_GROUP}/cgroup.procs", super::start::CGROUPS);
    if let Err(e) = fs::write(&own, "0") {
        supervise::error!("services are not held to their limits: {own}: {e}");
    }
}

/// The box's own programs ask the front, whose sockets are there whatever becomes of it; until then
/// those whom the network named.
pub(super) fn write_resolv_conf(named: &[IpAddr], front: bool) {
    let front = front.then_some(IpAddr::from(Ipv4Addr::LOCALHOST));
    let text: String = front
        .as_ref()
        .map_or(named, std::slice::from_ref)
        .iter()
        .map(|ip| format!("nameserver {ip}\n"))
        .collect();
    let _ = fs::write("/run/resolv.conf", text);
}

/// Kernel settings of a box (kernel doc `admin-guide/sysctl`), each with its reason.
const SETTINGS: &[(&str, &str)] = &[
    // A kernel that is beyond help starts again instead of waiting for somebody to press a button.
    ("/proc/sys/kernel/panic", "10"),
    // From here on the console is the recovery console's; the kernel speaks only of grave things.
    ("/proc/sys/kernel/printk", "4"),
    // Neither addresses nor messages of the kernel are services' business.
    ("/proc/sys/kernel/kptr_restrict", "2"),
    ("/proc/sys/kernel/dmesg_restrict", "1"),
    ("/proc/sys/kernel/unprivileged_bpf_disabled", "1"),
    ("/proc/sys/fs/protected_hardlinks", "1"),
    ("/proc/sys/fs/protected_symlinks", "1"),
    ("/proc/sys/fs/protected_fifos", "2"),
    ("/proc/sys/fs/protected_regular", "2"),
    // A container's process needs pids; so do the box's own, whatever the container does.
    ("/proc/sys/kernel/pid_max", "131072"),
];

/// What `pid_max` is set to above.
const PID_MAX: u32 = 131_072;

/// PID 1's own control group. liblxc makes containers' groups below that of PID 1, so that no limit
/// of a service's group would hold for its container, unless PID 1's has this name: that one it takes
/// for the hierarchy's root (`prune_init_scope`).
const OWN_GROUP: &str = "init.scope";
/// What is not taken from PID 1 while others have any: several times what it uses.
const OWN_MEMORY: u64 = 16 << 20;

/// The name of a box that nobody has named.
const DEFAULT_NAME: &str = "pilotlight";

/// Between two looks for a partition that is not there yet.
const HUNT_EVERY: Duration = Duration::from_millis(100);
