//! The process of the initramfs that stays behind, asked over the second serial port.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// The way to it.
pub(crate) struct Observer {
    lines: BufReader<UnixStream>,
}

/// A moment of the guest: its clock, and how long tasks have run so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) clock: Duration,
    pub(crate) work: Duration,
}

/// Memory as the kernel and its processes have it, in KiB.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// `/proc/meminfo`.
    pub(crate) whole: Vec<(String, u64)>,
    /// `smaps_rollup` of each process: pid, name, figure, KiB.
    pub(crate) processes: Vec<(u32, String, String, u64)>,
}

impl Observer {
    /// Waits for QEMU to make the socket, and for the initramfs to start the observer.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let lines = BufReader::new(stream);
        let mut observer = Self { lines };
        observer.answer("start")?;
        Ok(observer)
    }

    /// Now.
    pub(crate) fn moment(&mut self) -> Result<Moment> {
        moment(&self.ask("moment")?)
    }

    /// When the initramfs gave way to the system's own init.
    pub(crate) fn exec(&mut self) -> Result<Moment> {
        moment(&self.ask("mark exec")?)
    }

    /// When the initramfs sent its frame.
    pub(crate) fn frame(&mut self) -> Result<Duration> {
        let text = self.ask("mark frame")?;
        let stamp = text
            .split_once(": net_dev")
            .and_then(|(before, _)| before.split_whitespace().last());
        let seconds = stamp.and_then(|stamp| stamp.parse().ok());
        seconds
            .map(Duration::from_secs_f64)
            .with_context(|| format!("no stamp in {text:?}"))
    }

    /// What memory is used for.
    pub(crate) fn memory(&mut self) -> Result<Memory> {
        let mut memory = Memory::default();
        for line in self.ask("memory")?.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [name, kib, "kB"] => {
                    memory
                        .whole
                        .push((name.trim_end_matches(':').to_owned(), kib.parse()?));
                }
                [pid, name, figure, kib, "kB"] => memory.processes.push((
                    pid.parse()?,
                    name.to_owned(),
                    figure.trim_end_matches(':').to_owned(),
                    kib.parse()?,
                )),
                _ => {}
            }
        }
        Ok(memory)
    }

    fn ask(&mut self, what: &str) -> Result<String> {
        writeln!(self.lines.get_mut(), "{what}")?;
        self.answer(what)
    }

    fn answer(&mut self, what: &str) -> Result<String> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let read = self
                .lines
                .read_line(&mut line)
                .with_context(|| format!("{what}: {text}"))?;
            anyhow::ensure!(read > 0, "the guest has gone");
            match line.trim() {
                "end" => return Ok(text),
                _ => text += &line,
            }
        }
    }
}

/// Connects to a socket that QEMU makes.
pub(crate) fn connect(socket: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + QEMU_STARTS;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > deadline => return Err(e).context("no QEMU"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn moment(text: &str) -> Result<Moment> {
    let nanoseconds = |word: Option<&str>| -> Result<Duration> {
        let word = word.with_context(|| format!("no moment in {text:?}"))?;
        Ok(Duration::from_nanos(word.parse()?))
    };
    let mut words = text.split_whitespace();
    Ok(Moment {
        clock: nanoseconds(words.next())?,
        work: nanoseconds(words.next())?,
    })
}

/// Under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
const QEMU_STARTS: Duration = Duration::from_secs(30);
