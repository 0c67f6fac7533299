//! How the box is found by name, against real peers, in network name spaces: Avahi here, and
//! others in modules of their own.

mod zeroconf;

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netstack::names::{self, Command, Published, Sender, Setup, Site};
use tests::netns::{Machine, Watch, lacks, until};

#[test]
fn avahi_finds_the_box_and_its_services_by_name_and_by_browsing() {
    test("avahi_finds_the_box_and_its_services", || {
        let lan = Lan::new()?;
        let peer = Avahi::start(&lan.peer, "peer")?;
        let names = Names::start(&lan.the_box)?;
        names.publish("otter")?;
        for name in ["otter.local", "photos.otter.local"] {
            peer.wait_for(name, &format!("avahi-resolve -4 -n {name}"), "192.168.60.1")?;
        }
        peer.wait_for("IPv6", "avahi-resolve -6 -n otter.local", "fe80:")?;
        peer.wait_for(
            "its address",
            "avahi-resolve -a 192.168.60.1",
            "otter.local",
        )?;
        peer.wait_for("the dashboard", BROWSE, ";otter.local;192.168.60.1;443;")?;
        let service = ";photos.otter.local;192.168.60.1;443;";
        peer.wait_for("the service", BROWSE, service)?;
        names.farewell()?;
        until(SOON, || {
            peer.ask(BROWSE).is_ok_and(|found| !found.contains("otter"))
        })
        .context("it is still found after its farewell")
    });
}

#[test]
fn a_name_that_avahi_has_is_left_to_it() {
    test("a_name_that_avahi_has_is_left_to_it", || {
        let lan = Lan::new()?;
        let peer = Avahi::start(&lan.peer, "otter")?;
        peer.wait_for("itself", "avahi-resolve -4 -n otter.local", "192.168.60.2")?;
        let names = Names::start(&lan.the_box)?;
        names.publish("otter")?;
        peer.wait_for(
            "the box",
            "avahi-resolve -4 -n otter-2.local",
            "192.168.60.1",
        )?;
        ensure!(names.hostname() == "otter-2", "{}", names.hostname());
        let other = peer.ask("avahi-resolve -4 -n otter.local")?;
        ensure!(other.contains("192.168.60.2"), "{other}");
        Ok(())
    });
}

#[test]
fn a_name_that_the_box_has_is_kept() {
    test("a_name_that_the_box_has_is_kept", || {
        let lan = Lan::new()?;
        let names = Names::start(&lan.the_box)?;
        names.publish("otter")?;
        // Its claims take a second; an observer sees them stand.
        let watch = Avahi::start(&lan.other, "watch")?;
        watch.wait_for("the box", "avahi-resolve -4 -n otter.local", "192.168.60.1")?;
        let peer = Avahi::start(&lan.peer, "otter")?;
        watch.wait_for(
            "the peer",
            "avahi-resolve -4 -n otter-2.local",
            "192.168.60.2",
        )?;
        ensure!(names.hostname() == "otter", "{}", names.hostname());
        ensure!(peer.log().contains("conflict"), "{}", peer.log());
        Ok(())
    });
}

/// The box at 192.168.60.1, and two more on the same LAN.
struct Lan {
    the_box: Machine,
    peer: Machine,
    other: Machine,
    switch: Machine,
}

impl Lan {
    fn new() -> Result<Self> {
        let lan = Self {
            the_box: Machine::new("box")?,
            peer: Machine::new("peer")?,
            other: Machine::new("other")?,
            switch: Machine::new("switch")?,
        };
        let switch = &lan.switch;
        // A bridge without snooping passes multicast on, as a plain switch does.
        switch.run("ip link add lan type bridge mcast_snooping 0")?;
        switch.run("ip link set lan up")?;
        for (n, machine) in [&lan.the_box, &lan.peer, &lan.other]
            .into_iter()
            .enumerate()
        {
            machine.cable("up0", switch, &format!("port{n}"))?;
            switch.run(&format!("ip link set port{n} master lan up"))?;
            machine.run(&format!("ip addr add 192.168.60.{}/24 dev up0", n + 1))?;
            machine.run("ip link set up0 up")?;
            machine.run("ip link set lo up")?;
        }
        Ok(lan)
    }
}

/// The thread `names` in a machine.
struct Names {
    sender: Sender,
    hostname: Arc<Mutex<String>>,
    addresses: Vec<(IpAddr, u8)>,
}

