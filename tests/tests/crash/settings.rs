//! A change of the network's settings locks nobody out: a wrong one is undone by PID 1's own clock,
//! a right one is kept by whoever reaches the box at its new address; also with the manager stopped
//! in between, and with PID 1 executed anew.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use boards::web::{self, Response, Trust};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::{
    native::{Native, UPLINK},
    netns::{Dnsmasq, Machine, until},
};

use crate::{crash, network::leased};

#[test]
fn a_wrong_address_is_undone_and_a_right_one_kept() -> Result<()> {
    test("settings", |_| Ok(()))
}

#[test]
fn a_wrong_address_is_undone_and_a_right_one_kept_with_the_manager_stopped() -> Result<()> {
    test("settings-stop", |native| {
        let manager = Pid::from_raw(native.role("manager")?.cast_signed()).context("a pid")?;
        Ok(kill_process(manager, Signal::STOP)?)
    })
}

#[test]
fn a_wrong_address_is_undone_and_a_right_one_kept_over_a_crash_of_pid_1() -> Result<()> {
    test("settings-crash", |native| crash(native, "segv", "main"))
}

/// The whole story, with `meanwhile` between each change and what comes of it.
fn test(name: &str, meanwhile: impl Fn(&Native) -> Result<()>) -> Result<()> {
    if let Some(why) = tests::netns::lacks() {
        println!("SKIPPED: {name}: {why}");
        return Ok(());
    }
    let lab = Lab::new(name)?;
    let old = leased(&lab.native)?;
    lab.is_undone(old, &meanwhile)
        .context("a wrong address, set instead of a leased one")?;
    let old = leased(&lab.native)?;
    lab.is_kept(old, &meanwhile).context("a right address")?;
    lab.is_undone(RIGHT, &meanwhile)
        .context("a wrong address, set instead of a fixed one")?;
    ensure!(
        lab.reach(RIGHT, "/health")?.status == 200,
        "what was kept is not in force"
    );
    Ok(())
}

/// The box, and a client in its network.
struct Lab {
    native: Native,
    client: Machine,
    trust: Trust,
    code: String,
    _server: Dnsmasq,
}

impl Lab {
    fn new(name: &str) -> Result<Self> {
        let native = Native::start(name)?;
        let client = Machine::new("client")?;
        native.machine().cable(UPLINK, &client, "lan0")?;
        client.run("ip addr add 192.168.50.1/24 dev lan0")?;
        client.run("ip link set lan0 up")?;
        let server = Dnsmasq::start(&client, "lan0", "")?;
        Ok(Self {
            trust: native.authority()?,
            code: native.setup_code()?,
            native,
            client,
            _server: server,
        })
    }

    /// A box at `old` gets an address where nobody finds it, and is back at the old one.
    fn is_undone(&self, old: Ipv4Addr, meanwhile: &dyn Fn(&Native) -> Result<()>) -> Result<()> {
        let seen = self.native.machine().watch("ip -4 monitor address")?;
        let wrong = json!({
            "link": UPLINK, "mode": "static", "address": "192.168.99.5/24",
            "gateway": "192.168.99.1", "seconds": 10,
        });
        let taken = self.set(old, wrong)?;
        meanwhile(&self.native)?;
        let has = |text: &str, said: &str| said.lines().any(|line| line.contains(text));
        until(PATIENCE, || has("192.168.99.5/24", &seen.so_far()))
            .context("the change does not come into force")?;
        until(PATIENCE, || {
            let said = seen.so_far();
            said.lines()
                .any(|line| line.contains("Deleted") && line.contains("192.168.99.5/24"))
        })
        .with_context(|| format!("nobody undoes it: {}", seen.so_far()))?;
        let seen = seen.end();
        let gone = seen
            .lines()
            .any(|line| line.contains("Deleted") && line.contains(&format!("inet {old}/")));
        ensure!(gone, "it was reachable all the while: {seen}");
        // A leased address may be another one now.
        until(PATIENCE, || {
            let now = if old == RIGHT {
                Ok(old)
            } else {
                leased(&self.native)
            };
            now.is_ok_and(|now| self.is_reachable(now))
        })
        .context("it is not reachable again")?;
        let late = self.confirm(self.address(old)?, &taken["token"])?;
        ensure!(late.status == 409, "{}: {}", late.status, late.text());
        ensure!(late.text().contains("too late"), "{}", late.text());
        Ok(())
    }

