//! What `/proc` says of PID 1, as far as a successor has to be like a fresh boot.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{native::Native, netns::until};

/// PID 1 as `/proc` shows it, without what differs from moment to moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Likeness {
    status: Vec<String>,
    /// By name: policy, priorities, signal masks, affinity.
    threads: Vec<String>,
    /// What is open, each with how many there are.
    open: BTreeMap<String, u32>,
    mappings: usize,
}

impl Likeness {
    /// Of a box that has come to rest: twice the same.
    pub(crate) fn settled(native: &Native) -> Result<Self> {
        let mut last = Self::default();
        until(PATIENCE, || {
            let now = Self::at_rest(native).unwrap_or_default();
            std::mem::replace(&mut last, now.clone()) == now && now != Self::default()
        })
        .with_context(|| format!("PID 1 does not come to rest: {last:#?}"))?;
        Ok(last)
    }

    /// Waits until PID 1 is like this again.
    pub(crate) fn await_likeness(&self, native: &Native) -> Result<()> {
        let mut now = Self::default();
        let like = until(PATIENCE, || {
            now = Self::at_rest(native).unwrap_or_default();
            // Where the allocator puts its arenas differs a little from run to run.
            let mappings = now.mappings.abs_diff(self.mappings) <= MAPPINGS_MAY_DIFFER;
            now.mappings = if mappings {
                self.mappings
            } else {
                now.mappings
            };
            now == *self
        });
        ensure!(
            like.is_ok(),
            "PID 1 is not what it was:\n{now:#?}\nbefore:\n{self:#?}"
        );
        Ok(())
    }

    /// What is always there: the guard opens and closes its probe all the time.
    fn at_rest(native: &Native) -> Result<Self> {
        let mut least = Self::now(native)?;
        for _ in 0..LOOKS {
            std::thread::sleep(BETWEEN_LOOKS);
            let now = Self::now(native)?;
            for (kind, count) in &mut least.open {
                *count = now.open.get(kind).copied().unwrap_or(0).min(*count);
            }
            least.threads = now.threads;
            least.status = now.status;
            least.mappings = least.mappings.min(now.mappings);
        }
        least.open.retain(|_, count| *count > 0);
        Ok(least)
    }

    fn now(native: &Native) -> Result<Self> {
        let proc = format!("/proc/{}", native.pid1()?);
        let status = fs::read_to_string(format!("{proc}/status"))?;
        let mut threads = Vec::new();
        for task in fs::read_dir(format!("{proc}/task"))?.flatten() {
            threads.push(thread(&task.path())?);
        }
        threads.sort();
        let mut open = BTreeMap::new();
        for fd in fs::read_dir(format!("{proc}/fd"))?.flatten() {
            // It may be closed meanwhile.
            let Ok(target) = fs::read_link(fd.path()) else {
                continue;
            };
            let target = target.to_string_lossy().into_owned();
            // Sockets and pipes have a number each.
            let kind = target.split('[').next().unwrap_or_default().to_owned();
            let kind = match target.strip_prefix("anon_inode:") {
                Some(name) => name.to_owned(),
                None => kind,
            };
            *open.entry(kind).or_insert(0) += 1;
        }
        let mappings = fs::read_to_string(format!("{proc}/maps"))?.lines().count();
        Ok(Self {
            status: lines(&status, &STATUS),
            threads,
            open,
            mappings,
        })
    }
}

fn thread(task: &std::path::Path) -> Result<String> {
    let read = |name| fs::read_to_string(task.join(name));
    let (name, status, stat) = (read("comm")?, read("status")?, read("stat")?);
    let masks = lines(&status, &THREAD).join(" ");
    let (_, fields) = stat.rsplit_once(')').context("a stat line")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    // proc_pid_stat(5): 18 priority, 19 nice, 40 rt_priority, 41 policy; the third is first here.
    let scheduling: Vec<_> = [18, 19, 40, 41]
        .iter()
        .filter_map(|field| fields.get(field - 3).copied())
        .collect();
    let slack = fs::read_to_string(task.join("timerslack_ns")).unwrap_or_default();
    Ok(format!(
        "{} {scheduling:?} {masks} {}",
        name.trim_end(),
        slack.trim_end()
    ))
}

fn lines(text: &str, wanted: &[&str]) -> Vec<String> {
    let wanted = |line: &&str| wanted.iter().any(|name| line.starts_with(name));
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().filter(wanted).map(squeezed).collect()
}

const STATUS: [&str; 22] = [
    "Name:",
    "Umask:",
    "Uid:",
    "Gid:",
    "FDSize:",
    "Groups:",
    "NSpid:",
    "VmLck:",
    "VmPin:",
    "Threads:",
    "SigPnd:",
    "ShdPnd:",
    "SigBlk:",
    "SigIgn:",
    "SigCgt:",
    "CapInh:",
    "CapPrm:",
    "CapEff:",
    "CapBnd:",
    "CapAmb:",
    "NoNewPrivs:",
    "Seccomp",
];
const THREAD: [&str; 6] = [
    "SigBlk:",
    "SigIgn:",
    "SigCgt:",
    "SigPnd:",
    "Cpus_allowed:",
    "Mems_allowed_list:",
];
const LOOKS: u32 = 12;
/// Out of step with what is done every tenth of a second.
const BETWEEN_LOOKS: Duration = Duration::from_millis(37);
const MAPPINGS_MAY_DIFFER: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);
