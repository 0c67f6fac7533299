//! The box's network against real peers: dnsmasq, the kernel's own bridge, conntrack and nftables,
//! in network name spaces.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    path::Path,
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{
    Addressing, FilterStatus, Forward, NetConfig, NetHandle, NetStatus, Transport,
};
use tests::netns::{Dnsmasq, Machine, Net, lacks, until};

/// A box with an uplink `up0` to a router's `lan0` at 192.168.50.1.
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
        lab.router.run("ip addr add 192.168.50.1/24 dev lan0")?;
        lab.router.run("ip link set lan0 up")?;
        Ok(lab)
    }

    fn address(&self) -> Result<String> {
        self.the_box.run("ip -4 addr show dev up0")
    }
}

fn config() -> NetConfig {
    let mut config = NetConfig {
        hostname: Some("pilotlight".to_owned()),
        ..NetConfig::default()
    };
    config.links.insert("up0".to_owned(), Addressing::Automatic);
    config
}

fn leased(status: &NetStatus) -> Option<Ipv4Addr> {
    let link = status.links.iter().find(|link| link.name == "up0")?;
    let lease = link.lease.as_ref().filter(|lease| lease.server.is_some())?;
    let there = link
        .addresses
        .contains(&(lease.address.into(), lease.prefix));
    there.then_some(lease.address)
}

fn link_local(status: &NetStatus) -> Option<Ipv4Addr> {
    let addresses = status.links.iter().flat_map(|link| &link.addresses);
    addresses.into_iter().find_map(|(ip, _)| match ip {
        IpAddr::V4(ip) if ip.is_link_local() => Some(*ip),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    })
}

fn applied(status: &NetStatus) -> bool {
    status.services.bridge && status.services.filter == FilterStatus::Applied
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

#[test]
fn a_lease_gives_address_route_and_servers() {
    test("a_lease_gives_address_route_and_servers", || {
        let lab = Lab::new()?;
        let options = "--dhcp-option=option:dns-server,9.9.9.9,1.1.1.1 \
                       --dhcp-option=option:ntp-server,192.168.50.1 \
                       --dhcp-option=option:mtu,1400 --domain=home.arpa";
        let server = Dnsmasq::start(&lab.router, "lan0", options)?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease", SOON, |status| {
            leased(status).is_some() && status.gateway.is_some()
        })?;

        let status = &net.latest;
        let address = leased(status).context("a lease")?;
        ensure!(address.octets()[..3] == [192, 168, 50], "{address}");
        ensure!(
            status.gateway == Some([192, 168, 50, 1].into()),
            "{status:#?}"
        );
        ensure!(status.dns == [IpAddr::from([9, 9, 9, 9]), IpAddr::from([1, 1, 1, 1])]);
        ensure!(status.ntp == [IpAddr::from([192, 168, 50, 1])]);
        ensure!(status.domain.as_deref() == Some("home.arpa"));
        ensure!(status.links[0].origin == "DHCP from 192.168.50.1, leased for 2 min");
        ensure!(status.problems.is_empty(), "{:?}", status.problems);
        ensure!(
            server.log().contains("client provides name: pilotlight"),
            "{}",
            server.log()
        );

        let seen = lab.address()?;
        ensure!(
            seen.contains(&format!("{address}/24")) && seen.contains("mtu 1400"),
            "{seen}"
        );
        ensure!(
            seen.contains("valid_lft 1"),
            "the kernel ends it if we can't: {seen}"
        );
        let routes = lab.the_box.run("ip route show default")?;
        ensure!(
            routes.contains("via 192.168.50.1 dev up0 proto dhcp"),
            "{routes}"
        );
        ensure!(lab.the_box.run("ip link show lo")?.contains("UP"));
        Ok(())
    });
}

#[test]
fn qemu_s_own_network_gives_a_lease() {
    test("qemu_s_own_network_gives_a_lease", || {
        let the_box = Machine::new("box")?;
        if let Some(why) = lacks_qemu() {
            println!("SKIPPED: qemu_s_own_network_gives_a_lease: {why}");
            return Ok(());
        }
        the_box.run("ip tuntap add up0 mode tap")?;
        // No machine at all: only the user network, on a hub with the box's link.
        let _qemu = the_box.watch(
            "qemu-system-x86_64 -machine none -nodefaults -display none \
             -netdev user,id=user -netdev tap,id=tap,ifname=up0,script=no,downscript=no \
             -netdev hubport,id=one,hubid=0,netdev=user -netdev hubport,id=two,hubid=0,netdev=tap",
        )?;
        let mut net = Net::start(&the_box, config())?;
        net.wait_for("lease", SOON, |status| {
            leased(status).is_some() && status.gateway.is_some()
        })?;
        ensure!(
            leased(&net.latest) == Some(Ipv4Addr::new(10, 0, 2, 15)),
            "{:#?}",
            net.latest
        );
        ensure!(net.latest.gateway == Some([10, 0, 2, 2].into()));
        ensure!(net.latest.dns == [IpAddr::from([10, 0, 2, 3])]);
        Ok(())
    });
}

