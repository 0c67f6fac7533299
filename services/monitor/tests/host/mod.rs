//! What a monitor finds on a box, made for one test: namespaces, bridge, control group, log,
//! manager's socket, package file.
#![allow(unsafe_code)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    process::Command as Tool,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::MemfdFlags,
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{Pid, Signal, WaitId, WaitIdOptions},
    thread::UnshareFlags,
};
use services::{
    plan::{
        AgentSpec, Daemon, FileIdentity, HealthProbe, IdRange, Image, Network, Plan, ProbeKind,
        Restart, Volume,
    },
    report::AgentReport,
};
use supervise::{
    cgroup::Cgroup,
    spawn::{Child, Command, Schedule},
};

/// The host's id of the containers' root.
pub(crate) const FIRST_ID: u32 = 1_065_536;

/// A host for one container.
pub(crate) struct Host {
    id: &'static str,
    folder: PathBuf,
    log: Arc<Mutex<String>>,
    log_end: OwnedFd,
    reports: Arc<Mutex<Vec<AgentReport>>>,
}

/// A monitor that was started.
pub(crate) struct Monitor {
    child: Child,
}

impl Host {
    /// Makes the host, for this thread; `None`, said loudly, where that is impossible.
    pub(crate) fn prepare(id: &'static str) -> Option<Self> {
        if let Some(lack) = lack() {
            eprintln!("SKIPPED: {lack}");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("monitor-{id}-{}", std::process::id()));
        fs::create_dir_all(folder.join("data").join(id)).unwrap();
        fs::create_dir_all(folder.join("agents").join(id)).unwrap();
        own_namespaces();
        make_package(&folder);
        let (reader, log_end) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::io::ioctl_fionbio(&log_end, true).unwrap();
        let host = Self {
            id,
            log: collect_log(reader),
            reports: listen(&folder.join("agents").join(id).join("agent.sock")),
            folder,
            log_end,
        };
        Some(host)
    }

    /// A plan that runs one daemon called `main`.
    pub(crate) fn plan(&self, command: &[&str]) -> Plan {
        let package = self.folder.join("package");
        let metadata = fs::metadata(&package).unwrap();
        Plan {
            id: self.id.to_owned(),
            hostname: self.id.to_owned(),
            image: Image {
                package,
                identity: FileIdentity::of(&metadata),
                offset: IMAGE_OFFSET,
                size: metadata.size() - IMAGE_OFFSET,
            },
            ids: IdRange {
                base: FIRST_ID,
                count: 65536,
            },
            network: Network {
                bridge: "pilot0".to_owned(),
                host_link: "pv1".to_owned(),
                address: ADDRESS,
                prefix: 16,
                gateway: Ipv4Addr::new(10, 77, 0, 1),
            },
            scratch: self.own_folder().join("scratch"),
            volumes: vec![Volume {
                source: self.volume(),
                path: "/data".into(),
            }],
            cgroup: format!("services/{}", self.cgroup_name()),
            agent: AgentSpec {
                daemons: vec![Daemon {
                    name: "main".to_owned(),
                    command: command.iter().map(|word| (*word).to_owned()).collect(),
                    env: [("PATH".to_owned(), "/bin".to_owned())].into(),
                    user: None,
                    workdir: "/".into(),
                    restart: Restart::Always,
                }],
                health: Some(HealthProbe {
                    kind: ProbeKind::Http("/".to_owned()),
                    port: 80,
                    interval_ms: 500,
                }),
                stop_timeout_ms: 3000,
            },
        }
    }

