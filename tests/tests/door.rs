//! The front door before the judgement of others: testssl.sh, sslyze, the Autobahn cases,
//! slowhttptest, curl, h2load and h2spec, natively over loopback.
//!
//! h2spec, the conformance suite of HTTP/2, is in none of Debian, PyPI and npm: who has it says where
//! with `H2SPEC`. What the standard says of broken clients is also tested frame by frame in
//! `netstack/tests/door/http2.rs`, which needs nothing of others.
//!
//! The tools that judge by clocks of their own run with `--long`. sslyze, slowhttptest and the short
//! Autobahn cases were seen to pass ten times in a row on a machine with a load of 12 to 40
//! on two cores; each takes from half a minute to four there, and two of them programs from PyPI.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
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
#[ignore = "takes ten minutes and more on a busy machine"]
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
    let mut command = other("testssl");
    command.args(["--quiet", "--color", "0", "--nodns", "none"]);
    command.args(["--warnings", "batch", "--csvfile"]);
    command.arg(&findings).args(checks);
    // It thinks ill of servers that take seconds, as all do on a machine that is busy.
    command.envs(["HEADER_MAXSLEEP", "MAX_WAITSOCK"].map(|name| (name, "60")));
    // Its status counts findings; what they are is in the file.
    let text = command.arg(front.url("/emergency")).output()?.stdout;
    let text = String::from_utf8_lossy(&text);
    let findings = fs::read_to_string(findings).context("testssl.sh wrote nothing")?;
    // "id","fqdn/ip","port","severity","finding","cve","cwe"
    let rows = findings.lines().skip(1);
    let rows: Vec<Vec<&str>> = rows
        .map(|line| line.trim_matches('"').split("\",\"").collect())
        .filter(|row: &Vec<&str>| row.len() > 4)
        .collect();
    let mut severities = BTreeMap::new();
    for row in &rows {
        *severities.entry(row[3]).or_insert(0) += 1;
    }
    println!("testssl.sh: {severities:?}");
    ensure!(
        severities.get("OK").is_some_and(|count| *count >= 10),
        "it looked at next to nothing: {text}"
    );
    let rows = rows.iter().filter(|row| !["OK", "INFO"].contains(&row[3]));
    let mut findings: Vec<_> = rows.map(|row| (row[3], row[0], row[4])).collect();
    println!("testssl.sh finds {findings:?}");
    findings.retain(|(severity, id, _)| {
        ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(severity) && !PRIVATE.contains(id)
    });
    ensure!(findings.is_empty(), "{findings:#?}");
    front.close()
}

#[test]
#[ignore = "a tool of others from PyPI, with a clock of its own"]
fn sslyze_finds_nothing_but_the_private_authority() -> Result<()> {
    let front = Front::open(front::service()?)?;
    // It gives a server five seconds to answer, which a busy machine may miss.
    let findings = (0..ATTEMPTS).find_map(|_| {
        let findings = sslyze(front.https);
        let judged = |findings: &Vec<String>| findings.iter().any(|f| private(f));
        findings.map_or_else(|error| Some(Err(error)), |f| judged(&f).then_some(Ok(f)))
    });
    let findings = findings.context("sslyze never noticed the private authority")??;
    println!("sslyze finds {findings:?}");
    ensure!(findings.iter().all(|f| private(f)), "{findings:#?}");
    front.close()
}

