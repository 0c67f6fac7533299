//! What PID 1's crash must not cost: the address that it has from a DHCP server, and what others
//! have open there.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use boards::web::{Session, Trust};
use tests::{
    native::{Native, UPLINK},
    netns::{Dnsmasq, Machine, until},
};

use crate::{crash, roles};

#[test]
fn a_connection_to_a_leased_address_outlives_crashes() -> Result<()> {
    if let Some(why) = tests::netns::lacks() {
        println!("SKIPPED: a_connection_to_a_leased_address_outlives_crashes: {why}");
        return Ok(());
    }
    let native = Native::start("leased")?;
    let router = Machine::new("router")?;
    native.machine().cable(UPLINK, &router, "lan0")?;
    router.run("ip addr add 192.168.50.1/24 dev lan0")?;
    router.run("ip link set lan0 up")?;
    let server = Dnsmasq::start(&router, "lan0", "")?;
    let address = leased(&native)?;
    let trust = native.authority()?;
    let before = roles(&native)?;
    let link = format!("ip -d link show dev {UPLINK}");
    let private = |seen: String| seen.contains("addrgenmode stable_secret");
    ensure!(
        private(native.machine().run(&link)?),
        "it got a lease before its IPv6 addresses were of its secret"
    );

    let monitor = native.machine().watch("ip -4 monitor address route")?;
    let over = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let client = scope.spawn(|| router.within(|| ask_all_the_while(address, &trust, &over)));
        let crashed = CRASHES.iter().try_for_each(|(kind, thread)| {
            crash(&native, kind, thread)?;
            router.within(|| answers(&mut session(address, &trust)?))
        });
        over.store(true, Ordering::Release);
        let asked = client.join().expect("the client does not panic");
        crashed.and(asked)
    })?;
    println!("{asked} answers over one connection");
    // The last successor has had its say as well.
    until(PATIENCE, || server.said("DHCPREQUEST(lan0)") >= 2)
        .context("the lease is not asked about")?;
    let seen = monitor.end();
    ensure!(
        !seen.contains("Deleted"),
        "an address or route was gone: {seen}"
    );
    ensure!(!server.was_asked_anew(), "{}", server.log());
    ensure!(before == roles(&native)?, "a role was started again");
    Ok(())
}

/// Waits until the box has an address, with its route.
pub(crate) fn leased(native: &Native) -> Result<Ipv4Addr> {
    let mut found = None;
    until(PATIENCE, || {
        let show = |what: &str| native.machine().run(what).unwrap_or_default();
        let text = show(&format!("ip -4 addr show dev {UPLINK}"));
        let text = text.split_whitespace().skip_while(|word| *word != "inet");
        let address = text
            .skip(1)
            .find_map(|word| word.split('/').next()?.parse().ok());
        let route = show("ip route show default").contains("192.168.50.1");
        found = address.filter(|_| route);
        found.is_some()
    })
    .context("the box gets no lease")?;
    found.context("found above")
}

/// Over one connection, which must not break.
fn ask_all_the_while(address: Ipv4Addr, trust: &Trust, over: &AtomicBool) -> Result<u32> {
    let mut session = session(address, trust)?;
    let mut asked = 0;
    while !over.load(Ordering::Acquire) || asked == 0 {
        answers(&mut session).with_context(|| format!("after {asked} answers"))?;
        asked += 1;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(asked)
}

fn session(address: Ipv4Addr, trust: &Trust) -> Result<Session> {
    Session::to((address, 443).into(), "demo.localhost", trust, PATIENCE)
}

fn answers(session: &mut Session) -> Result<()> {
    let response = session.get("/", PATIENCE)?;
    ensure!(response.status == 200, "status {}", response.status);
    Ok(())
}

const CRASHES: [(&str, &str); 6] = [
    ("segv", "main"),
    ("abort", "net"),
    ("overflow", "net"),
    ("alloc", "guard"),
    ("segv", "net"),
    ("segv", "console"),
];

/// On a machine where everything else runs too.
const PATIENCE: Duration = Duration::from_secs(120);