#[test]
fn a_lease_is_renewed_with_its_server_before_it_ends() {
    test("a_lease_is_renewed_with_its_server_before_it_ends", || {
        let lab = Lab::new()?;
        let options = "--dhcp-option=option:T1,5 --dhcp-option=option:T2,60";
        let server = Dnsmasq::start(&lab.router, "lan0", options)?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease", SOON, |status| leased(status).is_some())?;
        until(Duration::from_secs(20), || {
            server.said("DHCPACK(lan0)") >= 3
        })
        .with_context(|| server.log())?;
        ensure!(server.said("DHCPDISCOVER(lan0)") == 1, "{}", server.log());
        ensure!(leased(&net.latest).is_some());
        // Renewed: the kernel's own end has moved on, it is not at 2 minutes less 10 seconds.
        until(Duration::from_secs(2), || {
            lab.address().is_ok_and(|seen| {
                (115..=120).any(|left| seen.contains(&format!("valid_lft {left}sec")))
            })
        })
        .with_context(|| lab.address().unwrap_or_default())
    });
}

#[test]
fn without_a_server_there_is_a_link_local_address_until_one_comes() {
    test(
        "without_a_server_there_is_a_link_local_address_until_one_comes",
        || {
            let lab = Lab::new()?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("link-local address", Duration::from_secs(30), |status| {
                link_local(status).is_some()
            })?;
            ensure!(net.latest.links[0].origin == "Link-local, since no DHCP server answers");
            let address = link_local(&net.latest).context("an address")?;
            lab.router.run("ip addr add 169.254.0.9/16 dev lan0")?;
            ensure!(
                greeting(&lab.the_box, address, &lab.router)?.is_some(),
                "a neighbour reaches it"
            );

            let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
            net.wait_for("lease in place of it", Duration::from_secs(70), |status| {
                leased(status).is_some() && link_local(status).is_none()
            })
        },
    );
}

#[test]
fn services_go_out_behind_the_box_and_nobody_comes_in() {
    test("services_go_out_behind_the_box_and_nobody_comes_in", || {
        let lab = Lab::new()?;
        let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease and filter", SOON, |status| {
            leased(status).is_some() && status.gateway.is_some() && applied(status)
        })?;
        let outside = leased(&net.latest).context("a lease")?;
        let (one, two) = (service(&lab.the_box, 1)?, service(&lab.the_box, 2)?);

        let router = Ipv4Addr::new(192, 168, 50, 1);
        let seen = greeting(&lab.router, router, &one)?;
        ensure!(
            seen == Some(outside.into()),
            "the router sees {seen:?}, not the box's {outside}"
        );
        ensure!(greeting(&lab.the_box, Ipv4Addr::new(10, 77, 0, 1), &one)?.is_some());

        lab.router
            .run(&format!("ip route add 10.77.0.0/16 via {outside}"))?;
        let inside = Ipv4Addr::new(10, 77, 0, 2);
        ensure!(
            greeting(&one, inside, &lab.router)?.is_none(),
            "the outside comes in"
        );
        ensure!(
            greeting(&one, inside, &lab.the_box)?.is_some(),
            "the box itself may"
        );

        until(SOON, || {
            lab.the_box
                .run("ip -d link show pv2")
                .is_ok_and(|link| link.contains("isolated on"))
        })?;
        ensure!(
            greeting(&one, inside, &two)?.is_none(),
            "one service reaches another"
        );
        Ok(())
    });
}

