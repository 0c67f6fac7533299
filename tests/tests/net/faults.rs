//! Faults of links and LANs: the box is reachable again, and says meanwhile what is wrong. Each
//! test prints how long it took.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{Addressing, NetStatus};
use tests::{
    dhcp::{self, Kind, Pool, Server},
    netns::{Machine, Net, until},
};

use super::{Lan, SOON, config, greeting, leased, leased_on, test};

/// A box on a LAN with dnsmasq, and its lease.
struct Home {
    lan: Lan,
    the_box: Machine,
    _server: Server,
    net: Net,
}

impl Home {
    fn new() -> Result<Self> {
        let lan = Lan::new(POOL)?;
        let the_box = lan.machine("box", "up0")?;
        let server = Server::start(Kind::Dnsmasq, &lan.router, "lan0", POOL)?;
        let mut wanted = config();
        wanted
            .links
            .insert("wan0".to_owned(), Addressing::Automatic);
        let mut net = Net::start(&the_box, wanted)?;
        net.wait_for("lease", SOON, routed("up0"))?;
        Ok(Self {
            lan,
            the_box,
            _server: server,
            net,
        })
    }

    /// Waits until the router reaches the box at its lease's address.
    fn is_reached(&self) -> Result<()> {
        let address = leased(&self.net.latest).context("a lease")?;
        until(SOON, || {
            greeting(&self.the_box, address, &self.lan.router).is_ok_and(|seen| seen.is_some())
        })
    }
}

#[test]
fn a_link_is_pulled_renamed_and_replaced() {
    test("a_link_is_pulled_renamed_and_replaced", || {
        let mut home = Home::new()?;
        let address = leased(&home.net.latest).context("a lease")?;
        home.lan.unplug("box")?;
        home.net.wait_for("word of it", SOON, |status| {
            let link = status.links.first();
            link.is_some_and(|link| link.origin.starts_with("No cable"))
        })?;
        let began = Instant::now();
        home.lan.plug("box")?;
        home.net.wait_for("lease again", SOON, routed("up0"))?;
        home.is_reached()?;
        told("a cable was put back", began);

        let monitor = home.the_box.watch("ip -4 monitor address")?;
        let began = Instant::now();
        home.the_box.run("ip link set dev up0 name wan0")?;
        home.net
            .wait_for("lease under the new name", SOON, routed("wan0"))?;
        told("a link was renamed", began);
        ensure!(leased_on(&home.net.latest, "wan0") == Some(address));
        let seen = monitor.end();
        ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");

        home.the_box.run("ip link del wan0")?;
        home.net
            .wait_for("end of the link", SOON, |status| status.links.is_empty())?;
        home.the_box.cable("up0", &home.lan.router, "box")?;
        home.lan.attach("box")?;
        let began = Instant::now();
        home.lan.plug("box")?;
        home.net
            .wait_for("lease on the new link", SOON, routed("up0"))?;
        home.is_reached()?;
        told("a link was replaced", began);
        Ok(())
    });
}

#[test]
fn a_link_that_flaps_a_thousand_times_has_its_address_after_it() {
    test(
        "a_link_that_flaps_a_thousand_times_has_its_address_after_it",
        || {
            let mut home = Home::new()?;
            // The question about collisions ends within seconds, then the link is at rest.
            let at_rest = || {
                let mut sockets = String::new();
                until(SOON, || {
                    sockets = home.the_box.run("cat /proc/net/packet").unwrap_or_default();
                    sockets.lines().count() == 1
                })
                .with_context(|| sockets.clone())?;
                sockets_of(&home.the_box)
            };
            let (before, memory) = (at_rest()?, resident()?);
            let file = std::env::temp_dir().join(format!("{}-flaps", home.the_box.name()));
            let flaps = |machine: &Machine, link: &str| -> Result<()> {
                let flap = format!("link set {link} down\nlink set {link} up\n");
                fs::write(&file, flap.repeat(FLAPS_AT_ONCE))?;
                for _ in 0..500 / FLAPS_AT_ONCE {
                    machine.run(&format!("ip -batch {}", file.display()))?;
                    thread::sleep(Duration::from_millis(50));
                }
                Ok(())
            };
            flaps(&home.lan.router, "box")?;
            flaps(&home.the_box, "up0")?;
            drop(fs::remove_file(&file));
            let began = Instant::now();
            home.is_reached()?;
            told("a link flapped 1,000 times", began);
            at_rest()?;
            // A renewal may be under way at any moment, with a socket of its own.
            until(SOON, || {
                sockets_of(&home.the_box).is_ok_and(|now| now <= before)
            })
            .with_context(|| format!("more than the {before} sockets of before"))?;
            home.net.wait_for("lease", SOON, routed("up0"))?;
            let grown = resident()?.saturating_sub(memory);
            println!("resident memory grew by {grown} KiB, with all that ran beside it");
            ensure!(home.net.latest.problems.is_empty());
            Ok(())
        },
    );
}

