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
    Addressing, Clock, NetConfig, NetStatus, TimeConfig, TimeServer, TimeServerStatus, TimeSource,
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
            servers: servers.iter().copied().map(TimeServer::Address).collect(),
            fallback: Vec::new(),
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

/// A real name server.
struct Zone(Watch);

impl Zone {
    /// It knows these names alone.
    fn start(machine: &Machine, address: &str, names: &[(&str, u8)]) -> Result<Self> {
        let records = names
            .iter()
            .map(|(name, last)| format!(" --host-record={name},192.168.50.{last}"));
        let daemon = machine.watch(&format!(
            "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts \
             --user=root --pid-file= --bind-interfaces --listen-address={address} --log-queries \
             --log-facility=- --local=/test/ --local-ttl=1{}",
            records.collect::<String>()
        ))?;
        let zone = Self(daemon);
        until(SOON, || zone.log().contains("started, ")).with_context(|| zone.log())?;
        Ok(zone)
    }

    fn log(&self) -> String {
        self.0.so_far()
    }
}

/// A box whose clock is ten years behind, and which asks servers with these names if nobody else.
fn by_name(names: &[&str]) -> NetConfig {
    let clock = Clock::Own(-i64::try_from(TEN_YEARS.as_nanos()).unwrap_or_default());
    let mut config = config(clock, &[]);
    let names = names
        .iter()
        .map(|name| TimeServer::Name((*name).to_owned()));
    config.time.fallback = names.collect();
    if let Some(Addressing::Static { dns, .. }) = config.links.get_mut("up0") {
        dns.push(at(1));
    }
    config
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
fn servers_are_found_by_name_where_nobody_names_others() {
    test(
        "servers_are_found_by_name_where_nobody_names_others",
        || {
            let lab = Lab::new()?;
            let _running: Vec<Chronyd> = [11, 12, 13]
                .into_iter()
                .map(|last| Chronyd::start(&lab.router, at(last), None))
                .collect::<Result<_>>()?;
            let names = ["0.pool.test", "1.pool.test", "none.test"];
            let mut net = Net::start(&lab.the_box, by_name(&names))?;
            net.wait_for("names that nobody knows", SOON, |status| {
                status.time.unknown == names
            })?;
            // One of the two has more addresses.
            let known = [
                ("0.pool.test", 11),
                ("1.pool.test", 12),
                ("1.pool.test", 13),
            ];
            let _zone = Zone::start(&lab.router, ROUTER, &known)?;
            let moved = moved(&mut net, "agreement of all", |status| {
                let time = &status.time;
                time.synchronised
                    && time.servers.len() == 3
                    && time.servers.iter().all(|it| it.agrees)
            })?;
            ensure_moved(moved, i64::try_from(TEN_YEARS.as_secs())?, &net)?;
            let time = &net.latest.time;
            ensure!(time.unknown == ["none.test"], "{time:#?}");
            for (last, name) in [
                (11, "0.pool.test"),
                (12, "1.pool.test"),
                (13, "1.pool.test"),
            ] {
                let server = server(&net.latest, at(last))?;
                ensure!(server.name.as_deref() == Some(name), "{server:?}");
                ensure!(server.source == TimeSource::Fallback, "{server:?}");
            }
            // What its owner names comes in place of what nobody chose.
            let mut own = by_name(&names);
            own.time.servers = vec![TimeServer::Name("1.pool.test".to_owned())];
            net.handle.configure(own)?;
            net.wait_for("the owner's servers alone", SOON, |status| {
                let servers = &status.time.servers;
                let is_own = |it: &TimeServerStatus| it.source == TimeSource::Configured;
                servers.len() == 2 && servers.iter().all(is_own)
            })
        },
    );
}

#[test]
fn the_box_asks_its_own_name_server_first() {
    test("the_box_asks_its_own_name_server_first", || {
        let lab = Lab::new()?;
        let _chronyd = Chronyd::start(&lab.router, at(11), None)?;
        let zone = Zone::start(&lab.router, ROUTER, &[("0.pool.test", 12)])?;
        lab.the_box.run("ip link set lo up")?;
        let _own = Zone::start(&lab.the_box, "127.0.0.1", &[("0.pool.test", 11)])?;
        let mut net = Net::start(&lab.the_box, by_name(&["0.pool.test"]))?;
        net.wait_for("right time", SOON, |status| status.time.synchronised)?;
        server(&net.latest, at(11))?;
        ensure!(!zone.log().contains("query["), "{}", zone.log());
        Ok(())
    });
}

#[test]
#[ignore = "a lookup is repeated after a minute"]
fn a_name_whose_servers_are_all_gone_is_looked_up_again() {
    test(
        "a_name_whose_servers_are_all_gone_is_looked_up_again",
        || {
            let lab = Lab::new()?;
            let zone = Zone::start(&lab.router, ROUTER, &[("0.pool.test", 11)])?;
            let _chronyd = Chronyd::start(&lab.router, at(13), None)?;
            let mut net = Net::start(&lab.the_box, by_name(&["0.pool.test"]))?;
            net.wait_for("a server that is none", SOON, |status| {
                let mut servers = status.time.servers.iter();
                servers
                    .any(|it| it.address == at(11) && it.verdict.starts_with("It can't be reached"))
            })?;
            drop(zone);
            let _zone = Zone::start(&lab.router, ROUTER, &[("0.pool.test", 13)])?;
            net.wait_for("right time", 3 * SOON, |status| status.time.synchronised)?;
            server(&net.latest, at(13))?;
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
/// The router as a name server.
const ROUTER: &str = "192.168.50.1";
