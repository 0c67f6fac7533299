//! The box's one static binary: PID 1, and the roles that it starts from the same file.
//!
//! PID 1 boots the box, keeps the process table and every listening socket, and brings the box
//! down. What can block, leak or be attacked is in processes of its own, which PID 1 replaces.
//!
//! | module | what it is |
//! |---|---|
//! | [`pid1`] | the main thread: signals, children, boot and shutdown order |
//! | [`boot`], [`mounts`], [`root`], [`cmdline`], [`keep`] | what a boot is made of |
//! | [`crash`], [`handover`] | how PID 1 outlives its own crash |
//! | [`guard`], [`vitals`] | the thread that judges whether the others still work |
//! | [`console`], [`console_host`] | the recovery console, and its way to the main thread |
//! | [`shared`] | what PID 1's threads share |
//! | [`front`] | the role that strangers talk to |
//! | [`manager`] | the role with the Tokio pool |
//! | [`logd`] | the role that keeps the log |
//! | [`helper`] | short-lived processes for whatever may hang |
//! | [`trial`] | a new binary says what it would take over |
//! | [`inherited`] | the descriptors that a role begins with |
//! | `spares` | descriptors held in reserve |
//! | [`kmsg`], [`clock`] | the kernel's log and clock |

pub mod boot;
pub mod clock;
pub mod cmdline;
pub mod console;
pub mod console_host;
pub mod crash;
pub mod front;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod guard;
pub mod handover;
pub mod helper;
pub mod inherited;
pub mod keep;
pub mod kmsg;
pub mod logd;
pub mod manager;
pub mod mounts;
pub mod pid1;
pub mod root;
pub mod shared;
pub(crate) mod spares;
pub mod trial;
pub mod vitals;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: crash::reserve::Allocator = crash::reserve::Allocator;

/// Starts the right role: PID 1 if the kernel says so, else what the first argument names.
pub fn start() -> ExitCode {
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
    #[cfg(feature = "fault")]
    crash::fault::if_monitor(&called);
    // A program that was executed by its descriptor would be called by that number.
    let _ = rustix::thread::set_name(c"init");
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["front"] => front::run(),
        ["helper", ..] => helper::run(&args[1..]),
        ["logd"] => logd::run(),
        ["manager"] => manager::run(),
        [trial::ROLE] => trial::run(),
        _ => {
            eprintln!(
                "this is Pilotlight's init: the kernel starts it as PID 1, and PID 1 starts its \
                 roles; use `pilot` to talk to a running box"
            );
            ExitCode::FAILURE
        }
    }
}
