//! The DHCP client with the servers of people's routers: each way in which a lease may go, with
//! each of them.

use std::{
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tests::{
    dhcp::{self, Kind, LEASE, Pool, Server},
    netns::{Machine, Net, until},
};

use crate::{Lan, SOON, config, leased, link_local, test};

#[test]
fn every_way_of_a_lease_is_gone_with_every_server() {
    test("every_way_of_a_lease_is_gone_with_every_server", || {
        if let Some(why) = dhcp::lacks() {
            println!("SKIPPED: every_way_of_a_lease_is_gone_with_every_server: {why}");
            return Ok(());
        }
        let failures: Vec<String> = thread::scope(|scope| {
            let mut running = Vec::new();
            for (name, way) in WAYS {
                for kind in Kind::ALL {
                    let way = move || {
                        let began = Instant::now();
                        let result = way(kind);
                        (began.elapsed().as_secs(), result)
                    };
                    running.push((format!("{name}, {kind:?}"), scope.spawn(way)));
                }
            }
            let ended = running.into_iter().filter_map(|(name, thread)| {
                let (seconds, result) = thread.join().expect("a panic there is a panic here");
                let failure = result.err().map(|error| format!("{name}: {error:?}"));
                println!("{name}: within {seconds} s");
                failure
            });
            ended.collect()
        });
        ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
        Ok(())
    });
}

/// A way of a lease.
type Way = fn(Kind) -> Result<()>;

const WAYS: [(&str, Way); 9] = [
    (
        "routes and search domains come and go with a lease",
        generous,
    ),
    ("a lease is renewed with its server", renewed),
    ("a lease is rebound with another server", rebound),
    ("a lease of another network is refused", refused),
    ("a network that changes unseen is followed", followed),
    ("a gateway that is gone is missed", missed),
    ("the server has no address, then one", exhausted),
    ("the server is gone, then back", gone),
    ("the address is another host's", disputed),
];

/// A box and a server on one LAN, the box with a lease.
struct Leased {
    lan: Lan,
    the_box: Machine,
    server: Server,
    net: Net,
    address: Ipv4Addr,
}

impl Leased {
    fn from(kind: Kind) -> Result<Self> {
        Self::of(kind, POOL)
    }

    fn of(kind: Kind, pool: Pool) -> Result<Self> {
        let lan = Lan::new(pool)?;
        let the_box = lan.machine("box", "up0")?;
        let server = Server::start(kind, &lan.router, "lan0", pool)?;
        let mut net = Net::start(&the_box, config())?;
        net.wait_for("lease", SOON, |status| leased(status).is_some())
            .with_context(|| server.log())?;
        let address = leased(&net.latest).context("a lease")?;
        Ok(Self {
            lan,
            the_box,
            server,
            net,
            address,
        })
    }
}

fn generous(kind: Kind) -> Result<()> {
    let lan = Lan::new(POOL)?;
    let the_box = lan.machine("box", "up0")?;
    let server = Server::giving(kind, &lan.router, "lan0", POOL, true)?;
    let mut net = Net::start(&the_box, config())?;
    let by = POOL.address(dhcp::ROUTER);
    let router: IpAddr = by.parse()?;
    net.wait_for("lease with routes", SOON, |status| {
        leased(status).is_some() && status.gateway == Some(router)
    })
    .with_context(|| server.log())?;
    ensure!(net.latest.search == dhcp::SEARCH, "{:#?}", net.latest);
    let lease = net
        .latest
        .links
        .first()
        .and_then(|link| link.lease.as_ref());
    let route = format!("{} via {by}", dhcp::FAR);
    ensure!(lease.is_some_and(|lease| lease.routes == [route.clone()]));
    let placed = || {
        let seen = the_box.run("ip -4 route show proto dhcp")?;
        let there = seen.contains(&format!("{route} dev up0 "));
        let default = seen.contains(&format!("default via {by} dev up0 "));
        ensure!(there == default, "{seen}");
        Ok(there)
    };
    until(SOON, || placed().is_ok_and(|there| there))?;
    if kind == Kind::Dnsmasq {
        ensure!(server.offered() == 0, "{}", server.log());
    }

    // Behind the box's back it goes, and a successor keeps it.
    the_box.run(&format!("ip route del {} dev up0", dhcp::FAR))?;
    until(SOON, || placed().is_ok_and(|there| there))?;
    let monitor = the_box.watch("ip -4 monitor route")?;
    net.stop(false)?;
    let mut net = Net::start(&the_box, config())?;
    net.wait_for("same routes", SOON, |status| {
        leased(status).is_some() && status.gateway == Some(router)
    })?;
    let seen = monitor.end();
    ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");

    drop(server);
    let server = Server::start(kind, &lan.router, "lan0", POOL)?;
    let plain: IpAddr = POOL.address(1).parse()?;
    net.wait_for("lease without routes", SOON, |status| {
        leased(status).is_some() && status.gateway == Some(plain) && status.search.is_empty()
    })
    .with_context(|| server.log())?;
    until(SOON, || {
        let seen = the_box.run("ip -4 route show proto dhcp");
        seen.is_ok_and(|seen| !seen.contains(dhcp::FAR))
    })
}

fn renewed(kind: Kind) -> Result<()> {
    let there = Leased::from(kind)?;
    let monitor = there.the_box.watch("ip -4 monitor address")?;
    until(SOON, || there.server.granted() >= 3).with_context(|| there.server.log())?;
    ensure!(leased(&there.net.latest) == Some(there.address));
    ensure!(there.net.latest.problems.is_empty());
    ensure!(!monitor.end().contains("Deleted"));
    Ok(())
}

fn rebound(kind: Kind) -> Result<()> {
    let mut there = Leased::from(kind)?;
    // It is there, but on a LAN of its own, until the first one is gone.
    let spare = there.lan.machine("spare", "lan0")?;
    there.lan.detach("spare")?;
    let address = POOL.address(2);
    spare.run(&format!("ip addr add {address}/24 dev lan0"))?;
    spare.run("ip link set lan0 up")?;
    let other = Server::start(kind, &spare, "lan0", POOL)?;
    let monitor = there.the_box.watch("ip -4 monitor address")?;
    // A client that is bound asks its own server alone, so the other may hear it already.
    there.lan.attach("spare")?;
    drop(there.server);
    let server: Ipv4Addr = address.parse()?;
    there
        .net
        .wait_for("lease of the other server", SOON, |status| {
            let lease = status.links.first().and_then(|link| link.lease.as_ref());
            lease.is_some_and(|lease| lease.server == Some(server))
        })
        .with_context(|| other.log())?;
    ensure!(leased(&there.net.latest) == Some(there.address));
    let seen = monitor.end();
    ensure!(!seen.contains("Deleted"), "it was never gone: {seen}");
    Ok(())
}

fn refused(kind: Kind) -> Result<()> {
    let mut there = Leased::from(kind)?;
    drop(there.server);
    there.lan.unplug("box")?;
    there.net.wait_for("end of the carrier", SOON, |status| {
        status.links.first().is_some_and(|link| !link.carrier)
    })?;
    there.lan.renumber(OTHER)?;
    let server = Server::start(kind, &there.lan.router, "lan0", OTHER)?;
    there.lan.plug("box")?;
    in_other_network(&mut there.net, &server)?;
    ensure!(server.refused() >= 1, "{}", server.log());
    Ok(())
}

fn followed(kind: Kind) -> Result<()> {
    let mut there = Leased::from(kind)?;
    drop(there.server);
    there.lan.renumber(OTHER)?;
    let server = Server::start(kind, &there.lan.router, "lan0", OTHER)?;
    in_other_network(&mut there.net, &server)
}

/// The network changes unseen, and the lease of before would last for an hour.
fn missed(kind: Kind) -> Result<()> {
    let lasting = Pool {
        lasting: true,
        ..POOL
    };
    let mut there = Leased::of(kind, lasting)?;
    drop(there.server);
    there.lan.renumber(OTHER)?;
    there.net.wait_for("word of it", SOON, |status| {
        let says = |problem: &String| problem.contains("The gateway 192.168.50.1 does not answer");
        status.problems.iter().any(says)
    })?;
    let server = Server::start(kind, &there.lan.router, "lan0", OTHER)?;
    in_other_network(&mut there.net, &server)?;
    there.net.wait_for("end of the problem", SOON, |status| {
        status.problems.is_empty()
    })
}

fn in_other_network(net: &mut Net, server: &Server) -> Result<()> {
    net.wait_for("lease of the other network", SOON, |status| {
        leased(status).is_some_and(|address| address.octets()[..3] == OTHER.network)
    })
    .with_context(|| server.log())?;
    let link = net.latest.links.first().context("a link")?;
    let mut addresses = link.addresses.iter().filter(|(ip, _)| ip.is_ipv4());
    ensure!(addresses.next().is_some() && addresses.next().is_none());
    Ok(())
}

fn exhausted(kind: Kind) -> Result<()> {
    let pool = Pool { last: 100, ..POOL };
    let lan = Lan::new(pool)?;
    let (rival, the_box) = (lan.machine("rival", "up0")?, lan.machine("box", "up0")?);
    let server = Server::start(kind, &lan.router, "lan0", pool)?;
    let mut first = Net::start(&rival, config())?;
    first.wait_for("lease of the rival", SOON, |status| {
        leased(status).is_some()
    })?;
    let mut net = Net::start(&the_box, config())?;
    net.wait_for("link-local address", SOON, |status| {
        link_local(status).is_some()
    })?;
    let origin = &net.latest.links[0].origin;
    ensure!(
        origin == "Link-local, since no DHCP server offers an address",
        "{origin}"
    );
    ensure!(leased(&first.latest).is_some());
    first.stop(true)?;
    net.wait_for("lease in place of it", SOON, |status| {
        leased(status).is_some() && link_local(status).is_none()
    })
    .with_context(|| server.log())
}

fn gone(kind: Kind) -> Result<()> {
    let mut there = Leased::from(kind)?;
    drop(there.server);
    if kind == Kind::Dnsmasq {
        // Its leases last for longer than a test: that one is asked about anew is enough.
        there.lan.unplug("box")?;
        there.net.wait_for("end of the carrier", SOON, |status| {
            status.links.first().is_some_and(|link| !link.carrier)
        })?;
        there.lan.plug("box")?;
    }
    there
        .net
        .wait_for("link-local address", SOON + LEASE, |status| {
            link_local(status).is_some()
        })?;
    let server = Server::start(kind, &there.lan.router, "lan0", POOL)?;
    there
        .net
        .wait_for("lease again", SOON, |status| {
            leased(status).is_some() && link_local(status).is_none()
        })
        .with_context(|| server.log())
}

fn disputed(kind: Kind) -> Result<()> {
    let there = Leased::from(kind)?;
    // Each server gives a client that it does not know the same address each time.
    there.net.stop(false)?;
    drop(there.server);
    there.the_box.run("ip -4 addr flush dev up0")?;
    let squatter = there.lan.machine("squatter", "eth0")?;
    let taken = there.address;
    squatter.run(&format!("ip addr add {taken}/24 dev eth0"))?;
    squatter.run("ip link set eth0 up")?;
    let server = Server::start(kind, &there.lan.router, "lan0", POOL)?;
    let mut net = Net::start(&there.the_box, config())?;
    net.wait_for("word of the collision", SOON, |status| {
        let says = |problem: &String| problem.contains(&format!("has {taken}"));
        status.problems.iter().any(says)
    })
    .with_context(|| server.log())?;
    net.wait_for("another address", SOON, |status| {
        leased(status).is_some_and(|address| address != taken) && status.problems.is_empty()
    })
    .with_context(|| server.log())?;
    until(Duration::from_secs(60), || {
        server.knows_declined(&taken.to_string())
    })
    .with_context(|| server.log())
}

const POOL: Pool = Pool {
    network: [192, 168, 50],
    first: 100,
    last: 109,
    lasting: false,
};

const OTHER: Pool = Pool {
    network: [192, 168, 60],
    ..POOL
};