    /// Starts a monitor as PID 1 does.
    pub(crate) fn start(&self, plan: &Plan) -> Monitor {
        let memfd = rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&memfd, &plan.to_bytes().unwrap()).unwrap();
        let path = format!("services/{}/monitor", self.cgroup_name());
        let group = Cgroup::create(Path::new(CGROUPS), &path)
            .unwrap()
            .open()
            .unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        let mut args = vec![env!("CARGO_BIN_EXE_monitor").to_owned()];
        let places = [
            self.folder.join("data"),
            self.folder.join("agents"),
            agent(),
        ];
        args.extend(places.iter().map(|path| path.display().to_string()));
        let (program, args) = with_libraries(args);
        let log = self.log_end.as_fd();
        let command = Command {
            program: &program,
            args,
            // Where liblxc finds `newuidmap` it wants root to have ranges in /etc/subuid. A box has
            // no such program, but a developer's machine may.
            env: vec!["PATH=/nowhere".to_owned()],
            fds: vec![(null.as_fd(), 0), (log, 1), (log, 2), (memfd.as_fd(), 4)],
            user: None,
            cgroup: Some(group.as_fd()),
            controlling_tty: false,
            oom_score_adj: 0,
            schedule: Schedule::default(),
            no_new_privs: false,
        };
        Monitor {
            child: command.spawn().unwrap(),
        }
    }

    /// The answer of the container's web server, as soon as there is one.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        let answered = in_time(PATIENCE, || {
            answer = get(path).unwrap_or_default();
            answer.contains("200 OK")
        });
        assert!(answered, "no answer; the log is {}", self.log());
        answer
    }

    /// The pids, on the host, of the container's processes of this name.
    pub(crate) fn daemons(&self, name: &str) -> Vec<String> {
        let procs = fs::read_to_string(self.cgroup("payload").join("cgroup.procs"));
        let is_called = |pid: &&str| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
        };
        procs
            .unwrap_or_default()
            .lines()
            .filter(is_called)
            .map(str::to_owned)
            .collect()
    }

    /// The pid of the one process of this name, as soon as it has no children that serve a request.
    pub(crate) fn daemon(&self, name: &str) -> String {
        let mut pids = Vec::new();
        until("a single process", || {
            pids = self.daemons(name);
            pids.len() == 1
        });
        pids.remove(0)
    }

    /// A group of the service's.
    pub(crate) fn cgroup(&self, name: &str) -> PathBuf {
        Path::new(CGROUPS)
            .join("services")
            .join(self.cgroup_name())
            .join(name)
    }

    /// All that was logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Forgets what was logged.
    pub(crate) fn clear_log(&self) {
        self.log.lock().unwrap().clear();
    }

    /// All that the agent reported.
    pub(crate) fn reports(&self) -> Vec<AgentReport> {
        self.reports.lock().unwrap().clone()
    }

    /// The volume on the host.
    pub(crate) fn volume(&self) -> PathBuf {
        self.own_folder().join("volumes/data")
    }

    fn own_folder(&self) -> PathBuf {
        self.folder.join("data").join(self.id)
    }

    /// Control groups are not in a namespace of the test's, so the name must be.
    fn cgroup_name(&self) -> String {
        format!("{}-{}", self.id, std::process::id())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let service = Path::new(CGROUPS).join("services").join(self.cgroup_name());
        let _ = fs::write(service.join("cgroup.kill"), "1");
        if let Ok(group) = Cgroup::create(
            Path::new(CGROUPS),
            &format!("services/{}", self.cgroup_name()),
        ) {
            let _ = in_time(Duration::from_secs(5), || !group.is_populated());
            let _ = group.remove();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Monitor {
    pub(crate) fn signal(&self, signal: Signal) {
        self.child.signal(signal).unwrap();
    }

    /// How it ended, in time.
    pub(crate) fn ended(&self, patience: Duration) -> String {
        let pid = Pid::from_raw(self.child.pid.cast_signed()).unwrap();
        let mut status = None;
        let ended = in_time(patience, || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            status = rustix::process::waitid(WaitId::Pid(pid), options).unwrap();
            status.is_some()
        });
        assert!(ended, "the monitor does not end");
        let status = status.unwrap();
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("killed by signal {}", signal.unwrap()),
        }
    }
}

/// Kills one process of a container.
pub(crate) fn kill(pid: &str) {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

/// Waits for something that must happen soon.
pub(crate) fn until(what: &str, done: impl FnMut() -> bool) {
    assert!(in_time(PATIENCE, done), "waited in vain for {what}");
}

fn in_time(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

fn lack() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("containers need root".to_owned());
    }
    for tool in ["busybox", "mksquashfs", "ip"] {
        if found(tool).is_none() {
            return Some(format!("there is no {tool}"));
        }
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices".to_owned());
    }
    if tree().is_none() && !installed_lxc() {
        return Some("there is no liblxc.so.1; install liblxc1 or set PILOT_LXC_TREE".to_owned());
    }
    None
}

fn found(tool: &str) -> Option<PathBuf> {
    let folders = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"];
    folders
        .iter()
        .map(|folder| Path::new(folder).join(tool))
        .find(|path| path.exists())
}

