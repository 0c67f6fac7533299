//! The services' network: who reaches whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use netstack::net::{Forward, Transport};
use tests::netns::{Dnsmasq, Machine, Net, until};

use super::{Lab, REACHED_WITHIN, SOON, applied, config, greeting, leased, test};

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

/// A machine that hangs on the box's bridge as LXC's would.
fn service(the_box: &Machine, number: u8) -> Result<Machine> {
    let service = Machine::new(&format!("svc{number}"))?;
    the_box.cable(&format!("pv{number}"), &service, "eth0")?;
    the_box.run(&format!("ip link set pv{number} master pilot0 up"))?;
    let own = number + 1;
    service.run(&format!(
        "ip link set eth0 address 02:00:0a:4d:00:{own:02x}"
    ))?;
    service.run(&format!("ip addr add 10.77.0.{own}/16 dev eth0"))?;
    service.run("ip link set eth0 up")?;
    service.run("ip route add default via 10.77.0.1")?;
    Ok(service)
}
