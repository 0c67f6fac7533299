//! Our PID 1 in name spaces of its own on this machine: the real program as PID 1, with its roles,
//! its door and its API, without an emulator in between, so that times mean something.
//!
//! It has a root file system of nothing but itself, a network of its own with nothing but a
//! loopback, data in memory (`pilot.data=mounted`), a pseudo-terminal as its console, and a part of
//! the control groups. It can't change the machine's kernel settings. What it said is printed when
//! a test fails, by [`Native`]'s drop.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use boards::{
    binaries,
    board::Board,
    web::{self, Response, Trust},
};
use serde_json::{Value, json};

use crate::{
    netns::{Machine, until},
    owner,
};

/// A box that runs natively. Ended, with all its processes, when dropped.
#[derive(Debug)]
pub struct Native {
    machine: Machine,
    /// `unshare`, PID 1's parent.
    parent: Child,
    folder: PathBuf,
    group: PathBuf,
    console: Arc<OwnedFd>,
    said: Arc<Mutex<String>>,
    deaf: Arc<AtomicBool>,
}

/// Why no box can run here; none if it can.
pub fn lacks() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let tools = ["ip", "mount", "setpriv", "unshare"];
    let missing = tools
        .into_iter()
        .find(|tool| boards::lack::find(tool).is_none());
    missing.map(|tool| format!("needs `{tool}`"))
}

impl Native {
    /// Starts `init` with fault injection, and waits until door and manager answer. The service
    /// `demo` behind the door is an HTTP server of this process.
    pub fn start(name: &str) -> Result<Self> {
        let native = Self::launch(name, &init_with_faults()?)?;
        native.serve_demo()?;
        let deadline = Instant::now() + START;
        while let Err(why) = native.is_up() {
            ensure!(Instant::now() < deadline, "it does not come up: {why:#}");
            thread::sleep(Duration::from_millis(200));
        }
        Ok(native)
    }

    /// Starts the program `init` as PID 1, and waits for nothing.
    pub fn launch(name: &str, init: &Path) -> Result<Self> {
        Self::begin(name, init, false)
    }

    /// The same with fault injection, held just before PID 1 becomes `init`, until
    /// [`Self::let_go`]: so that it can be traced from its first system call on.
    pub fn held(name: &str) -> Result<Self> {
        Self::begin(name, &init_with_faults()?, true)
    }

    /// Ends the hold, when PID 1 has come to it and `ready` is done.
    pub fn let_go<T>(&self, ready: impl FnOnce() -> Result<T>) -> Result<T> {
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
        let mut hold = None;
        // Nobody reads there before.
        until(START, || {
            let opened = rustix::fs::open(self.folder.join(HOLD), flags, rustix::fs::Mode::empty());
            hold = opened.ok();
            hold.is_some()
        })
        .context("PID 1 does not come to where it is held")?;
        let done = ready()?;
        let hold = hold.context("opened above")?;
        rustix::io::write(&hold, b"\n")?;
        Ok(done)
    }

