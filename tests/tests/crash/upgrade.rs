//! PID 1 goes over to another binary while the box works, and back from one that is no good.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use s9pk::Key;
use serde_json::{Value, json};
use tests::{
    load::{Load, Target},
    native::{self, Native},
    netns::until,
};

use crate::{client::Client, likeness::Likeness, succession};

#[test]
fn upgrades_there_and_back_cost_no_request() -> Result<()> {
    there_and_back("upgrades", 2)
}

#[test]
#[ignore = "takes minutes: twenty upgrades each way"]
fn twenty_upgrades_each_way_cost_no_request() -> Result<()> {
    there_and_back("upgrades20", 20)
}

#[test]
fn a_binary_that_is_not_what_it_should_be_is_refused_before_anything_changes() -> Result<()> {
    let native = Native::start("refused")?;
    let before = succession::Succession::of(&native)?;
    let good = with_words("never good")?;
    let other = release::seal(&good, &Key::from_seed(&[1; 32]))?;
    let sealed = sealed(&good)?;
    let mut changed = sealed.clone();
    changed[5000] ^= 1;
    let mut foreign = good.clone();
    // e_machine
    foreign[18] ^= 0xff;
    let dynamic = fs::read(std::env::current_exe()?)?;
    let files: [(&str, Vec<u8>); 8] = [
        ("not signed", good),
        ("does not trust", other),
        ("changed after it was signed", changed),
        ("another kind of machine", self::sealed(&foreign)?),
        ("not a static program", self::sealed(&dynamic)?),
        ("no ELF program", self::sealed(b"#!/bin/sh\n")?),
        ("no ELF program", self::sealed(b"")?),
        ("not signed", Vec::new()),
    ];
    for (said, file) in files {
        let outcome = upgraded(&native, &file)?;
        ensure!(outcome["state"] == "refused", "{said}: {outcome}");
        let why = outcome["why"].as_str().unwrap_or_default();
        ensure!(why.contains(said), "{said:?} is not in {why:?}");
    }
    let after = succession::Succession::of(&native)?;
    ensure!(after == before, "PID 1 was executed anew: {after:?}");
    Ok(())
}

#[test]
fn a_binary_that_fails_its_trial_is_refused() -> Result<()> {
    let native = Native::start("trial")?;
    let before = succession::Succession::of(&native)?;
    let client = Client::start(&native)?;
    for kind in ["exit", "segv", "abort", "panic", "hang"] {
        let outcome = upgraded(&native, &sealed(&with_words(&format!("in-trial {kind}"))?)?)?;
        ensure!(outcome["state"] == "refused", "{kind}: {outcome}");
        let why = outcome["why"].as_str().unwrap_or_default();
        ensure!(why.contains("failed its trial"), "{kind}: {why}");
    }
    no_failure(client)?;
    let after = succession::Succession::of(&native)?;
    ensure!(after == before, "PID 1 was executed anew: {after:?}");
    Ok(())
}

