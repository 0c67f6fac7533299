//! Stalls of the manager, natively: the box answers all the while, and the manager comes back.

use std::{
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use boards::web::{self, Trust};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use supervise::spawn::Schedule;
use tests::{
    native::{Native, UPLINK},
    netns::{Machine, until},
    owner::{self, Owner},
    stalls::KINDS,
};

#[test]
fn the_box_comes_up_in_name_spaces_and_its_console_answers() -> Result<()> {
    let native = Native::start("up")?;
    let since = native.console().len();
    native.type_line("guard")?;
    native.expect(since, "held back", PATIENCE)?;
    ensure!(native.role("manager")? != native.role("front")?);
    Ok(())
}

#[test]
fn every_stall_is_cured_and_no_request_is_lost() -> Result<()> {
    rows().map(|_| ())
}

#[test]
#[ignore = "measures, which wants a machine that does nothing else; takes six minutes"]
fn a_stall_slows_no_request() -> Result<()> {
    let rounds = [rows()?, rows()?, rows()?];
    let mut slowed = Vec::new();
    for (at, kind) in KINDS.iter().enumerate() {
        let mut ratios = rounds.each_ref().map(|rows| rows[at].slower());
        ratios.sort_by(f64::total_cmp);
        println!("{kind:<20} p99 {:.2} x the unstalled", ratios[1]);
        if ratios[1] > 2.0 {
            slowed.push(format!("{kind}: {ratios:.2?}"));
        }
    }
    ensure!(slowed.is_empty(), "{slowed:?}");
    Ok(())
}

/// One stall of each kind, printed as they come.
fn rows() -> Result<Vec<Row>> {
    println!(
        "{:<20} {:>8} {:>9} {:>8} {:>8} {:>8}  cured by",
        "kind", "silence", "detected", "total", "p99", "p99 else"
    );
    let row = |kind: &&str| {
        let row = stall(kind).with_context(|| format!("stall {kind}"))?;
        println!("{kind:<20} {row}");
        Ok(row)
    };
    KINDS.iter().map(row).collect()
}

#[test]
fn hard_work_on_a_loaded_box_is_no_stall() -> Result<()> {
    let native = Native::start("load")?;
    native.fault("honest-load")?;
    let _load = Load::begin();
    thread::sleep(Duration::from_secs(30));
    nobody_was_replaced(&native)
}

#[test]
#[ignore = "takes ten minutes"]
fn ten_minutes_on_a_loaded_box_raise_no_alarm() -> Result<()> {
    let native = Native::start("long")?;
    let _load = Load::begin();
    thread::sleep(TEN_MINUTES);
    nobody_was_replaced(&native)
}

#[test]
#[ignore = "takes ten minutes"]
fn ten_minutes_with_a_twentieth_of_a_cpu_raise_no_alarm() -> Result<()> {
    let native = Native::start("quota")?;
    native.limit_cpu("manager", 5)?;
    let end = Instant::now() + TEN_MINUTES;
    while Instant::now() < end {
        // Now and then it has something to do.
        native.call("box.status", &json!({}), PATIENCE)?;
        thread::sleep(Duration::from_millis(500));
    }
    nobody_was_replaced(&native)
}

#[test]
fn a_manager_that_keeps_failing_is_held_back_and_says_why() -> Result<()> {
    let native = Native::start("loop")?;
    let trust = native.authority()?;
    let said = "stopped working too often";
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Without an answer while it is away, which is as it should be.
                let _ = native.call("fault.inject", &json!({ "kind": "condvar" }), ANSWER);
                thread::sleep(Duration::from_millis(200));
            }
        });
        let told = until(PATIENCE * 4, || native.console().contains(said))
            .context("it is never held back")
            .and_then(|()| {
                // Only while it is held back.
                until(PATIENCE * 4, || {
                    let page = native.get(&trust, "localhost", "/emergency");
                    page.is_ok_and(|page| page.text().contains(said))
                })
                .context("the emergency page does not say why")
            });
        over.store(true, Ordering::Relaxed);
        told
    })?;
    ensure!(native.get(&trust, "demo.localhost", "/")?.status == 200);
    Ok(())
}

/// The owner's way in when nothing but PID 1 and the front works: the manager is stopped again and
/// again, whatever the guard does about it.
#[test]
fn an_owner_gets_in_and_restarts_the_manager_while_it_is_stopped() -> Result<()> {
    let native = Native::start("owner")?;
    let (trust, code) = (native.authority()?, native.setup_code()?);
    without_manager(&native, || look_around(&native, &trust, &code))?;
    let before = managers_generation(&native, &trust)?;
    native.machine().within(|| {
        let owner = Owner::enter(443, &trust, &code)?;
        owner.act("restart-manager")?;
        owner.act("out")?;
        ensure!(owner.page()?.status == 303, "it is still in");
        Ok(())
    })?;
    until(PATIENCE * 4, || {
        managers_generation(&native, &trust).is_ok_and(|now| now > before)
            && native.call("box.status", &json!({}), ANSWER).is_ok()
    })
    .context("the manager does not come back")?;
    wrong_codes_are_throttled(&native, &trust)
}