/// In what the server at `port` falls short of Mozilla's "intermediate" configuration.
fn sslyze(port: u16) -> Result<Vec<String>> {
    let mut command = other(venv::program("sslyze")?);
    let output = command
        .arg("--slow_connection")
        .arg(format!("127.0.0.1:{port}"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let judged = text.split_once("COMPLIANCE AGAINST TLS CONFIGURATION");
    let judged = judged.map_or("", |(_, judged)| judged);
    let findings = judged.lines().filter_map(|line| {
        let finding = line.trim().strip_prefix("* ")?;
        Some(finding.to_owned())
    });
    Ok(findings.collect())
}

fn private(finding: &str) -> bool {
    finding.starts_with("certificate_path_validation")
}

#[test]
#[ignore = "a tool of others from PyPI, with a clock of its own; takes minutes on a busy machine"]
fn autobahns_cases_pass_as_without_the_door() -> Result<()> {
    autobahn(&["1.*", "2.*", "3.*", "4.*", "5.*", "7.*", "10.*"], 100)
}

#[test]
#[ignore = "UTF-8 and limits: some minutes"]
fn autobahns_long_cases_pass_as_without_the_door() -> Result<()> {
    autobahn(&["6.*", "9.*"], 150)
}

fn autobahn(groups: &[&str], least: usize) -> Result<()> {
    let python = venv::program("python3")?;
    let echo = Running::start(|port| {
        let script = format!("import asyncio, websockets\n{ECHO}\nasyncio.run(main({port}))\n");
        let mut echo = Command::new(&python);
        echo.args(["-c", &script]);
        echo
    })?;
    let front = Front::open(SocketAddr::from((Ipv4Addr::LOCALHOST, echo.port)))?;
    // The cases are spoken without TLS: socat puts it around them.
    let socat = Running::start(|port| {
        let listen = format!("TCP-LISTEN:{port},fork,reuseaddr,bind=127.0.0.1");
        let mut socat = Command::new("socat");
        socat.arg(listen);
        socat.arg(format!("OPENSSL:127.0.0.1:{},verify=0", front.https));
        socat
    })?;
    let direct = cases(groups, echo.port)?;
    let passed = cases(groups, socat.port)?;
    ensure!(
        passed.len() == direct.len() && passed.len() >= least,
        "{} cases were run through the door, {} without it",
        passed.len(),
        direct.len()
    );
    println!("{} cases", passed.len());
    println!("without the door {:?}", failed(&direct));
    println!("through the door {:?}", failed(&passed));
    let mut worse = failed(&passed);
    worse.retain(|case, _| !failed(&direct).contains_key(case));
    // The cases wait a second for what they expect, which a busy machine may take.
    for _ in 1..ATTEMPTS {
        let again: Vec<&str> = worse.keys().map(String::as_str).collect();
        if again.is_empty() {
            break;
        }
        worse = failed(&cases(&again, socat.port)?);
        println!("again {worse:?}");
    }
    ensure!(
        worse.is_empty(),
        "fail only through the door, each time: {worse:?}"
    );
    front.close()
}

/// How the server at `port` behaves, and closes, in each case.
type Cases = BTreeMap<String, [String; 2]>;

fn cases(groups: &[&str], port: u16) -> Result<Cases> {
    let folder = Folder::new(&format!("autobahn-{port}"))?;
    let mut command = other(venv::program("kosoku")?);
    command
        .arg(format!("127.0.0.1:{port}"))
        .args(["-p", "4", "-o"])
        .arg(&folder.0);
    for group in groups {
        command.args(["-i", group]);
    }
    // Its status says whether all cases passed.
    let output = command.output()?;
    let index = fs::read(folder.0.join("index.json")).with_context(|| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        format!("kosoku wrote no report: {text}")
    })?;
    // The server's name, to the cases' names, to what they found.
    let index: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
        serde_json::from_slice(&index)?;
    let found = |case: &serde_json::Value| {
        ["behavior", "behaviorClose"].map(|key| case[key].as_str().unwrap_or_default().to_owned())
    };
    let cases = index.into_values().flatten();
    Ok(cases.map(|(name, case)| (name, found(&case))).collect())
}

fn failed(cases: &Cases) -> Cases {
    let fine = |found: &String| ["OK", "NON-STRICT", "INFORMATIONAL"].contains(&found.as_str());
    let mut failed = cases.clone();
    failed.retain(|_, found| !found.iter().all(fine));
    failed
}

#[test]
#[ignore = "a tool of others, with a clock of its own: half a minute of attacks"]
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
        // An attack takes some seconds, which may be too few on a busy machine.
        let served = (0..ATTEMPTS).find_map(|_| match attacked(&front, &trust, mode) {
            Ok(served) => (served >= SOME).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        served.with_context(|| format!("{mode:?}: hardly anyone was served"))??;
    }
    front.close()
}

/// How many were served while slowhttptest attacked.
fn attacked(front: &Front, trust: &Trust, mode: &[&str]) -> Result<usize> {
    let polled = Polled::between(front, trust, || {
        let mut attack = other("slowhttptest");
        attack.args(["-c", "300", "-r", "150", "-l", "6", "-u"]);
        attack.arg(front.url("/100000"));
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
    Ok(polled.took.len())
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
            let mut curl = other("curl");
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
        let mut h2load = other("h2load");
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

/// No case is excused, though h2spec is of RFC 7540's time: what RFC 9113 dropped since, that no
/// stream may depend on itself, the door still holds clients to.
#[test]
#[ignore = "h2spec is in no registry; H2SPEC says where it is"]
fn h2spec_finds_no_failure() -> Result<()> {
    let program = std::env::var_os("H2SPEC").unwrap_or_else(|| "h2spec".into());
    let mut help = Command::new(&program);
    help.arg("--help").output().with_context(|| {
        format!(
            "{} can't be started: build h2spec (github.com/summerwind/h2spec) with Go, and \
             name it with H2SPEC or put it on PATH",
            program.display()
        )
    })?;
    let front = Front::open(front::service()?)?;
    let folder = Folder::new("h2spec")?;
    let report = folder.0.join("report.xml");
    let port = front.https.to_string();
    let mut h2spec = other(&program);
    // Only what fails waits for its time to be over.
    h2spec.args(["--tls", "--insecure", "--strict", "--timeout", "30"]);
    h2spec.args(["--host", "127.0.0.1", "--port", &port, "--path", "/1000"]);
    // Its status says whether anything failed; what it was is in the file.
    let text = h2spec.arg("--junit-report").arg(&report).output()?.stdout;
    let text = String::from_utf8_lossy(&text);
    let report = fs::read_to_string(&report).with_context(|| format!("no report: {text}"))?;
    let cases: Vec<&str> = report.split("<testcase ").skip(1).collect();
    ensure!(cases.len() >= H2SPEC_CASES, "it tried too little: {text}");
    let passed = |case: &&&str| {
        let outcomes = ["<failure", "<error", "<skipped"];
        !outcomes.iter().any(|outcome| case.contains(outcome))
    };
    let passes = cases.iter().filter(passed).count();
    println!("h2spec: {passes} of {} cases pass", cases.len());
    ensure!(passes == cases.len(), "{text}");
    front.close()
}

/// A command that ends, whatever comes.
fn other(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after", "10", DEADLINE]).arg(program);
    command
}

/// A program that serves until it is dropped.
struct Running {
    child: Child,
    port: u16,
}

impl Running {
    /// Starts what serves at the port it is told, and waits until it does.
    fn start(command: impl Fn(u16) -> Command) -> Result<Self> {
        // Somebody else may take the port in between.
        for _ in 0..ATTEMPTS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = listener.local_addr()?.port();
            drop(listener);
            let mut command = command(port);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let child = command.stderr(Stdio::null()).spawn()?;
            let mut running = Self { child, port };
            if running.serves()? {
                return Ok(running);
            }
        }
        bail!("it ends instead of serving")
    }

    /// Whether it serves, not ends; waits for either.
    fn serves(&mut self) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("nothing listens at {}", self.port)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.try_wait();
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

/// More than are served by a door that waits for the attack to end: one before, one after.
const SOME: usize = 3;
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
/// The cases of h2spec 2.6, the strict one among them.
const H2SPEC_CASES: usize = 147;
/// Far more than any answer takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Far more than any of the programs takes, in seconds.
const DEADLINE: &str = "1200";
/// How often something is tried whose own clock is too short for a busy machine.
const ATTEMPTS: usize = 5;
/// Some megabytes: many windows and records.
const SIZE: usize = 5_000_000;
