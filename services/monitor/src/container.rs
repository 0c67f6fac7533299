//! The container itself: the plan and the root file system in, liblxc's settings out.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
};

use services::plan::{AGENT_PROGRAM, Plan};

use crate::{error::Error, exit::Outcome, lxc::Container, rootfs::Root};

/// Starts the container and stays until it has ended.
pub(crate) fn run(plan: &Plan, root: &Root) -> Result<Outcome, Error> {
    let container = Container::new(&plan.id, &root.lxc_folder)?;
    let log = root.lxc_folder.join("log");
    let seccomp = root.lxc_folder.join("seccomp");
    fs::write(&seccomp, SECCOMP_PROFILE).map_err(Error::io("write", seccomp.display()))?;
    for (key, value) in settings(plan, root, &log, &seccomp) {
        container.set(key, &value)?;
    }
    // A liblxc without AppArmor refuses the key, and then needs it not.
    let _ = container.set("lxc.apparmor.profile", "unconfined");
    container.run().ok_or_else(|| {
        tell_log(&log);
        Error::NotStarted
    })
}

fn settings(plan: &Plan, root: &Root, log: &Path, seccomp: &Path) -> Vec<(&'static str, String)> {
    let path = |path: &Path| path.display().to_string();
    let mut settings = vec![
        ("lxc.log.level", "WARN".to_owned()),
        ("lxc.log.file", path(log)),
        ("lxc.uts.name", plan.hostname.clone()),
        ("lxc.rootfs.path", format!("dir:{}", path(&root.root))),
        ("lxc.rootfs.mount", path(&root.pivot)),
        ("lxc.init.cmd", AGENT_PROGRAM.to_owned()),
        ("lxc.signal.halt", "SIGTERM".to_owned()),
        ("lxc.autodev", "1".to_owned()),
        ("lxc.console.path", "none".to_owned()),
        ("lxc.tty.max", "0".to_owned()),
        ("lxc.pty.max", "64".to_owned()),
        ("lxc.mount.entry", SHARED_MEMORY.to_owned()),
        ("lxc.mount.auto", "proc:mixed sys:ro".to_owned()),
        ("lxc.no_new_privs", "1".to_owned()),
        ("lxc.cap.keep", CAPABILITIES.to_owned()),
        ("lxc.seccomp.profile", path(seccomp)),
    ];
    settings.extend(ids(plan));
    settings.extend(network(plan));
    settings.extend(cgroups(plan));
    settings
}

fn ids(plan: &Plan) -> [(&'static str, String); 2] {
    let range = |kind: char| format!("{kind} 0 {} {}", plan.ids.base, plan.ids.count);
    [("lxc.idmap", range('u')), ("lxc.idmap", range('g'))]
}

fn network(plan: &Plan) -> [(&'static str, String); 8] {
    let network = &plan.network;
    let mac = network.mac().map(|byte| format!("{byte:02x}"));
    [
        ("lxc.net.0.type", "veth".to_owned()),
        ("lxc.net.0.flags", "up".to_owned()),
        ("lxc.net.0.link", network.bridge.clone()),
        ("lxc.net.0.veth.pair", network.host_link.clone()),
        ("lxc.net.0.name", "eth0".to_owned()),
        ("lxc.net.0.hwaddr", mac.join(":")),
        (
            "lxc.net.0.ipv4.address",
            format!("{}/{}", network.address, network.prefix),
        ),
        ("lxc.net.0.ipv4.gateway", network.gateway.to_string()),
    ]
}

/// liblxc must make the groups it uses itself, so the monitor's is one below its own.
fn cgroups(plan: &Plan) -> [(&'static str, String); 3] {
    let group = |name: &str| format!("{}/{name}", plan.cgroup);
    [
        ("lxc.cgroup.dir.monitor", group("monitor/lxc")),
        ("lxc.cgroup.dir.monitor.pivot", group("monitor/pivot")),
        ("lxc.cgroup.dir.container", group("payload")),
    ]
}

/// liblxc writes its messages in several pieces, so they go to a file first and then, whole lines,
/// to the log; those of a start that worked are of no use to anybody.
fn tell_log(log: &Path) {
    let Ok(file) = fs::File::open(log) else {
        return;
    };
    for line in BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .take(MAX_LOG_LINES)
    {
        supervise::warning!("{line}");
    }
}

/// A failed start is a dozen lines.
const MAX_LOG_LINES: usize = 100;

/// POSIX shared memory, which databases need; the service's memory limit counts it.
const SHARED_MEMORY: &str = "tmpfs dev/shm tmpfs rw,nosuid,nodev,mode=1777,create=dir 0 0";

/// What daemons made for containers expect: own their files, change user, bind low ports. All of
/// them hold in the container's own user namespace only.
const CAPABILITIES: &str = "chown dac_override fowner fsetid kill setgid setuid setpcap \
                            net_bind_service net_raw sys_chroot setfcap";

/// Refuses what no service needs and what has been a way out of containers before: loading code
/// into the kernel, its keyrings, tracing and BPF, file handles, fault handlers.
const SECCOMP_PROFILE: &str = "2
denylist
[all]
kexec_load errno 1
kexec_file_load errno 1
init_module errno 1
finit_module errno 1
delete_module errno 1
open_by_handle_at errno 1
add_key errno 1
request_key errno 1
keyctl errno 1
bpf errno 1
perf_event_open errno 1
userfaultfd errno 1
io_uring_setup errno 1
";
