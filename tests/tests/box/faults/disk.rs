//! A data disk without room.

use std::time::Duration;

use anyhow::{Result, ensure};
use boards::web::Trust;
use tests::vm::Vm;

use super::client::Client;
use crate::silence;

/// Not a block is left on the disk: the box says so, and service, health page and dashboard answer.
pub(super) fn a_full_one_costs_no_answer(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let client = Client::begin(vm, trust, true);
    let since = vm.said().len();
    let said = vm.shell_within("pilot fault disk /data && echo filled", PATIENCE)?;
    ensure!(said.ends_with("filled"), "it can't be filled: {said}");
    vm.expect(since, "The data disk is full", PATIENCE)?;
    silence::dashboard_is_back(vm, trust)?;
    vm.shell_within("pilot fault disk --over /data", PATIENCE)?;
    silence::dashboard_is_back(vm, trust)?;
    client.end()?.all_but(0, "a full disk")
}

/// The kernel looks everywhere for room before it gives up.
const PATIENCE: Duration = Duration::from_secs(600);