/// What is wrong with the network, when nothing but PID 1 and the front works: for the owner on the
/// emergency page, and for whoever sits at the console.
#[test]
fn what_is_wrong_with_the_network_is_told_with_manager_and_data_gone() -> Result<()> {
    let native = Native::start("findings")?;
    let (trust, code) = (native.authority()?, native.setup_code()?);
    let router = Machine::new("router")?;
    native.machine().cable(UPLINK, &router, "lan0")?;
    router.run("ip link set lan0 up")?;
    for folder in ["packages", "services", "pilot"] {
        fs::remove_dir_all(native.path(&format!("/data/{folder}"))?)?;
    }
    without_manager(&native, || {
        let wait = |told: &'static str| {
            native.machine().within(|| {
                let owner = Owner::enter(443, &trust, &code)?;
                until(PATIENCE, || {
                    let page = owner.page();
                    page.is_ok_and(|page| page.text().contains(told))
                })
                .with_context(|| format!("the owner is not told {told:?}"))
            })
        };
        wait("<li>cable (works): up0: a cable is there")?;
        router.run("ip link set lan0 down")?;
        wait("<li>cable (broken): up0: no cable")?;
        let page = native.get(&trust, "localhost", "/emergency")?.text();
        ensure!(!page.contains("up0"), "strangers are told: {page}");
        let since = native.console().len();
        native.type_line("net status")?;
        native.expect(since, "up0: no cable", PATIENCE)
    })
}

/// Does something while the manager is stopped again and again, whatever the guard does about it.
fn without_manager(native: &Native, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let manager = native.role("manager").ok();
                let pid = manager.and_then(|pid| Pid::from_raw(pid.cast_signed()));
                let _ = pid.map(|pid| kill_process(pid, Signal::STOP));
                thread::sleep(Duration::from_millis(20));
            }
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}

/// While the manager is silent: what anyone and what the owner can see.
fn look_around(native: &Native, trust: &Trust, code: &str) -> Result<()> {
    let mut last = Ok(Value::Null);
    until(PATIENCE, || {
        last = heartbeat(native, trust);
        last.as_ref()
            .is_ok_and(|beat| beat["manager"]["silentMs"].is_u64())
    })
    .with_context(|| format!("the heartbeat does not tell of the silence: {last:?}"))?;
    let page = native.get(trust, "localhost", "/emergency")?.text();
    ensure!(
        page.contains("/emergency/in") && !page.contains("<pre>"),
        "{page}"
    );
    native.machine().within(|| {
        let owner = Owner::enter(443, trust, code)?;
        let page = owner.page()?.text();
        ensure!(
            page.contains("Last messages") && page.contains("The manager was"),
            "{page}"
        );
        Ok(())
    })
}

fn wrong_codes_are_throttled(native: &Native, trust: &Trust) -> Result<()> {
    native.machine().within(|| {
        let mut answers = Vec::new();
        while answers.last() != Some(&429) {
            let answer = owner::knock(443, trust, "aaaaa-aaaaa")?;
            ensure!([403, 429].contains(&answer.status), "{}", answer.text());
            answers.push(answer.status);
            // On a machine so slow that a minute holds less than five of them, this would go on.
            ensure!(answers.len() < 50, "{answers:?}");
        }
        ensure!(answers.len() > 5, "throttled too early: {answers:?}");
        Ok(())
    })
}

fn managers_generation(native: &Native, trust: &Trust) -> Result<u64> {
    let beat = heartbeat(native, trust)?;
    let generation = beat["manager"]["generation"].as_u64();
    generation.with_context(|| format!("{beat}"))
}

/// What open dashboards are told by the door.
fn heartbeat(native: &Native, trust: &Trust) -> Result<Value> {
    let answer = native.get(trust, "localhost", "/heartbeat")?;
    Ok(serde_json::from_slice(&answer.body)?)
}

#[test]
fn a_manager_without_its_first_thread_is_replaced_though_nothing_is_silent() -> Result<()> {
    let native = Native::start("first")?;
    let before = native.role("manager")?;
    native.fault("first")?;
    until(PATIENCE * 2, || {
        let report = native.guard(ANSWER).unwrap_or_default();
        let events = report["events"].as_array().cloned().unwrap_or_default();
        events.iter().any(|event| {
            let why = event["why"].as_str().unwrap_or_default();
            event["replaced"] == true && why.contains("first thread")
        })
    })
    .context("nobody sees that its first thread is gone")?;
    ensure!(native.role("manager")? != before, "it is the same one");
    Ok(())
}

/// What came of one stall.
struct Row {
    silence: Duration,
    detected: Duration,
    total: Duration,
    p99: Duration,
    p99_before: Duration,
    cured_by: String,
}

impl Row {
    /// The requests' p99 in parts of what it was before.
    fn slower(&self) -> f64 {
        self.p99.div_duration_f64(self.p99_before)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "{:>5.0} ms {:>6.0} ms {:>5.0} ms {:>5.1} ms {:>5.1} ms  {}",
            ms(&self.silence),
            ms(&self.detected),
            ms(&self.total),
            ms(&self.p99),
            ms(&self.p99_before),
            self.cured_by
        )
    }
}