    fn begin(name: &str, init: &Path, held: bool) -> Result<Self> {
        if let Some(why) = lacks() {
            bail!("our PID 1 can't run here: {why}");
        }
        let machine = Machine::new(name)?;
        let folder = std::env::temp_dir().join(format!("{}-native", machine.name()));
        let root = folder.join("root");
        for below in FOLDERS {
            fs::create_dir_all(root.join(below))?;
        }
        fs::copy(init, root.join("usr/lib/pilotlight/init"))?;
        fs::hard_link(
            root.join("usr/lib/pilotlight/init"),
            root.join("usr/lib/pilotlight/monitor"),
        )?;
        fs::create_dir(root.join("etc/pilotlight"))?;
        let trusted = format!("{}\n", release_key().public());
        fs::write(root.join("etc/pilotlight/release.pub"), trusted)?;
        fs::write(folder.join("cmdline"), CMDLINE)?;
        fs::write(folder.join("active"), "console\n")?;
        fs::write(folder.join("script"), SCRIPT)?;
        if held {
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
            rustix::fs::mknodat(rustix::fs::CWD, folder.join(HOLD), kind, mode, 0)?;
        }
        let (console, terminal) = terminal()?;
        let group = cgroup2()?.join(machine.name());
        fs::create_dir(&group).with_context(|| format!("no group {}", group.display()))?;
        let parent = Command::new("setpriv")
            // Else a test that is killed leaves a whole box behind.
            .args(["--pdeathsig", "KILL"])
            // This machine's clock is not the box's to set.
            .args(["--bounding-set=-sys_time", "--inh-caps=-sys_time"])
            .args(["sh", "-c", ENTER, "enter"])
            .args([machine.name()])
            .arg(group.join("cgroup.procs"))
            .args([&folder, &terminal])
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.join("output"))?)
            .stderr(fs::File::create(folder.join("errors"))?)
            .spawn()?;
        let console = Arc::new(console);
        let said = Arc::<Mutex<String>>::default();
        let deaf = Arc::<AtomicBool>::default();
        listen(console.clone(), said.clone(), deaf.clone());
        Ok(Self {
            deaf,
            machine,
            parent,
            folder,
            group,
            console,
            said,
        })
    }

    /// The machine that its network is.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// PID 1's number as this machine counts.
    pub fn pid1(&self) -> Result<u32> {
        children_of(self.parent.id())
            .first()
            .copied()
            .context("PID 1 is gone")
    }

    /// The number of the process that runs as `role`, as this machine counts.
    pub fn role(&self, role: &str) -> Result<u32> {
        let wanted = format!("pilot-{role}");
        let is = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).next() == Some(wanted.as_bytes())
        };
        let found = children_of(self.pid1()?).into_iter().find(is);
        found.with_context(|| format!("no {role} runs"))
    }

    /// A path as the box sees it.
    pub fn path(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.pid1()?)))
    }

    /// Asks the API on the box's own socket, as `pilot` does.
    pub fn call(&self, method: &str, params: &Value, patience: Duration) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.post("/api", body.to_string().as_bytes(), patience)
            .with_context(|| method.to_owned())
    }

    /// Begins to upgrade PID 1 to this file, as `pilot init upgrade` does.
    pub fn upgrade(&self, file: &[u8]) -> Result<()> {
        self.post("/upload/init", file, ANSWER).map(drop)
    }

    fn post(&self, path: &str, body: &[u8], patience: Duration) -> Result<Value> {
        let mut stream = connect(&self.path("/run/pilot/api.sock")?)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no whole answer")?;
        let mut reply: Value = serde_json::from_str(body)?;
        match reply["error"]["message"].as_str() {
            Some(why) => bail!("it was refused: {why}"),
            None => Ok(reply["result"].take()),
        }
    }

    /// Makes the manager fail in the way called `kind`.
    pub fn fault(&self, kind: &str) -> Result<()> {
        self.call("fault.inject", &json!({ "kind": kind }), ANSWER)?;
        Ok(())
    }

    /// What the guard saw and did.
    pub fn guard(&self, patience: Duration) -> Result<Value> {
        self.call("guard.report", &json!({}), patience)
    }

    /// Leaves a role this share of one CPU, in per cent.
    pub fn limit_cpu(&self, role: &str, percent: u32) -> Result<()> {
        let quota = percent * 1000;
        let beginning = format!("{role}-");
        let own = fs::read_dir(self.group.join("pilot"))?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&beginning))
            .with_context(|| format!("{role} has no group"))?;
        let max = own.path().join("cpu.max");
        if max.exists() {
            return Ok(fs::write(max, format!("{quota} 100000"))?);
        }
        // A machine whose controllers still belong to the first version of control groups.
        let group = Path::new(CGROUP1_CPU).join(self.machine.name());
        fs::create_dir_all(&group)?;
        fs::write(group.join("cpu.cfs_period_us"), "100000")?;
        fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
        Ok(fs::write(
            group.join("cgroup.procs"),
            self.role(role)?.to_string(),
        )?)
    }

    /// The box's authority, as port 80 gives it.
    pub fn authority(&self) -> Result<Trust> {
        self.machine.within(|| {
            let response = web::http(80, "localhost", "/ca.crt", ANSWER)?;
            Trust::pem(&response.body)
        })
    }

    /// GET through the front door.
    pub fn get(&self, trust: &Trust, host: &str, path: &str) -> Result<Response> {
        self.machine
            .within(|| web::https(443, host, path, trust, ANSWER))
    }

    /// The setup code, as the console shows it.
    pub fn setup_code(&self) -> Result<String> {
        let since = self.console().len();
        self.type_line("setup-code")?;
        // What follows the code's own line.
        self.expect(since, "Type it in the browser", ANSWER)?;
        let said = self.console();
        let code = said[since..].lines().find_map(owner::code_in);
        Ok(code.context("the console shows no setup code")?.to_owned())
    }

    /// Types a line on the console.
    pub fn type_line(&self, line: &str) -> Result<()> {
        rustix::io::write(&self.console, format!("{line}\r").as_bytes())?;
        Ok(())
    }

    /// What the console has said so far.
    pub fn console(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// Whether nobody takes what the console says, so that it soon has to wait.
    pub fn be_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::Release);
    }

    /// Lets PID 1 have no more processes and threads than it has now, or again as many as it wants.
    pub fn limit_threads(&self, limited: bool) -> Result<()> {
        let second = self.group.join("pids.max");
        if second.exists() {
            return limit_pids(&self.group, limited);
        }
        let group = Path::new(CGROUP1_PIDS).join(self.machine.name());
        fs::create_dir_all(&group)?;
        fs::write(group.join("cgroup.procs"), self.pid1()?.to_string())?;
        limit_pids(&group, limited)
    }

    /// A descriptor that PID 1 has open.
    pub fn descriptor(&self, number: i32) -> Result<OwnedFd> {
        use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
        let pid = Pid::from_raw(self.pid1()?.cast_signed()).context("a pid")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?)
    }

    /// Waits until the console has said `text`, from byte `since` on.
    pub fn expect(&self, since: usize, text: &str, patience: Duration) -> Result<()> {
        until(patience, || {
            self.console()
                .get(since..)
                .is_some_and(|said| said.contains(text))
        })
        .with_context(|| format!("the console does not say {text:?}"))
    }

    fn is_up(&self) -> Result<()> {
        let trust = self.authority()?;
        let response = self.get(&trust, "demo.localhost", "/")?;
        ensure!(
            response.status == 200,
            "demo answers {}: {}",
            response.status,
            response.text()
        );
        self.call("box.status", &json!({}), ANSWER)?;
        Ok(())
    }

    /// An HTTP server in the box's network, and the box told of it.
    fn serve_demo(&self) -> Result<()> {
        let listener = self
            .machine
            .within(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))?;
        let address = listener.local_addr()?;
        // Ends with the test's process; there are few.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || demo(stream));
            }
        });
        let deadline = Instant::now() + START;
        loop {
            let told = self
                .path("/data/fault/routes")
                .and_then(|path| Ok(fs::write(path, format!("demo {address}\n"))?));
            match told {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > deadline => return Err(e),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        if thread::panicking() {
            let text = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            eprintln!(
                "the console said:\n{}\n{}{}",
                self.console(),
                text("output"),
                text("errors")
            );
        }
        // With PID 1 its whole name space is killed; before it has begun, with its parent.
        let pid1 = self
            .pid1()
            .ok()
            .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        let _ = pid1.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        drop(self.parent.kill());
        let ended = until(ANSWER, || !matches!(self.parent.try_wait(), Ok(None)));
        let empty = until(ANSWER, || !is_populated(&self.group));
        if ended.is_err() || empty.is_err() {
            eprintln!("{} did not end", self.machine.name());
        }
        remove_groups(&self.group);
        for controller in [CGROUP1_CPU, CGROUP1_PIDS] {
            remove_groups(&Path::new(controller).join(self.machine.name()));
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// The key whose binaries a native box trusts.
pub fn release_key() -> s9pk::Key {
    s9pk::Key::from_seed(b"the key of native boxes in tests")
}

/// PID 1 with fault injection. Built once a process: cargo takes its time to find that there is nothing to do.
pub fn init_with_faults() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(built) = &*built {
        return Ok(built.clone());
    }
    let init = binaries::init_with_faults(&Board::x86_64()?)?;
    Ok(built.insert(init).clone())
}

/// Answers requests on a connection until its client has had enough.
fn demo(mut stream: std::net::TcpStream) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut part) {
        request.extend_from_slice(&part[..n]);
        while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            request.drain(..end + 4);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

/// A path of another process's root is longer than a socket's address may be.
fn connect(path: &Path) -> Result<UnixStream> {
    let folder = fs::File::open(path.parent().context("a socket has a folder")?)?;
    let name = path.file_name().context("a socket has a name")?;
    let short = PathBuf::from(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&folder)
    ));
    Ok(UnixStream::connect(short.join(name))?)
}