fn installed_lxc() -> bool {
    let list = Tool::new("/sbin/ldconfig").arg("-p").output();
    list.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).contains("liblxc.so.1"))
}

/// The libraries of an unpacked Debian, with its own loader: they may be newer than this machine's.
fn tree() -> Option<PathBuf> {
    let libraries = PathBuf::from(std::env::var_os("PILOT_LXC_TREE")?)
        .join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    libraries.join("liblxc.so.1").exists().then_some(libraries)
}

fn with_libraries(args: Vec<String>) -> (String, Vec<String>) {
    let Some(libraries) = tree() else {
        return (args[0].clone(), args);
    };
    let is_loader = |path: &PathBuf| path.to_string_lossy().contains("/ld-linux-");
    let mut entries = fs::read_dir(&libraries)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let loader = entries.find(is_loader).unwrap().display().to_string();
    let own = [&loader, "--library-path", &libraries.display().to_string()].map(str::to_owned);
    (loader.clone(), own.into_iter().chain(args).collect())
}

/// A mount and a network namespace for this thread and what it starts.
fn own_namespaces() {
    // SAFETY: neither takes memory or descriptors away from the other threads of this process.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET).unwrap() };
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).unwrap();
    mount("cgroup2", CGROUPS, "cgroup2", MountFlags::empty(), None).unwrap();
    for args in [
        "link set lo up",
        "link add pilot0 type bridge",
        "addr add 10.77.0.1/16 dev pilot0",
        "link set pilot0 up",
    ] {
        let ip = Tool::new("ip").args(args.split(' ')).status().unwrap();
        assert!(ip.success(), "ip {args}");
    }
}

/// A package file: something, and then a squashfs with busybox and the agent's libraries.
fn make_package(folder: &Path) {
    let image = folder.join("image");
    for name in ["bin", "etc", "www"] {
        fs::create_dir_all(image.join(name)).unwrap();
    }
    fs::copy(found("busybox").unwrap(), image.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "httpd", "sleep", "touch", "ls", "id", "hostname", "chown", "wc",
    ] {
        std::os::unix::fs::symlink("busybox", image.join("bin").join(applet)).unwrap();
    }
    fs::write(image.join("www/index.html"), "hello from the container\n").unwrap();
    // What a hostile image would do to have the monitor write outside of it.
    std::os::unix::fs::symlink("/etc/passwd", image.join("etc/hosts")).unwrap();
    copy_libraries(&agent(), &image);
    let squashfs = folder.join("image.squashfs");
    let made = Tool::new("mksquashfs")
        .args([&image, &squashfs])
        .args(["-all-root", "-quiet", "-no-progress", "-noappend"])
        .status()
        .unwrap();
    assert!(made.success());
    // Packages do not align their images.
    let mut bytes = vec![0x55; usize::try_from(IMAGE_OFFSET).unwrap()];
    bytes.extend(fs::read(squashfs).unwrap());
    fs::write(folder.join("package"), bytes).unwrap();
}

/// The agent that ships is static; the one under test has the libraries of this machine.
fn copy_libraries(program: &Path, image: &Path) {
    let ldd = Tool::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&ldd.stdout).into_owned();
    for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = image.join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

/// The agent beside the monitor under test, built if it is not there.
fn agent() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let monitor = Path::new(env!("CARGO_BIN_EXE_monitor"));
    let folder = monitor.parent().unwrap();
    BUILT.call_once(|| {
        let mut cargo = Tool::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "-p", "agent", "--target-dir"])
            .arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(
            cargo.status().unwrap().success(),
            "the agent does not build"
        );
    });
    folder.join("agent")
}

fn collect_log(reader: OwnedFd) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&log);
    thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok(n @ 1..) = rustix::io::read(&reader, &mut packet) {
            shared
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&packet[..n]));
        }
    });
    log
}

fn listen(path: &Path) -> Arc<Mutex<Vec<AgentReport>>> {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&reports);
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            for line in BufReader::new(stream.unwrap())
                .lines()
                .map_while(Result::ok)
            {
                shared
                    .lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap());
            }
        }
    });
    reports
}

fn get(path: &str) -> std::io::Result<String> {
    let patience = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((ADDRESS, 80)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CGROUPS: &str = "/sys/fs/cgroup";
/// For what must happen soon, on a machine that may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
const IMAGE_OFFSET: u64 = 12_345;
