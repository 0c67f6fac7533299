//! How long the box takes to boot and what it weighs: medians of several boots in QEMU.
//!
//! `cargo bench -p tests --bench boot -- [BOOTS]`. Times are the guest's own
//! (seconds since its kernel began); under emulation its clock keeps the host's pace, so they tell
//! how boots compare on one machine, not how long a board takes.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use boards::{artifacts::Artifacts, web::Trust};
use tests::vm::Vm;

fn main() -> Result<()> {
    // Cargo hands `--bench` over to every benchmark.
    let boots = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let boots: usize = boots.unwrap_or(5);
    let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
    for number in 1..=boots {
        for (name, value) in measure().with_context(|| format!("boot {number}"))? {
            match rows.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => rows.push((name, vec![value])),
            }
        }
    }
    println!(
        "{:<44} {:>10} {:>10} {:>10}",
        "medians of boots", "median", "least", "most"
    );
    for (name, mut values) in rows {
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        println!(
            "{name:<44} {:>10.2} {least:>10.2} {most:>10.2}",
            values[values.len() / 2]
        );
    }
    sizes()
}

/// One boot: names of figures and their values.
fn measure() -> Result<Vec<(&'static str, f64)>> {
    let mut vm = Vm::boot("bench")?;
    let mut figures = milestones(&mut vm)?;
    figures.extend(memory(&mut vm)?);
    Ok(figures)
}

fn milestones(vm: &mut Vm) -> Result<Vec<(&'static str, f64)>> {
    let mut trust = None;
    let health = when(|| {
        trust = vm.authority().ok();
        let trust = trust.as_ref()?;
        vm.get(trust, "localhost", "/health")
            .ok()
            .map(|answer| answer.status)
    })?;
    let trust: Trust = trust.context("the box has no authority")?;
    let ask = |host| vm.get(&trust, host, "/").ok().map(|answer| answer.status);
    let dashboard = when(|| ask("localhost"))?;
    let service = when(|| ask("demo.localhost"))?;

    let epoch = epoch(vm)?;
    let since = |event: Instant| event.saturating_duration_since(epoch).as_secs_f64();
    let log = vm.shell("dmesg")?;
    let pid_1 =
        stamp(&log, "as init process").context("the kernel does not say when it began PID 1")?;
    let since_said = vm.said().len();
    vm.type_line("boot")?;
    let steps = vm.expect(since_said, "watchdog", Duration::from_secs(30))?;
    let address = end_of_step(&steps, "network").context("the box has no address")?;
    Ok(vec![
        ("kernel to PID 1, s", pid_1),
        ("PID 1 to network address, s", address - pid_1),
        ("PID 1 to health page, s", since(health) - pid_1),
        ("PID 1 to dashboard, s", since(dashboard) - pid_1),
        ("PID 1 to the service's page, s", since(service) - pid_1),
    ])
}

/// When `ask` first gave 200.
fn when(mut ask: impl FnMut() -> Option<u16>) -> Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    while ask() != Some(200) {
        anyhow::ensure!(Instant::now() < deadline, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Instant::now())
}

/// When the guest's clock began, on ours: the latest that its own words allow.
fn epoch(vm: &mut Vm) -> Result<Instant> {
    let mut earliest: Option<Instant> = None;
    for _ in 0..3 {
        let text = vm.shell("cat /proc/uptime")?;
        let now = Instant::now();
        let uptime = text
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .next()
            .context("no uptime")?;
        let began = now
            .checked_sub(Duration::from_secs_f64(uptime))
            .context("no such time")?;
        earliest = Some(earliest.map_or(began, |known| known.min(began)));
    }
    earliest.context("no uptime")
}

/// The time stamp of the first line of the kernel's log that holds `words`, in seconds.
fn stamp(log: &str, words: &str) -> Option<f64> {
    let line = log.lines().find(|line| line.contains(words))?;
    let (_, rest) = line.split_once('[')?;
    rest.split_once(']')?.0.trim().parse().ok()
}

/// When a step of the boot was done, in seconds, from the console's `boot`.
fn end_of_step(steps: &str, name: &str) -> Option<f64> {
    let line = steps
        .lines()
        .find(|line| line.contains(&format!("] {name} ")))?;
    let (began, rest) = line.split_once('[')?.1.split_once(']')?;
    let after = rest.split_once("done in")?.1.split_whitespace().next()?;
    Some(began.trim().parse::<f64>().ok()? + after.parse::<f64>().ok()?)
}

/// Resident memory of the roles, and what the whole box uses, in MiB.
fn memory(vm: &mut Vm) -> Result<Vec<(&'static str, f64)>> {
    let mut figures = Vec::new();
    for (name, pid) in [
        ("PID 1, MiB resident", "1"),
        ("front, MiB resident", "$(pidof pilot-front)"),
        ("manager, MiB resident", "$(pidof pilot-manager)"),
        ("logd, MiB resident", "$(pidof pilot-logd)"),
    ] {
        let text = vm.shell(&format!("grep ^Rss: /proc/{pid}/smaps_rollup"))?;
        figures.push((
            name,
            kib(&text, "Rss:").with_context(|| format!("{name}: {text}"))?,
        ));
    }
    let text = vm.shell("cat /proc/meminfo")?;
    let total = kib(&text, "MemTotal:").context("no MemTotal")?;
    let free = kib(&text, "MemAvailable:").context("no MemAvailable")?;
    figures.push(("the whole box uses, MiB", total - free));
    Ok(figures)
}

/// A figure in KiB from a file of /proc, as MiB.
fn kib(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with(name))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

fn sizes() -> Result<()> {
    let artifacts = Artifacts::shared()?;
    for (name, file) in [
        ("init, MiB", &artifacts.init),
        ("initramfs, MiB", &artifacts.initramfs),
        ("root, MiB", &artifacts.root),
    ] {
        let bytes = fs::metadata(file)?.len();
        println!("{name:<44} {:>10.2}", bytes as f64 / (1024.0 * 1024.0));
    }
    Ok(())
}

/// For one milestone of a boot, under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