fn stall(kind: &str) -> Result<Row> {
    let native = Native::start("stall")?;
    let trust = native.authority()?;
    let over = AtomicBool::new(false);
    let quiet = thread::scope(|scope| {
        let client = scope.spawn(|| requests(native.machine(), &trust, &over));
        thread::sleep(UNSTALLED);
        over.store(true, Ordering::Relaxed);
        client.join().expect("the client did not panic")
    })?;
    over.store(false, Ordering::Relaxed);
    let answers = Answers::default();
    let (cured, busy) = thread::scope(|scope| {
        let client = scope.spawn(|| requests(native.machine(), &trust, &over));
        scope.spawn(|| answers.collect(&native, &over));
        let began = Instant::now();
        let cured = native
            .fault(kind)
            .and_then(|()| cured(&native, &answers, began));
        // The client is to see the time after it as well.
        thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        (cured, client.join().expect("the client did not panic"))
    });
    let (busy, cured) = (busy?, cured?);
    Ok(Row {
        p99: p99(busy),
        p99_before: p99(quiet),
        ..cured
    })
}

/// Waits until the guard has replaced the manager and the new one has answered.
fn cured(native: &Native, answers: &Answers, began: Instant) -> Result<Row> {
    let (instant, boottime) = (Instant::now(), boottime());
    let began_at = boottime - (instant - began);
    let mut event = Value::Null;
    until(PATIENCE * 2, || {
        let report = native.guard(ANSWER).unwrap_or_default();
        let events = report["events"].as_array().cloned().unwrap_or_default();
        let replaced = |event: &&Value| event["replaced"] == true && event["role"] == "manager";
        event = events.iter().find(replaced).cloned().unwrap_or_default();
        event.is_object()
    })
    .context("the manager was not replaced, or its successor does not answer")?;
    let total = began.elapsed();
    ensure!(
        event["threads"]
            .as_array()
            .is_some_and(|all| !all.is_empty()),
        "there is no evidence: {event}"
    );
    Ok(Row {
        silence: answers.longest_gap(began),
        detected: Duration::from_millis(event["atMs"].as_u64().unwrap_or_default())
            .saturating_sub(began_at),
        total,
        p99: Duration::ZERO,
        p99_before: Duration::ZERO,
        cured_by: format!("replace: {}", event["why"].as_str().unwrap_or_default()),
    })
}

/// When the API answered.
#[derive(Default)]
struct Answers(Mutex<Vec<Instant>>);

impl Answers {
    fn collect(&self, native: &Native, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            if native.call("box.status", &json!({}), SHORT).is_ok() {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(Instant::now());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn longest_gap(&self, began: Instant) -> Duration {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.iter().copied().chain([Instant::now()]);
        let mut last = began;
        let gaps = times.map(|at| {
            let gap = at.saturating_duration_since(last);
            last = at.max(began);
            gap
        });
        gaps.max().unwrap_or_default()
    }
}

/// Asks the service and the health page in turn, each on a connection of its own, until it is over.
/// All must be answered.
fn requests(machine: &Machine, trust: &Trust, over: &AtomicBool) -> Result<Vec<Duration>> {
    machine.within(|| {
        OF_ANOTHER_MACHINE
            .take()
            .context("only root can test this")?;
        let mut took = Vec::new();
        while !over.load(Ordering::Relaxed) {
            for (host, path) in [("demo.localhost", "/"), ("localhost", "/health")] {
                let began = Instant::now();
                let response = web::https(443, host, path, trust, PATIENCE)
                    .with_context(|| format!("https://{host}{path}"))?;
                ensure!(response.status == 200, "{host}: {}", response.text());
                took.push(began.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(took)
    })
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * 99 / 100;
    times.get(at).copied().unwrap_or_default()
}

fn nobody_was_replaced(native: &Native) -> Result<()> {
    let report = native.guard(PATIENCE)?;
    for role in ["manager", "front", "logd"] {
        let counts = &report["counts"][role];
        ensure!(counts["replaced"] == 0, "{role} was replaced: {report:#}");
        println!("{role}: {counts}");
    }
    Ok(())
}

/// Threads that use every core, more than there are.
struct Load(std::sync::Arc<AtomicBool>);

impl Load {
    fn begin() -> Self {
        let over = std::sync::Arc::<AtomicBool>::default();
        for _ in 0..2 * thread::available_parallelism().map_or(2, usize::from) {
            let over = over.clone();
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(over)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// The client stands for another machine, which is not slow when the box is busy.
const OF_ANOTHER_MACHINE: Schedule = Schedule {
    nice: -20,
    slice: Some(Duration::from_micros(100)),
};
const UNSTALLED: Duration = Duration::from_secs(2);
/// Of one question to the API: what is longer is a gap.
const SHORT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);
const TEN_MINUTES: Duration = Duration::from_secs(600);
