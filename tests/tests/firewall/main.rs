//! The packet filter, seen with nmap from the LAN and from services, in network name spaces.
//!
//! The box listens on many ports, of which few are to be reached: what is dropped shows as
//! `filtered`, and a port that nobody listens on as `closed` where the filter lets it through.

mod lab;
mod scan;
mod senders;
mod stream;

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use netstack::net::Transport;
use tests::netns::until;

use lab::{BOX, BOX_6, Lab, ROUTER, SOON, bare, forward};
use scan::{Scan, answers_pings, sees, sees_all, sees_of_everything};

/// Answers on all of them: the box, to see who is let through.
const TCP: &[u16] = &[22, 53, 80, 443, 3000, 7780, 8080];
const UDP: &[u16] = &[53, 123, 1900, 5353, 8080];
/// Nobody listens there.
const DEAD: u16 = 9;

#[test]
fn the_lan_sees_the_door_multicast_dns_and_what_is_forwarded() -> Result<()> {
    let Some(mut lab) = Lab::new()? else {
        return Ok(());
    };
    let _sockets = lab.listen(&lab.the_box, TCP, UDP)?;
    let _served = lab.listen(&lab.one, &[7000, 7001], &[7002])?;
    lab.config.open_ports = None;
    lab.apply()?;
    let scan = Scan {
        tcp: &[22, 53, 80, 443, 2222, 3000, 7000, 7001, 7780, 8080, DEAD],
        udp: &[53, 123, 1900, 2222, 5353, 7002, 8080, DEAD],
    };
    // Else the rest would say nothing: without a filter all that is open is seen.
    sees_all(&lab.router, BOX, &scan, (TCP, UDP))?;
    sees_all(&lab.router, BOX_6, &scan, (TCP, UDP))?;

    lab.config.open_ports = Some(vec![80, 443]);
    lab.config.forwards = vec![
        forward(Transport::Tcp, 2222, 7000),
        forward(Transport::Udp, 2222, 7002),
    ];
    lab.apply()?;
    sees(&lab.router, BOX, &scan, (&[80, 443, 2222], &[2222, 5353]))?;
    sees(&lab.router, BOX_6, &scan, (&[80, 443], &[5353]))?;
    for address in [BOX, BOX_6] {
        answers_pings(&lab.router, address)?;
    }

    // Nobody comes in to services by way of the box.
    lab.router
        .run(&format!("ip route add 10.77.0.0/16 via {BOX}"))?;
    sees(&lab.router, "10.77.0.2", &scan, (&[], &[]))?;
    sees(&lab.router, "10.77.0.1", &scan, (&[80, 443, 2222], &[2222]))?;

    lab.config.dns.lan = true;
    lab.config.open_ports = Some(vec![80, 443, 3000]);
    lab.config.forwards.clear();
    lab.apply()?;
    let more: (&[u16], &[u16]) = (&[53, 80, 443, 3000], &[53, 5353]);
    sees(&lab.router, BOX, &scan, more)?;
    sees(&lab.router, BOX_6, &scan, more)
}

#[test]
fn a_service_reaches_names_the_door_the_outside_and_what_is_forwarded() -> Result<()> {
    let Some(mut lab) = Lab::new()? else {
        return Ok(());
    };
    let _sockets = lab.listen(&lab.the_box, TCP, UDP)?;
    let _served = lab.listen(&lab.one, &[7000, 7001], &[7002])?;
    let _outside = lab.listen(&lab.router, &[80, 8080], &[53])?;
    lab.config.forwards = vec![
        forward(Transport::Tcp, 2222, 7000),
        forward(Transport::Udp, 2222, 7002),
    ];
    lab.apply()?;
    let scan = Scan {
        tcp: &[22, 53, 80, 443, 2222, 3000, 7000, 7001, 7780, 8080, DEAD],
        udp: &[53, 68, 123, 1900, 2222, 5353, 7002, 8080, DEAD],
    };
    let own: &[u16] = &[53, 80, 443, 2222];
    sees(&lab.two, "10.77.0.1", &scan, (own, &[53, 2222]))?;
    // By the box's address on the LAN and back again: a service reaches even itself. Our own sockets
    // answer datagrams with the nearer address.
    for service in [&lab.one, &lab.two] {
        sees(service, BOX, &scan, (own, &[2222]))?;
    }
    let bridge = format!("{}%eth0", lab.link_local()?);
    sees(&lab.two, &bridge, &scan, (&[53, 80, 443], &[53]))?;
    sees_all(&lab.two, ROUTER, &scan, (&[80, 8080], &[53]))?;
    sees(&lab.two, "10.77.0.2", &scan, (&[], &[]))?;
    // Not by a way around the bridge either.
    lab.two.run("ip route add 10.77.0.2/32 via 10.77.0.1")?;
    sees(&lab.two, "10.77.0.2", &scan, (&[], &[]))
}

