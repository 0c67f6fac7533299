//! Two uplinks, each to a LAN of its own with a DHCP server, and a far machine behind both.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{Addressing, Bound, Forward, NetConfig, NetStatus, Otherwise, Transport};
use tests::{
    dhcp::{Kind, Pool, Server},
    netns::{Machine, Net, until},
};

use super::{SOON, applied, config, greeting, leased_on, test};

#[test]
fn the_default_moves_on_when_the_cable_is_pulled_and_back_when_it_is_plugged_in() {
    test(
        "the_default_moves_on_when_the_cable_is_pulled_and_back_when_it_is_plugged_in",
        || {
            let mut home = TwoUplinks::new(config_of_two())?;
            home.is_by("up0", "the start")?;
            ensure!(home.default_routes()?.contains("metric 100"));
            home.reaches_far("by the first")?;

            let pulled = Instant::now();
            home.routers[0].run("ip link set lan0 down")?;
            home.is_by("up1", "the cable's end")?;
            told("cable pulled: the other uplink carries the default", pulled);
            let why = home.why("up1");
            ensure!(why.contains("up0: It has no cable"), "{why}");
            home.reaches_far("by the second")?;

            let back = Instant::now();
            home.routers[0].run("ip link set lan0 up")?;
            home.is_by("up0", "the cable's return")?;
            told("cable back: the first uplink carries the default", back);
            home.net
                .wait_for("end of problems", SOON, |status| status.problems.is_empty())
        },
    );
}

#[test]
fn the_default_moves_on_when_the_gateway_is_silent_and_back_when_it_answers() {
    test(
        "the_default_moves_on_when_the_gateway_is_silent_and_back_when_it_answers",
        || {
            let mut home = TwoUplinks::new(config_of_two())?;
            home.is_by("up0", "the start")?;
            // Behind a switch that keeps the carrier.
            let gone = Instant::now();
            home.mute(0)?;
            home.is_by("up1", "the gateway's silence")?;
            told("gateway silent: the other uplink carries the default", gone);
            let why = home.why("up1");
            ensure!(why.contains("up0: Its gateway 192.168.50.1"), "{why}");
            home.reaches_far("by the second")?;

            let back = Instant::now();
            home.routers[0].run("nft delete table arp mute")?;
            home.is_by("up0", "the gateway's return")?;
            told("gateway back: the first uplink carries the default", back);
            home.net
                .wait_for("end of problems", SOON, |status| status.problems.is_empty())
        },
    );
}

#[test]
fn an_owner_s_metric_decides_and_a_successor_leaves_the_default_where_it_is() {
    test(
        "an_owner_s_metric_decides_and_a_successor_leaves_the_default_where_it_is",
        || {
            let mut config = config_of_two();
            config.metrics.insert("up1".to_owned(), 50);
            let mut home = TwoUplinks::new(config.clone())?;
            home.is_by("up1", "the start")?;
            let routes = home.default_routes()?;
            ensure!(
                routes.contains("metric 50") && routes.contains("metric 100"),
                "{routes}"
            );

            home.mute(1)?;
            home.is_by("up0", "the gateway's silence")?;
            let watch = home.the_box.watch("ip monitor route")?;
            let home = home.restarted(config)?;
            ensure!(home.why("up1").contains("does not answer"));
            let seen = watch.end();
            ensure!(!seen.contains("dev up1 proto dhcp metric 50 "), "{seen}");
            Ok(())
        },
    );
}

#[test]
fn answers_leave_by_the_uplink_that_the_question_came_in_on() {
    test(
        "answers_leave_by_the_uplink_that_the_question_came_in_on",
        || {
            let mut home = TwoUplinks::new(config_of_two())?;
            home.is_by("up0", "the start")?;
            home.tables_stand()?;
            for link in ["up0", "up1"] {
                let address = leased_on(&home.net.latest, link).context("a lease")?;
                // The routers translate nothing: an answer by the other one has another way back,
                // which that router does not let through.
                let answers = || {
                    let seen = greeting(&home.the_box, address, &home.far);
                    seen.is_ok_and(|seen| seen.is_some())
                };
                until(SOON, answers).with_context(|| format!("{address} of {link} answers"))?;
            }
            for undo in [
                "ip rule flush protocol dhcp",
                "ip route flush table all proto dhcp",
            ] {
                home.the_box.run(undo)?;
                home.tables_stand().with_context(|| undo.to_owned())?;
            }
            home.is_by("up0", "what others undid")
        },
    );
}