#[test]
fn a_forwarded_port_leads_to_its_service_and_no_other_does() {
    test(
        "a_forwarded_port_leads_to_its_service_and_no_other_does",
        || {
            let lab = Lab::new()?;
            let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
            let to = |port| SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 2), port);
            let forward = |transport, port, inner| Forward {
                transport,
                port,
                to: to(inner),
            };
            let mut wanted = config();
            let mut net = Net::start(&lab.the_box, wanted.clone())?;
            net.wait_for("lease and filter", SOON, |status| {
                leased(status).is_some() && status.gateway.is_some() && applied(status)
            })?;
            let outside = leased(&net.latest).context("a lease")?;
            let one = service(&lab.the_box, 1)?;
            let tcp = one.within(|| Ok(TcpListener::bind("0.0.0.0:7000")?))?;
            let closed = one.within(|| Ok(TcpListener::bind("0.0.0.0:7001")?))?;
            let udp = one.within(|| Ok(UdpSocket::bind("0.0.0.0:7002")?))?;
            udp.set_read_timeout(Some(SOON))?;
            wanted.forwards = vec![
                forward(Transport::Tcp, 2222, 7000),
                forward(Transport::Udp, 2222, 7002),
            ];
            net.handle.configure(wanted.clone())?;
            until(SOON, || {
                let rules = lab.the_box.run("nft list table inet pilot");
                rules.is_ok_and(|rules| rules.contains("dnat ip to 10.77.0.2:7002"))
            })?;
            net.wait_for("the rules", SOON, |status| {
                let told = status.services.rules.concat();
                told.contains("dnat ip to 10.77.0.2:7002")
            })?;
            let bare = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let told = bare(&net.latest.services.rules.join("\n"));
            let kernels = bare(&lab.the_box.run("nft list table inet pilot")?);
            ensure!(
                kernels.starts_with("table inet pilot {")
                    && kernels.ends_with(&format!("{told} }}")),
                "in force is {kernels}, told is {told}"
            );

            let router = IpAddr::from([192, 168, 50, 1]);
            let reaches = |port: u16| {
                let target = SocketAddr::from((outside, port));
                lab.router
                    .within(|| Ok(TcpStream::connect_timeout(&target, REACHED_WITHIN).is_ok()))
            };
            ensure!(reaches(2222)?, "the forwarded port leads nowhere");
            let (_, peer) = tcp.accept()?;
            ensure!(peer.ip() == router, "the service sees {peer}");
            for port in [7000, 7001, 2223] {
                ensure!(!reaches(port)?, "port {port} leads inside");
            }
            let client = lab.router.within(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
            client.set_read_timeout(Some(SOON))?;
            client.send_to(b"ping", (outside, 2222))?;
            let mut bytes = [0; 9];
            let (length, peer) = udp.recv_from(&mut bytes)?;
            ensure!(&bytes[..length] == b"ping" && peer.ip() == router, "{peer}");
            udp.send_to(b"pong", peer)?;
            let (length, peer) = client.recv_from(&mut bytes)?;
            let from = SocketAddr::from((outside, 2222));
            ensure!(&bytes[..length] == b"pong" && peer == from, "{peer}");

            wanted.forwards.clear();
            net.handle.configure(wanted)?;
            until(SOON, || reaches(2222).is_ok_and(|reaches| !reaches))?;
            drop(closed);
            Ok(())
        },
    );
}

#[test]
fn what_somebody_undoes_is_made_again() {
    test("what_somebody_undoes_is_made_again", || {
        let lab = Lab::new()?;
        let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease and filter", SOON, |status| {
            leased(status).is_some() && status.gateway.is_some() && applied(status)
        })?;
        let whole = |what: &str| {
            until(SOON, || {
                let address = lab
                    .address()
                    .is_ok_and(|seen| seen.contains("192.168.50.1"));
                let route = lab.the_box.run("ip route show default");
                let bridge = lab.the_box.run("ip -4 addr show dev pilot0");
                let rules = lab.the_box.run("nft list table inet pilot");
                address
                    && route.is_ok_and(|route| route.contains("192.168.50.1"))
                    && bridge.is_ok_and(|seen| seen.contains("10.77.0.1/16"))
                    && rules.is_ok_and(|rules| rules.contains("masquerade"))
            })
            .with_context(|| format!("after {what}"))
        };
        whole("the start")?;
        for undo in [
            "ip addr flush dev up0",
            "ip route del default",
            "ip link set up0 down",
            "ip link del pilot0",
            "nft flush ruleset",
        ] {
            lab.the_box.run(undo)?;
            whole(undo)?;
        }
        Ok(())
    });
}

#[test]
fn a_link_may_come_late_and_go_again() {
    test("a_link_may_come_late_and_go_again", || {
        let the_box = Machine::new("box")?;
        let router = Machine::new("router")?;
        let mut net = Net::start(&the_box, config())?;
        net.wait_for("bridge", SOON, applied)?;
        ensure!(net.latest.links.is_empty());
        the_box.cable("up0", &router, "lan0")?;
        router.run("ip addr add 192.168.50.1/24 dev lan0")?;
        let _server = Dnsmasq::start(&router, "lan0", "")?;
        net.wait_for("link without a cable", SOON, |status| {
            status.links.first().is_some_and(|link| !link.carrier)
        })?;
        ensure!(net.latest.links[0].origin.starts_with("No cable"));
        router.run("ip link set lan0 up")?;
        net.wait_for("lease", SOON, |status| leased(status).is_some())?;
        the_box.run("ip link del up0")?;
        net.wait_for("end of the link", SOON, |status| status.links.is_empty())
    });
}

