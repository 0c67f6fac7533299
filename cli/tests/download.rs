//! `pilot s9pk` over HTTP, and killed while it downloads.
//!
//! Needs Debian's nginx (`nginx-light`), which `cargo prove` installs.

#[allow(dead_code, reason = "the tests of the crate `s9pk` use more of it")]
#[path = "../../s9pk/tests/http/folder.rs"]
mod folder;
#[allow(dead_code, reason = "the tests of the crate `s9pk` use more of it")]
#[path = "../../s9pk/tests/http/nginx.rs"]
mod nginx;
#[allow(dead_code, reason = "the tests of the crate `s9pk` use more of it")]
#[path = "../../s9pk/tests/http/proxy.rs"]
mod proxy;

use std::{
    fs,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{
    folder::{Folder, Random, package, same},
    nginx::{Nginx, end},
    proxy::Proxy,
};

#[test]
fn a_download_killed_again_and_again_ends_with_the_whole_package() {
    let killed = kill(4 << 20, 4);
    assert!(killed.processes > 1);
    // What is under way, being looked at, and not in the journal yet.
    assert!(
        killed.twice < (killed.processes - 1) * (512 << 10),
        "{killed:?}"
    );
}

#[test]
#[ignore = "takes minutes on a busy machine"]
fn a_download_killed_twenty_times_fetches_less_than_two_percent_twice() {
    let killed = kill(128 << 20, 20);
    assert!(killed.processes > 15);
    assert!(killed.twice * 100 < killed.length * 2, "{killed:?}");
}

#[derive(Debug)]
struct Killed {
    length: u64,
    processes: u64,
    twice: u64,
}

/// Downloads a package with two files of `large` bytes, and kills that at as many random places.
fn kill(large: u64, times: usize) -> Killed {
    let folder = Folder::new(&format!("killed-{times}"));
    package(&folder.path("a.s9pk"), large, Some(1));
    let nginx = Nginx::plain(&folder.path(""));
    let length = fs::metadata(folder.path("a.s9pk")).unwrap().len();
    let child: Arc<Mutex<Option<Child>>> = Arc::default();
    let victim = Arc::clone(&child);
    let kill = move || victim.lock().unwrap().as_mut().unwrap().kill().unwrap();
    let places = Random::new(20).places(times, length);
    let proxy = Proxy::killing(nginx.address(), places, Box::new(kill));

    let (mut processes, mut memory) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        let download = ["download", &proxy.url("a.s9pk"), "-o", "b.s9pk"];
        // Locked until it is in place: a kill that comes at once waits for it.
        let mut running = child.lock().unwrap();
        *running = Some(pilot(&folder, &download).spawn().unwrap());
        drop(running);
        processes += 1;
        let status = ended(&child, deadline, &mut memory);
        if status.code().is_some() {
            break status;
        }
        assert!(!folder.path("b.s9pk").exists(), "seen before it was whole");
    };
    assert!(status.success());
    assert_eq!(proxy.breaks_left(), 0);
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    let twice = proxy.carried() - length;
    println!(
        "{processes} processes, all killed but the last: {length} bytes, {twice} more carried \
         ({:.3} %), {memory} KiB of memory at most",
        twice as f64 * 100.0 / length as f64
    );
    assert!(memory < 16 << 10, "{memory} KiB");
    Killed {
        length,
        processes,
        twice,
    }
}

/// Waits for the end of a process, and looks at its memory meanwhile.
fn ended(child: &Mutex<Option<Child>>, deadline: Instant, memory: &mut u64) -> ExitStatus {
    loop {
        let mut running = child.lock().unwrap();
        let running = running.as_mut().unwrap();
        *memory = (*memory).max(memory_of(running.id()));
        if let Some(status) = running.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            end(running);
            panic!("the download does not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_package_is_looked_into_where_it_is() {
    let folder = Folder::new("far");
    package(&folder.path("a.s9pk"), 1 << 20, Some(2));
    let nginx = Nginx::plain(&folder.path(""));
    let url = format!("http://{}/a.s9pk", nginx.address());
    let said = |arguments: &[&str]| {
        let Output { status, stdout, .. } = pilot(&folder, arguments).output().unwrap();
        assert!(status.success(), "{arguments:?}");
        stdout
    };
    assert_eq!(said(&["inspect", &url]), said(&["inspect", "a.s9pk"]));
    let manifest = "manifest.json";
    assert_eq!(
        said(&["cat", &url, manifest]),
        said(&["cat", "a.s9pk", manifest])
    );
    let inspected = String::from_utf8(said(&["download", &url, "-o", "b.s9pk"])).unwrap();
    assert!(same(&folder.path("a.s9pk"), &folder.path("b.s9pk")));
    let root = inspected.lines().next().unwrap();
    let root = root.rsplit(' ').next().unwrap();
    said(&["download", &url, "-o", "c.s9pk", "--root", root]);
    assert!(same(&folder.path("a.s9pk"), &folder.path("c.s9pk")));
}

#[test]
fn what_cannot_be_fetched_is_said_in_words() {
    let folder = Folder::new("said");
    let nginx = Nginx::plain(&folder.path(""));
    let absent = format!("http://{}/absent.s9pk", nginx.address());
    let other = "0".repeat(64);
    package(&folder.path("a.s9pk"), 1000, Some(3));
    let there = format!("http://{}/a.s9pk", nginx.address());
    for (arguments, words) in [
        (
            &["download", &absent, "-o", "b.s9pk"][..],
            "404, there is no such file",
        ),
        (&["inspect", &absent], "404, there is no such file"),
        (
            &["download", "ftp://host/a", "-o", "b.s9pk"],
            "only http and https",
        ),
        (
            &["download", &there, "-o", "b.s9pk", "--root", &other],
            "another package",
        ),
    ] {
        let output = pilot(&folder, arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words), "{said}");
    }
    assert!(!folder.path("b.s9pk").exists());
}

fn pilot(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot"));
    command
        .arg("s9pk")
        .args(arguments)
        .current_dir(folder.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// KiB of memory that are a process's own, without the pages of its program; 0 once it has ended.
fn memory_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.map_or(0, |number| number.parse().unwrap())
}

/// For what takes seconds on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(600);
