//! What `main` keeps over reboots and how: the `keep` partition through its helper, and the watch
//! over data.

use std::time::Duration;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use supervise::status::DataState;

use super::{Pid1, jobs::Purpose};
use crate::{boot::Action, helper::answer};

impl Pid1 {
    /// Has the `keep` partition written. One write at a time: another is made after it if the
    /// content changed meanwhile.
    pub(super) fn write_keep(&mut self) {
        if !self.keep_is_there {
            return;
        }
        if self.keep_write.is_some() {
            self.keep_write = Some(Written::AndChanged);
            return;
        }
        match drivers::block::partition_by_label(std::path::Path::new("/sys"), "pilot-keep") {
            Ok(partition) => {
                self.keep_write = Some(Written::AsItIs);
                self.start_keep_write(&partition.node().to_string_lossy());
            }
            Err(e) => supervise::warning!("the keep partition can't be written: {e}"),
        }
    }

    fn start_keep_write(&mut self, device: &str) {
        self.raise_floor(super::now());
        self.keep.network = self.changes.kept();
        self.keep.general = self.changes.general.clone();
        let mut seed = vec![0; 32];
        if rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::NONBLOCK).is_ok() {
            self.keep.seed = seed;
        }
        match memfd(&self.keep.to_bytes()) {
            Ok(input) => self.start_job_with(
                Purpose::KeepWrite,
                &["keep", "write", "--device", device],
                WRITE_PATIENCE,
                Some(input),
            ),
            Err(e) => {
                self.keep_write = None;
                supervise::warning!("the keep partition can't be written: {e}");
            }
        }
    }

    /// The writer has ended.
    pub(super) fn keep_was_written(&mut self, well: bool) {
        if let Some(Written::AndChanged) = self.keep_write.take() {
            self.write_keep();
        }
        if self.keep_write.is_none() {
            self.answer_confirmations(well);
        }
    }

    /// Data was mounted.
    pub(super) fn data_mounted(&mut self, answer: &str) {
        self.data_was_mounted = true;
        match serde_json::from_str::<answer::Data>(answer) {
            Ok(data) => {
                for note in data.notes {
                    supervise::info!("data: {note}");
                }
                self.data_is(DataState::Mounted {
                    total: data.total,
                    free: data.free,
                });
            }
            Err(e) => supervise::error!("the helper's answer does not parse: {e}"),
        }
        self.step_done(Action::Data);
    }

    /// Now and then asks data for a sign of life; one question at a time.
    pub(super) fn watch_data(&mut self, now: Duration) {
        if !self.data_was_mounted || self.going_down() {
            return;
        }
        match self.data_asked {
            Some(since) if self.data_hangs(now.saturating_sub(since)) => {
                let silence = Duration::from_secs(now.saturating_sub(since).as_secs());
                if self.data != DataState::Hanging(silence) {
                    if !matches!(self.data, DataState::Hanging(_)) {
                        supervise::error!("the data disk does not answer");
                    }
                    self.data = DataState::Hanging(silence);
                    self.changed();
                }
            }
            Some(_) => {}
            None if now >= self.ask_data_at => {
                self.data_asked = Some(now);
                self.start_job(Purpose::ProbeData, &["probe-data"], NEVER);
            }
            None => {}
        }
    }

    /// Whether so long a silence is the disk's: a question that has not got a CPU yet is no evidence.
    fn data_hangs(&self, silence: Duration) -> bool {
        let hung = matches!(self.data, DataState::Hanging(_));
        silence >= DATA_HANGS_AFTER
            && (hung || silence >= DATA_HANGS_FOR_SURE || self.probe_waits_for_disk())
    }

    fn probe_waits_for_disk(&self) -> bool {
        let mut jobs = self.jobs.iter();
        let probe = jobs.find(|job| matches!(job.purpose, Purpose::ProbeData));
        probe.is_some_and(|job| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", job.pid()));
            // The state follows the name, which may hold anything (proc_pid_stat(5)).
            stat.is_ok_and(|stat| {
                let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
                rest.trim_start().starts_with('D')
            })
        })
    }

    /// Data answered.
    pub(super) fn data_was_probed(&mut self, result: Result<String, String>, now: Duration) {
        self.data_asked = None;
        self.ask_data_at = now + ASK_DATA_EVERY;
        let answer = result.and_then(|answer| {
            serde_json::from_str::<answer::Probe>(&answer).map_err(|e| e.to_string())
        });
        match answer {
            Ok(probe) => {
                self.reserve_is(probe.reserve_is_given);
                self.data = DataState::Mounted {
                    total: probe.total,
                    free: probe.free,
                };
            }
            Err(why) => {
                supervise::error!("data can't be written: {why}");
                self.data = DataState::Absent(why);
            }
        }
    }

    fn reserve_is(&mut self, given: bool) {
        match (self.reserve_is_given, given) {
            (false, true) => supervise::error!("data is full: its reserve was given back"),
            (true, false) => supervise::info!("data has room again: its reserve was made anew"),
            (true, true) | (false, false) => {}
        }
        self.reserve_is_given = given;
    }
}

/// A write of `keep` under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Written {
    /// What is being written is what there is.
    AsItIs,
    /// What there is has changed since.
    AndChanged,
}

/// A file in memory that a helper can read from its beginning.
pub(super) fn memfd(bytes: &[u8]) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let fd = rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC)?;
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::pwrite(&fd, &bytes[at..], at as u64)?;
    }
    Ok(fd)
}

const WRITE_PATIENCE: Duration = Duration::from_secs(20);
/// A healthy disk answers a small write well within this.
const DATA_HANGS_AFTER: Duration = Duration::from_secs(3);
/// Whatever the process that asks is doing.
const DATA_HANGS_FOR_SURE: Duration = Duration::from_secs(60);
const ASK_DATA_EVERY: Duration = Duration::from_secs(5);
/// The question itself shows how long the disk hangs; it is withdrawn only by its answer.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);