fn terminal() -> Result<(OwnedFd, PathBuf)> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let console = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&console)?;
    unlockpt(&console)?;
    let path = ptsname(&console, Vec::new())?.into_string()?;
    Ok((console, path.into()))
}

fn listen(console: Arc<OwnedFd>, said: Arc<Mutex<String>>, deaf: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            while deaf.load(Ordering::Acquire) && Arc::strong_count(&console) > 1 {
                thread::sleep(Duration::from_millis(20));
            }
            match rustix::io::read(&console, &mut bytes) {
                Ok(n @ 1..) => said
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&bytes[..n])),
                // Nobody has the terminal open at the moment.
                Err(rustix::io::Errno::IO) if Arc::strong_count(&console) > 1 => {
                    thread::sleep(Duration::from_millis(100));
                }
                _ => return,
            }
        }
    });
}

fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    pids.filter(is_child).collect()
}

/// Where the second version of control groups is mounted.
fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let at = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (at, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    });
    at.context("cgroup2 is mounted nowhere")
}

fn is_populated(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.events"))
        .is_ok_and(|events| events.contains("populated 1"))
}

fn limit_pids(group: &Path, limited: bool) -> Result<()> {
    let most = match limited {
        true => fs::read_to_string(group.join("pids.current"))?,
        false => "max".to_owned(),
    };
    Ok(fs::write(group.join("pids.max"), most.trim())?)
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    drop(fs::remove_dir(group));
}