#[test]
fn a_successor_keeps_the_address_and_asks_about_it() {
    test("a_successor_keeps_the_address_and_asks_about_it", || {
        let lab = Lab::new()?;
        let server = Dnsmasq::start(&lab.router, "lan0", "")?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("lease", SOON, |status| leased(status).is_some())?;
        let address = leased(&net.latest).context("a lease")?;
        let monitor = lab.the_box.watch("ip -4 monitor address")?;
        net.stop(false)?;
        ensure!(
            lab.address()?.contains(&address.to_string()),
            "it stays without net"
        );

        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("same lease", SOON, |status| leased(status) == Some(address))?;
        ensure!(server.said("DHCPDISCOVER(lan0)") == 1, "{}", server.log());
        let seen = monitor.end();
        ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");

        net.stop(true)?;
        until(SOON, || server.said("DHCPRELEASE(lan0)") == 1).with_context(|| server.log())
    });
}

#[test]
fn a_successor_keeps_an_address_that_was_leased_for_ever() {
    test(
        "a_successor_keeps_an_address_that_was_leased_for_ever",
        || {
            let lab = Lab::new()?;
            let server = Dnsmasq::start(&lab.router, "lan0", "--dhcp-host=*:*:*:*:*:*,infinite")?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease for ever", SOON, |status| {
                leased(status).is_some() && status.links[0].origin.ends_with("for good")
            })?;
            let address = leased(&net.latest).context("a lease")?;
            let monitor = lab.the_box.watch("ip -4 monitor address")?;
            net.stop(false)?;
            // Nobody confirms it to the successor, at first.
            drop(server);
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease of before", SOON, |status| {
                let link = status.links.first();
                link.is_some_and(|link| link.origin.starts_with("A lease of before"))
            })?;
            let _server = Dnsmasq::start(&lab.router, "lan0", "--dhcp-host=*:*:*:*:*:*,infinite")?;
            net.wait_for("same lease", SOON, |status| leased(status) == Some(address))?;
            let seen = monitor.end();
            ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");
            Ok(())
        },
    );
}

#[test]
fn a_successor_keeps_a_link_local_address() {
    test("a_successor_keeps_a_link_local_address", || {
        let lab = Lab::new()?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("link-local address", SOON, |status| {
            link_local(status).is_some()
        })?;
        let address = link_local(&net.latest).context("an address")?;
        let monitor = lab.the_box.watch("ip -4 monitor address")?;
        net.stop(false)?;
        let mut net = Net::start(&lab.the_box, config())?;
        net.wait_for("same address", SOON, |status| {
            link_local(status) == Some(address)
        })?;
        // Longer than it takes to find that no server answers, which is when one is chosen anew.
        thread::sleep(Duration::from_secs(12));
        let seen = monitor.end();
        ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");
        Ok(())
    });
}

#[test]
fn a_panic_costs_a_moment_and_no_address() {
    test("a_panic_costs_a_moment_and_no_address", || {
        let lab = Lab::new()?;
        let server = Dnsmasq::start(&lab.router, "lan0", "")?;
        let monitor = lab.the_box.watch("ip -4 monitor address")?;
        let (to, statuses) = channel();
        let handle = start_with_a_panic(&lab.the_box, to)?;
        let mut heard = Vec::new();
        until(SOON, || {
            heard.extend(statuses.try_iter());
            heard
                .last()
                .is_some_and(|last| leased(last).is_some() && last.problems.is_empty())
                && heard.iter().any(|status| !status.problems.is_empty())
        })?;
        let mut problems = heard.iter().flat_map(|status| &status.problems);
        ensure!(
            problems.all(|problem| problem.contains("panicked")),
            "{heard:#?}"
        );
        ensure!(!handle.ended());
        ensure!(server.said("DHCPDISCOVER(lan0)") == 1, "{}", server.log());
        ensure!(!monitor.end().contains("Deleted"));
        Ok(())
    });
}

