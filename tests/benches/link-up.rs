//! From link-up to an address by DHCP, beside udhcpc and systemd-networkd, and what `net` costs while
//! nothing happens.
//!
//! All ask the same dnsmasq, each on a machine and a cable of its own, in alternating rounds;
//! `net` and systemd-networkd wait for the carrier, udhcpc is started when it is there, as whoever
//! watches for it would. The address counts once the kernel has it. Medians need no quiet machine,
//! but differences of milliseconds do. `cargo bench -p tests --bench link-up`, or `cargo prove bench`.
//! Nothing fails here for being slow.

#![forbid(unsafe_code)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{Addressing, NetConfig};
use tests::netns::{Dnsmasq, Machine, Net, Watch, lacks, until};

fn main() -> Result<()> {
    if let Some(why) = lacks() {
        println!("SKIPPED: link-up: {why}");
        return Ok(());
    }
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("link-up-bench");
    fs::create_dir_all(&room)?;
    let scripts = Scripts::write(&room)?;
    let measured = compare(&scripts).and_then(|()| idle());
    fs::remove_dir_all(&room)?;
    measured
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Ours,
    Udhcpc,
    Networkd,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Udhcpc => "udhcpc",
            Self::Networkd => "systemd-networkd",
        }
    }
}

/// What runs the peers.
struct Scripts {
    udhcpc: PathBuf,
    networkd: PathBuf,
}

impl Scripts {
    fn write(room: &Path) -> Result<Self> {
        let scripts = Self {
            udhcpc: room.join("udhcpc"),
            networkd: room.join("networkd"),
        };
        fs::write(&scripts.udhcpc, UDHCPC)?;
        fs::write(&scripts.networkd, NETWORKD)?;
        for script in [&scripts.udhcpc, &scripts.networkd] {
            fs::set_permissions(script, fs::Permissions::from_mode(0o755))?;
        }
        Ok(scripts)
    }
}

fn compare(scripts: &Scripts) -> Result<()> {
    let router = router()?;
    let server = Dnsmasq::start(&router, "br0", "")?;
    let mut contenders = vec![Kind::Ours, Kind::Udhcpc];
    if Path::new("/lib/systemd/systemd-networkd").exists() {
        contenders.push(Kind::Networkd);
    } else {
        println!("LEFT OUT: systemd-networkd, which is not on this machine");
    }
    let mut samples: Vec<_> = contenders.iter().map(|kind| (*kind, Vec::new())).collect();
    for round in 0..ROUNDS {
        for n in 0..contenders.len() {
            let (kind, times) = &mut samples[(round + n) % contenders.len()];
            let took = link_up(*kind, &router, scripts)
                .with_context(|| format!("{}: {}", kind.name(), server.log()))?;
            times.push(took);
        }
    }
    println!("from link-up to an address, {ROUNDS} alternating rounds:");
    for (kind, times) in &mut samples {
        times.sort_unstable();
        println!(
            "{:>17}: median {:>7.1} ms, from {:.1} to {:.1}",
            kind.name(),
            milliseconds(times[ROUNDS / 2]),
            milliseconds(times[0]),
            milliseconds(times[ROUNDS - 1]),
        );
    }
    Ok(())
}

/// One round of one of them, on a machine that nobody has seen before.
fn link_up(kind: Kind, router: &Machine, scripts: &Scripts) -> Result<Duration> {
    let machine = Machine::new("client")?;
    machine.cable("up0", router, "lan1")?;
    router.run("ip link set lan1 master br0")?;
    let waiting = match kind {
        Kind::Ours => {
            let mut net = Net::start(&machine, config())?;
            net.wait_for("link without a cable", PATIENCE, |status| {
                status.links.first().is_some_and(|link| !link.carrier)
            })?;
            Client::Ours(Box::new(net))
        }
        Kind::Udhcpc => {
            machine.run("ip link set up0 up")?;
            Client::None
        }
        Kind::Networkd => {
            let script = scripts.networkd.display();
            let client = machine.watch(&format!("unshare --mount {script}"))?;
            until(PATIENCE, || {
                let link = machine.run("ip link show up0");
                link.is_ok_and(|link| link.contains("NO-CARRIER"))
            })
            .with_context(|| client.so_far())?;
            Client::Peer(client)
        }
    };
    // What it does when it starts is not counted.
    thread::sleep(SETTLES);
    let began = Instant::now();
    router.run("ip link set lan1 up")?;
    let waiting = match kind {
        Kind::Udhcpc => {
            let script = scripts.udhcpc.display();
            let line = format!("busybox udhcpc -f -i up0 -s {script}");
            Client::Peer(machine.watch(&line)?)
        }
        Kind::Ours | Kind::Networkd => waiting,
    };
    let took = machine.within(|| address_since(began));
    let end = waiting.end();
    let took = took.with_context(|| end.unwrap_or_else(|error| error.to_string()))?;
    router.run("ip link del lan1")?;
    Ok(took)
}