#[test]
fn of_two_servers_one_is_followed_and_the_other_is_enough() {
    test(
        "of_two_servers_one_is_followed_and_the_other_is_enough",
        || {
            if let Some(why) = dhcp::lacks() {
                println!("SKIPPED: of_two_servers_one_is_followed_and_the_other_is_enough: {why}");
                return Ok(());
            }
            let lan = Lan::new(POOL)?;
            let the_box = lan.machine("box", "up0")?;
            let rogue = lan.machine("rogue", "lan0")?;
            rogue.run("ip addr add 192.168.60.1/24 dev lan0")?;
            rogue.run("ip link set lan0 up")?;
            let other = Pool {
                network: [192, 168, 60],
                ..POOL
            };
            let kea = Server::start(Kind::Kea, &lan.router, "lan0", POOL)?;
            let isc = Server::start(Kind::Isc, &rogue, "lan0", other)?;
            let mut net = Net::start(&the_box, config())?;
            net.wait_for("lease", SOON, routed("up0"))?;
            let first = leased(&net.latest).context("a lease")?;
            let monitor = the_box.watch("ip -4 monitor address")?;
            let by_kea = first.octets()[..3] == POOL.network;
            let (chosen, spare) = if by_kea { (kea, isc) } else { (isc, kea) };
            until(SOON, || chosen.granted() >= 3).with_context(|| chosen.log())?;
            let seen = monitor.end();
            ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");

            drop(chosen);
            let began = Instant::now();
            net.wait_for("lease of the other server", SOON, |status| {
                routed("up0")(status) && leased(status).is_some_and(|now| now != first)
            })
            .with_context(|| spare.log())?;
            told("one of two DHCP servers went away", began);
            Ok(())
        },
    );
}

#[test]
fn two_servers_that_give_differing_settings_are_told_of() {
    test(
        "two_servers_that_give_differing_settings_are_told_of",
        || {
            let lan = Lan::new(POOL)?;
            let the_box = lan.machine("box", "up0")?;
            let rogue = lan.machine("rogue", "lan0")?;
            rogue.run("ip addr add 192.168.60.1/24 dev lan0")?;
            rogue.run("ip link set lan0 up")?;
            let other = Pool {
                network: [192, 168, 60],
                ..POOL
            };
            let servers = [
                Server::start(Kind::Dnsmasq, &lan.router, "lan0", POOL)?,
                Server::start(Kind::Dnsmasq, &rogue, "lan0", other)?,
            ];
            // A packet may get lost while links come up: then they are looked for again.
            for _ in 0..TRIES {
                let mut net = Net::start(&the_box, config())?;
                net.wait_for("lease", SOON, routed("up0"))?;
                let told = |status: &NetStatus| {
                    let mut cautions = status.cautions.iter();
                    cautions.any(|caution| {
                        caution.starts_with("On up0, two DHCP servers answer: ")
                            && ["192.168.50.1 (gives ", "192.168.60.1 (gives "]
                                .iter()
                                .all(|server| caution.contains(server))
                    })
                };
                let seen = net.wait_for("word of both", Duration::from_secs(20), told);
                let latest = format!("{:#?}", net.latest);
                ensure!(net.latest.problems.is_empty(), "{latest}");
                net.stop(true)?;
                if seen.is_ok() {
                    return Ok(());
                }
                println!("{latest}");
            }
            let logs = servers.map(|server| server.log()).join("\n\n");
            anyhow::bail!("nobody said so: {logs}")
        },
    );
}

