//! The booted box: a real kernel in QEMU, a real service behind the front door. One boot, as each
//! takes half a minute under emulation.

use std::time::{Duration, Instant};

use anyhow::Result;
use boards::web::Trust;
use tests::vm::Vm;

#[test]
fn box_boots_serves_survives_and_powers_off() -> Result<()> {
    let mut vm = Vm::boot("box")?;
    let trust = vm.wait_for_service(Duration::from_secs(240))?;
    assert_eq!(
        vm.get(&trust, "localhost", "/")?.status,
        200,
        "no dashboard"
    );

    pid_1_is_ours(&mut vm)?;
    the_emergency_page_has_log_lines(&mut vm, &trust)?;
    a_stopped_manager_silences_nothing(&mut vm, &trust)?;
    a_killed_front_fails_no_connection(&mut vm, &trust)?;
    poweroff_unmounts_data(&mut vm)
}

fn pid_1_is_ours(vm: &mut Vm) -> Result<()> {
    let text = vm.shell("readlink /proc/1/exe; ls /lib/systemd /etc/init.d")?;
    assert!(text.contains("/usr/lib/pilotlight/init"), "{text}");
    assert!(!text.contains("systemd-"), "{text}");
    Ok(())
}

/// They come from `logd` through PID 1, so that neither manager nor disk is needed for them. A line
/// written now must be among them soon, whatever else is being logged.
fn the_emergency_page_has_log_lines(vm: &mut Vm, trust: &Trust) -> Result<()> {
    vm.shell("echo '<4>a line of the box test' > /dev/kmsg")?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = vm.get(trust, "localhost", "/emergency")?;
        assert_eq!(page.status, 200);
        if page
            .text()
            .contains("kernel warning: a line of the box test")
        {
            return Ok(());
        }
        assert!(Instant::now() < deadline, "{}", page.text());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The guard finds the manager dead and has it replaced; requests to the service go on meanwhile.
fn a_stopped_manager_silences_nothing(vm: &mut Vm, trust: &Trust) -> Result<()> {
    vm.shell("kill -STOP $(pgrep -f ^pilot-manager)")?;
    all_answered(vm, trust, 50)?;
    dashboard_is_back(vm, trust)
}

/// Connections wait in PID 1's sockets for the next front.
fn a_killed_front_fails_no_connection(vm: &mut Vm, trust: &Trust) -> Result<()> {
    vm.shell("kill -9 $(pgrep -f ^pilot-front)")?;
    all_answered(vm, trust, 20)
}

fn poweroff_unmounts_data(vm: &mut Vm) -> Result<()> {
    let since = vm.said().len();
    vm.type_line("poweroff")?;
    vm.expect(since, "data is cleanly unmounted", Duration::from_secs(60))?;
    vm.wait_for_end(Duration::from_secs(60))
}

fn all_answered(vm: &Vm, trust: &Trust, times: u32) -> Result<()> {
    for n in 0..times {
        let response = vm.get(trust, "demo.localhost", "/")?;
        assert_eq!(response.status, 200, "request {n}");
    }
    Ok(())
}

fn dashboard_is_back(vm: &Vm, trust: &Trust) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match vm.get(trust, "localhost", "/") {
            Ok(response) if response.status == 200 => return Ok(()),
            Ok(_) if Instant::now() < deadline => {}
            Err(_) if Instant::now() < deadline => {}
            other => panic!("the dashboard does not come back: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
