//! The hardware watchdog: fed only while the guard lives.

use std::time::Duration;

use anyhow::Result;
use tests::vm::Vm;

use crate::{guest::eventually, silence};

/// The guard's thread is frozen, and nothing else: PID 1 sees it and stops feeding, so QEMU's
/// i6300esb resets the box, which comes up again, its service too, and says why.
pub(crate) fn a_frozen_guard_has_the_box_reset(vm: &mut Vm) -> Result<()> {
    let mut qmp = vm.qmp()?;
    let since = vm.said().len();
    vm.shell("pilot fault thread hang guard")?;
    // `main` itself says so, and goes on: it is the guard alone that is missed.
    vm.expect(since, "the watchdog is no longer fed", PATIENCE)?;
    qmp.event("WATCHDOG", PATIENCE)?;
    qmp.event("RESET", PATIENCE)?;
    let since = vm.said().len();
    vm.expect(since, "pilot: version", BOOT)?;
    let trust = vm.wait_for_service(BOOT)?;
    silence::dashboard_is_back(vm, &trust)?;
    eventually("the dashboard says why the box was restarted", || {
        let status = vm.call(&trust, None, "box.status", serde_json::json!({}))?;
        Ok(status
            .to_string()
            .contains("The hardware watchdog restarted the server"))
    })?;
    vm.expect(since, "Recovery console", BOOT).map(drop)
}

/// The watchdog waits for half a minute, once nobody feeds it.
const PATIENCE: Duration = Duration::from_secs(300);
const BOOT: Duration = Duration::from_secs(900);
