//! The helper role: one short-lived process for each thing that may hang in the kernel.
//!
//! PID 1 starts it with a verb, goes on, and takes its answer when it ends, or does without when
//! its time is up. So a helper may wait for a disk, but not for ever for a program it runs; it
//! keeps no state, and running it twice does no harm.
//!
//! The answer is one line on descriptor 4 (standard output when that is not open): JSON of a type
//! in [`answer`] with exit code 0, or one sentence saying what is wrong with exit code 1. What is
//! worth knowing besides goes to the log.

pub mod answer;
mod btrfs;
pub mod candidate;
mod content;
mod data;
mod disks;
mod error;
mod keep;
mod kmsg;
mod layout;
mod mapper;
mod modules;
mod mounts;
#[cfg(test)]
mod on_loop_devices;
mod probe;
mod reserve;
mod root;
mod slots;
mod tool;
mod unmount;
mod verify;

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

pub use error::HelperError;
use serde::Serialize;
pub use unmount::CLEAN;
pub use verify::Attempt;

/// Does what the first of `args` says:
///
/// | verb | does | answer |
/// |---|---|---|
/// | `mount-data [--mapper] [--device NODE] [--at DIR]` | finds, makes if blank, mounts data | [`answer::Data`] |
/// | `unmount-data [--lazy] [--at DIR]` | writes out and unmounts data | [`answer::Unmounted`] |
/// | `probe-data [--at DIR]` | writes a little to data | [`answer::Probe`] |
/// | `mount-root LABEL DIR` | mounts the read-only root of a slot | [`answer::Root`] |
/// | `keep read [--device NODE]` | reads the `keep` partition | [`answer::Keep`] |
/// | `keep write [--device NODE]` | writes standard input to it | [`answer::KeepWritten`] |
/// | `disks` | lists the disks | [`answer::Disks`] |
/// | `coldplug [MODULE...]` | loads the modules of all devices, and these | [`answer::Modules`] |
/// | `modalias ALIAS...` | loads the modules of these devices | [`answer::Modules`] |
/// | `load MODULE...` | loads these modules | [`answer::Modules`] |
/// | `modprobe [-q] [--] NAME` | as the kernel asks for a module | nothing |
/// | `verify` | looks whether what is on standard input holds the secret | `true` or `false` |
/// | `sync` | writes all file systems out | `null` |
/// | `candidate` | copies, seals, verifies and tries a file that is to be PID 1 | [`answer::Candidate`] |
pub fn run(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let line = match dispatch(&args) {
        Ok(line) => Ok(line),
        Err(error) => {
            supervise::warning!("helper {}: {error}", args.join(" "));
            Err(error.to_string().replace('\n', " "))
        }
    };
    let code = if line.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    };
    let (Ok(line) | Err(line)) = line;
    if args.first() != Some(&"modprobe") {
        write_answer(&line);
    }
    code
}

fn dispatch(args: &[&str]) -> Result<String, HelperError> {
    match args {
        ["mount-data", rest @ ..] => json(&data::mount(&options(rest)?)?),
        ["unmount-data", rest @ ..] => json(&unmount::unmount(&options(rest)?)?),
        ["probe-data", rest @ ..] => json(&probe::probe(&options(rest)?.at)?),
        ["mount-root", label, target] => json(&root::mount(label, Path::new(target))?),
        ["keep", "read", rest @ ..] => json(&keep::read(&options(rest)?)?),
        ["keep", "write", rest @ ..] => json(&keep::write(&options(rest)?)?),
        ["disks"] => json(&disks::list()?),
        ["coldplug", also @ ..] => json(&modules::coldplug(also)?),
        ["modalias", aliases @ ..] => json(&modules::for_aliases(aliases)?),
        ["load", names @ ..] => json(&modules::load(names)?),
        ["modprobe", request @ ..] => json(&modules::requested(request)?),
        ["candidate"] => json(&candidate::examine()?),
        ["verify"] => json(&verify::verify(std::io::stdin())?),
        ["sync"] => {
            rustix::fs::sync();
            json(&())
        }
        _ => Err(HelperError::Usage {
            args: args.join(" "),
        }),
    }
}

/// What the verbs about disks can be told.
struct Options {
    mapper: bool,
    lazy: bool,
    device: Option<PathBuf>,
    at: PathBuf,
}

fn options(args: &[&str]) -> Result<Options, HelperError> {
    let mut options = Options {
        mapper: false,
        lazy: false,
        device: None,
        at: PathBuf::from(DATA),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let usage = || HelperError::Usage {
            args: (*arg).to_owned(),
        };
        match *arg {
            "--mapper" => options.mapper = true,
            "--lazy" => options.lazy = true,
            "--device" => options.device = Some(args.next().ok_or_else(usage)?.into()),
            "--at" => options.at = args.next().ok_or_else(usage)?.into(),
            _ => return Err(usage()),
        }
    }
    Ok(options)
}

fn json(answer: &impl Serialize) -> Result<String, HelperError> {
    serde_json::to_string(answer).map_err(HelperError::Answer)
}

fn write_answer(line: &str) {
    let line = format!("{line}\n");
    // Opened anew by its number, which takes no unsafe: /proc is there wherever helpers run.
    let written = File::options()
        .write(true)
        .open("/proc/self/fd/4")
        .and_then(|mut pipe| pipe.write_all(line.as_bytes()));
    if written.is_err() {
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
}

/// Where data is mounted.
const DATA: &str = "/data";

/// The kernel's view of the hardware.
const SYS: &str = "/sys";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_verb_is_refused() {
        for bad in [
            &[][..],
            &["mount-data", "--device"],
            &["keep", "eat"],
            &["sync", "now"],
        ] {
            assert!(
                matches!(dispatch(bad), Err(HelperError::Usage { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn options_are_taken_in_any_order() {
        let options = options(&["--at", "/mnt", "--mapper", "--device", "/dev/x"]).unwrap();
        assert_eq!(options.at, Path::new("/mnt"));
        assert_eq!(options.device.as_deref(), Some(Path::new("/dev/x")));
        assert!(options.mapper && !options.lazy);
    }
}
