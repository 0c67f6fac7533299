//! Starting a process: one `clone3`, into its control group, with nothing but what is listed.
//!
//! Never waits for the child: whether `execve` worked is read when the child has ended, since a
//! disk that hangs would otherwise hold PID 1 with it. The child gets an empty signal mask, default
//! dispositions, a session of its own, and of all descriptors only those listed.

use std::{
    ffi::CString,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{io::Errno, pipe::PipeFlags};

pub use sys::sched::Schedule;

use crate::{fork, unit::Exit};

/// What to start, and with what.
#[derive(Debug)]
pub struct Command<'a> {
    /// Path of the program, found from the root.
    pub program: &'a str,
    /// Its arguments, the program's own name first.
    pub args: Vec<String>,
    /// Its whole environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Its descriptors: ours, and the number each gets. All others are closed.
    pub fds: Vec<(BorrowedFd<'a>, i32)>,
    /// Whom it runs as; `None` leaves it root.
    pub user: Option<User>,
    /// The folder of the control group it starts in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether descriptor 0 is a terminal that becomes its controlling one.
    pub controlling_tty: bool,
    /// How willingly the kernel kills it when memory is short: -1000 (never) to 1000.
    pub oom_score_adj: i16,
    /// Its place among those that want a CPU. Best effort: only root may go before its parent.
    pub schedule: Schedule,
    /// Whether it and its children can gain privileges by executing a file.
    pub no_new_privs: bool,
}

/// A user id with its group; no supplementary groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A process that was started.
#[derive(Debug)]
pub struct Child {
    /// Its pid.
    pub pid: u32,
    /// Names it for certain, also after the pid was given to another.
    pub pidfd: OwnedFd,
    /// Holds the `errno` of a failed start, once it has ended.
    pub start_error: OwnedFd,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A string holds a NUL byte.
    #[error("{program} can't be started: an argument holds a NUL byte")]
    Nul {
        /// The program.
        program: String,
    },
    /// The kernel refused.
    #[error("{program} can't be started: {what}: {errno}")]
    Kernel {
        /// The program.
        program: String,
        /// Which step.
        what: &'static str,
        /// Its errno.
        errno: Errno,
    },
}

impl Command<'_> {
    /// Starts it. Returns as soon as the kernel made the process; see [`Child::exit`].
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        let nul = || SpawnError::Nul {
            program: self.program.to_owned(),
        };
        let kernel = |what| {
            move |errno| SpawnError::Kernel {
                program: self.program.to_owned(),
                what,
                errno,
            }
        };
        let strings = |list: &[String]| {
            list.iter()
                .map(|s| CString::new(s.as_str()))
                .collect::<Result<Vec<_>, _>>()
        };
        let program = CString::new(self.program).map_err(|_| nul())?;
        let args = strings(&self.args).map_err(|_| nul())?;
        let env = strings(&self.env).map_err(|_| nul())?;
        let (start_error, report) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                .map_err(kernel("no pipe"))?;
        let (pid, pidfd) = fork::fork_exec(&fork::Image {
            program: &program,
            args: &args,
            env: &env,
            command: self,
            report: &report,
        })
        .map_err(kernel("clone3"))?;
        Ok(Child {
            pid,
            pidfd,
            start_error,
        })
    }
}

impl Child {
    /// How it ended, given what the reaper said: tells a program that ended from one that never
    /// came to be.
    pub fn exit(&self, reaped: Exit) -> Exit {
        let mut errno = [0; 4];
        match rustix::io::read(&self.start_error, &mut errno) {
            Ok(4) => Exit::NotStarted(i32::from_ne_bytes(errno)),
            _ => reaped,
        }
    }

    /// Sends it a signal, and never another process that got its pid.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<(), Errno> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::fd::AsFd as _,
        sync::Mutex,
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, WaitId, WaitIdOptions};

    use super::*;

    fn command<'a>(args: &[&str], fds: Vec<(BorrowedFd<'a>, i32)>) -> Command<'a> {
        Command {
            program: "/bin/sh",
            args: args.iter().map(|s| (*s).to_owned()).collect(),
            env: vec!["GREETING=hello".to_owned()],
            fds,
            user: None,
            cgroup: None,
            controlling_tty: false,
            oom_score_adj: 0,
            schedule: Schedule::default(),
            no_new_privs: true,
        }
    }

    /// Waits for this child alone, with a deadline: other tests have children of their own.
    fn wait(child: &Child) -> Exit {
        let pid = Pid::from_raw(child.pid.cast_signed()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if let Some(status) = rustix::process::waitid(WaitId::Pid(pid), options).unwrap() {
                let exit = status
                    .exit_status()
                    .map(Exit::Code)
                    .or(status.terminating_signal().map(Exit::Signal));
                return child.exit(exit.unwrap());
            }
            assert!(Instant::now() < deadline, "the child does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn output_of(script: &str) -> (String, Exit) {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let child = command(&["sh", "-c", script], vec![(write.as_fd(), 1)])
            .spawn()
            .unwrap();
        drop(write);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        (text, wait(&child))
    }

    #[test]
    fn a_child_has_its_environment_and_tells_its_exit_code() {
        assert_eq!(
            output_of("echo $GREETING; exit 7"),
            ("hello\n".to_owned(), Exit::Code(7))
        );
    }

    #[test]
    fn a_child_has_no_descriptor_that_was_not_listed() {
        static KEEP: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
        let leaky = rustix::io::dup(std::io::stderr()).unwrap();
        KEEP.lock().unwrap().push(leaky);
        let (text, _) = output_of("ls /proc/self/fd");
        // `ls` itself opens the folder.
        assert!(text.split_whitespace().count() <= 2, "{text}");
    }

    #[test]
    fn descriptors_that_trade_places_arrive_right() {
        let (read_a, write_a) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (read_b, write_b) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        use std::os::fd::AsRawFd as _;
        let (a, b) = (write_a.as_raw_fd(), write_b.as_raw_fd());
        let script = format!("echo to-a >&{b}; echo to-b >&{a}");
        let fds = vec![(write_a.as_fd(), b), (write_b.as_fd(), a)];
        let child = command(&["bash", "-c", &script], fds);
        let child = Command {
            program: "/bin/bash",
            ..child
        }
        .spawn()
        .unwrap();
        drop((write_a, write_b));
        assert_eq!(wait(&child), Exit::Code(0));
        for (read, expected) in [(read_a, "to-a\n"), (read_b, "to-b\n")] {
            let mut text = String::new();
            std::fs::File::from(read).read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_one_that_failed() {
        let mut missing = command(&["x"], vec![]);
        missing.program = "/does/not/exist";
        assert_eq!(
            wait(&missing.spawn().unwrap()),
            Exit::NotStarted(Errno::NOENT.raw_os_error())
        );
    }

    #[test]
    fn signals_are_at_their_defaults() {
        let (text, _) = output_of("grep -E 'Sig(Blk|Ign)' /proc/self/status");
        assert!(
            text.lines().all(|line| line.ends_with("0000000000000000")),
            "{text}"
        );
    }

    #[test]
    fn a_signal_ends_it() {
        let child = command(&["sh", "-c", "sleep 60"], vec![]).spawn().unwrap();
        child.signal(rustix::process::Signal::KILL).unwrap();
        assert_eq!(wait(&child), Exit::Signal(9));
    }
}