#[test]
fn a_service_s_answers_leave_by_the_uplink_that_they_were_asked_on() {
    test(
        "a_service_s_answers_leave_by_the_uplink_that_they_were_asked_on",
        || {
            let mut config = config_of_two();
            config.forwards = vec![Forward {
                transport: Transport::Tcp,
                port: 2222,
                to: SocketAddrV4::new(SERVICE, 2222),
            }];
            let mut home = TwoUplinks::new(config)?;
            let service = home.service()?;
            home.is_by("up0", "the start")?;
            home.net.wait_for("marks", SOON, |status| {
                let rules = status.services.rules.join("\n");
                rules.contains("iifname \"up1\" ct state new ct mark set")
            })?;
            home.tables_stand()?;
            let listener = service.within(|| Ok(TcpListener::bind((SERVICE, 2222))?))?;
            for link in ["up0", "up1"] {
                let address = leased_on(&home.net.latest, link).context("a lease")?;
                let target = SocketAddr::from((address, 2222));
                let reached = home
                    .far
                    .within(|| Ok(TcpStream::connect_timeout(&target, SOON)?));
                reached.with_context(|| format!("{target} by {link}"))?;
                let (_, from) = listener.accept()?;
                ensure!(from.ip() == IpAddr::V4(FAR), "{from}");
            }
            Ok(())
        },
    );
}

#[test]
fn a_bound_service_sends_by_its_uplink_and_else_as_its_owner_said() {
    test(
        "a_bound_service_sends_by_its_uplink_and_else_as_its_owner_said",
        || {
            for otherwise in [Otherwise::FailOver, Otherwise::Stop] {
                let mut config = config_of_two();
                config.bound = vec![Bound {
                    address: SERVICE,
                    uplink: "up1".to_owned(),
                    otherwise,
                }];
                let mut home = TwoUplinks::new(config)?;
                let service = home.service()?;
                home.is_by("up0", "the start")?;
                let by = |link: &str, home: &TwoUplinks| -> Result<Option<IpAddr>> {
                    let address = leased_on(&home.net.latest, link).context("a lease")?;
                    let seen = home.seen_far(&service)?;
                    Ok(seen.filter(|seen| *seen == IpAddr::V4(address)))
                };
                until(SOON, || by("up1", &home).is_ok_and(|seen| seen.is_some()))
                    .context("the service is seen with the second uplink's address")?;

                home.routers[1].run("ip link set lan0 down")?;
                home.net.wait_for("end of up1", SOON, |status| {
                    let up1 = status.uplinks.iter().find(|uplink| uplink.link == "up1");
                    up1.is_some_and(|uplink| !uplink.trusted)
                })?;
                match otherwise {
                    Otherwise::FailOver => {
                        until(SOON, || by("up0", &home).is_ok_and(|seen| seen.is_some()))
                            .context("the service goes by the first uplink")?;
                    }
                    Otherwise::Stop => {
                        ensure!(home.seen_far(&service)?.is_none(), "it goes by no other");
                    }
                }
            }
            Ok(())
        },
    );
}

/// A box with `up0` and `up1` on a LAN each, whose routers both know the way to a far machine.
struct TwoUplinks {
    net: Net,
    _servers: [Server; 2],
    the_box: Machine,
    far: Machine,
    routers: [Machine; 2],
}

impl TwoUplinks {
    fn new(config: NetConfig) -> Result<Self> {
        let (the_box, far) = (Machine::new("box")?, Machine::new("far")?);
        let routers = [Machine::new("first")?, Machine::new("second")?];
        far.run(&format!("ip addr add {FAR}/32 dev lo"))?;
        far.run("ip link set lo up")?;
        for (at, router) in routers.iter().enumerate() {
            the_box.cable(&format!("up{at}"), router, "lan0")?;
            far.cable(&format!("wan{at}"), router, "wan0")?;
            // A server wants a carrier.
            the_box.run(&format!("ip link set up{at} up"))?;
            let (lan, wan) = (50 + at, 100 + at);
            for line in [
                format!("ip addr add 192.168.{lan}.1/24 dev lan0"),
                "ip link set lan0 up".to_owned(),
                format!("ip addr add 198.51.{wan}.1/24 dev wan0"),
                "ip link set wan0 up".to_owned(),
                format!("ip route add {FAR} via 198.51.{wan}.2"),
                // What does not belong to its LAN, it does not let out, as providers do.
                "nft add table ip provider".to_owned(),
                "nft add chain ip provider out { type filter hook forward priority 0 ; }"
                    .to_owned(),
                format!(
                    "nft add rule ip provider out oif wan0 ip saddr != 192.168.{lan}.0/24 drop"
                ),
            ] {
                router.run(&line)?;
            }
            router.set("ipv4/ip_forward", "1")?;
            far.run(&format!("ip addr add 198.51.{wan}.2/24 dev wan{at}"))?;
            far.run(&format!("ip link set wan{at} up"))?;
            far.run(&format!(
                "ip route add 192.168.{lan}.0/24 via 198.51.{wan}.1 src {FAR}"
            ))?;
        }
        let [first, second] = &routers;
        let servers = [
            Server::start(Kind::Dnsmasq, first, "lan0", pool(50))?,
            Server::start(Kind::Dnsmasq, second, "lan0", pool(51))?,
        ];
        let mut net = Net::start(&the_box, config)?;
        net.wait_for("two leases", SOON, |status| {
            let leased = ["up0", "up1"].map(|link| leased_on(status, link).is_some());
            leased == [true; 2] && applied(status)
        })?;
        Ok(Self {
            net,
            _servers: servers,
            the_box,
            far,
            routers,
        })
    }

