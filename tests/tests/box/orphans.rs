//! What dies comes back, and what is orphaned is buried.

use std::time::Duration;

use anyhow::{Context as _, Result};
use boards::web::Trust;
use tests::vm::Vm;

use crate::{
    container::PAYLOAD,
    guest::{another, eventually, the_pid_of},
};

/// The agent starts a daemon that died again.
pub(crate) fn a_killed_daemon_comes_back(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let monitor = the_pid_of(vm, "pilot-monitor")?;
    let old = daemon(vm)?.context("the demo has no daemon")?;
    vm.shell(&format!("kill -9 {old}"))?;
    eventually("the daemon comes back", || {
        Ok(daemon(vm)?.is_some_and(|new| new != old))
    })?;
    service_answers(vm, trust)?;
    assert_eq!(
        the_pid_of(vm, "pilot-monitor")?,
        monitor,
        "the container went with it"
    );
    Ok(())
}

/// PID 1 starts a monitor that died again, and with it the whole container.
pub(crate) fn a_killed_monitor_comes_back(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let monitor = the_pid_of(vm, "pilot-monitor")?;
    let daemon_before = daemon(vm)?.context("the demo has no daemon")?;
    vm.shell(&format!("kill -9 {monitor}"))?;
    another(vm, "pilot-monitor", monitor)?;
    eventually("the daemon comes back", || {
        Ok(daemon(vm)?.is_some_and(|new| new != daemon_before))
    })?;
    service_answers(vm, trust)
}

/// Ten thousand at once: all have ended and belong to one parent, which has not waited for them,
/// when it is killed.
pub(crate) fn ten_thousand_orphans_are_buried(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let program: String = parent_of_zombies()
        .iter()
        .map(|byte| format!("\\{byte:o}"))
        .collect();
    vm.shell(&format!(
        "printf '{program}' > /run/parent; chmod +x /run/parent"
    ))?;
    // As many as the kernel allows for so little memory would not do.
    vm.shell("echo 40000 > /proc/sys/kernel/threads-max")?;
    let text = vm.shell_within(MAKE_ORPHANS, MAKING)?;
    let numbers: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
    let [before, with, killed, buried] = numbers[..] else {
        panic!("not four numbers: {text}");
    };
    assert!(
        with - before >= f64::from(ORPHANS),
        "from {before} to {with} processes: there were not that many orphans at once"
    );
    println!(
        "{ORPHANS} orphans were buried within {:.2} s of the box's time",
        buried - killed
    );
    assert_eq!(vm.get(trust, "localhost", "/health")?.status, 200);
    let since = vm.said().len();
    vm.type_line("version")?;
    vm.expect(since, env!("CARGO_PKG_VERSION"), Duration::from_secs(90))?;
    Ok(())
}

/// Prints how many processes there are before and with the zombies, the time when their parent is
/// killed, and the time when no zombie is left.
const MAKE_ORPHANS: &str = "read a b c d e < /proc/loadavg; echo ${d#*/}; \
     /run/parent & p=$!; while ! grep -q 'State:.T' /proc/$p/status; do sleep 1; done; \
     read a b c d e < /proc/loadavg; echo ${d#*/}; \
     read t u < /proc/uptime; echo $t; kill -9 $p; \
     while ps -o stat | grep -q ^Z; do :; done; read t u < /proc/uptime; echo $t";

/// A program (ELF, x86-64) that makes [`ORPHANS`] children, which end at once, waits for none, and
/// stops. A shell would need ten times as long, and may bury some of them itself.
fn parent_of_zombies() -> Vec<u8> {
    let code: Vec<u8> = [
        &[0x41, 0xbc][..],
        &ORPHANS.to_le_bytes(),                       // mov r12d, ORPHANS
        &[0xbf, 0x11, 0x41, 0, 0], // again: mov edi, CLONE_VM | CLONE_VFORK | SIGCHLD
        &[0x31, 0xf6, 0x31, 0xd2], // xor esi, esi; xor edx, edx
        &[0x45, 0x31, 0xd2],       // xor r10d, r10d
        &[0x45, 0x31, 0xc0],       // xor r8d, r8d
        &[0xb8, 56, 0, 0, 0, 0x0f, 0x05], // clone
        &[0x85, 0xc0, 0x74, 0x1a], // test eax, eax; jz end
        &[0x41, 0xff, 0xcc, 0x75, 0xe1], // dec r12d; jnz again
        &[0xb8, 39, 0, 0, 0, 0x0f, 0x05], // getpid
        &[0x89, 0xc7, 0xbe, 19, 0, 0, 0], // mov edi, eax; mov esi, SIGSTOP
        &[0xb8, 62, 0, 0, 0, 0x0f, 0x05], // kill
        &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05], // end: xor edi, edi; exit
    ]
    .concat();
    let size = (HEADERS + code.len()) as u64;
    let words = |words: &[u64]| {
        words
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect::<Vec<_>>()
    };
    [
        // Magic, 64 bits, little-endian; an executable for x86-64, version 1.
        &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0][..],
        &[0; 8],
        &[2, 0, 62, 0, 1, 0, 0, 0],
        // Entry; program headers; no section headers.
        &words(&[BASE + HEADERS as u64, 64, 0]),
        // No flags; sizes of the headers; one program header.
        &[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        // To be loaded, readable and executable: the whole file.
        &[1, 0, 0, 0, 5, 0, 0, 0],
        &words(&[0, BASE, BASE, size, size, 4096]),
        &code,
    ]
    .concat()
}

/// The demo's web server.
fn daemon(vm: &mut Vm) -> Result<Option<u32>> {
    let pid = vm.shell(&format!(
        "for p in $(cat {PAYLOAD}/cgroup.procs); do \
         grep -q '^httpd$' /proc/$p/comm && echo $p; done 2>/dev/null"
    ))?;
    Ok(pid
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok()))
}

fn service_answers(vm: &Vm, trust: &Trust) -> Result<()> {
    eventually("the service answers", || {
        let answer = vm.get(trust, "demo.localhost", "/");
        Ok(answer.is_ok_and(|page| page.status == 200))
    })
}

const ORPHANS: u32 = 10_000;

/// Where the program is loaded, and the size of its headers.
const BASE: u64 = 0x40_0000;
const HEADERS: usize = 120;

/// A process takes an emulated processor two milliseconds, and a crowded one ten.
const MAKING: Duration = Duration::from_secs(600);
