//! Every known way to wedge the manager's pool, in the booted box, as counts: all requests are
//! answered, and the guard replaces the manager.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use boards::web::Trust;
use serde_json::{Value, json};
use tests::vm::Vm;

use super::client::Client;
use crate::guest::eventually;

/// Wedges the pool in these ways, one after the other. With `rested`, each meets a manager whose
/// earlier failures are forgotten.
pub(super) fn each_is_cured(
    vm: &mut Vm,
    trust: &Trust,
    kinds: &[&str],
    rested: bool,
) -> Result<()> {
    let code = vm.setup_code()?;
    println!(
        "{:<20} {:>8} {:>8} {:>8}  cured by",
        "kind", "requests", "answered", "detected"
    );
    for kind in kinds {
        let row = stall(vm, trust, &code, kind).with_context(|| format!("stall {kind}"))?;
        println!("{kind:<20} {row}");
        if rested {
            std::thread::sleep(HEALTHY_AFTER);
        }
    }
    Ok(())
}

fn stall(vm: &Vm, trust: &Trust, code: &str, kind: &str) -> Result<String> {
    let before = replaced(vm, trust)?;
    let client = Client::begin(vm, trust, true);
    let injected = vm.call(trust, Some(code), "fault.inject", json!({ "kind": kind }));
    // The answer may be lost with the manager.
    let cured = cured(vm, trust, before).with_context(|| format!("{injected:?}"));
    let seen = client.end()?;
    let event = cured?;
    ensure!(seen.failed.is_empty(), "clients saw {:#?}", seen.failed);
    ensure!(
        seen.took.len() == seen.requests && seen.requests > 0,
        "{seen:?}"
    );
    let threads = event["threads"].as_array().map_or(0, Vec::len);
    ensure!(threads > 0, "there is no evidence: {event}");
    Ok(format!(
        "{:>8} {:>8} {:>5} ms  replace: {}",
        seen.requests,
        seen.took.len(),
        event["silenceMs"].as_u64().unwrap_or_default(),
        event["why"].as_str().unwrap_or_default()
    ))
}

/// Waits until the guard has had the manager replaced, and the new one answers; gives what it saw.
fn cured(vm: &Vm, trust: &Trust, before: u64) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Without an answer while the manager is away, which is as it should be.
        let report = vm
            .call(trust, None, "guard.report", json!({}))
            .unwrap_or_default();
        if count(&report).is_some_and(|count| count > before) {
            let events = report["events"].as_array().cloned().unwrap_or_default();
            let of_manager =
                |event: &&Value| event["replaced"] == true && event["role"] == "manager";
            let latest = events
                .iter()
                .filter(of_manager)
                .max_by_key(|event| event["atMs"].as_u64());
            return latest
                .cloned()
                .context("it was replaced, and nothing is told of it");
        }
        ensure!(
            Instant::now() < deadline,
            "the manager was not replaced: {report}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn replaced(vm: &Vm, trust: &Trust) -> Result<u64> {
    let mut found = None;
    eventually("the guard says what it did", || {
        let report = vm.call(trust, None, "guard.report", json!({}));
        found = report.ok().as_ref().and_then(count);
        Ok(found.is_some())
    })?;
    found.context("found above")
}

fn count(report: &Value) -> Option<u64> {
    report["counts"]["manager"]["replaced"].as_u64()
}

/// What a role has to do for its failures to be forgotten, and a little more.
const HEALTHY_AFTER: Duration = Duration::from_secs(75);
/// On an emulated box of a machine where everything else runs too.
const PATIENCE: Duration = Duration::from_secs(600);
