//! A real browser: headless Chromium, driven over its DevTools pipe (descriptors 3 and 4, one JSON
//! message after another, each ended by a NUL). It trusts one box's authority and nobody else's.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

/// A browser with one page open.
pub struct Chrome {
    child: Child,
    requests: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    asked: u64,
    events: VecDeque<Value>,
    home: PathBuf,
}

impl Chrome {
    /// Starts it with an empty profile that trusts the authority in `ca`, a PEM file.
    pub fn start(name: &str, ca: &[u8]) -> Result<Self> {
        let home = std::env::temp_dir().join(format!("pilot-{name}-{}", std::process::id()));
        trust(&home, ca)?;
        let mut child = command(&home).spawn().context("no Chromium")?;
        let requests = child.stdin.take().context("no pipe")?;
        let messages = listen(child.stdout.take().context("no pipe")?);
        let mut chrome = Self {
            child,
            requests,
            messages,
            session: String::new(),
            asked: 0,
            events: VecDeque::new(),
            home,
        };
        chrome.open_page().context("Chromium does not answer")?;
        Ok(chrome)
    }

    /// Goes to an address.
    pub fn go(&mut self, url: &str) -> Result<()> {
        let answer = self.call("Page.navigate", json!({ "url": url }))?;
        match answer["errorText"].as_str() {
            Some(text) => bail!("{url}: {text}"),
            None => Ok(()),
        }
    }

    /// The value of a JavaScript expression on the page.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until a JavaScript expression is true on the page.
    pub fn until(&mut self, expression: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if self.evaluate(expression).is_ok_and(|value| value == true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let page = self.evaluate("document.body.innerText")?;
                bail!("not within {patience:?}: {expression}\nthe page says:\n{page}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The size of the window in CSS pixels, and whether the system's colours are dark.
    pub fn look_through(&mut self, width: u32, height: u32, dark: bool) -> Result<()> {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )?;
        Ok(())
    }

    /// A picture of the window, as a PNG file.
    pub fn picture(&mut self, file: &Path) -> Result<()> {
        let params = json!({ "format": "png", "optimizeForSpeed": false });
        let answer = self.call("Page.captureScreenshot", params)?;
        let text = answer["data"].as_str().context("no picture")?;
        std::fs::write(file, BASE64_STANDARD.decode(text)?)?;
        Ok(())
    }

    /// What the console has said so far that is an error or a warning, or was thrown.
    pub fn complaints(&mut self) -> Vec<String> {
        while let Ok(message) = self.messages.try_recv() {
            self.events.push_back(message);
        }
        self.events.iter().filter_map(complaint).collect()
    }

    fn open_page(&mut self) -> Result<()> {
        let page = self.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let params = json!({ "targetId": page["targetId"], "flatten": true });
        let answer = self.call("Target.attachToTarget", params)?;
        answer["sessionId"]
            .as_str()
            .context("no session")?
            .clone_into(&mut self.session);
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            self.call(domain, json!({}))?;
        }
        Ok(())
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.asked += 1;
        let mut request = json!({ "id": self.asked, "method": method, "params": params });
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&request)?;
        bytes.push(0);
        self.requests.write_all(&bytes)?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self
                .messages
                .recv_timeout(left)
                .map_err(|e| anyhow!("{method}: {e}"))?;
            if message["id"] != self.asked {
                self.events.push_back(message);
                continue;
            }
            ensure!(message.get("error").is_none(), "{method}: {message}");
            return Ok(message["result"].clone());
        }
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        // Its own processes end with it; a browser that does not end by itself is killed.
        let _ = self.call("Browser.close", json!({}));
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// Chromium takes its trusted authorities from the NSS database in the home folder.
fn trust(home: &Path, ca: &[u8]) -> Result<()> {
    let database = home.join(".pki/nssdb");
    std::fs::create_dir_all(&database)?;
    let file = home.join("ca.crt");
    std::fs::write(&file, ca)?;
    let place = format!("sql:{}", database.display());
    for words in [
        vec!["-N", "--empty-password"],
        vec![
            "-A",
            "-n",
            "box",
            "-t",
            "C,,",
            "-i",
            &file.to_string_lossy(),
        ],
    ] {
        let output = Command::new("certutil")
            .args(["-d", &place])
            .args(words)
            .output()
            .context("certutil can't be started")?;
        ensure!(output.status.success(), "certutil: {output:?}");
    }
    Ok(())
}

/// The shell moves the two pipes to where Chromium looks for them.
fn command(home: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "sh",
            "-c",
            MOVE_PIPES,
            "sh",
            "chromium",
        ])
        .args(FLAGS)
        .arg(format!(
            "--user-data-dir={}",
            home.join("profile").display()
        ))
        .env("HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    command
}

fn listen(pipe: ChildStdout) -> Receiver<Value> {
    let (sender, messages) = channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while let Ok(1..) = pipe.read_until(0, &mut bytes) {
            bytes.pop();
            let message = serde_json::from_slice(&bytes);
            bytes.clear();
            if message.is_ok_and(|message| sender.send(message).is_err()) {
                return;
            }
        }
    });
    messages
}

fn complaint(event: &Value) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled"
            if ["error", "warning", "assert"].contains(&params["type"].as_str()?) =>
        {
            Some(params["args"].to_string())
        }
        "Log.entryAdded" if ["error", "warning"].contains(&params["entry"]["level"].as_str()?) => {
            Some(params["entry"].to_string())
        }
        _ => None,
    }
}

const MOVE_PIPES: &str = r#"exec "$@" 3<&0 4>&1 0</dev/null 1>&2"#;
/// The sandbox does not run as root; the rest keeps Chromium from asking the network for anything.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
];
/// One answer of the browser, on a machine that emulates two boxes meanwhile.
const ANSWER: Duration = Duration::from_secs(60);
