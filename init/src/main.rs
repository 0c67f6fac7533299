//! Starts the right role: PID 1 if the kernel says so, else what the first argument names.

use std::process::ExitCode;

use init::{front, helper, logd, manager, pid1};

fn main() -> ExitCode {
    if std::process::id() == 1 {
        pid1::run();
    }
    let mut args = std::env::args();
    let called = args.next().unwrap_or_default();
    let mut args: Vec<String> = args.collect();
    if called.rsplit('/').next() == Some("modprobe") {
        // The kernel asks for modules through a link of this name.
        args.splice(..0, ["helper", "modprobe"].map(str::to_owned));
    }
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["front"] => front::run(),
        ["helper", ..] => helper::run(&args[1..]),
        ["logd"] => logd::run(),
        ["manager"] => manager::run(),
        _ => {
            eprintln!(
                "this is Pilotlight's init: the kernel starts it as PID 1, and PID 1 starts its \
                 roles; use `pilot` to talk to a running box"
            );
            ExitCode::FAILURE
        }
    }
}
