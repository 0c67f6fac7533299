//! The front door before the judgement of others: testssl.sh, sslyze, the Autobahn cases,
//! slowhttptest, curl and h2load, natively over loopback.
//!
//! There is no HTTP/2 conformance suite in Debian, PyPI or npm (h2spec is in none of them): what the
//! standard says of broken clients is tested frame by frame in `netstack/tests/door/http2.rs`, and
//! nghttp2's h2load and curl show here that others' clients are served.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use boards::{
    tool,
    web::{self, Trust},
};
use tests::{
    front::{self, Front},
    venv,
};

#[test]
fn testssl_finds_nothing_but_the_private_authority() -> Result<()> {
    testssl(&["--fast", "-p", "-s", "-P", "-S", "-h"])
}

#[test]
#[ignore = "all of testssl.sh takes minutes"]
fn all_of_testssl_finds_nothing_but_the_private_authority() -> Result<()> {
    testssl(&[])
}

fn testssl(checks: &[&str]) -> Result<()> {
    let front = Front::open(front::service()?)?;
    let folder = Folder::new("testssl")?;
    let findings = folder.0.join("findings.csv");
    let mut command = Command::new("testssl");
    command.args([
        "--quiet",
        "--color",
        "0",
        "--warnings",
        "batch",
        "--csvfile",
    ]);
    command.arg(&findings).args(checks);
    // Its status counts findings; what they are is in the file.
    let text = command.arg(front.url("/emergency")).output()?.stdout;
    let text = String::from_utf8_lossy(&text);
    let findings = fs::read_to_string(findings).context("testssl.sh wrote nothing")?;
    let rows: Vec<Vec<&str>> = findings
        .lines()
        .skip(1)
        .map(|line| line.split("\",\"").collect())
        .collect();
    let known = |row: &Vec<&str>| row.len() > 4;
    ensure!(
        rows.iter().filter(|row| known(row)).count() > 20,
        "it looked at nothing: {text}"
    );
    let bad: Vec<String> = rows
        .iter()
        .filter(|row| known(row) && ["MEDIUM", "HIGH", "CRITICAL"].contains(&row[3]))
        .filter(|row| !PRIVATE.contains(&row[0].trim_start_matches('"')))
        .map(|row| row.join(" | "))
        .collect();
    ensure!(bad.is_empty(), "{bad:#?}");
    front.close()
}

#[test]
fn sslyze_finds_nothing_but_the_private_authority() -> Result<()> {
    let front = Front::open(front::service()?)?;
    // Its status says whether all of Mozilla's "intermediate" configuration is met.
    let output = Command::new(venv::program("sslyze")?)
        .arg(format!("127.0.0.1:{}", front.https))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, judged) = text
        .split_once("COMPLIANCE AGAINST TLS CONFIGURATION")
        .with_context(|| format!("sslyze came to no judgement: {text}"))?;
    let findings: Vec<&str> = judged
        .lines()
        .filter_map(|line| line.trim().strip_prefix("* "))
        .collect();
    let other = |finding: &&&str| !finding.starts_with("certificate_path_validation");
    ensure!(!findings.iter().any(|f| other(&f)), "{findings:#?}");
    ensure!(
        findings.len() == 1,
        "the private authority was not noticed: {judged}"
    );
    front.close()
}

#[test]
fn autobahns_cases_end_as_without_the_door() -> Result<()> {
    autobahn(&["1.*", "2.*", "3.*", "4.*", "5.*", "7.*", "10.*"], 100)
}

#[test]
#[ignore = "UTF-8 and limits: some minutes"]
fn autobahns_long_cases_end_as_without_the_door() -> Result<()> {
    autobahn(&["6.*", "9.*"], 150)
}