    /// The same with another `net`.
    fn restarted(self, config: NetConfig) -> Result<Self> {
        self.net.stop(false)?;
        let mut net = Net::start(&self.the_box, config)?;
        net.wait_for("both uplinks again", SOON, |status| {
            let mut uplinks = status.uplinks.iter();
            default_of(status) == Some("up0")
                && uplinks.any(|one| one.link == "up1" && one.why.contains("does not answer"))
        })?;
        Ok(Self { net, ..self })
    }

    /// Waits until the default is by that link, as `net` says and the kernel does.
    fn is_by(&mut self, link: &str, after: &str) -> Result<()> {
        let what = format!("default by {link} after {after}");
        self.net
            .wait_for(&what, SOON, |status| default_of(status) == Some(link))?;
        until(SOON, || {
            let way = self.the_box.run(&format!("ip route get {FAR}"));
            way.is_ok_and(|way| way.contains(&format!("dev {link} ")))
        })
        .with_context(|| what)
    }

    /// Why a link is used or not.
    fn why(&self, link: &str) -> String {
        let mut uplinks = self.net.latest.uplinks.iter();
        let uplink = uplinks.find(|uplink| uplink.link == link);
        uplink.map_or_else(String::new, |uplink| uplink.why.clone())
    }

    fn default_routes(&self) -> Result<String> {
        self.the_box.run("ip route show default")
    }

    /// Has a router answer no question for its hardware address.
    fn mute(&self, router: usize) -> Result<()> {
        for line in [
            "nft add table arp mute",
            "nft add chain arp mute in { type filter hook input priority 0 ; policy drop ; }",
        ] {
            self.routers[router].run(line)?;
        }
        Ok(())
    }

    /// Waits until each uplink has its table and rules.
    fn tables_stand(&self) -> Result<()> {
        let rules = || self.the_box.run("ip rule").unwrap_or_default();
        let routes = || {
            self.the_box
                .run("ip route show table all")
                .unwrap_or_default()
        };
        until(SOON, || {
            let (rules, routes) = (rules(), routes());
            ["50", "51"].iter().all(|lan| {
                rules.matches(&format!("from 192.168.{lan}.1")).count() == 2
                    && routes
                        .matches(&format!("default via 192.168.{lan}.1 dev"))
                        .count()
                        == 2
                    && routes.contains(&format!("192.168.{lan}.0/24 dev up"))
            })
        })
        .with_context(|| format!("{}{}", rules(), routes()))
    }

    /// A service on the box's own bridge.
    fn service(&self) -> Result<Machine> {
        let service = Machine::new("service")?;
        self.the_box.cable("pv4", &service, "eth0")?;
        self.the_box.run("ip link set pv4 master pilot0 up")?;
        for line in [
            "ip link set eth0 address 02:00:0a:4d:00:05",
            &format!("ip addr add {SERVICE}/16 dev eth0"),
            "ip link set eth0 up",
            "ip route add default via 10.77.0.1",
        ] {
            service.run(line)?;
        }
        Ok(service)
    }

    /// Waits until the box itself reaches the far machine.
    fn reaches_far(&self, how: &str) -> Result<()> {
        let reached = || {
            self.seen_far(&self.the_box)
                .is_ok_and(|seen| seen.is_some())
        };
        until(SOON, reached).with_context(|| format!("the far machine is reached {how}"))
    }

    /// Who the far machine thinks a client is, if it is reached.
    fn seen_far(&self, client: &Machine) -> Result<Option<IpAddr>> {
        greeting(&self.far, FAR, client)
    }
}

/// The uplink that carries the default.
fn default_of(status: &NetStatus) -> Option<&str> {
    let first = status.uplinks.first().filter(|uplink| uplink.is_default);
    first.map(|uplink| uplink.link.as_str())
}

fn config_of_two() -> NetConfig {
    let mut config = config();
    config.links.insert("up1".to_owned(), Addressing::Automatic);
    config
}

/// Leases that outlast the test, so that none is renewed meanwhile.
fn pool(net: u8) -> Pool {
    Pool {
        lasting: true,
        ..Pool::of([192, 168, net])
    }
}

fn told(what: &str, since: Instant) {
    println!("{what} after {:.1?}", since.elapsed());
}

const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
