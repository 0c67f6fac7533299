//! `pilot s9pk download`, and packages that are read where they are.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use s9pk::{
    Hash, Outcome, Progress,
    http::{Remote, Settings, Url, pem_roots},
};

use super::error::PackageError;

/// What to fetch, from where, to where.
#[derive(Debug, Args)]
pub(crate) struct Download {
    /// Where it is; further addresses are asked when one fails
    #[arg(required = true)]
    urls: Vec<String>,
    /// The file to make
    #[arg(short, long)]
    output: PathBuf,
    /// Take only the package with this root (see `inspect`)
    #[arg(long, value_name = "HASH", value_parser = hash)]
    root: Option<Hash>,
    #[command(flatten)]
    far: Far,
}

/// How to reach servers.
#[derive(Debug, Args)]
pub(crate) struct Far {
    /// Trust the authorities in this PEM file, instead of those that browsers trust
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Download {
    /// Fetches it; shows how that is getting on if somebody is looking.
    pub(super) fn run(&self) -> Result<Outcome, PackageError> {
        let urls: Result<_, _> = self.urls.iter().map(|url| Url::parse(url)).collect();
        let job = s9pk::Download {
            urls: urls.map_err(s9pk::http::FetchError::from)?,
            target: self.output.clone(),
            expected: self.root,
            settings: self.far.settings()?,
        };
        let watched = io::stderr().is_terminal();
        let outcome = job.run(&mut |progress| {
            if watched {
                // Whoever looks away misses nothing but this.
                let _ = write!(io::stderr(), "\r{}\x1b[K", line(progress));
            }
        });
        if watched {
            eprintln!();
        }
        Ok(outcome?)
    }
}

impl Far {
    /// A package at its server.
    pub(super) fn open(&self, url: &str) -> Result<Remote, PackageError> {
        let url = Url::parse(url).map_err(s9pk::http::FetchError::from)?;
        Ok(Remote::open(&[url], &self.settings()?)?)
    }

    fn settings(&self) -> Result<Settings, PackageError> {
        let mut settings = Settings::default();
        if let Some(path) = &self.ca {
            let pem = fs::read(path).map_err(PackageError::io(path))?;
            settings.roots = pem_roots(&pem)?;
        }
        Ok(settings)
    }
}

/// How far it is, in a line.
fn line(progress: &Progress) -> String {
    let percent = (progress.done * 100).checked_div(progress.total);
    let left = progress.left.map(|left| format!(", {} left", clock(left)));
    format!(
        "{:3} %  {} of {}  {}/s{}",
        percent.unwrap_or(100),
        size(progress.done),
        size(progress.total),
        size(progress.rate),
        left.unwrap_or_default()
    )
}

fn size(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{mebibytes:.1} MiB"),
        _ => format!("{:.2} GiB", mebibytes / 1024.0),
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

fn hash(text: &str) -> Result<Hash, &'static str> {
    Hash::from_hex(text).ok_or("a root is 64 hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_line() {
        let progress = Progress {
            done: 300 << 20,
            total: 1 << 30,
            received: 1 << 20,
            rate: 100 << 10,
            left: Some(Duration::from_secs(7415)),
        };
        assert_eq!(
            line(&progress),
            " 29 %  300.0 MiB of 1.00 GiB  100 KiB/s, 2:03:35 left"
        );
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(size(1023), "1023 B");
    }

    #[test]
    fn a_root_is_read_as_it_is_shown() {
        let root = Hash::of(b"x");
        assert_eq!(hash(&root.to_string()), Ok(root));
        for wrong in ["", "12", &"+1".repeat(32), &"\u{e4}".repeat(32)] {
            assert!(hash(wrong).is_err(), "{wrong}");
        }
    }
}
