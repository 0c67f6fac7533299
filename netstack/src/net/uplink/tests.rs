//! One uplink against servers, neighbours and routers that are played.

use super::{
    super::dhcp::message::{self, Kind, Message, Options},
    *,
};

const MAC: Mac = [2, 0, 0, 0, 0, 1];

fn run(uplink: &mut Uplink, from: Now, until: Now) -> Vec<Outgoing> {
    let (mut now, mut sent) = (from, Vec::new());
    loop {
        sent.extend(std::iter::from_fn(|| uplink.transmit()));
        match uplink.deadline() {
            Some(at) if at <= until => {
                now = now.max(at);
                uplink.tick(now);
            }
            _ => return sent,
        }
    }
}

#[test]
fn with_no_server_there_is_a_link_local_address_while_dhcp_goes_on() {
    let mut uplink = Uplink::new(MAC, None, Random::new(1));
    uplink.carrier(Duration::ZERO, true);
    run(&mut uplink, Duration::ZERO, Duration::from_secs(9));
    assert_eq!(uplink.wanted(), Wanted::default());
    let sent = run(&mut uplink, Duration::from_secs(9), Duration::from_secs(60));
    let [address] = uplink.wanted().addresses[..] else {
        panic!("one address")
    };
    assert!(address.ip.is_link_local());
    assert!(sent.iter().any(|out| matches!(out, Outgoing::Dhcp(_))));
    assert_eq!(
        uplink.origin(),
        "Link-local, since no DHCP server offers an address"
    );
}

#[test]
fn without_carrier_nothing_is_sent_or_awaited() {
    let mut uplink = Uplink::new(MAC, None, Random::new(1));
    assert_eq!(uplink.deadline(), None);
    uplink.carrier(Duration::ZERO, true);
    uplink.carrier(Duration::from_secs(1), false);
    assert_eq!(uplink.transmit(), None);
    assert_eq!(uplink.deadline(), None);
    assert_eq!(uplink.needs(), Needs::default());
}

#[test]
fn an_adopted_lease_is_kept_and_asked_about() {
    let lease = Lease::adopted(
        Ipv4Addr::new(10, 0, 0, 7),
        24,
        Some(Ipv4Addr::new(10, 0, 0, 1)),
        Duration::from_secs(1000),
    );
    let mut uplink = Uplink::new(MAC, None, Random::new(1));
    uplink.adopt(Duration::ZERO, Some(lease), None);
    uplink.carrier(Duration::ZERO, true);
    assert_eq!(uplink.wanted().addresses.len(), 1);
    assert!(matches!(uplink.transmit(), Some(Outgoing::Dhcp(_))));
    run(&mut uplink, Duration::ZERO, Duration::from_secs(60));
    assert_eq!(
        uplink.wanted().addresses.len(),
        2,
        "its own and a link-local one"
    );
    run(
        &mut uplink,
        Duration::from_secs(60),
        Duration::from_secs(1100),
    );
    assert_eq!(uplink.wanted().addresses.len(), 1, "it has expired");
}

#[test]
fn an_adopted_link_local_address_is_kept_without_a_pause_and_announced() {
    let ip = Ipv4Addr::new(169, 254, 7, 7);
    let mut uplink = Uplink::new(MAC, None, Random::new(1));
    uplink.adopt(Duration::ZERO, None, Some(ip));
    uplink.carrier(Duration::ZERO, true);
    assert_eq!(uplink.wanted().addresses[0].ip, ip);
    let sent = run(&mut uplink, Duration::ZERO, Duration::from_secs(60));
    let announced = |out: &Outgoing| matches!(out, Outgoing::Arp(arp) if arp.sender == ip);
    assert!(sent.iter().any(announced));
    assert_eq!(uplink.wanted().addresses[0].ip, ip);
}

/// Runs against a server that gives `address`; gives the kinds of what the client said.
fn serve(uplink: &mut Uplink, address: Ipv4Addr, from: Now, until: Now) -> Vec<Kind> {
    let (mut now, mut said) = (from, Vec::new());
    loop {
        while let Some(outgoing) = uplink.transmit() {
            let Outgoing::Dhcp(transmit) = outgoing else {
                continue;
            };
            let asked = Message::parse(&transmit.message).expect("our own message");
            let kind = asked.kind().expect("our own kind");
            said.push(kind);
            let answer = match kind {
                Kind::Discover => Kind::Offer,
                Kind::Request => Kind::Ack,
                _ => continue,
            };
            let answer = Message {
                reply: true,
                yours: address,
                options: Options::of(answer)
                    .with(message::SERVER, &[10, 0, 0, 1])
                    .with(message::ROUTER, &[10, 0, 0, 1])
                    .with(message::LEASE_TIME, &3600u32.to_be_bytes()),
                ..asked
            };
            uplink.receive_dhcp(now, &answer.encode());
        }
        match uplink.deadline() {
            Some(at) if at <= until => {
                now = now.max(at);
                uplink.tick(now);
            }
            _ => return said,
        }
    }
}

