//! PID 1 outlives its own crash, natively: same pid, same children, no connection fails.
//!
//! Between two faults each test waits until the successor says that it has taken over whole
//! (`/run/pilot/succession`), never for a time: a signal that is sent between `execve` and the
//! handlers' arming is dropped by the kernel, as for any init without a handler.

mod client;
mod likeness;
mod logging;
mod network;
mod reserves;
mod settings;
mod signs;
mod succession;
mod sweep;
mod upgrade;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::{native::Native, netns::until};

use self::{client::Client, likeness::Likeness, succession::Succession};

#[test]
fn every_crash_in_every_thread_is_outlived() -> Result<()> {
    let native = Native::start("crashes")?;
    let fresh = Likeness::settled(&native)?;
    let roles = roles(&native)?;
    let client = Client::start(&native)?;
    let mut crashes = 0;
    for thread in ["main", "net", "guard", "console"] {
        for kind in [
            "segv", "abort", "overflow", "alloc", "ill", "bus", "fpe", "double",
        ] {
            crash(&native, kind, thread)?;
            crashes += 1;
        }
    }
    crash(&native, "all", "threads")?;
    let failures = client.stop()?;
    ensure!(failures.is_empty(), "clients saw: {failures:?}");
    ensure!(roles == self::roles(&native)?, "a role was started again");
    fresh.await_likeness(&native)?;
    println!("{crashes} crashes outlived");
    Ok(())
}

#[test]
fn a_fault_signal_from_outside_is_outlived_again_and_again() -> Result<()> {
    let native = Native::start("outside")?;
    let fresh = Likeness::settled(&native)?;
    let roles = roles(&native)?;
    let pid = Pid::from_raw(native.pid1()?.cast_signed()).context("a pid")?;
    for _ in 0..10 {
        let before = Succession::of(&native)?;
        kill_process(pid, Signal::SEGV)?;
        before.await_successor(&native)?;
        succession::forgive(&native)?;
    }
    ensure!(roles == self::roles(&native)?, "a role was started again");
    fresh.await_likeness(&native)
}

#[test]
fn too_many_crashes_end_in_a_mode_that_does_less_and_still_answers() -> Result<()> {
    let native = Native::start("toofast")?;
    let roles = roles(&native)?;
    let client = Client::start(&native)?;
    let mut now = Succession::of(&native)?;
    ensure!(!now.is_safe, "it begins in safe mode: {now:?}");
    let mut crashes = 0;
    // On a busy machine some lie too far apart to count.
    while !now.is_safe && crashes < 20 {
        succession::inject(&native, "segv", "main")?;
        now = now.await_successor(&native)?;
        crashes += 1;
    }
    ensure!(now.is_safe, "{crashes} crashes change nothing: {now:?}");
    let failures = client.stop()?;
    ensure!(failures.is_empty(), "clients saw: {failures:?}");
    ensure!(roles == self::roles(&native)?, "a role was started again");
    until(PATIENCE, || {
        notices(&native).is_ok_and(|text| text.contains("PID 1 has crashed too often"))
    })
    .with_context(|| format!("the owner is not told: {:?}", notices(&native)))?;
    let said = native.console().len();
    native.type_line("status")?;
    native.expect(said, "front", PATIENCE)
}

#[test]
fn rubbish_in_the_hand_over_costs_the_roles_and_not_pid_1() -> Result<()> {
    let native = Native::start("rubbish")?;
    let before = roles(&native)?;
    let now = Succession::of(&native)?;
    succession::inject(&native, "rubbish", "main")?;
    let now = now.await_successor(&native)?;
    let client = until_up(&native)?;
    let after = roles(&native)?;
    ensure!(
        before.iter().zip(&after).all(|(old, new)| old != new),
        "roles without a book go on: {before:?}, {after:?}"
    );
    // And the next crash is an ordinary one again.
    succession::inject(&native, "segv", "main")?;
    now.await_successor(&native)?;
    let failures = client.stop()?;
    ensure!(failures.is_empty(), "clients saw: {failures:?}");
    ensure!(after == roles(&native)?, "a role was started again");
    Ok(())
}

