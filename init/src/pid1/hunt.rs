//! The hunt for partitions that steps wait for: a driver shows them when it has found them, which
//! nothing tells.

use std::{path::Path, time::Duration};

use drivers::block;
use rustix::rand::GetRandomFlags;

use super::{Pid1, jobs::Purpose};
use crate::{boot::Action, cmdline::Data};

impl Pid1 {
    /// Looks for the partitions that steps under way wait for.
    pub(super) fn hunt(&mut self, now: Duration) {
        let hopeless = is_hopeless(self.drivers_done, now);
        for (action, label) in [
            (Action::RootDevice, self.cmdline.slot.partition_label()),
            (Action::Keep, "pilot-keep"),
            (Action::Data, "pilot-data"),
        ] {
            if !self.boot.is_running(action) || self.found.contains(&action) {
                continue;
            }
            match block::partition_by_label(Path::new("/sys"), label) {
                Ok(partition) => {
                    self.found.push(action);
                    self.found_partition(action, &partition.node());
                }
                Err(e) if hopeless => self.step_failed(action, e.to_string()),
                Err(_) => {}
            }
        }
        if self.boot.is_running(Action::Entropy) && has_entropy() {
            self.step_done(Action::Entropy);
        }
    }

    fn found_partition(&mut self, action: Action, device: &Path) {
        let device_text = device.to_string_lossy();
        match action {
            Action::RootDevice => self.step_done(action),
            Action::Keep => {
                let args = ["keep", "read", "--device", &device_text];
                self.start_job(Purpose::KeepRead, &args, KEEP_PATIENCE);
            }
            _ => {
                let mut args = vec!["mount-data", "--device", &device_text];
                if self.cmdline.data == Data::Mapper {
                    args.push("--mapper");
                }
                self.start_job(Purpose::MountData, &args, DATA_PATIENCE);
            }
        }
    }
}

/// Whether what no driver has shown by now will not come any more.
pub(super) fn is_hopeless(drivers_done: Option<Duration>, now: Duration) -> bool {
    drivers_done.is_some_and(|at| now > at.saturating_add(HUNT_PATIENCE))
}

pub(super) fn has_entropy() -> bool {
    rustix::rand::getrandom(&mut [0; 1], GetRandomFlags::NONBLOCK).is_ok()
}

/// After all drivers are loaded; a USB disk takes up to ten seconds to show up.
const HUNT_PATIENCE: Duration = Duration::from_secs(12);
const KEEP_PATIENCE: Duration = Duration::from_secs(10);
/// Making a file system on a large slow disk takes its time.
const DATA_PATIENCE: Duration = Duration::from_secs(170);
