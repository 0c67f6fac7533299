//! `cargo boot`: the box in a virtual machine, with its doors open on localhost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::accel::Accel;
use crate::artifacts::{Artifacts, Options as Build};
use crate::board::Board;
use crate::disk::{self, Disk};
use crate::lack;
use crate::ports::{self, Forward};
use crate::progress::{self, say};
use crate::qemu::{Drive, Guest, Machine, Serial};
use crate::web::{self, Trust};

/// What may be asked of `cargo boot`.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "cargo boot", about = "Builds the box and boots it in QEMU")]
pub struct Options {
    /// Print one JSON line when the demo service answers, and power off on SIGTERM
    #[arg(long)]
    headless: bool,
    /// Boot this kernel instead of Debian's
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// More words for the kernel's command line
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        allow_hyphen_values = true
    )]
    append: String,
    /// Keep the box's disk here instead of in the cache
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Start over with an empty disk
    #[arg(long)]
    fresh: bool,
    /// Only say what the machine lacks
    #[arg(long)]
    no_install: bool,
    /// Memory of the box in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// How long the demo service may take to answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Fetch Debian packages from here instead of the mirror that apt uses
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Ask Debian's archive for newer packages
    #[arg(long)]
    refresh: bool,
}

/// Builds what is missing, boots the box, and ends when it powers off.
///
/// # Errors
/// When the box can't be built or started, or, headless, its service does not answer in time.
pub fn run(options: &Options) -> Result<()> {
    lack::ensure(lack::TO_BOOT, !options.no_install)?;
    let board = Board::x86_64()?;
    let build = Build {
        kernel: options.kernel.clone(),
        mirror: options.mirror.clone(),
        refresh: options.refresh,
    };
    let artifacts = Artifacts::make(&board, &build)?;
    let session = Session::prepare(&artifacts, options)?;
    let accel = progress::step("Trying KVM", || {
        Accel::probe(&board.qemu.program, &session.scratch.path)
    });
    let machine = session.machine(&board, accel, &artifacts, options);
    if accel == Accel::Tcg {
        say("KVM does not work here: the processor is emulated, which is slow.");
    }
    match options.headless {
        true => session.headless(&machine, Duration::from_secs(options.timeout)),
        false => session.interactive(&machine, Duration::from_secs(options.timeout)),
    }
}

/// One run of the box: its disk, held, its ports, and a folder for its sockets.
struct Session {
    scratch: Scratch,
    disk: Disk,
    _held: File,
    https: Forward,
    http: Forward,
    service: Forward,
}

impl Session {
    fn prepare(artifacts: &Artifacts, options: &Options) -> Result<Self> {
        let path = options
            .disk
            .clone()
            .unwrap_or_else(|| artifacts.state.join("disk.raw"));
        let held = hold(&path)?;
        let disk = if path.exists() && !options.fresh {
            Disk::reuse(&path, &artifacts.root)
        } else {
            Disk::create(&path, &artifacts.root, disk::SIZE)
        }?;
        let forwards = ports::forward(&[443, 80, DEMO_PORT])?;
        let &[https, http, service] = &forwards[..] else {
            bail!("no ports");
        };
        Ok(Self {
            scratch: Scratch::new()?,
            disk,
            _held: held,
            https,
            http,
            service,
        })
    }

    fn machine(
        &self,
        board: &Board,
        accel: Accel,
        artifacts: &Artifacts,
        options: &Options,
    ) -> Machine {
        let serial = match options.headless {
            true => Serial::Socket(self.serial()),
            false => Serial::Terminal,
        };
        let Artifacts {
            kernel, initramfs, ..
        } = artifacts;
        Machine::new(board, accel, kernel, initramfs, &self.qmp())
            .append(&options.append)
            .memory(options.memory)
            .drive(Drive {
                path: self.disk.path.clone(),
                snapshot: false,
                careless: false,
            })
            .network(&[self.https, self.http, self.service])
            .serial(serial)
            .dies_with_us()
    }