impl Names {
    fn start(machine: &Machine) -> Result<Self> {
        let hostname = Arc::<Mutex<String>>::default();
        let said = Arc::clone(&hostname);
        let (sender, receiver) = names::channel()?;
        let setup = Setup {
            log: Box::new(|line| println!("{line}")),
            on_dns: Box::new(|_| {}),
            on_hostname: Box::new(move |name| {
                name.clone_into(&mut said.lock().unwrap_or_else(PoisonError::into_inner));
            }),
        };
        machine.within(|| {
            thread::spawn(move || names::run(setup, receiver));
            Ok(())
        })?;
        Ok(Self {
            sender,
            hostname,
            addresses: vec![("192.168.60.1".parse()?, 24), (link_local(machine)?, 64)],
        })
    }

    fn publish(&self, hostname: &str) -> Result<()> {
        let site = Site {
            hostname: hostname.to_owned(),
            services: vec![Published {
                id: "photos".to_owned(),
                title: "photos".to_owned(),
            }],
        };
        let links = vec![("up0".to_owned(), self.addresses.clone())];
        ensure!(self.sender.send(Command::Publish { site, links }));
        Ok(())
    }

    fn farewell(&self) -> Result<()> {
        ensure!(self.sender.send(Command::Farewell));
        Ok(())
    }

    fn hostname(&self) -> String {
        let name = self.hostname.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone()
    }
}

/// The address that the kernel made, once it may be used.
fn link_local(machine: &Machine) -> Result<IpAddr> {
    let show = "ip -6 -o addr show dev up0 scope link -tentative";
    until(SOON, || {
        machine.run(show).is_ok_and(|shown| shown.contains("fe80:"))
    })?;
    let shown = machine.run(show)?;
    let address = shown
        .split_whitespace()
        .find_map(|word| word.strip_suffix("/64"));
    Ok(address.context(shown.clone())?.parse()?)
}

/// Avahi on a machine, with a bus of its own for its tools.
struct Avahi<'a> {
    machine: &'a Machine,
    daemon: Watch,
    _bus: Watch,
    folder: PathBuf,
}

impl<'a> Avahi<'a> {
    fn start(machine: &'a Machine, hostname: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("{}-avahi", machine.name()));
        fs::create_dir_all(&folder)?;
        let place = folder.display();
        fs::write(
            folder.join("bus.conf"),
            format!(
                "<busconfig><type>system</type><listen>unix:path={place}/bus</listen>\
                 <auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/>\
                 <allow own=\"*\"/><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
                 </policy></busconfig>"
            ),
        )?;
        let bus = machine.watch(&format!(
            "dbus-daemon --nofork --config-file={place}/bus.conf"
        ))?;
        until(SOON, || folder.join("bus").exists()).context("no bus")?;
        fs::write(
            folder.join("avahi.conf"),
            format!(
                "[server]\nhost-name={hostname}\nallow-interfaces=up0\nratelimit-burst=1000\n\
                 [publish]\npublish-hinfo=no\npublish-workstation=no\n"
            ),
        )?;
        // Each has its own /run: two of them would take turns for one pid file.
        fs::write(
            folder.join("start"),
            format!(
                "mkdir -p /run/avahi-daemon && mount -t tmpfs avahi /run/avahi-daemon\n\
                 exec avahi-daemon --no-drop-root --no-chroot --no-rlimits --no-proc-title \
                 -f {place}/avahi.conf\n"
            ),
        )?;
        let address = format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={place}/bus");
        let daemon = machine.watch(&format!("env {address} sh {place}/start"))?;
        let avahi = Self {
            machine,
            daemon,
            _bus: bus,
            folder,
        };
        until(SOON, || avahi.log().contains("startup complete")).with_context(|| avahi.log())?;
        Ok(avahi)
    }

    /// Runs one of its tools.
    fn ask(&self, line: &str) -> Result<String> {
        let bus = self.folder.join("bus");
        let address = format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={}", bus.display());
        self.machine.run(&format!("env {address} {line}"))
    }

    /// Asks until the answer has `wanted` in it.
    fn wait_for(&self, what: &str, line: &str, wanted: &str) -> Result<()> {
        let mut last = String::new();
        until(SOON, || {
            last = self.ask(line).unwrap_or_else(|e| format!("{e:#}"));
            last.contains(wanted)
        })
        .with_context(|| format!("{what}: {line} says {last:?}; Avahi: {}", self.log()))
    }

    fn log(&self) -> String {
        self.daemon.so_far()
    }
}

impl Drop for Avahi<'_> {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Runs a test where it can run, and says loudly where it can't.
fn test(name: &str, work: impl FnOnce() -> Result<()>) {
    if let Some(why) = lacks() {
        println!("SKIPPED: {name}: {why}");
        return;
    }
    if let Err(error) = work() {
        panic!("{name}: {error:?}");
    }
}

/// All that is found, resolved, without waiting for more.
const BROWSE: &str = "avahi-browse -rpt _https._tcp";

/// On a loaded machine.
const SOON: Duration = Duration::from_secs(120);
