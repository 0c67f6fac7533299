//! The network's settings in the booted box: a wrong address set over the API is undone, a right one
//! is kept by whoever reaches it; with the manager stopped, and with the power cut, in between.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use boards::web::{self, Trust};
use serde_json::{Value, json};
use tests::{kit::Kit, vm::Vm};

use crate::guest;

/// Three boots of one disk.
#[test]
#[ignore = "three boots; not run often enough on a busy machine yet"]
fn settings_are_undone_or_kept_whatever_happens_meanwhile() -> Result<()> {
    let kit = Kit::new("settings")?;
    let mut vm = Vm::of(&kit)?;
    let trust = vm.wait_for_service(BOOT)?;
    let code = vm.setup_code()?;
    let link = link(&vm, &trust)?["name"]
        .as_str()
        .context("a link")?
        .to_owned();
    let wrong = |seconds: u64| {
        json!({
            "link": link, "mode": "static", "address": "192.168.99.5/24", "seconds": seconds,
        })
    };
    for stopped in [false, true] {
        set(&vm, &trust, &code, wrong(30))?;
        if stopped {
            vm.shell("kill -STOP $(pidof pilot-manager)")?;
        }
        is_undone(&mut vm, &trust).with_context(|| format!("manager stopped: {stopped}"))?;
    }

    // Cut off while a wrong one is in force.
    set(&vm, &trust, &code, wrong(600))?;
    guest::eventually("the wrong address is in force", || {
        Ok(vm.shell("ip -4 addr")?.contains("192.168.99.5"))
    })?;
    vm.kill()?;
    let mut vm = Vm::of(&kit)?;
    vm.wait_for_service(BOOT)
        .context("what waited came up with the box")?;
    ensure!(
        mode(&vm, &trust)? == "automatic",
        "{}",
        link_text(&vm, &trust)?
    );
    let status = vm.call(&trust, None, "box.status", json!({}))?.to_string();
    ensure!(status.contains("had not been confirmed"), "{status}");

    // A right one, kept without the manager, and cut off as soon as that is answered.
    let right = json!({
        "link": link, "mode": "static", "address": "10.0.2.15/24", "gateway": "10.0.2.2",
        "dns": ["10.0.2.3"], "seconds": 600,
    });
    let taken = set(&vm, &trust, &code, right)?;
    vm.shell("kill -STOP $(pidof pilot-manager)")?;
    guest::eventually("the change is kept", || {
        Ok(confirm(&vm, &trust, &taken["token"]).is_ok_and(|status| status == 200))
    })?;
    vm.kill()?;
    let vm = Vm::of(&kit)?;
    vm.wait_for_service(BOOT)
        .context("what was kept does not come up")?;
    ensure!(
        mode(&vm, &trust)? == "static",
        "{}",
        link_text(&vm, &trust)?
    );
    vm.kill()
}

pub(crate) fn set(vm: &Vm, trust: &Trust, code: &str, params: Value) -> Result<Value> {
    let mut taken = None;
    // A manager that was stopped is being replaced.
    guest::eventually("the change is taken", || {
        match vm.call(trust, Some(code), "net.set", params.clone()) {
            Ok(answer) => taken = Some(answer),
            Err(e) => println!("net.set: {e:#}"),
        }
        Ok(taken.is_some())
    })?;
    taken.context("taken above")
}

/// The box was at the wrong address, and is at the right one again.
fn is_undone(vm: &mut Vm, trust: &Trust) -> Result<()> {
    guest::eventually("the change is undone", || {
        let log = vm.shell("pilot net status")?;
        Ok(log.contains("so it was undone"))
    })?;
    guest::eventually("the box is reachable again", || {
        let health = vm.get(trust, "localhost", "/health");
        Ok(health.is_ok_and(|answer| answer.status == 200))
    })
}

pub(crate) fn confirm(vm: &Vm, trust: &Trust, token: &Value) -> Result<u16> {
    let body = format!("token={}", token.as_str().context("a token")?);
    let request = format!(
        "POST /net/confirm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Ok(web::say(vm.https_port(), "localhost", &request, trust, ANSWER)?.status)
}

fn link(vm: &Vm, trust: &Trust) -> Result<Value> {
    Ok(vm.call(trust, None, "net.status", json!({}))?["links"][0].take())
}

fn link_text(vm: &Vm, trust: &Trust) -> Result<String> {
    Ok(link(vm, trust)?.to_string())
}

fn mode(vm: &Vm, trust: &Trust) -> Result<String> {
    let mode = link(vm, trust)?["setting"]["mode"].take();
    Ok(mode.as_str().context("a mode")?.to_owned())
}

pub(crate) const BOOT: Duration = Duration::from_secs(900);
/// What is kept is written down first.
const ANSWER: Duration = Duration::from_secs(60);
