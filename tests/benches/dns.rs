//! Answers from the cache: the box's name server beside dnsmasq and unbound.
//!
//! Each is one process with one thread on a processor of its own; dnsperf and everything else share
//! the other. Rounds alternate between them, so that whatever else the machine does slows all alike,
//! and medians are compared. Rates need a quiet machine; what an answer costs in processor time can
//! be trusted on a busy one too. `cargo bench -p tests --bench dns`, or `cargo prove bench`. Nothing
//! fails here for being slow.

#![forbid(unsafe_code)]

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    num::NonZero,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netstack::names::{self, DnsConfig, DnsSettings, NameServer, Setup};
use rustix::thread::{CpuSet, sched_setaffinity};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().collect();
    // We run ourselves, as a process like the peers'.
    if let [_, command, port] = arguments.as_slice()
        && command == "be-names"
    {
        return be_names(port.parse()?);
    }
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dns-bench");
    fs::create_dir_all(&room)?;
    let measured = compare(&room);
    fs::remove_dir_all(&room)?;
    measured
}

fn compare(room: &Path) -> Result<()> {
    on_processor(1)?;
    let questions = room.join("questions");
    let lines: String = (0..NAMES)
        .map(|n| format!("n{n}.example.org A\n"))
        .collect();
    fs::write(&questions, lines)?;
    let _upstream = Server::start(Kind::Upstream, room)?;
    let contenders = [Kind::Ours, Kind::Dnsmasq, Kind::Unbound];
    let started = contenders.map(|kind| Server::start(kind, room));
    let mut servers = Vec::new();
    for server in started {
        servers.push((server?, Vec::<Sample>::new()));
    }
    println!("medians of {ROUNDS} alternating rounds of {ROUND_SECONDS} s, {NAMES} names");
    for round in 0..ROUNDS {
        let count = servers.len();
        for n in 0..count {
            let (server, samples) = &mut servers[(round + n) % count];
            samples.push(server.measure(&questions)?);
        }
    }
    let ours = median(&servers[0].1);
    for (server, samples) in &servers {
        let got = median(samples);
        println!(
            "{:>8}: {:>8.0} answers/s ({:.2} of ours), {:>5.2} us of processor time each, \
             p50 {:.0} us, p99 {:.0} us",
            server.kind.name(),
            got.rate,
            got.rate / ours.rate,
            got.cost_us,
            got.p50_us,
            got.p99_us,
        );
    }
    Ok(())
}

/// One round's figures.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rate: f64,
    cost_us: f64,
    p50_us: f64,
    p99_us: f64,
}

fn median(samples: &[Sample]) -> Sample {
    let of = |figure: fn(&Sample) -> f64| {
        let mut all: Vec<f64> = samples.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Sample {
        rate: of(|s| s.rate),
        cost_us: of(|s| s.cost_us),
        p50_us: of(|s| s.p50_us),
        p99_us: of(|s| s.p99_us),
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Dnsmasq,
    Unbound,
    /// Whom the others ask.
    Upstream,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "unbound",
            Self::Upstream => "upstream",
        }
    }

    fn port(self) -> u16 {
        FIRST_PORT + self as u16
    }

    fn command(self, room: &Path) -> Result<Command> {
        let port = self.port();
        let upstream = Self::Upstream.port();
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["be-names", &port.to_string()]);
                command
            }
            Self::Dnsmasq => {
                let mut command = Command::new("dnsmasq");
                command
                    .args([
                        "--keep-in-foreground",
                        "--conf-file=/dev/null",
                        "--no-resolv",
                    ])
                    .args([
                        "--no-hosts",
                        "--user=root",
                        "--bind-interfaces",
                        "--pid-file=",
                    ])
                    .args(["--listen-address=127.0.0.1", "--cache-size=10000"])
                    .arg(format!("--port={port}"))
                    .arg(format!("--server=127.0.0.1#{upstream}"));
                command
            }
            Self::Unbound | Self::Upstream => {
                let file = room.join(format!("{}.conf", self.name()));
                fs::write(&file, self.unbound_conf())?;
                let mut command = Command::new("unbound");
                command.arg("-d").arg("-c").arg(file);
                command
            }
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command)
    }

    fn unbound_conf(self) -> String {
        let own = match self {
            Self::Upstream => " local-zone: \"example.org.\" redirect\n \
                 local-data: \"example.org. 36000 IN A 192.0.2.1\"\n"
                .to_owned(),
            _ => {
                " do-not-query-localhost: no\n prefetch: no\nforward-zone:\n name: \".\"\n"
                    .to_owned()
                    + &format!(" forward-addr: 127.0.0.1@{}\n", Self::Upstream.port())
            }
        };
        format!(
            "remote-control:\n control-enable: no\nserver:\n interface: 127.0.0.1@{}\n\
             do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n directory: \"\"\n\
             use-syslog: no\n num-threads: 1\n module-config: \"iterator\"\n{own}",
            self.port()
        )
    }
}

