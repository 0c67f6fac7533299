//! A data disk without room.

use anyhow::{Result, ensure};
use boards::web::Trust;
use tests::vm::Vm;

use super::client::Client;
use crate::silence;

/// Not a block is left on the disk: service, health page and dashboard answer, and what could not be
/// written is written again once there is room.
pub(super) fn a_full_one_costs_no_answer(vm: &mut Vm, trust: &Trust) -> Result<()> {
    let client = Client::begin(vm, trust, true);
    let said = vm.shell("pilot fault disk /data && echo full")?;
    ensure!(said.ends_with("full"), "it can't be filled: {said}");
    let refused = vm.shell("head -c 100000000 /dev/zero > /data/more || echo refused")?;
    ensure!(refused.contains("refused"), "there is room: {refused}");
    silence::dashboard_is_back(vm, trust)?;
    vm.shell("rm -f /data/more; pilot fault disk --over /data")?;
    let written =
        vm.shell("head -c 1000000 /dev/zero > /data/more && rm /data/more && echo room")?;
    ensure!(written.ends_with("room"), "there is no room: {written}");
    silence::dashboard_is_back(vm, trust)?;
    client.end()?.all_but(0, "a full disk")
}
