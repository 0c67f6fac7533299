//! One boot of a system, measured.

use std::{
    io::{ErrorKind, Read as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use boards::{
    accel::Accel,
    ports::{self, Forward},
    qemu::{Guest, Machine, Serial},
    web::{self, Trust},
};
use serde_json::json;

use crate::{
    observer::{Memory, Observer, connect},
    pcap::Dump,
    systems::{Door, Ground, System},
};

/// What one boot showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// From exec of PID 1 to the first 200, guest time.
    pub(crate) to_answer: Option<Duration>,
    /// Of it the CPU's work.
    pub(crate) work: Option<Duration>,
    /// From exec of PID 1 to the DHCP server's grant.
    pub(crate) to_grant: Option<Duration>,
    /// Once all is settled.
    pub(crate) memory: Memory,
}

/// Boots a system from its disk, leaving that as it is, and measures it.
pub(crate) fn measure(
    ground: &Ground,
    system: &System,
    trust: Option<&Trust>,
    scratch: &Path,
) -> Result<Figures> {
    let mut boot = Boot::start(ground, system, scratch, Clock::Instructions)?;
    let mut observer = Observer::connect(&scratch.join("observer"))?;
    let mut dump = Dump::open(&scratch.join("net.pcap"))?;
    let mut figures = Figures::default();
    if let Some(door) = system.door {
        boot.wait_for_answer(door, trust, &mut dump)?;
        let asked = observer.moment()?;
        let (exec, frame) = (observer.exec()?, observer.frame()?);
        let answered = dump.answered.context("no answer in the packet dump")?;
        let sent = dump.first_arp.context("no ARP frame in the packet dump")?;
        // Stamps of the dump become the guest's CLOCK_MONOTONIC.
        let since_exec = |stamp: Duration| (stamp + frame).checked_sub(sent + exec.clock);
        let to_answer = since_exec(answered).context("the answer is older than PID 1")?;
        let idle = (asked.clock - exec.clock).saturating_sub(asked.work - exec.work);
        figures.to_answer = Some(to_answer);
        figures.work = Some(to_answer.saturating_sub(idle));
        figures.to_grant = dump.granted.and_then(since_exec);
    }
    let (began, until) = (Instant::now(), observer.moment()?.clock + SETTLED);
    while observer.moment()?.clock < until && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_secs(1));
    }
    figures.memory = observer.memory()?;
    boot.guest.kill()?;
    Ok(figures)
}

/// Boots the box for the first time, so that it makes what later boots find. Gives its authority.
pub(crate) fn first_boot(ground: &Ground, system: &System, scratch: &Path) -> Result<Trust> {
    let mut boot = Boot::start(ground, system, scratch, Clock::Host)?;
    // It does not start when nobody is there to hear it.
    let _observer = Observer::connect(&scratch.join("observer"))?;
    let deadline = Instant::now() + PATIENCE;
    let trust = loop {
        match boot.dashboard() {
            Ok(trust) => break trust,
            Err(e) if Instant::now() > deadline => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    };
    // The certificate is kept meanwhile.
    std::thread::sleep(SETTLE);
    while boot.guest.wait(AGAIN).is_err() {
        anyhow::ensure!(Instant::now() < deadline, "the box does not power off");
        // A press before the button has its driver is not heard.
        boot.guest.qmp()?.execute("system_powerdown", json!({}))?;
    }
    Ok(trust)
}

/// What the guest's clock follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// One nanosecond an instruction; disks are private copies.
    Instructions,
    /// The host's; disks are written to.
    Host,
}

struct Boot {
    guest: Guest,
    /// What the console said.
    said: Arc<Mutex<Vec<u8>>>,
    https: Forward,
    http: Forward,
}

