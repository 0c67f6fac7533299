//! Helpers: short-lived processes for whatever may hang in the kernel. PID 1 starts one, goes on,
//! and takes its answer when it ends, or does without it when its time is up.

use std::{
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};
use supervise::{
    cgroup::Cgroup,
    control::Limits,
    spawn::{Child, Schedule},
    unit::Exit,
};

use super::{
    Pid1,
    start::{Program, new_cgroup},
};

/// A helper under way.
#[derive(Debug)]
pub(super) struct Job {
    /// What it is for.
    pub purpose: Purpose,
    pub(super) child: Child,
    pub(super) cgroup: Cgroup,
    pub(super) answer: Option<OwnedFd>,
    /// When it is given up; a shell never is.
    pub(super) give_up_at: Option<Duration>,
}

impl Job {
    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.pid
    }
}

/// What a helper is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// Loads the drivers of all devices.
    Coldplug,
    /// Reads the `keep` partition.
    KeepRead,
    /// Writes it.
    KeepWrite,
    /// Loads the drivers of devices that came later.
    Modalias,
    /// Mounts data, after making its file system if it is new.
    MountData,
    /// Mounts the root (stage 0).
    MountRoot,
    /// Writes a little to data and asks how much is free.
    ProbeData,
    /// Loads the kernel's own watchdog, for want of a hardware one.
    Softdog,
    /// Unmounts data.
    UnmountData,
    /// Verifies and tries a file that is to be PID 1.
    Upgrade,
    /// A shell on the console; whoever asked is told of its end.
    /// It does not outlive PID 1's crash, as the console that waits for it does not.
    /// The last: variants after a skipped one are read by other numbers than they are written by.
    #[serde(skip)]
    Shell(SyncSender<Result<(), String>>),
    /// Looks at a secret that somebody typed on the emergency page. Whoever asked asks a successor
    /// of PID 1 again.
    #[serde(skip)]
    Verify {
        /// The front's number for it.
        id: u64,
        /// Who typed it.
        from: IpAddr,
    },
}

impl Purpose {
    /// Whether a successor of PID 1 has any use for it.
    pub(super) fn outlives_a_crash(&self) -> bool {
        !matches!(self, Self::Shell(_) | Self::Verify { .. })
    }
}

impl Pid1 {
    /// Starts a helper with `args`; its one line of answer comes to [`Pid1::job_done`].
    pub(super) fn start_job(&mut self, purpose: Purpose, args: &[&str], patience: Duration) {
        self.start_job_with(purpose, args, patience, None);
    }

    /// The same with something to read on standard input.
    pub(super) fn start_job_with(
        &mut self,
        purpose: Purpose,
        args: &[&str],
        patience: Duration,
        input: Option<OwnedFd>,
    ) {
        let input: Vec<_> = input.iter().map(|input| (input, INPUT_FD)).collect();
        self.start_job_within(purpose, args, patience, &input, None);
    }

    /// The same with these descriptors at their numbers, and with limits of its own.
    pub(super) fn start_job_within(
        &mut self,
        purpose: Purpose,
        args: &[&str],
        patience: Duration,
        fds: &[(&OwnedFd, i32)],
        limits: Option<&Limits>,
    ) {
        // A helper that can't be started would look like a disk that is gone.
        self.spares.give();
        let spawned = self.spawn_helper(args, fds, limits);
        self.spares.take();
        match spawned {
            Ok((child, cgroup, answer)) => {
                let give_up_at = Some(super::now() + patience);
                self.jobs.push(Job {
                    purpose,
                    child,
                    cgroup,
                    answer: Some(answer),
                    give_up_at,
                });
                self.hand_on();
            }
            Err(why) => self.job_done(purpose, Err(why)),
        }
    }

    /// Starts a shell on a terminal.
    pub(super) fn start_shell(&mut self, tty: &OwnedFd, reply: SyncSender<Result<(), String>>) {
        self.helpers_started += 1;
        let group = format!("pilot/shell-{}", self.helpers_started);
        self.spares.give();
        let spawned = new_cgroup(&group).and_then(|cgroup| {
            let folder = cgroup.open().map_err(|e| e.to_string())?;
            let child = supervise::spawn::Command {
                program: "/usr/bin/busybox",
                args: vec!["sh".to_owned(), "-i".to_owned()],
                env: SHELL_ENVIRONMENT.map(str::to_owned).to_vec(),
                fds: vec![(tty.as_fd(), 0), (tty.as_fd(), 1), (tty.as_fd(), 2)],
                user: None,
                cgroup: Some(folder.as_fd()),
                controlling_tty: true,
                oom_score_adj: 0,
                schedule: Schedule::default(),
                no_new_privs: false,
            };
            Ok((child.spawn().map_err(|e| e.to_string())?, cgroup))
        });
        self.spares.take();
        match spawned {
            Ok((child, cgroup)) => {
                let purpose = Purpose::Shell(reply);
                self.jobs.push(Job {
                    purpose,
                    child,
                    cgroup,
                    answer: None,
                    give_up_at: None,
                });
            }
            Err(why) => {
                let _ = reply.try_send(Err(why));
            }
        }
    }

