//! The virtual machine that stands in for a board: what is plugged into it, and its life.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::accel::Accel;
use crate::board::Board;
use crate::ports::Forward;
use crate::qmp::Qmp;

/// Where the serial console leads.
#[derive(Clone, Debug)]
pub enum Serial {
    /// To the terminal we run in, which QEMU takes over; Ctrl-A x ends the machine.
    Terminal,
    /// To a Unix socket that QEMU makes.
    Socket(PathBuf),
}

/// A disk of the machine.
#[derive(Clone, Debug)]
pub struct Drive {
    /// The raw file.
    pub path: PathBuf,
    /// Writes go to a temporary file and are forgotten.
    pub snapshot: bool,
    /// The host need not write out what the guest flushes: faster, and as durable while only the
    /// guest, and not this machine, may lose power.
    pub careless: bool,
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    program: String,
    machine: String,
    cpus: u32,
    console: String,
    accel: Accel,
    kernel: PathBuf,
    initramfs: PathBuf,
    append: String,
    memory: u32,
    drives: Vec<Drive>,
    network: Option<Vec<Forward>>,
    watchdog: bool,
    serial: Serial,
    qmp: PathBuf,
    extra: Vec<OsString>,
    dies_with_us: bool,
}

impl Machine {
    /// The board's machine with 1 GiB of memory, no disk and no network card.
    pub fn new(board: &Board, accel: Accel, kernel: &Path, initramfs: &Path, qmp: &Path) -> Self {
        Self {
            program: board.qemu.program.clone(),
            machine: board.qemu.machine.clone(),
            cpus: board.qemu.cpus,
            console: board.qemu.console.clone(),
            accel,
            kernel: kernel.into(),
            initramfs: initramfs.into(),
            append: String::new(),
            memory: 1024,
            drives: Vec::new(),
            network: None,
            watchdog: true,
            serial: Serial::Terminal,
            qmp: qmp.into(),
            extra: Vec::new(),
            dies_with_us: false,
        }
    }

    /// More words for the kernel's command line.
    pub fn append(mut self, words: &str) -> Self {
        self.append.push(' ');
        self.append.push_str(words);
        self
    }

    /// Memory in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// Virtual processors.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// One more disk: the first is the box's.
    pub fn drive(mut self, drive: Drive) -> Self {
        self.drives.push(drive);
        self
    }

    /// A network card `net0` on QEMU's user network, reached through these ports.
    pub fn network(mut self, forwards: &[Forward]) -> Self {
        self.network = Some(forwards.into());
        self
    }

    /// No hardware watchdog, as many machines have none.
    pub fn without_watchdog(mut self) -> Self {
        self.watchdog = false;
        self
    }

    /// Where the console leads.
    pub fn serial(mut self, serial: Serial) -> Self {
        self.serial = serial;
        self
    }

