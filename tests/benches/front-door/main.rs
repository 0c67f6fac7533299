//! The front door beside its peers: nginx, HAProxy, and hyper with tokio-rustls.
//!
//! Every contender is one process on a processor of its own, with the same certificate and the same
//! upstream; load and upstream share the other processor. Rounds alternate between contenders, so
//! that whatever else the machine does slows all alike. Rates need a quiet machine; what a unit
//! costs in processor time (from `schedstat`) can be trusted on a busy one too.
//!
//! `cargo bench -p tests --bench front-door`, or `cargo prove bench`. Nothing fails here for being
//! slow. After `--`: `--rounds 5`, `--seconds 0.7`, `--measures requests,bulk`,
//! `--contenders door,nginx`, `--tcp` (the upstream on TCP and not on a Unix socket).
//!
//! | module | concept |
//! |---|---|
//! | `contender` | one of the four at work, and what it uses |
//! | `door`, `peer`, `upstream` | processes made of this file: our door, hyper's, what is behind |
//! | `client` | TLS connections of the load |
//! | `requests`, `http2`, `handshakes`, `idle`, `flood` | what is measured |
//! | `table` | medians and ratios |

#![forbid(unsafe_code)]

use std::{env, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};

mod client;
mod contender;
mod door;
mod flood;
mod handshakes;
mod http2;
mod idle;
mod peer;
mod requests;
mod table;
mod upstream;

use contender::{Contender, Kind, Room};
use table::{Sample, Table};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    descriptors();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        // We run ourselves, as processes like the peers'.
        ["be-door", room, port] => door::run(&Room::at(room), port.parse()?),
        ["be-hyper", room, port] => peer::run(&Room::at(room), port.parse()?),
        ["be-upstream", room] => upstream::run(&Room::at(room)),
        _ => compare(&Options::parse(&arguments)?),
    }
}

fn compare(options: &Options) -> Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("front-door");
    fs::create_dir_all(&folder)?;
    let measured = measure(options, &folder);
    fs::remove_dir_all(&folder)?;
    measured
}

fn measure(options: &Options, folder: &Path) -> Result<()> {
    let room = Room::furnish(folder, options.tcp)?;
    on_processor(LOAD)?;
    let _upstream = contender::upstream(&room)?;
    println!(
        "medians of {} alternating rounds of {:?}",
        options.rounds, options.seconds
    );
    for measure in &options.measures {
        let mut table = Table::new(measure.name(), &options.contenders);
        for round in 0..measure.rounds(options) {
            let mut order = options.contenders.clone();
            let count = order.len();
            order.rotate_left(round % count);
            for kind in order {
                let contender = Contender::start(kind, &room)?;
                let sample = measure
                    .take(&contender, options)
                    .with_context(|| format!("{} of {kind:?}", measure.name()))?;
                table.add(kind, sample);
            }
        }
        println!("{table}");
    }
    Ok(())
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Requests,
    Larger,
    Http2,
    Bulk,
    Handshakes,
    Resumed,
    Flood,
    Idle,
}

impl Measure {
    const ALL: [Self; 8] = [
        Self::Requests,
        Self::Larger,
        Self::Http2,
        Self::Bulk,
        Self::Handshakes,
        Self::Resumed,
        Self::Flood,
        Self::Idle,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Larger => "larger",
            Self::Http2 => "http2",
            Self::Bulk => "bulk",
            Self::Handshakes => "handshakes",
            Self::Resumed => "resumed",
            Self::Flood => "flood",
            Self::Idle => "idle",
        }
    }

    /// Memory does not depend on what else the machine does.
    fn rounds(self, options: &Options) -> usize {
        if self == Self::Idle {
            1
        } else {
            options.rounds
        }
    }

    fn take(self, contender: &Contender, options: &Options) -> Result<Sample> {
        let time = options.seconds;
        match self {
            Self::Requests => requests::small(contender, time),
            Self::Larger => requests::larger(contender, time),
            Self::Http2 => http2::requests(contender, time),
            Self::Bulk => requests::bulk(contender, time),
            Self::Handshakes => handshakes::full(contender, time),
            Self::Resumed => handshakes::resumed(contender, time),
            Self::Flood => flood::latency(contender, time),
            Self::Idle => idle::memory(contender),
        }
    }
}

struct Options {
    rounds: usize,
    seconds: Duration,
    tcp: bool,
    measures: Vec<Measure>,
    contenders: Vec<Kind>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            rounds: 5,
            seconds: Duration::from_millis(700),
            tcp: false,
            measures: Measure::ALL.to_vec(),
            contenders: Kind::ALL.to_vec(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().context("it takes a value");
            match argument.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--tcp" => options.tcp = true,
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.seconds = Duration::from_secs_f64(value()?.parse()?),
                "--measures" => options.measures = chosen(value()?, &Measure::ALL, |m| m.name())?,
                "--contenders" => options.contenders = chosen(value()?, &Kind::ALL, |k| k.name())?,
                other => bail!("there is no option {other:?}"),
            }
        }
        Ok(options)
    }
}

fn chosen<T: Copy>(names: &str, all: &[T], name: impl Fn(&T) -> &'static str) -> Result<Vec<T>> {
    let find = |wanted: &str| {
        let found = all.iter().find(|one| name(one) == wanted);
        found
            .copied()
            .with_context(|| format!("there is no {wanted:?}"))
    };
    names.split(',').map(find).collect()
}

/// Keeps the calling thread, and what it starts, to one processor.
fn on_processor(number: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(number);
    sched_setaffinity(None, &set).context("this takes two processors")
}

/// As many descriptors as may be had: ten thousand connections are two or three each.
fn descriptors() {
    let wanted = Some(65_536);
    let raised = Rlimit {
        current: wanted,
        maximum: wanted,
    };
    if setrlimit(Resource::Nofile, raised).is_err() {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Where contenders run, and where everything else does.
const CONTENDER: usize = 0;
const LOAD: usize = 1;