#[test]
fn a_fixed_address_replaces_a_lease_when_the_owner_says_so() {
    test(
        "a_fixed_address_replaces_a_lease_when_the_owner_says_so",
        || {
            let lab = Lab::new()?;
            let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease", SOON, |status| leased(status).is_some())?;
            let mut fixed = config();
            let addressing = Addressing::Static {
                address: Ipv4Addr::new(192, 168, 50, 7),
                prefix: 24,
                gateway: Some(Ipv4Addr::new(192, 168, 50, 1)),
                dns: vec![IpAddr::from([9, 9, 9, 9])],
            };
            fixed.links.insert("up0".to_owned(), addressing);
            net.handle.configure(fixed)?;
            net.wait_for("fixed address alone", SOON, |status| {
                let fixed = (IpAddr::from([192, 168, 50, 7]), 24);
                status.links.first().is_some_and(|link| {
                    link.addresses
                        .iter()
                        .filter(|(ip, _)| ip.is_ipv4())
                        .eq([&fixed])
                })
            })?;
            ensure!(net.latest.links[0].origin == "Set by hand");
            net.handle.configure(config())?;
            net.wait_for("lease again", SOON, |status| leased(status).is_some())
        },
    );
}

#[test]
fn the_loop_turns_by_itself_when_nudged_and_no_more_often() {
    test(
        "the_loop_turns_by_itself_when_nudged_and_no_more_often",
        || {
            let lab = Lab::new()?;
            let _server = Dnsmasq::start(&lab.router, "lan0", "")?;
            let mut net = Net::start(&lab.the_box, config())?;
            net.wait_for("lease and filter", SOON, |s| {
                leased(s).is_some() && applied(s)
            })?;
            thread::sleep(Duration::from_secs(3));
            let before = net.handle.turns();
            thread::sleep(Duration::from_secs(4));
            let alone = net.handle.turns() - before;
            ensure!((2..=12).contains(&alone), "{alone} turns in 4 s of rest");
            let before = net.handle.turns();
            net.handle.nudge();
            until(Duration::from_millis(900), || net.handle.turns() > before)
        },
    );
}

fn lacks_qemu() -> Option<&'static str> {
    let qemu = Path::new("/usr/bin/qemu-system-x86_64").exists();
    let tap = Path::new("/dev/net/tun").exists();
    (!qemu || !tap).then_some("needs `qemu-system-x86_64` and /dev/net/tun")
}

/// `net` with a listener that panics once.
fn start_with_a_panic(machine: &Machine, to: Sender<NetStatus>) -> Result<NetHandle> {
    let mut calm = false;
    machine.within(move || {
        Ok(netstack::net::spawn(config(), move |status| {
            let address = leased(&status).is_some();
            drop(to.send(status));
            let first = address && !calm;
            calm |= address;
            assert!(!first, "the test's own panic");
        })?)
    })
}

/// A machine that hangs on the box's bridge as LXC's would.
fn service(the_box: &Machine, number: u8) -> Result<Machine> {
    let service = Machine::new(&format!("svc{number}"))?;
    the_box.cable(&format!("pv{number}"), &service, "eth0")?;
    the_box.run(&format!("ip link set pv{number} master pilot0 up"))?;
    service.run(&format!("ip addr add 10.77.0.{}/16 dev eth0", number + 1))?;
    service.run("ip link set eth0 up")?;
    service.run("ip route add default via 10.77.0.1")?;
    Ok(service)
}

/// Connects from `client` to `address` of `host`: who the host thinks it was, if it was reached.
fn greeting(host: &Machine, address: Ipv4Addr, client: &Machine) -> Result<Option<IpAddr>> {
    let listener = host.within(|| Ok(TcpListener::bind((address, 0))?))?;
    let target = SocketAddr::from((address, listener.local_addr()?.port()));
    listener.set_nonblocking(true)?;
    thread::scope(|scope| {
        let host = scope.spawn(move || {
            let mut seen = None;
            until(REACHED_WITHIN, || {
                seen = listener.accept().ok();
                seen.is_some()
            })
            .ok()?;
            let (mut stream, peer) = seen?;
            stream.write_all(b"hello").ok()?;
            Some(peer.ip())
        });
        let reached = client.within(|| {
            let Ok(mut stream) = TcpStream::connect_timeout(&target, REACHED_WITHIN) else {
                return Ok(false);
            };
            stream.set_read_timeout(Some(REACHED_WITHIN))?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said == "hello")
        })?;
        let seen = host.join().expect("a panic there is a panic here");
        Ok(seen.filter(|_| reached))
    })
}

/// What takes milliseconds on a quiet machine.
const SOON: Duration = Duration::from_secs(120);

/// A refusal is a packet dropped: only time tells.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