enum Client {
    Ours(Box<Net>),
    Peer(Watch),
    None,
}

impl Client {
    /// Ends it and gives what it said.
    fn end(self) -> Result<String> {
        match self {
            Self::Ours(net) => {
                let last = format!("{:#?}", net.latest);
                net.stop(false)?;
                Ok(last)
            }
            Self::Peer(watch) => Ok(watch.end()),
            Self::None => Ok(String::new()),
        }
    }
}

/// How long it takes until this thread's name space has an address of the server's.
fn address_since(began: Instant) -> Result<Duration> {
    loop {
        let addresses = fs::read_to_string("/proc/thread-self/net/fib_trie")?;
        let mut lines = addresses.lines();
        if lines.any(|line| line.contains("-- 192.168.50.1") && !line.ends_with(".1")) {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < PATIENCE, "no address within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// How often `net` wakes up, and what it costs, with a lease, a bridge and a filter, while nothing
/// happens.
fn idle() -> Result<()> {
    let router = router()?;
    let _server = Dnsmasq::start(&router, "br0", "--dhcp-option=option:T1,3600")?;
    let machine = Machine::new("box")?;
    machine.cable("up0", &router, "lan1")?;
    router.run("ip link set lan1 master br0 up")?;
    let mut config = config();
    config.bridge = NetConfig::default().bridge;
    config.open_ports = Some(vec![80, 443]);
    let mut net = Net::start(&machine, config)?;
    net.wait_for("lease", PATIENCE, |status| {
        let link = status.links.first();
        link.is_some_and(|link| {
            link.lease
                .as_ref()
                .is_some_and(|lease| lease.server.is_some())
        })
    })?;
    thread::sleep(SETTLES * 10);
    let thread = thread_named("net")?;
    let before = Cost::of(&thread)?;
    thread::sleep(IDLE);
    let after = Cost::of(&thread)?;
    let seconds = IDLE.as_secs_f64();
    let cpu = (after.nanoseconds - before.nanoseconds) as f64;
    println!(
        "at rest for {seconds} s: {:.0} wake-ups a minute, {:.3} ms of CPU a minute ({:.4} %)",
        (after.sleeps - before.sleeps) as f64 * 60.0 / seconds,
        cpu / 1e6 * 60.0 / seconds,
        cpu / 1e9 / seconds * 100.0,
    );
    net.stop(false)
}

/// What a thread has cost so far.
struct Cost {
    /// Times that it has waited for something.
    sleeps: u64,
    nanoseconds: u64,
}

impl Cost {
    fn of(thread: &Path) -> Result<Self> {
        let status = fs::read_to_string(thread.join("status"))?;
        let sleeps = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .context("the kernel counts no switches")?;
        let schedule = fs::read_to_string(thread.join("schedstat"))?;
        let nanoseconds = schedule.split(' ').next().context("no schedstat")?;
        Ok(Self {
            sleeps: sleeps.trim().parse()?,
            nanoseconds: nanoseconds.parse()?,
        })
    }
}

fn thread_named(name: &str) -> Result<PathBuf> {
    let mut threads = fs::read_dir("/proc/self/task")?.flatten();
    let thread = threads.find(|thread| {
        let known = fs::read_to_string(thread.path().join("comm"));
        known.is_ok_and(|known| known.trim() == name)
    });
    Ok(thread.context("no such thread")?.path())
}

/// A switch with an address.
fn router() -> Result<Machine> {
    let router = Machine::new("router")?;
    router.run("ip link add br0 type bridge")?;
    router.run("ip addr add 192.168.50.1/24 dev br0")?;
    router.run("ip link set br0 up")?;
    Ok(router)
}

fn config() -> NetConfig {
    let mut config = NetConfig {
        bridge: None,
        ..NetConfig::default()
    };
    config.links.insert("up0".to_owned(), Addressing::Automatic);
    config
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

const ROUNDS: usize = 11;
const PATIENCE: Duration = Duration::from_secs(60);
const SETTLES: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(60);

const UDHCPC: &str = "#!/bin/sh
[ \"$1\" = bound ] && exec ip addr add \"$ip/$mask\" dev \"$interface\"
exit 0
";

/// Alone: no systemd, no D-Bus, and a /sys that can't be written to, by which it knows that there is
/// no udev to wait for.
const NETWORKD: &str = "#!/bin/sh
set -e
mount --make-rprivate /
mount -t tmpfs none /run
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases
mkdir -p /run/systemd/netif/lldp
chown -R systemd-network:systemd-network /run/systemd/netif
cat > /run/systemd/network/10-up.network <<END
[Match]
Name=up0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
END
mount -o remount,ro /sys
exec /lib/systemd/systemd-networkd
";
