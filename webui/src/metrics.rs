//! Load and memory, as the kernel tells them in `/proc`.

use std::{fs, io, time::Duration};

use serde::Serialize;

/// Load and memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Processes that ran or waited for a disk, on average over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// How many processors there are to share that load.
    pub processors: usize,
    /// Memory in all, in bytes.
    pub memory_total: u64,
    /// What could be given to a process without swapping, in bytes, to the MiB.
    pub memory_available: u64,
}

impl Metrics {
    /// Asks the kernel. Two files of `/proc`, which no disk can delay.
    ///
    /// # Errors
    /// If `/proc` is not there or says what this does not understand.
    pub fn read() -> Result<Self, MetricsError> {
        let load = parse_load(&read("/proc/loadavg")?)?;
        let (memory_total, memory_available) = parse_memory(&read("/proc/meminfo")?)?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            load,
            processors,
            memory_total,
            memory_available,
        })
    }
}

/// How long the kernel has been running; zero if it does not tell.
pub fn uptime() -> Duration {
    read("/proc/uptime")
        .ok()
        .and_then(|text| parse_uptime(&text))
        .unwrap_or_default()
}

/// Why load and memory are not known.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A file could not be read.
    #[error("{path} could not be read: is /proc mounted?")]
    Read {
        /// Which.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file was read and not understood.
    #[error("{0} has another form than this kernel interface is known to have")]
    Form(&'static str),
}

fn read(path: &'static str) -> Result<String, MetricsError> {
    fs::read_to_string(path).map_err(|source| MetricsError::Read { path, source })
}

/// `350735.47 234388.90` (proc_uptime(5)).
fn parse_uptime(text: &str) -> Option<Duration> {
    let seconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// `0.20 0.18 0.12 1/80 11206` (proc_loadavg(5)).
fn parse_load(text: &str) -> Result<[f64; 3], MetricsError> {
    let form = || MetricsError::Form("/proc/loadavg");
    let mut words = text.split_ascii_whitespace();
    let mut next = || {
        words
            .next()
            .and_then(|w| w.parse().ok())
            .filter(|n: &f64| n.is_finite())
    };
    Ok([
        next().ok_or_else(form)?,
        next().ok_or_else(form)?,
        next().ok_or_else(form)?,
    ])
}

/// Total and available from the lines `Name:  123 kB` (proc_meminfo(5)).
fn parse_memory(text: &str) -> Result<(u64, u64), MetricsError> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
        kib.checked_mul(1024)
    };
    match (field("MemTotal:"), field("MemAvailable:")) {
        (Some(total), Some(available)) => Ok((total, available / MIB * MIB)),
        _ => Err(MetricsError::Form("/proc/meminfo")),
    }
}

/// Finer than that, every reading would differ from the last and be sent to every browser.
const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_three_numbers() {
        assert_eq!(
            parse_load("0.20 0.18 0.12 1/80 11206\n").unwrap(),
            [0.20, 0.18, 0.12]
        );
        for bad in ["", "0.20 0.18", "a b c", "NaN 0 0"] {
            assert!(parse_load(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn uptime_is_the_first_number() {
        assert_eq!(
            parse_uptime("12.25 20.00\n"),
            Some(Duration::from_millis(12_250))
        );
        for bad in ["", "x", "-1.0 2", "NaN 1"] {
            assert_eq!(parse_uptime(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn memory_is_bytes_rounded_to_the_mib() {
        let text = "MemTotal:        1015552 kB\nMemFree: 1 kB\nMemAvailable:     500001 kB\n";
        assert_eq!(parse_memory(text).unwrap(), (1015552 * 1024, 488 << 20));
        for bad in [
            "",
            "MemTotal: 1 kB\n",
            "MemTotal: x kB\nMemAvailable: 1 kB\n",
        ] {
            assert!(parse_memory(bad).is_err(), "{bad:?}");
        }
        let huge = format!("MemTotal: {} kB\nMemAvailable: 1 kB\n", u64::MAX);
        assert!(parse_memory(&huge).is_err());
    }

    #[test]
    fn this_machine_can_be_asked() {
        let metrics = Metrics::read().unwrap();
        assert!(metrics.memory_available <= metrics.memory_total && metrics.processors > 0);
    }
}