    /// Hands the terminal to the box's console, and says beside it when the service is up.
    fn interactive(&self, machine: &Machine, patience: Duration) -> Result<()> {
        self.tell();
        // QEMU hands Ctrl-C to the box; a stray one, before it does, must not leave it behind.
        let stop = stop_flag()?;
        let mut guest = machine.start()?;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(
                || match self.ready(patience, || over.load(Ordering::Relaxed)) {
                    Ok(()) => say("\rThe demo service answers.\r"),
                    Err(error) if !over.load(Ordering::Relaxed) => say(&format!("\r{error:#}\r")),
                    Err(_) => {}
                },
            );
            let ended = self.watch(&mut guest, &stop);
            over.store(true, Ordering::Relaxed);
            ended
        })
    }

    /// Waits for the service, tells where all is in one line, and for the box or us to be ended.
    fn headless(&self, machine: &Machine, patience: Duration) -> Result<()> {
        let stop = stop_flag()?;
        let mut guest = machine.start()?;
        let ready = progress::step("Waiting for the demo service to answer", || {
            self.ready(patience, || {
                stop.load(Ordering::Relaxed) || !matches!(guest.ended(), Ok(None))
            })
        });
        if let Err(error) = ready {
            guest.power_off(SHUTDOWN)?;
            return Err(error);
        }
        println!("{}", self.described(guest.pid()));
        self.watch(&mut guest, &stop)
    }

    /// Until the box powers off, or we are asked to end it.
    fn watch(&self, guest: &mut Guest, stop: &AtomicBool) -> Result<()> {
        loop {
            if let Some(status) = guest.ended()? {
                if status.success() {
                    return Ok(());
                }
                bail!("QEMU ended with {status}");
            }
            if stop.load(Ordering::Relaxed) {
                return match guest.power_off(SHUTDOWN)? {
                    true => Ok(()),
                    false => bail!("the box did not power off within {} s", SHUTDOWN.as_secs()),
                };
            }
            thread::sleep(GLANCE);
        }
    }

    /// Until the demo service answers through the front door, with a certificate of the box's own
    /// authority, or it is `over`.
    fn ready(&self, patience: Duration, mut over: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let Err(error) = self.ask() else {
                return Ok(());
            };
            if over() {
                bail!("the box ended before its service answered");
            }
            if Instant::now() > deadline {
                return Err(error.context(format!(
                    "the demo service did not answer within {} s",
                    patience.as_secs()
                )));
            }
            thread::sleep(GLANCE);
        }
    }

    fn ask(&self) -> Result<()> {
        let authority = web::http(self.http.host, "localhost", "/ca.crt", ANSWER)
            .context("asking for the authority's certificate")?;
        let trust = Trust::pem(&authority.body)?;
        let page = web::https(self.https.host, DEMO_HOST, "/", &trust, ANSWER)
            .context("asking for the demo service's page")?;
        if page.status != 200 {
            bail!("the demo service answers {}", page.status);
        }
        fs::write(self.authority(), &authority.body).context("keeping the certificate")
    }

    fn tell(&self) {
        let (https, http, service) = (self.https.host, self.http.host, self.service.host);
        say(&format!("Dashboard  https://localhost:{https}/"));
        say(&format!(
            "Demo       https://localhost:{service}/ and https://{DEMO_HOST}:{https}/"
        ));
        say(&format!(
            "Authority  curl http://localhost:{http}/ca.crt > ca.crt"
        ));
        say("The box's console follows; Ctrl-A x pulls the plug.");
    }

    fn described(&self, pid: u32) -> serde_json::Value {
        let (https, http, service) = (self.https.host, self.http.host, self.service.host);
        json!({
            "dashboard": format!("https://localhost:{https}/"),
            "service": format!("https://localhost:{service}/"),
            "service_by_name": format!("https://{DEMO_HOST}:{https}/"),
            "http": format!("http://localhost:{http}/"),
            "ca": self.authority(),
            "serial": self.serial(),
            "qmp": self.qmp(),
            "disk": self.disk.path,
            "pid": pid,
        })
    }

    fn serial(&self) -> PathBuf {
        self.scratch.path.join("serial.sock")
    }

    fn qmp(&self) -> PathBuf {
        self.scratch.path.join("qmp.sock")
    }

    fn authority(&self) -> PathBuf {
        self.scratch.path.join("ca.crt")
    }
}

/// A folder with a short path (a Unix socket's has room for 107 bytes), gone when dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pilotlight-{}", process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Keeps a second machine off the disk.
fn hold(disk: &Path) -> Result<File> {
    let mut name = disk.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::create(&name).with_context(|| Path::new(&name).display().to_string())?;
    if lock.try_lock().is_err() {
        bail!(
            "another box runs from {}: end it, or give --disk",
            disk.display()
        );
    }
    Ok(lock)
}

fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// The port of its own that the demo's interface asks for.
pub const DEMO_PORT: u16 = 8443;
/// The demo's name on this machine.
pub const DEMO_HOST: &str = "demo.localhost";
/// How often things that happen within seconds are looked at.
const GLANCE: Duration = Duration::from_millis(200);
/// QEMU's network accepts connections before the box does: short, so that the next try is soon.
const ANSWER: Duration = Duration::from_secs(5);
/// Services have ten seconds to stop, and an emulated processor makes everything slower.
const SHUTDOWN: Duration = Duration::from_secs(90);
