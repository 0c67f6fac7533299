//! Network name spaces as a laboratory: cables, machines and a real DHCP server on this machine,
//! seen by nobody else and gone when the test ends.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use netstack::net::{NetConfig, NetHandle, NetStatus};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Why the laboratory can't be used here; none if it can.
pub fn lacks() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    lacks_tool(&["ip", "nft", "dnsmasq"])
}

/// Why no IPv6 router can be played here; none if one can.
pub fn lacks_radvd() -> Option<String> {
    lacks_tool(&["radvd"])
}

/// Why ISC's server for IPv6 can't be played here; none if it can.
pub fn lacks_kea6() -> Option<String> {
    lacks_tool(&["kea-dhcp6"])
}

/// The first of these programs that this machine lacks, as a sentence; none if it has them all.
pub(crate) fn lacks_tool(tools: &[&str]) -> Option<String> {
    tools.iter().find_map(|tool| {
        let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .any(|folder| PathBuf::from(folder).join(tool).exists());
        (!found).then(|| format!("needs `{tool}`"))
    })
}

/// A machine, as far as its network goes.
#[derive(Debug)]
pub struct Machine {
    name: String,
}

impl Machine {
    /// A machine with nothing but its loopback.
    pub fn new(label: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pl{}-{number}-{label}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        Ok(Self { name })
    }

    /// Runs a command line there (words parted by spaces) and gives what it printed.
    pub fn run(&self, line: &str) -> Result<String> {
        run(self.command().args(line.split_whitespace()))
    }

    /// Sets a value below /proc/sys/net there.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys/net").join(name);
        self.within(|| Ok(fs::write(&path, value)?))
            .with_context(|| format!("{name} is not set to {value}"))
    }

    /// Starts a command there that goes on until it is ended.
    pub fn watch(&self, line: &str) -> Result<Watch> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{}-watch-{number}", self.name));
        let child = self
            .command()
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .stdout(File::create(&path)?)
            .stderr(File::options().append(true).open(&path)?)
            .spawn()?;
        Ok(Watch { child, path })
    }

    /// Lays a cable from this machine's `here` to the `there` of another, both ends down.
    pub fn cable(&self, here: &str, other: &Self, there: &str) -> Result<()> {
        let far = &other.name;
        self.run(&format!(
            "ip link add {here} type veth peer name {there} netns {far}"
        ))?;
        Ok(())
    }

    /// Does something on a thread that lives there; threads it starts live there too.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(format!("/run/netns/{}", self.name))?;
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                use std::os::fd::AsFd as _;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            });
            worker.join().expect("a panic there is a panic here")
        })
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command there, to be completed.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(run(Command::new("ip").args(["netns", "del", &self.name])));
    }
}

/// A command that watches something.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    path: PathBuf,
}

impl Watch {
    /// What it has printed so far.
    pub fn so_far(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    /// Ends it and gives what it printed.
    pub fn end(self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        end(&mut self.child);
        drop(fs::remove_file(&self.path));
    }
}

/// A real DHCP server.
#[derive(Debug)]
pub struct Dnsmasq {
    child: Child,
    folder: PathBuf,
}

impl Dnsmasq {
    /// Serves 192.168.50.100 to .150 on `link` of `machine`, with more options as words.
    pub fn start(machine: &Machine, link: &str, options: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("{}-{link}", machine.name));
        fs::create_dir_all(&folder)?;
        let log = File::create(folder.join("log"))?;
        let child = machine
            .command()
            .args([
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
            ])
            .args([
                "--user=root",
                "--bind-interfaces",
                "--no-ping",
                "--log-dhcp",
                "--log-facility=-",
            ])
            .arg(format!("--interface={link}"))
            .arg(format!(
                "--dhcp-leasefile={}",
                folder.join("leases").display()
            ))
            .arg(format!("--pid-file={}", folder.join("pid").display()))
            .args(["--dhcp-range=192.168.50.100,192.168.50.150,255.255.255.0,2m"])
            .args(options.split_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("dnsmasq does not start")?;
        let server = Self { child, folder };
        until(SOON, || server.log().contains("DHCP, IP range")).with_context(|| server.log())?;
        Ok(server)
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Whether a client has looked for servers after a lease was granted. Before, it may have to
    /// more than once: what is sent in the moment in which a link comes up may get lost.
    pub fn was_asked_anew(&self) -> bool {
        let log = self.log();
        let granted = log.split_once("DHCPACK(");
        granted.is_some_and(|(_, after)| after.contains("DHCPDISCOVER("))
    }

    /// How often it has said `what`.
    pub fn said(&self, what: &str) -> usize {
        self.log().matches(what).count()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        end(&mut self.child);
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// The box's `net`, running on a machine.
#[derive(Debug)]
pub struct Net {
    /// The way to its thread.
    pub handle: NetHandle,
    statuses: Receiver<NetStatus>,
    /// What it said last.
    pub latest: NetStatus,
}

impl Net {
    /// Starts it there.
    pub fn start(machine: &Machine, config: NetConfig) -> Result<Self> {
        let (send, statuses) = channel();
        let handle = machine.within(move || {
            Ok(netstack::net::spawn(config, move |status| {
                drop(send.send(status))
            })?)
        })?;
        Ok(Self {
            handle,
            statuses,
            latest: NetStatus::default(),
        })
    }

    /// Waits until what it says fulfils the condition.
    pub fn wait_for(
        &mut self,
        what: &str,
        deadline: Duration,
        mut is_so: impl FnMut(&NetStatus) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + deadline;
        while !is_so(&self.latest) {
            match self
                .statuses
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(status) => self.latest = status,
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "no {what} within {deadline:?}; the last status is {:#?}",
                        self.latest
                    )
                }
                Err(RecvTimeoutError::Disconnected) => bail!("net has ended"),
            }
        }
        Ok(())
    }

    /// Ends it, and waits until it has.
    pub fn stop(self, release: bool) -> Result<()> {
        self.handle.shutdown(release)?;
        until(SOON, || self.handle.ended())
    }
}

/// Waits until something is so.
pub fn until(deadline: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + deadline;
    while !is_so() {
        ensure!(Instant::now() < end, "it was not so within {deadline:?}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// `ip netns exec` becomes the command, so its process is the command's own.
pub fn end(child: &mut Child) {
    drop(child.kill());
    drop(until(SOON, || !matches!(child.try_wait(), Ok(None))));
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} failed: {said}{complaint}"
    );
    Ok(said)
}

/// What takes milliseconds on a quiet machine.
const SOON: Duration = Duration::from_secs(60);