    /// Any other arguments of QEMU's.
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.extra.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The machine is killed when the thread that starts it ends, however that comes about.
    pub fn dies_with_us(mut self) -> Self {
        self.dies_with_us = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When QEMU can't be started.
    pub fn start(&self) -> Result<Guest> {
        let mut command = self.command();
        if let Serial::Socket(_) = self.serial {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        let child = command.spawn().context("QEMU can't be started")?;
        Ok(Guest {
            child,
            qmp: self.qmp.clone(),
        })
    }

    fn command(&self) -> Command {
        let mut command = if self.dies_with_us {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]).arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        let size = (self.cpus.to_string(), self.memory.to_string());
        command
            .args(["-nodefaults", "-display", "none", "-machine", &self.machine])
            .args([
                "-accel",
                self.accel.argument(),
                "-cpu",
                "max",
                "-smp",
                &size.0,
                "-m",
                &size.1,
            ])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .arg("-append")
            .arg(format!("console={} panic=10{}", self.console, self.append))
            .args(["-device", "virtio-rng-pci"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", self.qmp.display()))
            .arg("-serial")
            .arg(self.serial_argument());
        if self.watchdog {
            command.args(["-device", "i6300esb", "-action", "watchdog=reset"]);
        }
        self.add_drives(&mut command);
        self.add_network(&mut command);
        command.args(&self.extra);
        command
    }

    fn serial_argument(&self) -> OsString {
        match &self.serial {
            Serial::Terminal => "mon:stdio".into(),
            Serial::Socket(path) => format!("unix:{},server=on,wait=off", path.display()).into(),
        }
    }

    fn add_drives(&self, command: &mut Command) {
        for (index, drive) in self.drives.iter().enumerate() {
            let snapshot = if drive.snapshot { "on" } else { "off" };
            let cache = if drive.careless {
                "unsafe"
            } else {
                "writeback"
            };
            command
                .arg("-drive")
                .arg(format!(
                    "if=none,id=disk{index},format=raw,discard=unmap,detect-zeroes=unmap,\
                     cache={cache},snapshot={snapshot},file={}",
                    drive.path.display()
                ))
                .arg("-device")
                .arg(format!(
                    "virtio-blk-pci,drive=disk{index},serial=disk{index}"
                ));
        }
    }

    fn add_network(&self, command: &mut Command) {
        let Some(forwards) = &self.network else {
            return;
        };
        let mut backend = "user,id=net0".to_owned();
        for forward in forwards {
            let Forward { host, guest } = forward;
            backend += &format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
        }
        command
            .arg("-netdev")
            .arg(backend)
            .args(["-device", "virtio-net-pci,netdev=net0,id=nic0"]);
    }
}

/// A machine that runs. Dropped, it is killed: a test that fails leaves none behind.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    qmp: PathBuf,
}

impl Guest {
    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to QEMU's control socket.
    ///
    /// # Errors
    /// When QEMU does not answer there.
    pub fn qmp(&self) -> Result<Qmp> {
        Qmp::connect(&self.qmp, CONTROL)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When that can't be known.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// When it runs on for longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the machine still runs after {} s", patience.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses the power button, and pulls the plug if the box has not gone after `patience`.
    /// Says whether it went by itself.
    ///
    /// # Errors
    /// When it can't be killed either.
    pub fn power_off(&mut self, patience: Duration) -> Result<bool> {
        let pressed = self
            .qmp()
            .and_then(|mut qmp| qmp.execute("system_powerdown", json!({})).map(drop));
        if pressed.is_ok() && self.wait(patience).is_ok() {
            return Ok(true);
        }
        self.kill()?;
        Ok(false)
    }

    /// Cuts its power.
    ///
    /// # Errors
    /// When QEMU is still there seconds later.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().ok();
        self.wait(CONTROL).map(drop)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill().ok();
        }
    }
}

/// QEMU makes its sockets, and ends when killed, within moments; this is for a drowning host.
const CONTROL: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::{Drive, Machine, Serial};
    use crate::accel::Accel;
    use crate::board::Board;
    use crate::ports::Forward;
    use std::path::Path;

    #[test]
    fn what_is_plugged_in_is_on_the_command_line() {
        let board = Board::x86_64().unwrap();
        let machine = Machine::new(
            &board,
            Accel::Tcg,
            Path::new("/k"),
            Path::new("/i"),
            Path::new("/q"),
        )
        .append("pilot.data=mapper")
        .drive(Drive {
            path: "/d".into(),
            snapshot: true,
            careless: true,
        })
        .network(&[Forward {
            host: 1234,
            guest: 443,
        }])
        .serial(Serial::Socket("/s".into()));
        let line = format!("{:?}", machine.command());
        for part in [
            "console=ttyS0 panic=10 pilot.data=mapper",
            "cache=unsafe,snapshot=on,file=/d",
            "hostfwd=tcp:127.0.0.1:1234-:443",
            "unix:/s,server=on",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }

    #[test]
    fn without_a_network_there_is_no_card() {
        let board = Board::x86_64().unwrap();
        let (k, i, q) = (Path::new("/k"), Path::new("/i"), Path::new("/q"));
        let line = format!("{:?}", Machine::new(&board, Accel::Tcg, k, i, q).command());
        assert!(!line.contains("virtio-net"));
    }
}