#[test]
#[ignore = "looks at each port there is, for some minutes"]
fn nothing_else_is_to_be_seen_on_any_port() -> Result<()> {
    let Some(mut lab) = Lab::new()? else {
        return Ok(());
    };
    let _sockets = lab.listen(&lab.the_box, TCP, UDP)?;
    let _served = lab.listen(&lab.one, &[7000, 7001], &[7002])?;
    lab.config.forwards = vec![
        forward(Transport::Tcp, 2222, 7000),
        forward(Transport::Udp, 161, 7002),
    ];
    lab.apply()?;
    let lan: (&[u16], &[u16]) = (&[80, 443, 2222], &[161, 5353]);
    sees_of_everything(&lab.router, BOX, lan)?;
    sees_of_everything(&lab.router, BOX_6, (&[80, 443], &[5353]))?;
    let own: (&[u16], &[u16]) = (&[53, 80, 443, 2222], &[53, 161]);
    sees_of_everything(&lab.two, "10.77.0.1", own)?;
    // Nobody on the bridge itself answers, not even ARP, for which nmap would wait with each port.
    lab.two.run("ip route add 10.77.0.2/32 via 10.77.0.1")?;
    sees_of_everything(&lab.two, "10.77.0.2", (&[], &[]))
}

#[test]
fn a_service_can_t_be_somebody_else_or_the_box_s_router() -> Result<()> {
    let Some(mut lab) = Lab::new()? else {
        return Ok(());
    };
    lab.apply()?;
    let patient = |socket: UdpSocket| -> Result<UdpSocket> {
        socket.set_read_timeout(Some(SOON))?;
        Ok(socket)
    };
    let outside = lab
        .router
        .within(|| patient(UdpSocket::bind("0.0.0.0:9000")?))?;
    let names = lab
        .the_box
        .within(|| patient(UdpSocket::bind("[::]:53")?))?;
    lab.one.run("ip addr add 192.168.50.99/32 dev eth0")?;
    lab.one.run("ip addr add fd66::1/128 dev eth0 nodad")?;
    lab.one.run("ip route add fd50::/64 dev eth0")?;
    let send = |from: &str, target: &str| {
        lab.one.within(|| {
            let socket = UdpSocket::bind((from, 0))?;
            socket.send_to(from.as_bytes(), target)?;
            Ok(())
        })
    };
    let first = |socket: &UdpSocket| -> Result<String> {
        let mut bytes = [0; 64];
        let (length, _) = socket.recv_from(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    };
    // One goes after the other by the same way: when the second is there the first was dropped.
    let bridge = lab.link_local()?;
    let eth0 = lab::index(&lab.one, "eth0")?;
    lab::has_link_local(&lab.one, "eth0")?;
    let to_bridge = format!("[{bridge}%{eth0}]:53");
    let to_router = format!("{ROUTER}:9000");
    for (false_one, true_one, target, socket) in [
        ("192.168.50.99", "10.77.0.2", to_router.as_str(), &outside),
        ("192.168.50.99", "10.77.0.2", "10.77.0.1:53", &names),
        ("fd66::1", "::", &to_bridge, &names),
    ] {
        send(false_one, target)?;
        send(true_one, target)?;
        let seen = first(socket)?;
        ensure!(seen == true_one, "{seen} reached {target}");
    }

    let routes = || lab.the_box.run("ip -6 route show default");
    lab.advertise(&lab.one, "eth0")?;
    send("10.77.0.2", "10.77.0.1:53")?;
    ensure!(first(&names)? == "10.77.0.2");
    ensure!(routes()?.is_empty(), "by a service: {}", routes()?);
    lab.advertise(&lab.router, "lan0")?;
    until(SOON, || routes().is_ok_and(|routes| routes.contains("up0")))
        .context("a router's own advertisement is not heard")?;

    // That all this was the rules' doing.
    lab.net.handle.shutdown(false)?;
    until(SOON, || lab.net.handle.ended())?;
    // There are two walls.
    lab.the_box.run("nft delete table netdev pilot")?;
    send("192.168.50.99", &to_router)?;
    send("10.77.0.2", &to_router)?;
    ensure!(first(&outside)? == "10.77.0.2");
    lab.the_box.run("nft delete chain inet pilot spoof")?;
    send("192.168.50.99", &to_router)?;
    ensure!(first(&outside)? == "192.168.50.99");
    lab.the_box.run("nft flush chain inet pilot input")?;
    lab.the_box.run("nft add rule inet pilot input accept")?;
    lab.advertise(&lab.one, "eth0")?;
    until(SOON, || {
        routes().is_ok_and(|routes| routes.contains("pilot0"))
    })
    .context("nobody needs to be kept from advertising")
}

#[test]
fn the_rules_are_those_that_are_written_down() -> Result<()> {
    let Some(mut lab) = Lab::new()? else {
        return Ok(());
    };
    lab.config.forwards = vec![
        forward(Transport::Tcp, 2222, 7000),
        forward(Transport::Udp, 2222, 7002),
    ];
    lab.apply()?;
    let kernels = lab.in_force()?;
    println!("{kernels}");
    let services = &lab.net.latest.services;
    let (rules, guard) = (services.rules.join("\n"), services.guard_rules.join("\n"));
    let told = format!("table inet pilot {{ {rules} }} table netdev pilot {{ {guard} }}");
    ensure!(
        bare(&kernels) == bare(&told),
        "in force is {kernels}, told is {told}"
    );
    ensure!(
        bare(&kernels) == bare(RULES),
        "in force is what is above, but tests/tests/firewall/rules.nft has {RULES}"
    );

    // The LAN may ask for names too, behind what services are kept from.
    lab.config.dns.lan = true;
    lab.apply()?;
    let kernels = lab.the_box.run("nft list ruleset")?;
    let names = "udp dport 5353 accept udp dport 53 accept tcp dport 53 accept drop";
    let with_names = bare(RULES).replace("udp dport 5353 accept drop", names);
    ensure!(bare(&kernels) == with_names, "{kernels}");
    ensure!(with_names != bare(RULES), "{RULES}");
    lab.config.dns.lan = false;
    lab.apply()?;
    let kernels = lab.the_box.run("nft list ruleset")?;
    ensure!(bare(&kernels) == bare(RULES), "{kernels}");

    // As many as there may be, and then some.
    lab.config.forwards = (1..=200)
        .map(|n| forward(Transport::Tcp, 2000 + n, 7000))
        .collect();
    lab.config.open_ports = Some((1000..1200).collect());
    lab.apply()?;
    let kernels = lab.the_box.run("nft list ruleset")?;
    for (what, count) in [("dnat ip to", 128), ("tcp dport 1", 128)] {
        ensure!(kernels.matches(what).count() == count, "{kernels}");
    }
    Ok(())
}

#[test]
fn rules_are_replaced_without_a_connection_lost_or_a_port_open() -> Result<()> {
    let Some(mut lab) = Lab::new()? else {
        return Ok(());
    };
    lab.config.forwards = vec![forward(Transport::Tcp, 2222, 7000)];
    lab.apply()?;
    let stream = stream::Stream::through(&lab)?;
    let closed = lab
        .the_box
        .within(|| Ok(UdpSocket::bind("0.0.0.0:9000")?))?;
    closed.set_nonblocking(true)?;
    let knocking = stream::Knocking::on(&lab, SocketAddr::from((lab::BOX_4, 9000)))?;

    let port = forward(Transport::Tcp, 2300, 7001);
    for round in 0..20 {
        let with = round % 2 == 0;
        lab.config.forwards.truncate(1);
        lab.config.forwards.extend(with.then_some(port));
        lab.config.open_ports = Some(if with {
            vec![80, 443, 993]
        } else {
            vec![80, 443]
        });
        lab.apply()?;
        stream.goes_on()?;
    }
    knocking.goes_on()?;
    let came_in = closed.recv_from(&mut [0; 16]).is_ok();
    ensure!(!came_in, "a closed port was open for a moment");

    let wanted = bare(&lab.in_force()?);
    let whole = || {
        until(SOON, || {
            let now = lab.in_force();
            now.is_ok_and(|now| bare(&now) == wanted)
        })
    };
    // Where the kernel lets us own the table, nobody else's hand reaches it. Elsewhere it is made
    // again, but a packet of the connection that comes in between ends it.
    let owned = lab.the_box.run("nft list ruleset")?.contains("flags owner");
    println!(
        "the table is {}",
        if owned { "ours" } else { "everybody's" }
    );
    for undo in [
        "nft flush chain inet pilot input",
        "nft insert rule inet pilot input accept",
        "nft delete chain inet pilot spoof",
        "nft delete table inet pilot",
        "nft flush ruleset",
    ] {
        drop(lab.the_box.run(undo));
        whole().with_context(|| format!("after {undo}"))?;
        if owned {
            stream.goes_on().with_context(|| format!("after {undo}"))?;
        }
    }
    while closed.recv_from(&mut [0; 16]).is_ok() {}
    knocking.goes_on()?;
    let came_in = closed.recv_from(&mut [0; 16]).is_ok();
    ensure!(!came_in, "a port stays open");
    if owned {
        stream.end()?;
    }
    Ok(())
}

/// The intended rule set.
const RULES: &str = include_str!("rules.nft");
