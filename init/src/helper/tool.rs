//! Running a program of the root (`mkfs.btrfs`, `btrfs`, `dmsetup`) to its end, with a deadline.

use std::{
    fmt,
    fs::File,
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    pipe::PipeFlags,
    process::{Signal, WaitId, WaitIdOptions},
};
use supervise::{
    spawn::{Child, Command, Schedule},
    unit::Exit,
};

use super::HelperError;

/// Runs a program, and returns what it wrote (output and errors, the last 64 KiB).
///
/// # Errors
/// When it can't be started, fails, or does not end within `patience`; then it was killed.
pub(super) fn run(program: &str, args: &[&str], patience: Duration) -> Result<String, HelperError> {
    let path = PLACES
        .iter()
        .map(|place| format!("{place}/{program}"))
        .find(|path| std::path::Path::new(path).exists())
        .unwrap_or_else(|| program.to_owned());
    let command = Command {
        program: &path,
        args: [program]
            .iter()
            .chain(args)
            .map(|arg| (*arg).to_owned())
            .collect(),
        env: vec![format!("PATH={}", PLACES.join(":")), "LC_ALL=C".to_owned()],
        fds: Vec::new(),
        user: None,
        cgroup: None,
        controlling_tty: false,
        oom_score_adj: 0,
        schedule: Schedule::default(),
        no_new_privs: true,
    };
    run_to_end(command, program, patience)
}

/// Runs a command that has no standard streams of its own; `program` is what it is called.
///
/// # Errors
/// As [`run`].
pub(super) fn run_to_end(
    command: Command<'_>,
    program: &str,
    patience: Duration,
) -> Result<String, HelperError> {
    let null = File::open("/dev/null").map_err(HelperError::file("/dev/null", "opened"))?;
    let (mut output, writer) = pipe()?;
    let mut command = command;
    let streams = [(null.as_fd(), 0), (writer.as_fd(), 1), (writer.as_fd(), 2)];
    command.fds.extend(streams);
    let child = command.spawn()?;
    drop(command);
    drop(writer);
    let deadline = Instant::now() + patience;
    let mut text = Vec::new();
    while !wait_for_news(&child, &output, deadline) {
        drain(&mut output, &mut text);
        if Instant::now() >= deadline {
            let _ = child.signal(Signal::KILL);
            return Err(HelperError::ToolTooSlow {
                program: program.to_owned(),
                patience,
            });
        }
    }
    // What it started may write on: that is none of our business.
    while drain(&mut output, &mut text) && Instant::now() < deadline {}
    let output = String::from_utf8_lossy(&text).trim().to_owned();
    match ended(&child) {
        Ended(Exit::Code(0)) => Ok(output),
        ended => Err(HelperError::Tool {
            program: program.to_owned(),
            ended,
            output,
        }),
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(pub Exit);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn pipe() -> Result<(File, OwnedFd), HelperError> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|errno| HelperError::file("a pipe", "made")(errno.into()))?;
    rustix::io::ioctl_fionbio(&reader, true)
        .map_err(|errno| HelperError::file("a pipe", "made non-blocking")(errno.into()))?;
    Ok((File::from(reader), writer))
}

/// Waits for output or the end, at most to the deadline. Whether the program has ended.
fn wait_for_news(child: &Child, output: &File, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    });
    let mut fds = [
        PollFd::new(&child.pidfd, PollFlags::IN),
        PollFd::new(output, PollFlags::IN),
    ];
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => {
            let hung_up = fds[1].revents() == PollFlags::HUP;
            if hung_up && fds[0].revents().is_empty() {
                // It closed its output but goes on: there is nothing more to read, only its end.
                let mut end = [PollFd::new(&child.pidfd, PollFlags::IN)];
                return matches!(poll(&mut end, Some(&timeout)), Ok(1..));
            }
            !fds[0].revents().is_empty()
        }
        Err(_) => false,
    }
}

/// Reads some of what is there, keeping the last part. Whether there was anything.
fn drain(output: &mut File, text: &mut Vec<u8>) -> bool {
    let mut piece = [0; 4096];
    let Ok(length @ 1..) = output.read(&mut piece) else {
        return false;
    };
    text.extend_from_slice(&piece[..length]);
    text.drain(..text.len().saturating_sub(MOST_OUTPUT));
    true
}

fn ended(child: &Child) -> Ended {
    let reaped = loop {
        match rustix::process::waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Ok(Some(status)) => {
                let code = status.exit_status().map(Exit::Code);
                break code.or(status.terminating_signal().map(Exit::Signal));
            }
            Ok(None) | Err(_) => break None,
        }
    };
    // It has ended: its pidfd said so. Only somebody else's `wait` could have taken the code.
    Ended(child.exit(reaped.unwrap_or(Exit::Code(-1))))
}

/// Where the root's programs are.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The end of what a program writes says what is wrong.
const MOST_OUTPUT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(120);

    #[test]
    fn output_and_errors_come_back() {
        assert_eq!(
            run("sh", &["-c", "echo out; echo err >&2"], PATIENCE).unwrap(),
            "out\nerr"
        );
    }

    #[test]
    fn failing_missing_and_endless_programs_are_told_apart() {
        let failed = run("sh", &["-c", "echo no room; exit 3"], PATIENCE).unwrap_err();
        assert_eq!(failed.to_string(), "sh failed (exit code 3): no room");
        let missing = run("no-such-program", &[], PATIENCE).unwrap_err();
        assert!(missing.to_string().contains("not started"), "{missing}");
        let began = Instant::now();
        let endless = run("sleep", &["1000"], Duration::from_millis(100)).unwrap_err();
        assert!(matches!(endless, HelperError::ToolTooSlow { .. }));
        assert!(began.elapsed() < PATIENCE);
    }

    #[test]
    fn much_output_is_cut_at_the_front() {
        let text = run("sh", &["-c", "yes | head -c 300000; echo end"], PATIENCE).unwrap();
        assert!(text.len() <= MOST_OUTPUT && text.ends_with("end"));
    }

    #[test]
    fn a_program_that_closes_its_output_is_still_waited_for() {
        let script = "exec >&- 2>&-; sleep 0.2; exit 5";
        let error = run("sh", &["-c", script], PATIENCE).unwrap_err();
        assert!(
            matches!(
                error,
                HelperError::Tool {
                    ended: Ended(Exit::Code(5)),
                    ..
                }
            ),
            "{error}"
        );
    }
}
