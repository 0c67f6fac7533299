//! How soon after its exec PID 1's box answers over an address from DHCP, and what it weighs, in
//! guest time that a busy host does not stretch; beside busybox init.
//!
//! `cargo bench -p tests --bench boot-anchor -- [ROUNDS] [SYSTEM...]`. QEMU counts an instruction as
//! a nanosecond (`-icount shift=0,sleep=on`) on one virtual processor; the disk is an NVDIMM, so that
//! reading it costs instructions and never a wait for the host. All systems have the same kernel
//! and initramfs, which ends where PID 1 begins. So figures are compared with each other, and not
//! with those of a real machine. What still moves with the host is idle time: the CPU's work is the
//! firm part.
//!
//! Pilotlight answers by HTTPS, with the certificate of its own authority, on its second boot;
//! busybox httpd by HTTP.

mod observer;
mod pcap;
mod run;
mod systems;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use self::{
    observer::Memory,
    run::Figures,
    systems::{Door, Ground, System},
};

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(3);
    let chosen = |name: &str| {
        let mut names = words
            .iter()
            .filter(|word| NAMES.contains(&word.as_str()))
            .peekable();
        names.peek().is_none() || names.any(|word| word == name)
    };
    let scratch = Scratch::new()?;
    let ground = Ground::lay(&scratch.0)?;
    let mut systems = Vec::new();
    let mut trust = None;
    for name in NAMES.iter().filter(|name| chosen(name)) {
        let system = match *name {
            "pilotlight" => ground.pilotlight(),
            "busybox" => ground.busybox(),
            _ => ground.nothing(),
        }?;
        if system.door == Some(Door::Https) {
            let first = run::first_boot(&ground, &system, &scratch.0);
            trust = Some(first.context("the first boot, which makes data")?);
        }
        systems.push((system, Vec::new()));
    }
    for round in 1..=rounds {
        for (system, figures) in &mut systems {
            let of_boot = || format!("{}, round {round}", system.name);
            let one = run::measure(&ground, system, trust.as_ref(), &scratch.0);
            figures.push(one.with_context(of_boot)?);
        }
    }
    tell(&systems);
    Ok(())
}

fn tell(systems: &[(System, Vec<Figures>)]) {
    println!("medians (least-most); guest ms at one instruction a nanosecond");
    for (system, figures) in systems {
        println!("\n{}", system.name);
        let times: [(&str, Time); 3] = [
            ("exec of PID 1 to the first 200, ms", |f| f.to_answer),
            ("of it work of the CPU, ms", |f| f.work),
            ("exec of PID 1 to the DHCP grant, ms", |f| f.to_grant),
        ];
        for (name, of) in times {
            line(
                name,
                figures
                    .iter()
                    .filter_map(of)
                    .map(|time| time.as_secs_f64() * 1e3),
            );
        }
        let used =
            |f: &Figures| Some(whole(&f.memory, "MemTotal")? - whole(&f.memory, "MemAvailable")?);
        line(
            "the whole machine uses, MiB",
            figures.iter().filter_map(used),
        );
        for name in [
            "Cached",
            "AnonPages",
            "Slab",
            "Shmem",
            "KernelStack",
            "PageTables",
            "Percpu",
        ] {
            let of = |f: &Figures| whole(&f.memory, name);
            line(&format!("  {name}, MiB"), figures.iter().filter_map(of));
        }
        processes(figures);
    }
}

/// Each process of the last boot: resident, its own anonymous part, its share.
fn processes(figures: &[Figures]) {
    let Some(last) = figures.last() else { return };
    println!(
        "{:<38} {:>8} {:>10} {:>8}",
        "  process", "Rss KiB", "Anonymous", "Pss"
    );
    let all = &last.memory.processes;
    for (pid, name, _, rss) in all.iter().filter(|(_, _, figure, _)| figure == "Rss") {
        let of = |figure: &str| {
            let mut own = all.iter().filter(|(other, ..)| other == pid);
            own.find(|(_, _, name, _)| name == figure)
                .map_or(0, |(.., kib)| *kib)
        };
        println!(
            "  {:<36} {rss:>8} {:>10} {:>8}",
            format!("{pid} {}", name.trim_end_matches('_')),
            of("Anonymous"),
            of("Pss")
        );
    }
}

fn whole(memory: &Memory, name: &str) -> Option<f64> {
    let (_, kib) = memory.whole.iter().find(|(known, _)| known == name)?;
    Some(*kib as f64 / 1024.0)
}

fn line(name: &str, values: impl Iterator<Item = f64>) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    if let (Some(least), Some(most)) = (values.first(), values.last()) {
        let median = values[values.len() / 2];
        println!("{name:<38} {median:>8.1} ({least:.1}-{most:.1})");
    }
}

/// One of the times of a boot.
type Time = fn(&Figures) -> Option<Duration>;

/// A folder that goes with us.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("boot-anchor-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NAMES: [&str; 3] = ["pilotlight", "busybox", "nothing"];
