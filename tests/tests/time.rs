//! The box's time from real servers: chronyd in network name spaces, some with a wrong clock.
//!
//! The clock that is set is one of `net`'s own: this machine's is nobody's to touch. What servers
//! say is what this machine's clock says, moved by libfaketime where they are to be wrong.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{
    Addressing, Clock, NetConfig, NetStatus, TimeConfig, TimeServerStatus, TimeSource,
};
use tests::netns::{Dnsmasq, Machine, Net, Watch, lacks, until};

/// A box with an uplink `up0` to a router's `lan0` at 192.168.50.1, which has an address for each
/// time server.
struct Lab {
    the_box: Machine,
    router: Machine,
}

impl Lab {
    fn new() -> Result<Self> {
        let lab = Self {
            the_box: Machine::new("box")?,
            router: Machine::new("router")?,
        };
        lab.the_box.cable("up0", &lab.router, "lan0")?;
        for last in [1, 11, 12, 13] {
            lab.router
                .run(&format!("ip addr add 192.168.50.{last}/24 dev lan0"))?;
        }
        lab.router.run("ip link set lan0 up")?;
        Ok(lab)
    }

    /// The box, with an address of its own and these time servers. Its clock is wrong by so much.
    fn start(&self, error: Duration, ahead: bool, servers: &[IpAddr]) -> Result<Net> {
        let error = i64::try_from(error.as_nanos())?;
        let clock = Clock::Own(if ahead { error } else { -error });
        Net::start(&self.the_box, config(clock, servers))
    }
}

fn config(clock: Clock, servers: &[IpAddr]) -> NetConfig {
    let mut config = NetConfig {
        bridge: None,
        time: TimeConfig {
            servers: servers.to_vec(),
            clock,
        },
        ..NetConfig::default()
    };
    let addressing = Addressing::Static {
        address: Ipv4Addr::new(192, 168, 50, 2),
        prefix: 24,
        gateway: None,
        dns: Vec::new(),
    };
    config.links.insert("up0".to_owned(), addressing);
    config
}

/// A time server at one of the router's addresses.
struct Chronyd {
    watch: Watch,
    folder: PathBuf,
}

impl Chronyd {
    /// `fake` is how far its clock is wrong, as faketime(1) takes it; none is not at all.
    fn start(router: &Machine, address: IpAddr, fake: Option<&str>) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("{}-ntp-{address}", router.name()));
        fs::create_dir_all(&folder)?;
        let config = format!(
            "local stratum 3\nallow all\nbindaddress {address}\ncmdport 0\nbindcmdaddress /\n\
             pidfile {}\n",
            folder.join("pid").display()
        );
        fs::write(folder.join("conf"), config)?;
        // By faketime(1) it would be a child of a child, and outlive the test.
        let fake = fake.map_or_else(String::new, |by| {
            format!("env LD_PRELOAD={} FAKETIME={by} ", libfaketime())
        });
        // -x: it must not touch this machine's clock.
        let conf = folder.join("conf");
        let watch = router.watch(&format!(
            "{fake}chronyd -x -d -u root -f {}",
            conf.display()
        ))?;
        let server = Self { watch, folder };
        until(SOON, || {
            server
                .watch
                .so_far()
                .contains("Disabled control of system clock")
        })
        .with_context(|| server.watch.so_far())?;
        Ok(server)
    }
}

fn libfaketime() -> String {
    let machine = std::env::consts::ARCH;
    format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1")
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn at(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 50, last])
}

/// Waits for a state, and gives by how many seconds the clock was moved on the way. The first step
/// may be off by a second on a busy machine, and another mend it.
fn moved(net: &mut Net, what: &str, is_so: impl Fn(&NetStatus) -> bool) -> Result<i64> {
    let (mut last, mut micros) = (None, 0);
    net.wait_for(what, SOON, |status| {
        if status.time.last_step != last {
            last = status.time.last_step;
            micros += last.map_or(0, |step| step.by);
        }
        is_so(status)
    })?;
    Ok(micros / 1_000_000)
}

/// Whether the clock was moved by this much, as exactly as a busy machine tells.
fn ensure_moved(moved: i64, wanted: i64, net: &Net) -> Result<()> {
    let time = &net.latest.time;
    ensure!(
        (moved - wanted).abs() <= 5,
        "by {moved} s, not {wanted}: {time:#?}"
    );
    Ok(())
}

fn server(status: &NetStatus, address: IpAddr) -> Result<&TimeServerStatus> {
    let mut servers = status.time.servers.iter();
    servers
        .find(|server| server.address == address)
        .with_context(|| format!("no {address} in {status:#?}"))
}

/// Runs a test where it can run, and says loudly where it can't.
fn test(name: &str, work: impl FnOnce() -> Result<()>) {
    let missing = ["chronyd", "faketime"].into_iter().find_map(|tool| {
        let found = boards::lack::find(tool).is_some();
        (!found).then(|| format!("needs `{tool}`"))
    });
    if let Some(why) = lacks().or(missing) {
        println!("SKIPPED: {name}: {why}");
        return;
    }
    if let Err(error) = work() {
        panic!("{name}: {error:?}");
    }
}