impl Boot {
    fn start(ground: &Ground, system: &System, scratch: &Path, clock: Clock) -> Result<Self> {
        let forwards = ports::forward(&[443, 80])?;
        let [https, http] = forwards[..] else {
            bail!("no ports")
        };
        let at = |name: &str| scratch.join(name).display().to_string();
        for left in ["qmp", "serial", "observer", "net.pcap"] {
            let _ = std::fs::remove_file(scratch.join(left));
        }
        let size = std::fs::metadata(&system.disk)?.len();
        let share = if clock == Clock::Host { "on" } else { "off" };
        let (disk, dump) = (system.disk.display(), at("net.pcap"));
        let mut arguments: Vec<String> = [
            "-machine",
            "nvdimm=on",
            "-cpu",
            "qemu64,+rdtscp,+ssse3,+sse4.1,+sse4.2,+rdrand",
            "-m",
            "slots=2,maxmem=8G",
            "-rtc",
            "clock=vm",
            "-object",
            &format!("memory-backend-file,id=disk,share={share},mem-path={disk},size={size}"),
            "-device",
            "nvdimm,id=nvdimm,memdev=disk",
            "-netdev",
            &format!(
                "user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:{}-:443,hostfwd=tcp:127.0.0.1:{}-:80",
                https.host, http.host
            ),
            "-device",
            "virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:12:34:56",
            "-object",
            &format!("filter-dump,id=dump,netdev=net0,file={dump}"),
            "-serial",
            &format!("unix:{},server=on,wait=off", at("observer")),
        ]
        .map(str::to_owned)
        .to_vec();
        if clock == Clock::Instructions {
            arguments.extend(["-icount", "shift=0,sleep=on"].map(str::to_owned));
        }
        let append = format!(
            "quiet loglevel=3 net.ifnames=0 swiotlb=noforce random.trust_cpu=on \
             ANCHOR_ROOT={} ANCHOR_MODE={}",
            system.root, system.mode
        );
        let accel = match clock {
            Clock::Instructions => Accel::TcgCounted,
            Clock::Host => Accel::Tcg,
        };
        let machine = Machine::new(
            &ground.board,
            accel,
            &ground.kernel,
            &ground.initramfs,
            &scratch.join("qmp"),
        );
        let guest = machine
            .append(&append)
            .memory(MEMORY)
            .cpus(1)
            .serial(Serial::Socket(scratch.join("serial")))
            .arguments(arguments)
            .dies_with_us()
            .start()?;
        let said = listen(&scratch.join("serial"))?;
        Ok(Self {
            guest,
            said,
            https,
            http,
        })
    }

    /// Asks until the system answers 200: not before it has an address, since each try in vain is
    /// work for it, and then one try at a time.
    fn wait_for_answer(
        &mut self,
        door: Door,
        trust: Option<&Trust>,
        dump: &mut Dump,
    ) -> Result<()> {
        let (forward, trust) = match door {
            Door::Http => (self.http, None),
            Door::Https => (self.https, trust),
        };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.guest.ended()? {
                bail!("QEMU ended with {status}");
            }
            dump.follow(forward.guest)?;
            if dump.granted.is_none() {
                std::thread::sleep(GLANCE);
                continue;
            }
            let began = Instant::now();
            if let Some(socket) = taken(forward, dump)? {
                let answer = web::over(socket, "localhost", "/health", trust, ANSWER);
                if answer.is_ok_and(|answer| answer.status == 200) {
                    dump.follow(forward.guest)?;
                    return Ok(());
                }
            }
            std::thread::sleep(BETWEEN.saturating_sub(began.elapsed()));
        }
        bail!("no answer within {PATIENCE:?}")
    }

    fn dashboard(&mut self) -> Result<Trust> {
        let authority = web::http(self.http.host, "localhost", "/ca.crt", ANSWER)?;
        let trust = Trust::pem(&authority.body)?;
        let page = web::https(self.https.host, "localhost", "/", &trust, ANSWER)?;
        anyhow::ensure!(page.status == 200, "the dashboard answers {}", page.status);
        Ok(trust)
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        // Seen to its end, it was killed or has powered off.
        if let Ok(None) = self.guest.ended() {
            eprintln!("--- the console ---");
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("{}", String::from_utf8_lossy(&said));
        }
    }
}

/// Keeps what is said on the serial console.
fn listen(serial: &Path) -> Result<Arc<Mutex<Vec<u8>>>> {
    let mut console = connect(serial)?;
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = console.read(&mut bytes) {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.extend_from_slice(&bytes[..n]);
        }
    });
    Ok(said)
}

/// A connection that the guest has taken; none if it has not within [`TRY`].
fn taken(forward: Forward, dump: &mut Dump) -> Result<Option<TcpStream>> {
    let before = dump.taken;
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, forward.host))?;
    socket.set_nonblocking(true)?;
    let until = Instant::now() + TRY;
    while Instant::now() < until {
        dump.follow(forward.guest)?;
        if dump.taken > before {
            socket.set_nonblocking(false)?;
            return Ok(Some(socket));
        }
        match socket.peek(&mut [0]) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(GLANCE / 4),
            // Refused by the guest.
            _ => return Ok(None),
        }
    }
    Ok(None)
}

const MEMORY: u32 = 512;
const GLANCE: Duration = Duration::from_millis(2);
/// How long the guest is given to take a connection: its host may be busy.
const TRY: Duration = Duration::from_millis(40);
const AGAIN: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(4);
const ANSWER: Duration = Duration::from_secs(30);
/// Guest time until memory is looked at.
const SETTLED: Duration = Duration::from_secs(20);
/// Until the box has written what the manager gave it.
const SETTLE: Duration = Duration::from_secs(10);
/// For a boot, under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