#[test]
fn packets_too_large_for_the_path_do_not_silence_the_box() {
    test(
        "packets_too_large_for_the_path_do_not_silence_the_box",
        || {
            let home = Home::new()?;
            let far = Machine::new("far")?;
            home.lan.router.cable("wan0", &far, "eth0")?;
            for line in [
                "ip addr add 198.51.100.1/24 dev wan0",
                // What is larger vanishes here, without a word to its sender.
                "ip link set wan0 mtu 1300 up",
                "nft add table ip hole",
                "nft add chain ip hole out { type filter hook output priority 0 ; }",
                "nft add rule ip hole out icmp type destination-unreachable drop",
            ] {
                home.lan.router.run(line)?;
            }
            home.lan.router.set("ipv4/ip_forward", "1")?;
            far.run("ip addr add 198.51.100.2/24 dev eth0")?;
            far.run("ip link set eth0 up")?;
            far.run("ip route add default via 198.51.100.1")?;
            let address = leased(&home.net.latest).context("a lease")?;

            home.the_box.set("ipv4/tcp_mtu_probing", "0")?;
            let short = Duration::from_secs(3);
            ensure!(
                !fetched(&home.the_box, address, &far, short)?,
                "there is no hole"
            );
            home.net.handle.configure(config())?;
            until(SOON, || {
                let switch = home.the_box.run("cat /proc/sys/net/ipv4/tcp_mtu_probing");
                switch.is_ok_and(|switch| switch.trim() == "1")
            })?;
            let began = Instant::now();
            ensure!(fetched(&home.the_box, address, &far, SOON)?);
            told("64 KiB went through an MTU black hole", began);
            Ok(())
        },
    );
}

/// Whether 64 KiB of the box's come to a machine with no longer silence than this.
fn fetched(the_box: &Machine, address: Ipv4Addr, far: &Machine, silence: Duration) -> Result<bool> {
    let listener = the_box.within(|| Ok(TcpListener::bind((address, 0))?))?;
    let target = SocketAddr::from((address, listener.local_addr()?.port()));
    let mut client = far.within(|| Ok(TcpStream::connect_timeout(&target, SOON)?))?;
    let (mut served, _) = listener.accept()?;
    // It all fits the socket's buffer, so this does not wait for the other side.
    served.set_write_timeout(Some(silence))?;
    served.write_all(&[7; 64 << 10])?;
    client.set_read_timeout(Some(silence))?;
    Ok(client.read_exact(&mut [0; 64 << 10]).is_ok())
}

/// Whether a link has its lease, and the box a way out.
fn routed(link: &str) -> impl Fn(&NetStatus) -> bool {
    move |status| {
        let mut links = status.links.iter();
        let plugged = links.any(|there| there.name == link && there.origin.starts_with("DHCP"));
        plugged && leased_on(status, link).is_some() && status.gateway.is_some()
    }
}

fn told(what: &str, began: Instant) {
    println!("{what}: reachable within {:.1?}", began.elapsed());
}

/// The sockets in a machine's name space: of netlink, of UDP and packet sockets.
fn sockets_of(machine: &Machine) -> Result<usize> {
    let listed = machine.run("cat /proc/net/netlink /proc/net/packet /proc/net/udp")?;
    Ok(listed.lines().count())
}

/// This process's memory, in KiB.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("VmRSS")?.parse()?)
}

/// How often two servers are looked for.
const TRIES: usize = 5;

/// Linkwatch tells of a few hundred in a second; more are one.
const FLAPS_AT_ONCE: usize = 25;

const POOL: Pool = Pool {
    network: [192, 168, 50],
    first: 100,
    last: 109,
    lasting: false,
};