#[test]
fn a_binary_that_fails_as_pid_1_is_taken_back() -> Result<()> {
    let native = Native::start("takenback")?;
    let roles = crate::roles(&native)?;
    let client = Client::start(&native)?;
    for (kind, said) in [
        ("exit", "exit"),
        ("segv", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("overflow", "SIGSEGV"),
        ("panic", "panicked"),
        ("hang", "in the time that it had"),
    ] {
        let outcome = upgraded(&native, &sealed(&with_words(&format!("as-pid-1 {kind}"))?)?)?;
        ensure!(outcome["state"] == "fell back", "{kind}: {outcome}");
        let why = outcome["why"].as_str().unwrap_or_default();
        ensure!(why.contains(said), "{kind}: {why}");
        ensure!(
            status(&native)?["program"].is_null(),
            "the root's does not run"
        );
        succession::forgive(&native)?;
    }
    ensure!(
        crate::notices(&native)?.contains("was taken back"),
        "the owner is not told: {}",
        crate::notices(&native)?
    );
    ensure!(roles == crate::roles(&native)?, "a role was started again");
    // And a good one is still taken.
    let outcome = upgraded(&native, &sealed(&with_words("never good")?)?)?;
    ensure!(outcome["state"] == "done", "{outcome}");
    no_failure(client)
}

#[test]
fn a_binary_that_fails_after_it_took_over_is_taken_back() -> Result<()> {
    let native = Native::start("later")?;
    let service = service(&native)?;
    let client = Client::start(&native)?;
    // A thread that hangs is found by the guard, if that is faster than the alarm.
    for (kind, said) in [
        ("segv", ["SIGSEGV"; 2]),
        ("hang", ["did nothing any more", "in the time that it had"]),
    ] {
        let outcome = upgraded(&native, &sealed(&with_words(&format!("in-turn {kind}"))?)?)?;
        ensure!(outcome["state"] == "fell back", "{kind}: {outcome}");
        let why = outcome["why"].as_str().unwrap_or_default();
        ensure!(said.iter().any(|said| why.contains(said)), "{kind}: {why}");
        succession::forgive(&native)?;
    }
    ensure!(service == native.role("monitor")?, "a service ended");
    no_failure(client)
}

/// Goes over to a second binary and back to the first, again and again, under load.
fn there_and_back(name: &str, times: u32) -> Result<()> {
    let native = Native::start(name)?;
    let binaries = [
        sealed(&with_words("never second")?)?,
        sealed(&fs::read(native::init_with_faults()?)?)?,
    ];
    let service = service(&native)?;
    let client = Client::start(&native)?;
    let load = load(&native)?;
    let mut like = None;
    for n in 0..times {
        for binary in &binaries {
            let before = crate::roles(&native)?;
            let outcome = upgraded(&native, binary)?;
            ensure!(outcome["state"] == "done", "upgrade {n}: {outcome}");
            let program = status(&native)?["program"].clone();
            ensure!(program == outcome["program"], "{program} runs");
            ensure!(service == native.role("monitor")?, "a service ended");
            let after = crate::roles(&native)?;
            ensure!(
                before.iter().zip(&after).all(|(old, new)| old != new),
                "a role runs the old binary: {before:?}, {after:?}"
            );
        }
        match &like {
            None => like = Some(Likeness::settled(&native)?),
            Some(like) => like.await_likeness(&native)?,
        }
    }
    let tally = load.end();
    println!("{tally:?}");
    ensure!(
        tally.failed.is_empty(),
        "requests on kept connections failed: {:?}",
        tally.failed
    );
    no_failure(client)
}

/// Requests on connections that are kept, as browsers do: once more if one breaks.
fn load(native: &Native) -> Result<Load> {
    let target = Target {
        port: 443,
        host: "demo.localhost".to_owned(),
        path: "/".to_owned(),
        trust: native.authority()?,
        tries: 2,
    };
    native.machine().within(|| Ok(Load::begin(target, 50)))
}

/// The process of a service that lives, and that is all.
fn service(native: &Native) -> Result<u32> {
    native.fault("service")?;
    until(PATIENCE, || native.role("monitor").is_ok())?;
    native.role("monitor")
}

/// Upgrades, and waits for what comes of it.
fn upgraded(native: &Native, file: &[u8]) -> Result<Value> {
    let count = |status: &Value| status["upgrades"].as_u64().unwrap_or_default();
    let mut before = None;
    until(PATIENCE, || {
        before = status(native).ok().map(|status| count(&status));
        before.is_some()
    })?;
    native.upgrade(file)?;
    let mut last = Value::Null;
    until(PATIENCE, || {
        // The manager is replaced meanwhile.
        last = status(native).unwrap_or_default();
        Some(count(&last)) > before && last["upgrade"]["over"] == true
    })
    .with_context(|| format!("nothing comes of it: {last}"))?;
    Ok(last["upgrade"].take())
}

fn status(native: &Native) -> Result<Value> {
    native.call("init.status", &json!({}), Duration::from_secs(60))
}

fn no_failure(client: Client<'_>) -> Result<()> {
    let failures = client.stop()?;
    ensure!(failures.is_empty(), "clients saw: {failures:?}");
    Ok(())
}

/// PID 1 with words that say how it is to fail, if it is.
fn with_words(words: &str) -> Result<Vec<u8>> {
    let mut program = fs::read(native::init_with_faults()?)?;
    program.extend_from_slice(format!("pilot-fault {words};").as_bytes());
    Ok(program)
}

fn sealed(program: &[u8]) -> Result<Vec<u8>> {
    Ok(release::seal(program, &native::release_key())?)
}

/// On a machine where everything else runs too; a hanging trial alone takes half a minute.
const PATIENCE: Duration = Duration::from_secs(300);