/// One of them at work; ended when dropped.
struct Server {
    kind: Kind,
    child: Child,
}

impl Server {
    fn start(kind: Kind, room: &Path) -> Result<Self> {
        on_processor(usize::from(kind == Kind::Upstream))?;
        let child = kind.command(room)?.spawn().context(kind.name());
        on_processor(1)?;
        let server = Self {
            kind,
            child: child?,
        };
        let began = Instant::now();
        let mut asked = 0_u64;
        while server.round_trips(1, &mut asked).is_err() {
            ensure!(began.elapsed() < PATIENCE, "{} never answers", kind.name());
            thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    fn measure(&self, questions: &Path) -> Result<Sample> {
        let file = questions.display().to_string();
        let port = self.kind.port().to_string();
        let load = |more: &[&str]| -> Result<String> {
            let output = Command::new("dnsperf")
                .args(["-s", "127.0.0.1", "-p", &port, "-d", &file, "-q", "100"])
                .args(["-c", "4", "-T", "1", "-t", "30"])
                .args(more)
                .output()?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        // All names are known after this.
        load(&["-n", "2"])?;
        let before = self.used()?;
        let output = load(&["-l", &ROUND_SECONDS.to_string()])?;
        let used = self.used()? - before;
        let figure = |what: &str| -> Result<f64> {
            let line = output
                .lines()
                .find_map(|line| line.trim().strip_prefix(what));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            Ok(word
                .with_context(|| format!("no {what:?}: {output}"))?
                .parse()?)
        };
        let completed = figure("Queries completed:")?;
        let mut asked = 0;
        let times = self.round_trips(ROUND_TRIPS, &mut asked)?;
        let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
        Ok(Sample {
            rate: figure("Queries per second:")?,
            cost_us: used.as_secs_f64() * 1e6 / completed,
            p50_us: at(50),
            p99_us: at(99),
        })
    }

    /// Sorted times of so many questions, one after the other.
    fn round_trips(&self, count: usize, asked: &mut u64) -> Result<Vec<Duration>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, self.kind.port()))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut times = Vec::with_capacity(count);
        let mut buffer = [0; 512];
        for _ in 0..count {
            *asked += 1;
            let name = format!("n{}", *asked % NAMES);
            let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
            message.extend(name.as_bytes());
            message.extend(b"\x07example\x03org\0\0\x01\0\x01");
            let began = Instant::now();
            socket.send(&message)?;
            let length = socket.recv(&mut buffer)?;
            times.push(began.elapsed());
            ensure!(buffer[3] & 15 == 0 && length > message.len(), "it fails");
        }
        times.sort_unstable();
        Ok(times)
    }

    /// Processor time that it has used.
    fn used(&self) -> Result<Duration> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let mut used = Duration::ZERO;
        for task in fs::read_dir(tasks)? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().context("no time")?;
            used += Duration::from_nanos(first.parse()?);
        }
        Ok(used)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The box's name server, on a port of loopback.
fn be_names(port: u16) -> Result<()> {
    let (sender, receiver) = names::channel()?;
    let server = NameServer {
        port: Some(Kind::Upstream.port()),
        ..NameServer::plain(Ipv4Addr::LOCALHOST.into())
    };
    let config = DnsConfig {
        settings: DnsSettings {
            servers: vec![server],
            ..DnsSettings::default()
        },
        ..DnsConfig::default()
    };
    sender.send(names::Command::Resolve(Box::new(config)));
    let place = (Ipv4Addr::LOCALHOST, port);
    sender.send(names::Command::Listen {
        address: place.0.into(),
        datagrams: UdpSocket::bind(place)?,
        listener: TcpListener::bind(place)?,
    });
    let setup = Setup {
        log: Box::new(|line| eprintln!("{line}")),
        on_hostname: Box::new(|_| {}),
        on_dns: Box::new(|_| {}),
    };
    names::run(setup, receiver)?;
    Ok(())
}

/// Keeps the calling thread, and what it starts, to one processor.
fn on_processor(number: usize) -> Result<()> {
    // Before this thread was kept to one of them.
    static LAST: LazyLock<usize> = LazyLock::new(|| {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        count.saturating_sub(1)
    });
    let mut set = CpuSet::new();
    set.set(number.min(*LAST));
    sched_setaffinity(None, &set)?;
    Ok(())
}

const FIRST_PORT: u16 = 15_300;
const NAMES: u64 = 1000;
const ROUNDS: usize = 5;
const ROUND_SECONDS: u64 = 2;
const ROUND_TRIPS: usize = 2000;
const PATIENCE: Duration = Duration::from_secs(60);