fn autobahn(groups: &[&str], least: usize) -> Result<()> {
    let port = free_port()?;
    let script = format!("import asyncio, websockets\n{ECHO}\nasyncio.run(main({port}))\n");
    let mut echo = Command::new(venv::program("python3")?);
    let _echo = Running::start(echo.args(["-c", &script]), port)?;
    let front = Front::open(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    // The cases are spoken without TLS: socat puts it around them.
    let outer = free_port()?;
    let listen = format!("TCP-LISTEN:{outer},fork,reuseaddr,bind=127.0.0.1");
    let to = format!("OPENSSL:127.0.0.1:{},verify=0", front.https);
    let _socat = Running::start(Command::new("socat").args([listen, to]), outer)?;
    let (direct, passed) = (failed_cases(groups, port)?, failed_cases(groups, outer)?);
    ensure!(passed.1 >= least, "only {} cases were run", passed.1);
    ensure!(
        passed == direct,
        "through the door {passed:?}, without it {direct:?}"
    );
    println!(
        "{} cases, failed with and without the door: {:?}",
        passed.1, passed.0
    );
    front.close()
}

/// The cases that the server at `port` fails, and how many there were.
fn failed_cases(groups: &[&str], port: u16) -> Result<(BTreeSet<String>, usize)> {
    let folder = Folder::new(&format!("autobahn-{port}"))?;
    let mut command = Command::new(venv::program("kosoku")?);
    command
        .arg(format!("127.0.0.1:{port}"))
        .args(["-p", "4", "-o"])
        .arg(&folder.0);
    for group in groups {
        command.args(["-i", group]);
    }
    let text = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
    // "  7.1.5: behavior=FAILED, ..." for each; "wrote reports for 102 cases to ..." at the end.
    let failed = text.lines().filter_map(|line| line.strip_prefix("  "));
    let failed = failed.filter_map(|line| Some(line.split_once(": behavior=")?.0.to_owned()));
    let count = text.split("wrote reports for ").nth(1);
    let count = count.and_then(|rest| rest.split(' ').next()?.parse().ok());
    let count = count.with_context(|| format!("kosoku came to no end: {text}"))?;
    Ok((failed.collect(), count))
}

#[test]
fn slow_attackers_hold_up_nobody_else() -> Result<()> {
    let front = Front::open(front::service()?)?;
    let trust = Trust::pem(front.ca.pem().as_bytes())?;
    let modes: [&[&str]; 4] = [
        &["-H", "-i", "1", "-t", "GET"],
        &["-B", "-i", "1", "-s", "8192", "-t", "POST"],
        &[
            "-X", "-n", "1", "-z", "32", "-w", "16", "-y", "32", "-k", "3",
        ],
        &["-R", "-t", "HEAD", "-a", "10", "-b", "3000"],
    ];
    let calm = Polled::between(&front, &trust, || {
        thread::sleep(Duration::from_secs(3));
        Ok(())
    })?;
    calm.print("nobody");
    ensure!(calm.failures.is_empty(), "{:?}", calm.failures);
    for mode in modes {
        let polled = Polled::between(&front, &trust, || {
            let mut attack = Command::new("slowhttptest");
            attack.args([
                "-c",
                "300",
                "-r",
                "150",
                "-l",
                "6",
                "-u",
                &front.url("/100000"),
            ]);
            let output = attack.args(mode).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(
                text.contains("Test ended"),
                "slowhttptest did not run: {text}"
            );
            Ok(())
        })?;
        polled.print(mode[0]);
        ensure!(
            polled.failures.is_empty(),
            "{mode:?}: {:?}",
            polled.failures
        );
        ensure!(polled.took.len() >= 3, "{mode:?}: hardly anyone was served");
    }
    front.close()
}

/// What a client saw that asked again and again, each time over a new connection.
struct Polled {
    took: Vec<Duration>,
    failures: Vec<String>,
}

impl Polled {
    /// Polls while `meanwhile` goes on.
    fn between(
        front: &Front,
        trust: &Trust,
        meanwhile: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let stop = AtomicBool::new(false);
        let mut polled = Self {
            took: Vec::new(),
            failures: Vec::new(),
        };
        thread::scope(|scope| {
            let poll = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    match web::https(front.https, "localhost", "/100", trust, PATIENCE) {
                        Ok(answer) if answer.status == 200 => polled.took.push(began.elapsed()),
                        Ok(answer) => polled.failures.push(answer.status.to_string()),
                        Err(error) => polled.failures.push(format!("{error:#}")),
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let done = meanwhile();
            stop.store(true, Ordering::Relaxed);
            let ended = poll.join().is_ok();
            ensure!(ended, "the polling client panicked");
            done
        })?;
        polled.took.sort_unstable();
        Ok(polled)
    }

    fn print(&self, what: &str) {
        let nth = |of: usize| self.took.get(self.took.len() * of / 100).copied();
        let (p50, p99) = (nth(50).unwrap_or_default(), nth(99).unwrap_or_default());
        let (count, failed) = (self.took.len(), self.failures.len());
        println!("slowhttptest {what}: {count} served, {failed} failed, p50 {p50:?}, p99 {p99:?}");
    }
}

#[test]
fn curl_is_served_in_both_versions() -> Result<()> {
    let front = Front::open(front::service()?)?;
    let folder = Folder::new("curl")?;
    let (authority, body) = (folder.0.join("ca.pem"), folder.0.join("body"));
    fs::write(&authority, front.ca.pem())?;
    fs::write(&body, vec![b'y'; SIZE])?;
    for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let curl = |more: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail", version, "--cacert"]);
            tool::output(curl.arg(&authority).args(more))
        };
        let got = folder.0.join("got");
        let url = front.url(&format!("/{SIZE}"));
        let said = curl(&[
            "-o",
            got.to_str().context("a path")?,
            "-w",
            "%{http_version}",
            &url,
        ])?;
        ensure!(said == shown, "HTTP {said} was spoken for {version}");
        ensure!(
            fs::read(&got)? == vec![b'x'; SIZE],
            "{version}: a damaged download"
        );
        let sent = curl(&["-T", body.to_str().context("a path")?, &front.url("/up")])?;
        ensure!(sent == SIZE.to_string(), "{version}: {sent} bytes arrived");
        let sent = curl(&["-d", "abc", &front.url("/")]);
        ensure!(sent? == "3", "{version}: a small body was damaged");
    }
    front.close()
}