#[test]
fn the_server_that_dhcp_names_is_followed() {
    test("the_server_that_dhcp_names_is_followed", || {
        let lab = Lab::new()?;
        let _chronyd = Chronyd::start(&lab.router, at(1), None)?;
        let option = "--dhcp-option=option:ntp-server,192.168.50.1";
        let _dnsmasq = Dnsmasq::start(&lab.router, "lan0", option)?;
        let mut config = config(Clock::Own(3_600_000_000_000), &[]);
        config.links.insert("up0".to_owned(), Addressing::Automatic);
        let mut net = Net::start(&lab.the_box, config)?;
        let moved = moved(&mut net, "right time", |status| status.time.synchronised)?;
        ensure_moved(moved, -3600, &net)?;
        let server = server(&net.latest, at(1))?;
        ensure!(server.agrees && server.source == TimeSource::Dhcp);
        ensure!(server.verdict == "It is right, and followed.", "{server:?}");
        ensure!(net.latest.problems.is_empty(), "{:?}", net.latest.problems);
        Ok(())
    });
}

#[test]
fn three_that_agree_set_a_clock_that_is_ten_years_wrong() {
    test(
        "three_that_agree_set_a_clock_that_is_ten_years_wrong",
        || {
            let lab = Lab::new()?;
            let servers = [at(11), at(12), at(13)];
            let _running: Vec<Chronyd> = servers
                .iter()
                .map(|address| Chronyd::start(&lab.router, *address, None))
                .collect::<Result<_>>()?;
            for ahead in [false, true] {
                let mut net = lab.start(TEN_YEARS, ahead, &servers)?;
                let moved = moved(&mut net, "agreement of all", |status| {
                    status.time.synchronised && status.time.servers.iter().all(|it| it.agrees)
                })?;
                let years = i64::try_from(TEN_YEARS.as_secs())?;
                ensure_moved(moved, if ahead { -years } else { years }, &net)?;
                net.stop(false)?;
            }
            Ok(())
        },
    );
}

#[test]
fn a_false_ticker_among_three_is_named_and_not_believed() {
    test(
        "a_false_ticker_among_three_is_named_and_not_believed",
        || {
            for (fake, side) in [("+10y", "ahead of"), ("-90s", "behind")] {
                let lab = Lab::new()?;
                let _liar = Chronyd::start(&lab.router, at(11), Some(fake))?;
                let _one = Chronyd::start(&lab.router, at(12), None)?;
                let _other = Chronyd::start(&lab.router, at(13), None)?;
                let mut net = lab.start(TEN_YEARS, false, &[at(11), at(12), at(13)])?;
                let moved = moved(&mut net, "verdict on all", |status| {
                    let said = status.time.servers.iter();
                    status.time.synchronised
                        && said.filter(|it| it.agrees).count() == 2
                        && status.time.servers[0].verdict.contains(side)
                })?;
                let liar = server(&net.latest, at(11))?;
                ensure!(!liar.agrees && liar.verdict.ends_with("so it is not believed."));
                ensure_moved(moved, i64::try_from(TEN_YEARS.as_secs())?, &net)?;
            }
            Ok(())
        },
    );
}

#[test]
fn two_that_contradict_one_another_move_nothing_until_a_third_decides() {
    test(
        "two_that_contradict_one_another_move_nothing_until_a_third_decides",
        || {
            let lab = Lab::new()?;
            let _liar = Chronyd::start(&lab.router, at(11), Some("+10y"))?;
            let _honest = Chronyd::start(&lab.router, at(12), None)?;
            let mut net = lab.start(TEN_YEARS, false, &[at(11), at(12)])?;
            net.wait_for("doubt", SOON, |status| {
                let mut servers = status.time.servers.iter();
                !status.time.servers.is_empty()
                    && servers.all(|server| server.verdict.starts_with("Not enough others"))
            })?;
            ensure!(!net.latest.time.synchronised && net.latest.time.last_step.is_none());
            let _third = Chronyd::start(&lab.router, at(13), None)?;
            let clock = Clock::Own(-i64::try_from(TEN_YEARS.as_nanos())?);
            let third = config(clock, &[at(11), at(12), at(13)]);
            net.handle.configure(third)?;
            net.wait_for("decision", SOON, |status| status.time.synchronised)?;
            ensure!(
                !server(&net.latest, at(11))?.agrees,
                "{:#?}",
                net.latest.time
            );
            Ok(())
        },
    );
}

#[test]
fn servers_beyond_the_turn_of_2036_are_understood() {
    test("servers_beyond_the_turn_of_2036_are_understood", || {
        let lab = Lab::new()?;
        let _chronyd = Chronyd::start(&lab.router, at(11), Some("+10y"))?;
        let mut net = lab.start(Duration::ZERO, true, &[at(11)])?;
        let moved = moved(&mut net, "their time", |status| status.time.synchronised)?;
        // faketime's years have 365 days.
        ensure_moved(moved, 10 * 365 * 86_400, &net)
    });
}

#[test]
fn a_server_that_comes_late_is_found_and_one_that_goes_is_told_of() {
    test(
        "a_server_that_comes_late_is_found_and_one_that_goes_is_told_of",
        || {
            let lab = Lab::new()?;
            let mut net = lab.start(TEN_YEARS, false, &[at(11)])?;
            net.wait_for("silence", SOON, |status| {
                let mut servers = status.time.servers.iter();
                servers.any(|server| server.verdict.starts_with("It can't be reached"))
            })?;
            ensure!(!net.latest.time.synchronised);
            let _chronyd = Chronyd::start(&lab.router, at(11), None)?;
            net.wait_for("right time", SOON, |status| status.time.synchronised)?;
            ensure!(
                net.latest.time.last_step.is_some(),
                "{:#?}",
                net.latest.time
            );
            Ok(())
        },
    );
}

/// What takes seconds on a quiet machine.
const SOON: Duration = Duration::from_secs(180);
const TEN_YEARS: Duration = Duration::from_secs(3652 * 86_400);