    /// Takes the answer of a helper that ended. Returns whether `pid` was one.
    pub(super) fn job_ended(&mut self, pid: u32, exit: Exit) -> bool {
        let Some(at) = self.jobs.iter().position(|job| job.child.pid == pid) else {
            return false;
        };
        let job = self.jobs.swap_remove(at);
        // What it may have left behind (mkfs, a background shell job) ends with it.
        let _ = job.cgroup.kill();
        self.empty_groups.push(job.cgroup);
        let answer = job.answer.as_ref().map(read_answer).unwrap_or_default();
        let result = match job.child.exit(exit) {
            Exit::Code(0) => Ok(answer),
            Exit::Code(_) if !answer.is_empty() => Err(answer),
            other => Err(format!("the helper ended with {other}")),
        };
        self.job_done(job.purpose, result);
        true
    }

    /// Gives up helpers whose time is up. One that hangs in the kernel stays behind, counted.
    pub(super) fn give_up_jobs(&mut self, now: Duration) {
        while let Some(at) = self
            .jobs
            .iter()
            .position(|job| job.give_up_at.is_some_and(|at| now >= at))
        {
            let job = self.jobs.swap_remove(at);
            let _ = job.cgroup.kill();
            let _ = job.child.signal(rustix::process::Signal::KILL);
            self.empty_groups.push(job.cgroup);
            self.left_behind.push(job.child.pid);
            supervise::warning!("a helper ({:?}) was given up", job.purpose);
            self.job_done(job.purpose, Err("it did not end in time".to_owned()));
        }
    }

    /// When the next helper is given up.
    pub(super) fn next_give_up(&self) -> Option<Duration> {
        self.jobs.iter().filter_map(|job| job.give_up_at).min()
    }

    fn spawn_helper(
        &mut self,
        args: &[&str],
        given: &[(&OwnedFd, i32)],
        limits: Option<&Limits>,
    ) -> Result<(Child, Cgroup, OwnedFd), String> {
        self.helpers_started += 1;
        let cgroup = new_cgroup(&format!("pilot/helpers/{}", self.helpers_started))?;
        if let Some(limits) = limits {
            cgroup.limit(limits).map_err(|e| e.to_string())?;
        }
        let (answer, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|e| e.to_string())?;
        let mut fds = vec![(write.as_fd(), ANSWER_FD)];
        fds.extend(given.iter().map(|(fd, number)| (fd.as_fd(), *number)));
        let mut all = vec!["pilot-helper", "helper"];
        all.extend(args);
        let log = Arc::clone(&self.helper_log.write);
        let child = self.spawn(&Program {
            path: &self.program,
            args: &all,
            user: None,
            oom_score_adj: 0,
            schedule: Schedule::default(),
            log: log.as_fd(),
            fds,
            cgroup: &cgroup,
        })?;
        Ok((child, cgroup, answer))
    }
}

/// The pipe holds the whole answer: its writer has ended, and it never waited for room.
fn read_answer(pipe: &OwnedFd) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = rustix::io::read(pipe, &mut piece) {
        text.extend_from_slice(&piece[..n]);
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// On which a helper writes its answer.
const ANSWER_FD: i32 = 4;
/// On which a helper reads what it is to work on.
pub(super) const INPUT_FD: i32 = 0;

const SHELL_ENVIRONMENT: [&str; 4] = [
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/run",
    "TERM=vt102",
    "PS1=(shell) # ",
];

#[cfg(test)]
mod tests {
    use super::Purpose;

    #[test]
    fn what_a_helper_is_for_is_read_as_it_was_written() {
        for purpose in [
            Purpose::Coldplug,
            Purpose::Softdog,
            Purpose::UnmountData,
            Purpose::Upgrade,
        ] {
            let bytes = postcard::to_stdvec(&purpose).unwrap();
            let read: Purpose = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{purpose:?}"));
        }
    }
}
