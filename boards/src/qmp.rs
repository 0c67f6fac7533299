//! The machine's side door: QEMU's control protocol, one JSON value a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection, greeted and ready for commands.
#[derive(Debug)]
pub struct Qmp {
    lines: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Qmp {
    /// Connects, waiting until QEMU has made the socket.
    ///
    /// # Errors
    /// When nobody answers within `patience`.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self> {
        let deadline = Instant::now() + patience;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("no QEMU at {}", socket.display()));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut qmp = Self {
            lines: BufReader::new(stream),
            events: Vec::new(),
        };
        qmp.read(deadline.max(Instant::now() + ANSWER))?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Carries out a command and gives what it returns.
    ///
    /// # Errors
    /// When QEMU refuses it, or does not answer within ten seconds.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = format!(
            "{}\n",
            json!({ "execute": command, "arguments": arguments })
        );
        self.lines
            .get_mut()
            .write_all(line.as_bytes())
            .context("QEMU has gone")?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let mut message = self.read(deadline)?;
            if let Some(error) = message.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            }
            self.events.push(message);
        }
    }

    /// Waits for an event of this name, or takes one that came earlier.
    ///
    /// # Errors
    /// When it does not come within `patience`.
    pub fn event(&mut self, name: &str, patience: Duration) -> Result<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let known = self.events.iter().position(|event| event["event"] == name);
            if let Some(position) = known {
                return Ok(self.events.remove(position));
            }
            let message = self
                .read(deadline)
                .with_context(|| format!("no {name} from QEMU"))?;
            self.events.push(message);
        }
    }

    fn read(&mut self, deadline: Instant) -> Result<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        // A time-out of zero would mean none at all.
        self.lines
            .get_ref()
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut line = String::new();
        if self
            .lines
            .read_line(&mut line)
            .context("QEMU does not answer")?
            == 0
        {
            bail!("QEMU has closed the connection");
        }
        serde_json::from_str(&line).context("QEMU sent no JSON")
    }
}

/// QEMU answers at once unless its host is drowning.
const ANSWER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::Qmp;
    use serde_json::json;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn events_before_an_answer_are_kept_for_later() {
        let path = std::env::temp_dir().join(format!("boards-qmp-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
            lines.next().unwrap().unwrap();
            stream.write_all(b"{\"return\": {}}\n").unwrap();
            lines.next().unwrap().unwrap();
            stream
                .write_all(b"{\"event\": \"RESET\"}\n{\"return\": {\"running\": true}}\n")
                .unwrap();
        });
        let mut qmp = Qmp::connect(&path, Duration::from_secs(5)).unwrap();
        let status = qmp.execute("query-status", json!({})).unwrap();
        assert_eq!(status["running"], true);
        assert!(qmp.event("RESET", Duration::from_secs(1)).is_ok());
        qemu.join().unwrap();
        assert!(qmp.event("SHUTDOWN", Duration::from_millis(50)).is_err());
    }
}