const FOLDERS: [&str; 9] = [
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "data",
    "etc",
    "usr/bin",
    "usr/lib/pilotlight",
];

/// The FIFO from which PID 1 reads a line before it becomes `init`, if it is there.
const HOLD: &str = "hold";

/// The one link that the box looks after, if a test lays a cable there.
pub const UPLINK: &str = "up0";

/// No kernel settings of the machine are read from here.
const CMDLINE: &str = "pilot.data=mounted pilot.keep=none pilot.fault.link=up0\n";

/// Goes into the group (2) and the network (1), and begins the other name spaces.
const ENTER: &str = r#"
echo $$ > "$2" &&
exec ip netns exec "$1" unshare --cgroup --pid --fork --kill-child=KILL --mount --uts --ipc \
    sh "$3/script" "$3" "$4""#;

/// As PID 1: mounts what a kernel and an initramfs would have given, and becomes `init`. The root
/// is an overlay, as a root in memory would be taken for the initramfs.
const SCRIPT: &str = r#"
set -e
mount --make-rprivate /
root=$1/root
mkdir "$1/top" "$1/merged"
mount -t overlay -o "ro,lowerdir=$root:$1/top" overlay "$1/merged"
root=$1/merged
mount -t proc proc "$root/proc"
for folder in kernel fs vm; do
    mount --bind "$root/proc/sys/$folder" "$root/proc/sys/$folder"
    mount -o remount,bind,ro "$root/proc/sys/$folder"
done
mount --bind "$1/cmdline" "$root/proc/cmdline"
mount -t sysfs sysfs "$root/sys"
mount --bind "$1/active" "$root/sys/class/tty/console/active"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
touch "$root/dev/console"
mount --bind "$2" "$root/dev/console"
mount -t tmpfs -o mode=0755 tmpfs "$root/data"
mkdir "$root/data/fault" "$root/data/packages" "$root/data/services" "$root/data/logs" "$root/data/pilot"
chown 501:501 "$root/data/packages" "$root/data/services" "$root/data/pilot"
chown 502:502 "$root/data/logs"
cd "$root"
mount --move . /
[ ! -p "$1/hold" ] || read -r _ < "$1/hold"
exec chroot . /usr/lib/pilotlight/init
"#;

const CGROUP1_CPU: &str = "/sys/fs/cgroup/cpu";
const CGROUP1_PIDS: &str = "/sys/fs/cgroup/pids";

/// On a machine where everything else runs too.
const START: Duration = Duration::from_secs(180);
const ANSWER: Duration = Duration::from_secs(60);
const MAX_ANSWER: u64 = 16 << 20;