#[test]
fn h2load_sees_no_failure() -> Result<()> {
    let front = Front::open(front::service()?)?;
    for streams in ["1", "10", "100"] {
        let mut h2load = Command::new("h2load");
        h2load
            .args(["-n", "4000", "-c", "8", "-m", streams])
            .arg(front.url("/1000"));
        let text = tool::output(&mut h2load)?;
        ensure!(text.contains("Application protocol: h2"), "{text}");
        ensure!(
            text.contains("4000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{text}"
        );
        ensure!(text.contains("4000 2xx"), "{text}");
    }
    front.close()
}

/// A program that serves until it is dropped.
struct Running(Child);

impl Running {
    /// Starts it and waits until it listens at `port`.
    fn start(command: &mut Command, port: u16) -> Result<Self> {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let running = Self(quiet.spawn()?);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                bail!("nothing listens at {port}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.try_wait();
    }
}

/// A new folder, removed with what is in it when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("door-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// A WebSocket server that says what it hears, without limits or extensions of its own.
const ECHO: &str = "
async def echo(peer):
    try:
        async for message in peer:
            await peer.send(message)
    except websockets.ConnectionClosed:
        pass

async def main(port):
    serve = websockets.serve(echo, '127.0.0.1', port, max_size=None, compression=None,
                             ping_interval=None)
    async with serve:
        await asyncio.get_running_loop().create_future()
";
/// What testssl.sh says of an authority that is the box's own: nobody else trusts it, and it keeps
/// no list of revoked certificates.
const PRIVATE: [&str; 2] = ["cert_chain_of_trust", "cert_revocation"];
/// Far more than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Some megabytes: many windows and records.
const SIZE: usize = 5_000_000;
