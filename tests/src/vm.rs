//! A box in QEMU: booted from the shared artifacts, driven over its serial console and HTTPS.
//!
//! What the console said is printed, by [`Vm`]'s drop, of a box that was not seen to its end.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use boards::{
    ports::{self, Forward},
    qemu::{Guest, Serial},
    qmp::Qmp,
    web::{self, Response, Trust},
};

use crate::{
    kit::{Folder, Kit},
    owner,
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
    _folder: Arc<Folder>,
    ended_well: bool,
    initramfs: PathBuf,
}

impl Vm {
    /// Boots a box with a new, empty disk and a network card.
    pub fn boot(name: &str) -> Result<Self> {
        Self::boot_with(name, "")
    }

    /// The same, with more words on the kernel's command line.
    pub fn boot_with(name: &str, append: &str) -> Result<Self> {
        Self::of(&Kit::new(name)?.append(append))
    }

    /// Boots a box from its kit.
    pub fn of(kit: &Kit) -> Result<Self> {
        let folder = Arc::clone(kit.folder());
        let (qmp, serial) = (folder.0.join("qmp"), folder.0.join("serial"));
        for left_over in [&qmp, &serial] {
            let _ = std::fs::remove_file(left_over);
        }
        let forwards = ports::forward(&[443, 80])?;
        let [https, http] = forwards[..] else {
            bail!("no ports")
        };
        let mut machine = kit.machine(&qmp).serial(Serial::Socket(serial.clone()));
        if kit.has_network() {
            machine = machine.network(&[https, http]);
        }
        let guest = machine.start()?;
        let console = connect(&serial)?;
        let heard = Arc::<Heard>::default();
        listen(console.try_clone()?, heard.clone());
        Ok(Self {
            guest,
            console,
            heard,
            https,
            http,
            _folder: folder,
            ended_well: false,
            initramfs: kit.initramfs().to_owned(),
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

    /// The authority's certificate as port 80 gives it, and the address of a name behind the door.
    pub fn for_browser(&self, host: &str) -> Result<(Vec<u8>, String)> {
        let certificate = web::http(self.http.host, "localhost", "/ca.crt", ANSWER)?.body;
        Ok((certificate, format!("https://{host}:{}/", self.https.host)))
    }

    /// GET through the front door.
    pub fn get(&self, trust: &Trust, host: &str, path: &str) -> Result<Response> {
        web::https(self.https.host, host, path, trust, ANSWER)
    }

    /// Calls a method of the API, with the setup code for what changes something.
    pub fn call(
        &self,
        trust: &Trust,
        code: Option<&str>,
        method: &str,
        params: serde_json::Value,
    ) -> Result<serde_json::Value> {
        web::call(self.https.host, trust, code, (method, params), ANSWER)
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

    /// The setup code, as the console shows it.
    pub fn setup_code(&mut self) -> Result<String> {
        let since = self.said().len();
        self.type_line("setup-code")?;
        // What follows the code's own line.
        let said = self.expect(since, "Type it in the browser", CONSOLE)?;
        let code = said.lines().find_map(owner::code_in);
        Ok(code.context("the console shows no setup code")?.to_owned())
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
        self.ended_well = true;
        Ok(())
    }

    /// Cuts its power, at the end of a test that has seen what it wanted to.
    pub fn kill(mut self) -> Result<()> {
        self.guest.kill()?;
        self.ended_well = true;
        Ok(())
    }

    /// A connection to the machine's control socket.
    pub fn qmp(&self) -> Result<Qmp> {
        self.guest.qmp()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.ended_well {
            eprintln!("--- the console of the box ---\n{}\n---", self.said());
        }
        let _ = self.guest.kill();
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