fn has(sender_mac: Mac, sender: Ipv4Addr) -> Arp {
    Arp {
        request: false,
        sender_mac,
        sender,
        target: Ipv4Addr::UNSPECIFIED,
    }
}

const TAKEN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const FREE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 8);
const OTHER: Mac = [2, 0, 0, 0, 0, 2];

#[test]
fn an_address_of_another_host_is_used_at_once_but_declined_and_replaced() {
    let mut uplink = Uplink::new(MAC, None, Random::new(1));
    uplink.carrier(Duration::ZERO, true);
    let soon = Duration::from_millis(100);
    serve(&mut uplink, TAKEN, Duration::ZERO, soon);
    assert_eq!(uplink.wanted().addresses[0].ip, TAKEN);
    assert!(uplink.needs().arp, "it asks who has it");

    uplink.receive_arp(soon, &has(OTHER, TAKEN));
    assert_eq!(uplink.wanted(), Wanted::default());
    assert!(
        uplink
            .problem()
            .is_some_and(|problem| problem.contains("10.0.0.7"))
    );
    let said = serve(&mut uplink, FREE, soon, Duration::from_secs(9));
    assert_eq!(said, [Kind::Decline], "then ten seconds of silence");
    let said = serve(&mut uplink, FREE, soon, Duration::from_secs(30));
    assert_eq!(said, [Kind::Discover, Kind::Request]);
    assert_eq!(uplink.wanted().addresses[0].ip, FREE);
    assert_eq!((uplink.problem(), uplink.needs().arp), (None, false));
}

#[test]
fn another_link_of_the_box_is_no_other_host() {
    let mut uplink = Uplink::new(MAC, None, Random::new(1));
    uplink.know_own(&[MAC, OTHER]);
    uplink.carrier(Duration::ZERO, true);
    let soon = Duration::from_millis(100);
    serve(&mut uplink, TAKEN, Duration::ZERO, soon);
    uplink.receive_arp(soon, &has(OTHER, TAKEN));
    assert_eq!(uplink.wanted().addresses[0].ip, TAKEN);
}

#[test]
fn whoever_disputes_every_address_is_answered_ever_less() {
    let mut uplink = Uplink::new(MAC, None, Random::new(1));
    uplink.carrier(Duration::ZERO, true);
    let (mut now, mut declined) = (Duration::ZERO, 0);
    while now < Duration::from_secs(3600) {
        let said = serve(&mut uplink, TAKEN, now, now);
        declined += said.iter().filter(|kind| **kind == Kind::Decline).count();
        uplink.receive_arp(now, &has(OTHER, TAKEN));
        now += Duration::from_millis(500);
        uplink.tick(now);
    }
    assert!((5..20).contains(&declined), "{declined} in an hour");
    assert!(
        uplink
            .wanted()
            .addresses
            .iter()
            .any(|a| a.ip.is_link_local())
    );
}

#[test]
fn a_gateway_that_is_gone_makes_the_box_ask_whether_this_still_is_its_network() {
    let mut uplink = Uplink::new(MAC, None, Random::new(1));
    uplink.carrier(Duration::ZERO, true);
    let said = serve(&mut uplink, FREE, Duration::ZERO, Duration::from_secs(32));
    assert_eq!(said, [Kind::Discover, Kind::Request]);
    let from = Duration::from_secs(32);
    let said = serve(&mut uplink, FREE, from, Duration::from_secs(34));
    assert_eq!(said, [Kind::Request], "and the server confirms it");
    assert_eq!(uplink.wanted().addresses[0].ip, FREE);
    let problem = uplink.problem().expect("it is told");
    assert!(problem.contains("10.0.0.1"), "{problem}");

    // Silent for good, it does not keep the DHCP server busy.
    let from = Duration::from_secs(34);
    let said = serve(&mut uplink, FREE, from, Duration::from_secs(1700));
    assert!((3..8).contains(&said.len()), "{said:?}");

    let router = has(OTHER, Ipv4Addr::new(10, 0, 0, 1));
    while !uplink.needs().arp {
        let now = uplink.deadline().expect("it goes on");
        uplink.tick(now);
    }
    uplink.receive_arp(Duration::from_secs(1700), &router);
    assert_eq!(uplink.problem(), None);
}