/// The kernel forwards, whatever PID 1 does; and its successor knows of it without being told.
#[test]
fn forwarded_ports_outlive_a_crash() -> Result<()> {
    let native = Native::start("forwards")?;
    let file = native.path("/data/fault/forwards")?;
    fs::write(
        file,
        "2222 10.77.0.9:80\n22 10.77.0.9:22\n2223 192.0.2.1:80\n",
    )?;
    let rules = || native.machine().run("nft list table inet pilot");
    let is_forwarded =
        || rules().is_ok_and(|rules| rules.contains("tcp dport 2222 dnat ip to 10.77.0.9:80"));
    until(PATIENCE * 2, is_forwarded).context("the port is not forwarded")?;
    let all = rules()?;
    ensure!(
        all.matches("dnat ip to").count() == 1,
        "not the manager's to give: {all}"
    );
    let now = Succession::of(&native)?;
    succession::inject(&native, "segv", "main")?;
    now.await_successor(&native)?;
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        ensure!(is_forwarded(), "it is forwarded no more: {}", rules()?);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn a_thread_that_panics_goes_on_and_one_that_does_nothing_else_is_begun_anew() -> Result<()> {
    let native = Native::start("panics")?;
    let roles = roles(&native)?;
    let now = Succession::of(&native)?;
    succession::inject(&native, "panic", "guard 3")?;
    succession::inject(&native, "panic", "main 3")?;
    // Both still work: `main` obeys, and the guard sees that the front is stopped.
    let front = Pid::from_raw(native.role("front")?.cast_signed()).context("a pid")?;
    kill_process(front, Signal::STOP)?;
    until(PATIENCE, || {
        native
            .role("front")
            .is_ok_and(|pid| pid.cast_signed() != front.as_raw_nonzero().get())
    })
    .context("the guard does not see that the front is stopped")?;
    let same = Succession::of(&native)?;
    ensure!(same == now, "a few panics end a generation: {same:?}");
    succession::inject(&native, "panic", "main 100000")?;
    let next = now.await_successor(&native)?;
    ensure!(next.last.contains("panicked"), "{next:?}");
    ensure!(
        roles[1..] == self::roles(&native)?[1..],
        "a role was started again"
    );
    Ok(())
}

#[test]
fn a_thread_of_pid_1_that_hangs_is_noticed_and_cured() -> Result<()> {
    let native = Native::start("hangs")?;
    let roles = roles(&native)?;
    let client = Client::start(&native)?;
    for thread in ["net", "main"] {
        let now = Succession::of(&native)?;
        succession::inject(&native, "hang", thread)?;
        let next = now.await_successor(&native)?;
        ensure!(
            next.last.contains(&format!("thread {thread} of PID 1 did")),
            "{next:?}"
        );
    }
    let failures = client.stop()?;
    ensure!(failures.is_empty(), "clients saw: {failures:?}");
    ensure!(roles == self::roles(&native)?, "a role was started again");
    Ok(())
}

/// Makes a thread crash and waits for the successor.
fn crash(native: &Native, kind: &str, thread: &str) -> Result<()> {
    let crash = || {
        let before = Succession::of(native)?;
        succession::inject(native, kind, thread)?;
        before.await_successor(native)?;
        succession::forgive(native)
    };
    crash().with_context(|| format!("{kind} in {thread}"))
}

/// The pids of front, manager and logd.
fn roles(native: &Native) -> Result<Vec<u32>> {
    ["front", "manager", "logd"]
        .iter()
        .map(|role| native.role(role))
        .collect()
}

fn notices(native: &Native) -> Result<String> {
    Ok(native
        .call("box.status", &json!({}), Duration::from_secs(10))?
        .to_string())
}

/// Waits until the box answers again, to a client that goes on asking.
fn until_up(native: &Native) -> Result<Client<'_>> {
    let began = std::time::Instant::now();
    loop {
        match Client::start(native) {
            Ok(client) => return Ok(client),
            Err(e) if began.elapsed() > PATIENCE => return Err(e),
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// On a machine where everything else runs too.
const PATIENCE: Duration = Duration::from_secs(120);
