//! The booted box: a real kernel in QEMU, a real service behind the front door. One boot, as each
//! takes half a minute under emulation.

mod clock;
mod container;
mod damage;
mod faults;
mod guest;
mod kernel;
mod links;
mod orphans;
mod poweroff;
mod settings;
mod silence;

use std::time::{Duration, Instant};

use anyhow::Result;
use boards::web::Trust;
use tests::{owner::Owner, vm::Vm};

#[test]
fn box_boots_serves_survives_and_powers_off() -> Result<()> {
    // So that the disk under data can be suspended.
    let mut vm = Vm::boot_with("box", "pilot.data=mapper")?;
    let trust = vm.wait_for_service(Duration::from_secs(900))?;
    assert_eq!(
        vm.get(&trust, "localhost", "/")?.status,
        200,
        "no dashboard"
    );

    container::pid_1_is_ours(&mut vm)?;
    container::neither_systemd_nor_scripts(&mut vm)?;
    container::the_service_is_shut_in(&mut vm)?;
    the_name_is_published(&mut vm)?;
    the_emergency_page_has_log_lines(&mut vm, &trust)?;
    silence::a_stopped_manager_silences_nothing(&mut vm, &trust)?;
    silence::a_killed_manager_silences_nothing(&mut vm, &trust)?;
    silence::a_killed_front_fails_no_connection(&mut vm, &trust)?;
    silence::a_hanging_disk_is_told(&mut vm, &trust)?;
    silence::a_stuck_log_is_left_behind(&mut vm, &trust)?;
    orphans::a_killed_daemon_comes_back(&mut vm, &trust)?;
    orphans::a_killed_monitor_comes_back(&mut vm, &trust)?;
    orphans::ten_thousand_orphans_are_buried(&mut vm, &trust)?;
    poweroff_unmounts_data(&mut vm)
}

/// The front has joined the group of multicast DNS on the link that has an address. That others
/// then find the box is the suite `names`.
fn the_name_is_published(vm: &mut Vm) -> Result<()> {
    guest::eventually("the group is joined", || {
        Ok(vm.shell("cat /proc/net/igmp")?.contains("FB0000E0"))
    })
}

/// They come from `logd` through PID 1, so that neither manager nor disk is needed for them. A line
/// written now must be among them soon, whatever else is being logged.
fn the_emergency_page_has_log_lines(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let code = vm.setup_code()?;
    let owner = Owner::enter(vm.https_port(), trust, &code)?;
    vm.shell("echo '<4>a line of the box test' > /dev/kmsg")?;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let page = owner.page()?;
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

fn poweroff_unmounts_data(vm: &mut Vm) -> Result<()> {
    let since = vm.said().len();
    vm.type_line("poweroff")?;
    vm.expect(since, "data is cleanly unmounted", Duration::from_secs(120))?;
    vm.wait_for_end(Duration::from_secs(120))
}