    /// A box at `old` gets another good address, and its client keeps it.
    fn is_kept(&self, old: Ipv4Addr, meanwhile: &dyn Fn(&Native) -> Result<()>) -> Result<()> {
        let right = json!({
            "link": UPLINK, "mode": "static", "address": format!("{RIGHT}/24"),
            "gateway": "192.168.50.1", "dns": ["192.168.50.1"], "seconds": 600,
        });
        let taken = self.set(old, right)?;
        let urls = taken["urls"].to_string();
        ensure!(
            urls.contains(&format!("https://{RIGHT}/net/confirm/")),
            "{urls}"
        );
        let another = json!({ "link": UPLINK, "mode": "automatic" });
        let refused = self.native.call("net.set", &another, PATIENCE);
        ensure!(
            refused
                .as_ref()
                .is_err_and(|why| format!("{why:#}").contains("still waits")),
            "two changes at a time: {refused:?}"
        );
        meanwhile(&self.native)?;
        until(PATIENCE, || self.is_reachable(RIGHT)).context("it is not at its new address")?;
        let token = taken["token"].as_str().context("a token")?;
        let page = self.reach(RIGHT, &format!("/net/confirm/{token}"))?;
        ensure!(
            page.status == 200 && page.text().contains("Keep these settings"),
            "{}: {}",
            page.status,
            page.text()
        );
        let wrong = self.confirm(RIGHT, &json!("0".repeat(32)))?;
        ensure!(wrong.status == 403, "{}: {}", wrong.status, wrong.text());
        meanwhile(&self.native)?;
        for _ in 0..2 {
            let kept = self.confirm(RIGHT, &taken["token"])?;
            ensure!(kept.status == 200, "{}: {}", kept.status, kept.text());
        }
        // The manager may be a new one by now.
        until(PATIENCE, || {
            let status = self.native.call("net.status", &json!({}), PATIENCE);
            status.is_ok_and(|status| {
                let link = &status["links"][0];
                status["change"].is_null()
                    && link["setting"]["mode"] == "static"
                    && link["addresses"].to_string().contains(&RIGHT.to_string())
            })
        })
        .context("it is not settled")
    }

    fn set(&self, at: Ipv4Addr, params: Value) -> Result<Value> {
        let mut outcome = None;
        // A manager that was stopped is being replaced.
        until(PATIENCE * 2, || {
            let call = ("net.set", params.clone());
            let code = Some(self.code.as_str());
            let set = || web::call_at((at, 443).into(), &self.trust, code, call, PATIENCE);
            let set = self.client.within(set);
            let is_replaced = |why: &anyhow::Error| format!("{why:#}").contains("status 50");
            let goes_on = set.as_ref().is_err_and(is_replaced);
            outcome = Some(set);
            !goes_on
        })
        .with_context(|| format!("no manager takes it: {outcome:?}"))?;
        outcome.context("asked above")?
    }

    fn confirm(&self, at: Ipv4Addr, token: &Value) -> Result<Response> {
        let body = format!("token={}", token.as_str().context("a token")?);
        let request = format!(
            "POST /net/confirm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.say(at, &request, PATIENCE)
    }

    fn reach(&self, at: Ipv4Addr, path: &str) -> Result<Response> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.say(at, &request, ANSWER)
    }

    fn is_reachable(&self, at: Ipv4Addr) -> bool {
        self.reach(at, "/health")
            .is_ok_and(|answer| answer.status == 200)
    }

    /// Where a box is that was at `old` before.
    fn address(&self, old: Ipv4Addr) -> Result<Ipv4Addr> {
        if old == RIGHT {
            Ok(old)
        } else {
            leased(&self.native)
        }
    }

    fn say(&self, at: Ipv4Addr, request: &str, patience: Duration) -> Result<Response> {
        let address = SocketAddr::from((at, 443));
        let say = || web::say_to(address, "localhost", request, &self.trust, patience);
        self.client.within(say)
    }
}

/// Outside of what the DHCP server gives.
const RIGHT: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 240);
/// For one answer, which may never come.
const ANSWER: Duration = Duration::from_secs(20);
/// On a machine where everything else runs too.
const PATIENCE: Duration = Duration::from_secs(120);
