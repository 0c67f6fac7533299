//! Stalls of the manager, natively: the box answers all the while, and the manager comes back.

use anyhow::{Result, ensure};
use tests::native::Native;

#[test]
fn the_box_comes_up_in_name_spaces_and_its_console_answers() -> Result<()> {
    let native = Native::start("up")?;
    let since = native.console().len();
    native.type_line("status")?;
    native.expect(since, "manager", PATIENCE)?;
    ensure!(native.role("manager")? != native.role("front")?);
    Ok(())
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
