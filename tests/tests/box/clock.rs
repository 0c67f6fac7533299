//! A box whose hardware clock is ten years behind, on a network with a time server.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{kit::Kit, netns::until, vm::Vm};

use crate::guest;

#[test]
#[ignore = "a boot of its own; takes port 123 of this machine's loopback"]
fn a_box_that_wakes_up_in_2016_is_put_right() -> Result<()> {
    let _server = Server::start()?;
    // QEMU's network leads what is for this address to our loopback.
    let kit = Kit::new("clock")?
        .append("pilot.time=10.0.2.2")
        .clock("2016-01-01T00:00:00");
    let mut vm = Vm::of(&kit)?;
    // Its certificate is verified by the time of today.
    let trust = vm.wait_for_service(BOOT)?;
    guest::eventually("the clock is right", || {
        let inside: u64 = vm.shell("date +%s")?.trim().parse()?;
        Ok(inside.abs_diff(now()?) < 120)
    })?;
    let mut last = String::new();
    guest::eventually("the time is confirmed", || {
        last = vm.call(&trust, None, "net.status", json!({}))?["findings"].to_string();
        Ok(last.contains("The clock goes by 10.0.2.2"))
    })
    .with_context(|| last.clone())?;
    ensure!(vm.get(&trust, "localhost", "/")?.status == 200);
    // Whatever waited while ten years passed has waited no longer for it, and not less.
    let status = vm.call(&trust, None, "box.status", json!({}))?;
    let steps = status["boot"].as_array().context("steps of the boot")?;
    let failed = steps.iter().any(|step| step["mark"] == "bad");
    ensure!(!steps.is_empty() && !failed, "{status}");
    let uptime = vm.shell("cut -d. -f1 /proc/uptime")?;
    ensure!(uptime.trim().parse::<u64>()? < 86_400, "{uptime}");
    let log = vm.shell("pilot logs init")?;
    ensure!(log.contains("the clock was moved by 3"), "{log}");
    vm.kill()
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// A real time server at 127.0.0.1:123, which leaves this machine's clock alone.
struct Server(std::process::Child);

impl Server {
    fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("clock-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let conf = folder.join("conf");
        let text = format!(
            "local stratum 3\nallow all\nbindaddress 127.0.0.1\ncmdport 0\nbindcmdaddress /\n\
             pidfile {}\n",
            folder.join("pid").display()
        );
        fs::write(&conf, text)?;
        let child = Command::new("chronyd")
            .args(["-x", "-d", "-u", "root", "-f"])
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("chronyd does not start")?;
        Ok(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(until(STOP, || !matches!(self.0.try_wait(), Ok(None))));
        let folder = std::env::temp_dir().join(format!("clock-{}", std::process::id()));
        drop(fs::remove_dir_all(folder));
    }
}

const BOOT: Duration = Duration::from_secs(900);
const STOP: Duration = Duration::from_secs(60);
