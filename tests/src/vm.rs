//! A box in QEMU: booted from the shared artifacts, driven over its serial console and HTTPS.
//!
//! What the console said is printed when a test fails, by [`Vm`]'s drop.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use boards::{
    accel::Accel,
    artifacts::Artifacts,
    board::Board,
    disk::{self, Disk},
    ports::{self, Forward},
    qemu::{Drive, Guest, Machine, Serial},
    web::{self, Response, Trust},
};

/// What the console has said, and the news of more.
#[derive(Default)]
struct Heard {
    text: Mutex<String>,
    news: Condvar,
}

/// A running box.
pub struct Vm {
    guest: Guest,
    console: UnixStream,
    heard: Arc<Heard>,
    https: Forward,
    http: Forward,
    initramfs: PathBuf,
    folder: PathBuf,
}

impl Vm {
    /// Boots a box with a new, empty disk and a network card.
    pub fn boot(name: &str) -> Result<Self> {
        Self::boot_with(name, "")
    }

    /// The same, with more words on the kernel's command line.
    pub fn boot_with(name: &str, append: &str) -> Result<Self> {
        let artifacts = Artifacts::shared()?;
        let board = Board::x86_64()?;
        let folder = std::env::temp_dir().join(format!("pilot-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let disk = Disk::create(&folder.join("disk.raw"), &artifacts.root, disk::SIZE)?;
        let forwards = ports::forward(&[443, 80])?;
        let [https, http] = forwards[..] else {
            bail!("no ports")
        };
        let (qmp, serial) = (folder.join("qmp"), folder.join("serial"));
        let accel = Accel::probe(&board.qemu.program, &folder);
        let drive = Drive {
            path: disk.path,
            snapshot: false,
            careless: true,
        };
        let guest = Machine::new(&board, accel, &artifacts.kernel, &artifacts.initramfs, &qmp)
            .append(append)
            .drive(drive)
            .network(&[https, http])
            .serial(Serial::Socket(serial.clone()))
            .dies_with_us()
            .start()?;
        let console = connect(&serial)?;
        let heard = Arc::<Heard>::default();
        listen(console.try_clone()?, heard.clone());
        Ok(Self {
            guest,
            console,
            heard,
            https,
            http,
            initramfs: artifacts.initramfs,
            folder,
        })
    }

    /// Waits until the demo service answers through the front door; gives the box's authority.
    pub fn wait_for_service(&self, patience: Duration) -> Result<Trust> {
        let deadline = Instant::now() + patience;
        loop {
            let ready = self.authority().and_then(|trust| {
                let response = self.get(&trust, "demo.localhost", "/")?;
                if response.status != 200 {
                    bail!("the demo service answers {}", response.status);
                }
                Ok(trust)
            });
            match ready {
                Ok(trust) => return Ok(trust),
                Err(e) if Instant::now() >= deadline => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    /// The box's authority, as port 80 gives it.
    pub fn authority(&self) -> Result<Trust> {
        let response = web::http(self.http.host, "localhost", "/ca.crt", ANSWER)?;
        Trust::pem(&response.body)
    }

    /// GET through the front door.
    pub fn get(&self, trust: &Trust, host: &str, path: &str) -> Result<Response> {
        web::https(self.https.host, host, path, trust, ANSWER)
    }

    /// The port of this machine that leads to the front door's TLS.
    pub fn https_port(&self) -> u16 {
        self.https.host
    }

    /// What it booted from.
    pub fn initramfs(&self) -> &Path {
        &self.initramfs
    }

    /// Types a line on the console.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.console.write_all(format!("{line}\r").as_bytes())?;
        Ok(())
    }

    /// Waits until the console has said `text`, from `since` on; gives the whole of it from there.
    pub fn expect(&self, since: usize, text: &str, patience: Duration) -> Result<String> {
        let text_so_far = self
            .heard
            .text
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let missing =
            |heard: &mut String| !heard.get(since..).is_some_and(|part| part.contains(text));
        let (heard, waited) = self
            .heard
            .news
            .wait_timeout_while(text_so_far, patience, missing)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            bail!("the console did not say {text:?} within {patience:?}");
        }
        Ok(heard[since..].to_owned())
    }

    /// Runs a command in the recovery console's shell and gives what it printed.
    pub fn shell(&mut self, command: &str) -> Result<String> {
        self.shell_within(command, CONSOLE)
    }

    /// The same for a command that takes long.
    pub fn shell_within(&mut self, command: &str, patience: Duration) -> Result<String> {
        let since = self.said().len();
        self.type_line("shell")?;
        self.expect(since, "(shell) # ", CONSOLE)
            .context("no shell")?;
        // The quotes keep the echo of the typed line from looking like the answer's ends.
        self.type_line(&format!(
            "echo 'answer-''begins'; {command}; echo 'answer-''ends'"
        ))?;
        let text = self.expect(since, "answer-ends", patience)?;
        let since = self.said().len();
        self.type_line("exit")?;
        self.expect(since, "pilotlight>", CONSOLE)
            .context("the shell does not end")?;
        let (_, answer) = text
            .split_once("answer-begins")
            .context("no begin of the answer")?;
        let (answer, _) = answer
            .split_once("answer-ends")
            .context("no end of the answer")?;
        Ok(answer.replace('\r', "").trim().to_owned())
    }

    /// All that the console has said.
    pub fn said(&self) -> String {
        self.heard
            .text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until the box has switched itself off.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<()> {
        self.guest.wait(patience)?;
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the console of the box ---\n{}\n---", self.said());
        }
        let _ = self.guest.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn connect(serial: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + CONSOLE;
    loop {
        match UnixStream::connect(serial) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() >= deadline => return Err(e).context("no serial console"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn listen(mut console: UnixStream, heard: Arc<Heard>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = console.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..n]);
            heard
                .text
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(&text);
            heard.news.notify_all();
        }
    });
}

/// One answer: an emulated box is some twenty times slower than a real one.
const ANSWER: Duration = Duration::from_secs(30);
const CONSOLE: Duration = Duration::from_secs(90);
